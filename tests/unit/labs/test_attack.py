"""Parts of attacks, without a stack: the verdict, the summary, and the forged files."""

from __future__ import annotations

import io
from collections import Counter

import pytest

from labs.attacks.attack import ATTACKS, verdict
from labs.attacks.bed import Attack, AttackBed, AttackOutcome, AttackResult, HonestFigures, mostly, summary
from labs.attacks.files import BOMBS, PDFS, PICTURES
from services.intake.evidence import detection


def _act(_: AttackBed) -> AttackOutcome:
    raise AssertionError


def _result(
    *,
    succeeded: bool = False,
    refused: tuple[str, ...] = (),
    ended: tuple[str, ...] = (),
    error: str = "",
    restarts: bool = False,
) -> AttackResult:
    attack = Attack("a", "b", _act, restarts=restarts)
    return AttackResult(
        attack, AttackOutcome(succeeded, "said"), HonestFigures([0.1, 0.3, 0.2], list(refused)), list(ended), error, 1.0
    )


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (_result(), "held"),
        (_result(succeeded=True), "SUCCEEDED"),
        (_result(refused=("file 503",)), "SUCCEEDED"),
        (_result(refused=("file ConnectError",), restarts=True), "held"),
        (_result(ended=("intake-api.0",)), "SUCCEEDED"),
        (_result(error="no stack"), "unknown"),
    ],
)
def test_an_attack_succeeds_by_its_aim_by_starvation_or_by_a_dead_process(result: AttackResult, expected: str) -> None:
    assert verdict(result) == expected


def test_the_summary_counts_what_succeeded_and_names_what_is_unknown() -> None:
    found = summary([_result(), _result(succeeded=True), _result(error="no stack")], 12.34)
    assert (found["attacks"], found["succeeded"], found["unknown"], found["seconds"]) == (3, 1, ["a"], 12.3)
    assert found["results"][0]["honest"] == {"asked": 3, "served": 3, "p50_ms": 200.0}


def test_every_attack_has_its_own_name() -> None:
    names = [attack.name for attack in ATTACKS]
    assert len(set(names)) == len(names) >= 30


def test_a_majority_is_more_than_half() -> None:
    assert mostly(Counter({"401": 3, "429": 2}), "401")
    assert not mostly(Counter({"401": 2, "429": 2}), "401")


@pytest.mark.parametrize("name", [*PDFS, *PICTURES, *BOMBS])
def test_no_forged_file_passes(name: str) -> None:
    content = {**PDFS, **PICTURES, **BOMBS}[name]()
    assert len(content) < 20_000_000
    with pytest.raises(detection.RefusedFile):
        detection.examine(io.BytesIO(content), len(content))
