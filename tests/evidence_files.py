"""Makes evidence files, good and forged. None is copied from elsewhere."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import pikepdf
from PIL import Image


def picture(kind: str, size: tuple[int, int] = (120, 80), **options: Any) -> bytes:
    """A noisy picture."""
    out = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(out, kind, **options)
    return out.getvalue()


def moving(kind: str) -> bytes:
    """An animation of three frames."""
    out = io.BytesIO()
    frames = [Image.effect_noise((40, 40), 60).convert("RGB") for _ in range(3)]
    frames[0].save(out, kind, save_all=True, append_images=frames[1:])
    return out.getvalue()


def pdf(change: Callable[[pikepdf.Pdf], object] | None = None, **options: Any) -> bytes:
    """A PDF of one blank page, after ``change``."""
    document = pikepdf.new()
    document.add_blank_page()
    if change is not None:
        change(document)
    out = io.BytesIO()
    document.save(out, **options)
    return out.getvalue()


def script() -> pikepdf.Dictionary:
    """A JavaScript action."""
    return pikepdf.Dictionary(S=pikepdf.Name.JavaScript, JS="app.alert(1)")


def archive(**members: bytes) -> bytes:
    """A ZIP archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


def zip_bomb() -> bytes:
    """50 MB of zeros in 50 kB."""
    return archive(big=bytes(50_000_000))


def pixel_bomb() -> bytes:
    """A PNG of 400 million pixels in 50 kB."""
    out = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(out, "PNG")
    return out.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header declares more pixels than its data has."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(100))) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def stream_bomb() -> bytes:
    """A PDF whose object stream unpacks to 300 MB."""
    inner = b"1 0 2 10 3 20 ".ljust(100) + b" " * 300_000_000
    packed = zlib.compress(inner, 9)
    body = io.BytesIO()
    body.write(b"%PDF-1.5\n")
    offsets = {}
    for number, text in (
        (
            4,
            b"<< /Type /ObjStm /N 3 /First 100 /Filter /FlateDecode /Length %d >>\nstream\n" % len(packed)
            + packed
            + b"\nendstream",
        ),
    ):
        offsets[number] = body.tell()
        body.write(b"%d 0 obj\n" % number + text + b"\nendobj\n")
    at = body.tell()
    entries = b"".join(
        struct.pack(">BIB", *entry)
        for entry in ((0, 0, 255), (2, 4, 0), (2, 4, 1), (2, 4, 2), (1, offsets[4], 0), (1, at, 0))
    )
    packed = zlib.compress(entries)
    body.write(
        b"5 0 obj\n<< /Type /XRef /Size 6 /W [1 4 1] /Root 1 0 R /Filter /FlateDecode /Length %d >>\nstream\n"
        % len(packed)
        + packed
        + b"\nendstream\nendobj\nstartxref\n%d\n%%%%EOF\n" % at
    )
    return body.getvalue()
