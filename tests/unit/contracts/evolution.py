"""Compares the events of one version with the readers of another, by samples and schemas frozen at each release.

``python -m tests.unit.contracts.evolution VERSION`` freezes this version, once, when it is released: schemas of what it
reads, and samples of what it writes, in ``frozen/VERSION/``. Frozen files are never changed afterwards.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import msgspec
from polyfactory.factories.msgspec_factory import MsgspecFactory

from tools import contracts

FROZEN: Final = Path(__file__).parent / "frozen"
SEED: Final = 1
MOST: Final = 24
LARGEST: Final = 10_000
"""Largest sample in bytes: hundreds of listings show no more than a few."""

Type = type[msgspec.Struct]
Sample = tuple[str, bytes]
"""A CloudEvents type, and data as they are written."""


def samples(types: Mapping[str, Type]) -> Iterator[Sample]:
    """For every type, a sample with required fields only, and samples that together have every value of every choice.

    If several events share a data type, only the first gets the latter.
    """
    covered: set[Type] = set()
    for name, kind in sorted(types.items()):
        factory: Any = MsgspecFactory.create_factory(kind)
        factory.seed_random(SEED)
        full = factory.build()
        required = {field.name: getattr(full, field.name) for field in msgspec.structs.fields(kind) if field.required}
        # fields at their defaults are not written
        yield name, msgspec.json.encode(kind(**required))
        more = [full, *([] if kind in covered else list(factory.coverage())[:MOST])]
        covered.add(kind)
        for one in more:
            raw = msgspec.json.encode(one)
            if len(raw) > LARGEST:
                continue
            try:
                msgspec.json.decode(raw, type=kind)
            except msgspec.ValidationError:
                continue  # the factory exceeded a bound; no writer does
            yield name, raw


def schemas(types: Mapping[str, Type]) -> dict[str, Any]:
    """JSON Schemas of types by CloudEvents type, with the definitions that they refer to."""
    references, components = msgspec.json.schema_components(types.values(), ref_template="#/$defs/{name}")
    return {"types": dict(zip(types, references, strict=True)), "$defs": components}


class Readers:
    """Readers of another version, by its schemas. They ignore unknown fields."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._readers = {
            name: jsonschema_rs.validator_for({**schema, "$defs": document["$defs"]})
            for name, schema in document["types"].items()
        }

    def refusal(self, sample: Sample) -> str | None:
        """Why they cannot read it; None if they can, or do not know the type."""
        name, raw = sample
        if name not in self._readers:
            return None
        for error in self._readers[name].iter_errors(json.loads(raw)):
            return f"{name}: {error.message} at {'.'.join(map(str, error.instance_path)) or 'the top'}"
        return None


def refusal(sample: Sample, types: Mapping[str, Type]) -> str | None:
    """Why readers of these types cannot read what another version wrote; None if they can."""
    name, raw = sample
    if name not in types:
        return f"{name}: the type is gone"
    try:
        msgspec.json.decode(raw, type=types[name])
    except msgspec.ValidationError as error:
        return f"{name}: {error}"
    return None


def versions() -> list[str]:
    """The frozen versions."""
    return sorted(folder.name for folder in FROZEN.iterdir() if folder.is_dir())


def frozen_samples(version: str) -> list[Sample]:
    """What a version writes."""
    lines = gzip.decompress((FROZEN / version / "samples.jsonl.gz").read_bytes()).splitlines()
    documents = [msgspec.json.decode(line, type=dict[str, msgspec.Raw]) for line in lines]
    return [(name, bytes(raw)) for document in documents for name, raw in document.items()]


def frozen_readers(version: str) -> Readers:
    """What a version reads."""
    return Readers(json.loads((FROZEN / version / "schemas.json").read_bytes()))


def freeze(version: str) -> Path:
    """Freeze what the present version writes and reads; returns the folder.

    Raises:
        FileExistsError: the version is frozen already.
    """
    folder = FROZEN / version
    folder.mkdir(parents=True)
    types = contracts.all_types()
    (folder / "schemas.json").write_text(json.dumps(schemas(types), indent=1) + "\n")
    lines = b"".join(msgspec.json.encode({name: msgspec.Raw(raw)}) + b"\n" for name, raw in samples(types))
    (folder / "samples.jsonl.gz").write_bytes(gzip.compress(lines, mtime=0))
    return folder


if __name__ == "__main__":
    sys.stdout.write(f"{freeze(sys.argv[1])}\n")
