"""Opens strangers' pictures and compares them, in a process of its own: ``python -I confined.py MEGAPIXELS``.

Decoders are large programs in C. This process has no environment and no secret; once everything is loaded it can open
no file and no connection any more, starts nothing, and its memory and processor time are limited. Orders come on
standard input as a line of JSON, followed by the picture's bytes; each is answered by a line of JSON. The caller
(``seeing``) bounds each answer in time, and believes only what it can check.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any, Final

MEMORY_BYTES: Final = 3 << 29
"""Address space: two pictures of 50 megapixels while one is turned, and the libraries."""
CPU_S: Final = 120
"""Processor seconds for all pictures of an item."""


def confine() -> None:
    """Set hard limits for this process, where the system has them. Nothing can be opened or started afterwards."""
    import resource

    for name, value in (
        ("RLIMIT_AS", MEMORY_BYTES),
        ("RLIMIT_CPU", CPU_S),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_NPROC", 0),
        ("RLIMIT_NOFILE", 0),
    ):
        with contextlib.suppress(ValueError, OSError, AttributeError):
            resource.setrlimit(getattr(resource, name), (value, value))


def main() -> None:
    """Follow orders until standard input ends."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # `-I` leaves no folder of ours on the path
    import cv2
    import msgspec
    from PIL import Image

    from services.intake.evidence.detection import RefusedFile, examine
    from shared.comparison.pictures import Picture, Reference, find
    from shared.comparison.pictures.looking import looked, pixels

    most = int(sys.argv[1]) * 1_000_000
    cv2.setNumThreads(1)
    Image.init()
    confine()
    pictures: list[Picture] = []
    references: list[Reference] = []

    def look(order: dict[str, Any], data: bytes) -> dict[str, Any]:
        if not examine(io.BytesIO(data), len(data), most).media.startswith("image/"):
            return {"reason": "unknown_type"}
        with Image.open(io.BytesIO(data)) as image:
            seen = looked(order["id"], order["sha256"], pixels(image))
        if order["kind"] is None:
            pictures.append(seen)
        else:
            references.append(Reference(seen, order["kind"]))
        return {}

    for line in iter(sys.stdin.buffer.readline, b""):
        order = json.loads(line)
        if order["size"] is None:
            answer: dict[str, Any] = {"findings": msgspec.to_builtins(find(pictures, references))}
        else:
            try:
                answer = look(order, sys.stdin.buffer.read(order["size"]))
            except RefusedFile as refused:
                answer = {"reason": refused.reason}
            except (MemoryError, Image.DecompressionBombError):
                answer = {"reason": "too_complex"}
            except Exception:
                answer = {"reason": "damaged"}
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
