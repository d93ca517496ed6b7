"""Each version reads what the other writes: both run side by side during an upgrade, and topics keep old events.

``goodfaith lab upgrade-drill`` does the same with two versions of the whole software on a real broker.
"""

from __future__ import annotations

import datetime as dt
from functools import cache
from typing import Annotated, Any, Final, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from tests.unit.contracts import evolution
from tests.unit.contracts.evolution import Readers, Sample, Type
from tools import contracts

READERS_FIRST: Final[dict[tuple[str, str], str]] = {}
"""(version, type) -> why this version may write something that readers of that version set aside as a dead letter. Readers
are upgraded before writers (docs/how-to/upgrade.md), and catch up with `goodfaith dlq replay` after going back."""


@cache
def written() -> tuple[Sample, ...]:
    return tuple(evolution.samples(contracts.all_types()))


@pytest.mark.parametrize("version", evolution.versions())
def test_what_an_earlier_version_wrote_is_read(version: str) -> None:
    old = evolution.frozen_samples(version)
    refusals = [evolution.refusal(sample, contracts.all_types()) for sample in old]
    assert not list(filter(None, refusals))
    assert len(old) > 2 * len({name for name, _ in old})


@pytest.mark.parametrize("version", evolution.versions())
def test_what_is_written_is_read_by_an_earlier_version(version: str) -> None:
    readers = evolution.frozen_readers(version)
    found = {sample[0]: refusal for sample in written() if (refusal := readers.refusal(sample)) is not None}
    excused = {kind for known, kind in READERS_FIRST if known == version}
    assert found.keys() == excused, "\n".join(found.values())


def test_samples_of_the_present_version_are_sound() -> None:
    assert evolution.versions(), "no version is frozen"
    types = {name for name, _ in written()}
    assert types == set(contracts.all_types())
    # samples are read by the types and by the schemas that they were made from
    assert not [one for sample in written() if (one := evolution.refusal(sample, contracts.all_types()))]
    now = Readers(evolution.schemas(contracts.all_types()))
    assert not [one for sample in written() if (one := now.refusal(sample))]


# ---------------------------------------------------------------------------------------------------- the test itself


class Old(Struct, frozen=True, kw_only=True, omit_defaults=True):
    item: Annotated[str, Meta(max_length=20)]
    state: Literal["open", "closed"]
    at: dt.datetime
    count: int = 0


class WithField(Old, frozen=True, kw_only=True):
    note: str | None = None


class WithMust(Old, frozen=True, kw_only=True):
    note: str


class WithState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    item: Annotated[str, Meta(max_length=20)]
    state: Literal["open", "closed", "lost"]
    at: dt.datetime
    count: int = 0


class WithoutState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    item: Annotated[str, Meta(max_length=20)]
    state: Literal["open"]
    at: dt.datetime
    count: int = 0


class WithoutField(Struct, frozen=True, kw_only=True, omit_defaults=True):
    item: Annotated[str, Meta(max_length=20)]
    state: Literal["open", "closed"]
    count: int = 0


class Renamed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    claim: Annotated[str, Meta(max_length=20)]
    state: Literal["open", "closed"]
    at: dt.datetime
    count: int = 0


class Retyped(Struct, frozen=True, kw_only=True, omit_defaults=True):
    item: Annotated[str, Meta(max_length=20)]
    state: Literal["open", "closed"]
    at: dt.datetime
    count: str = ""


class MadeOptional(Struct, frozen=True, kw_only=True, omit_defaults=True):
    item: Annotated[str, Meta(max_length=20)]
    state: Literal["open", "closed"] = "open"
    at: dt.datetime
    count: int = 0


class Narrowed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    item: Annotated[str, Meta(max_length=3)]
    state: Literal["open", "closed"]
    at: dt.datetime
    count: int = 0


@pytest.mark.parametrize(
    ("new", "new_reads_old", "old_reads_new"),
    [
        (Old, True, True),
        (WithField, True, True),
        (WithMust, False, True),
        (WithState, True, False),
        (WithoutState, False, True),
        (WithoutField, True, False),
        (Renamed, False, False),
        (Retyped, False, False),
        (MadeOptional, True, False),
        (Narrowed, False, True),
        (None, False, True),
    ],
)
def test_each_kind_of_change_is_judged_both_ways(new: Type | None, new_reads_old: bool, old_reads_new: bool) -> None:
    types: dict[str, Any] = {} if new is None else {"thing.v1": new}
    old = list(evolution.samples({"thing.v1": Old}))
    assert (not [one for sample in old if (one := evolution.refusal(sample, types))]) is new_reads_old
    readers = Readers(evolution.schemas({"thing.v1": Old}))
    assert (not [one for sample in evolution.samples(types) if (one := readers.refusal(sample))]) is old_reads_new


def test_what_was_frozen_stays(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evolution, "FROZEN", tmp_path)
    evolution.freeze("1.0")
    assert evolution.versions() == ["1.0"]
    assert [name for name, _ in evolution.frozen_samples("1.0")] == [name for name, _ in written()]
    with pytest.raises(FileExistsError):
        evolution.freeze("1.0")
    assert msgspec.json.decode((tmp_path / "1.0" / "schemas.json").read_bytes())["types"].keys() == set(
        contracts.all_types()
    )
