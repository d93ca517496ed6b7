"""Events of one version before readers of another: samples of what is written, and what was frozen of versions before.

``python -m tests.unit.contracts.evolution VERSION`` freezes what this version writes and reads, once, when it is released: schemas
(its readers) and samples of every type (its writers), in ``frozen/VERSION/``. What is frozen is never changed.
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
"""Bytes of a sample that is kept: hundreds of listings say no more than a few."""

Type = type[msgspec.Struct]
Sample = tuple[str, bytes]
"""A CloudEvents type, and data as they are written."""


def samples(types: Mapping[str, Type]) -> Iterator[Sample]:
    """Of every type: one that says no more than it must, and some that between them take each value of each choice.

    Where several events have one data type, the choices are gone through with the first of them.
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
                continue  # made without heed of a bound: nobody writes it
            yield name, raw


def schemas(types: Mapping[str, Type]) -> dict[str, Any]:
    """JSON Schemas of types, by their CloudEvents names, with what they refer to."""
    references, components = msgspec.json.schema_components(types.values(), ref_template="#/$defs/{name}")
    return {"types": dict(zip(types, references, strict=True)), "$defs": components}


class Readers:
    """Readers of another version, as its schemas say what they take: fields that they do not know are passed over."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._readers = {
            name: jsonschema_rs.validator_for({**schema, "$defs": document["$defs"]})
            for name, schema in document["types"].items()
        }

    def refusal(self, sample: Sample) -> str | None:
        """Why they cannot take it; None: they can, or do not know the type, which they count and pass over."""
        name, raw = sample
        if name not in self._readers:
            return None
        for error in self._readers[name].iter_errors(json.loads(raw)):
            return f"{name}: {error.message} at {'.'.join(map(str, error.instance_path)) or 'the top'}"
        return None


def refusal(sample: Sample, types: Mapping[str, Type]) -> str | None:
    """Why readers by these types cannot take what another version wrote; a type that is gone cannot be taken."""
    name, raw = sample
    if name not in types:
        return f"{name}: the type is gone"
    try:
        msgspec.json.decode(raw, type=types[name])
    except msgspec.ValidationError as error:
        return f"{name}: {error}"
    return None


def versions() -> list[str]:
    """What was frozen."""
    return sorted(folder.name for folder in FROZEN.iterdir() if folder.is_dir())


def frozen_samples(version: str) -> list[Sample]:
    """What a version wrote."""
    lines = gzip.decompress((FROZEN / version / "samples.jsonl.gz").read_bytes()).splitlines()
    documents = [msgspec.json.decode(line, type=dict[str, msgspec.Raw]) for line in lines]
    return [(name, bytes(raw)) for document in documents for name, raw in document.items()]


def frozen_readers(version: str) -> Readers:
    """What a version could read."""
    return Readers(json.loads((FROZEN / version / "schemas.json").read_bytes()))


def freeze(version: str) -> Path:
    """Freeze what this version writes and reads.

    Raises:
        FileExistsError: it was frozen before.
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
