"""Policies: loaded once, validated, with errors that name file and key."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import policy
from shared.calendars import calendar
from shared.policy import FOLDER, PolicyError, Span, current, load, parse, profiles, versions

TEXT = (FOLDER / "ipp-2026-11.toml").read_text(encoding="utf-8")


def test_every_policy_there_is_loads() -> None:
    for version in versions():
        assert load(version).version == version
        assert load(version) is load(version)


def test_current_is_the_newest_of_its_profile() -> None:
    assert "ipp" in profiles()
    for profile in profiles():
        assert current(profile).version == max(v for v in versions() if load(v).profile == profile)


@pytest.mark.parametrize("version", ["nope", "../policy", "calendars", ""])
def test_unknown_version(version: str) -> None:
    with pytest.raises(PolicyError, match="no such policy"):
        load(version)


def test_unknown_profile() -> None:
    with pytest.raises(PolicyError, match="no profile 'nope'"):
        current("nope")


def test_figures_of_the_domain() -> None:
    """domain.md's figures, once more: a slip in the file is caught."""
    ipp = load("ipp-2026-11")
    spans = {name: span.text for name, span in msgspec.structs.asdict(ipp.timers).items() if span is not None}
    assert spans == {
        "needs_info": "3 wd",
        "review_sla": "24 h",
        "window": "3 wd",
        "round_window": "7 wd",
        "late_counter": "180 d",
        "refile": "3 wd",
        "counter_check": "2 wd",
        "holder_response": "3 wd",
        "platform_review": "5 wd",
        "platform_review_grace": "2 wd",
        "litigation_reminder": "90 d",
        "suspended": "30 d",
        "lookup_retry": "1 h",
        "lookup_give_up": "20 h",
    }
    assert (ipp.claim.max_items, ipp.claim.max_items_unregistered, ipp.counter.rounds) == (300, 10, 3)
    general, serious = ipp.penalties.general, ipp.penalties.serious
    assert (general.first, general.repeat, general.daily_cap, general.expires.text) == (0, 6, 6, "365 d")
    assert [step.points for step in general.thresholds] == [2, 6, 12, 24, 36, 48]
    assert [step.points for step in serious.thresholds] == [1, 2, 3]
    assert serious.grouping.text == "3 d"
    assert {name for name, reason in ipp.reasons.items() if reason.severity == "serious"} == {
        "counterfeit",
        "pirated_product",
    }
    assert ipp.withdrawal.reverses == ("error", "licensed", "right_ended")


def test_four_eyes_by_reason_severity_and_decision() -> None:
    ipp = load("ipp-2026-11")
    assert ipp.review.two("counterfeit", "serious", "uphold")
    assert not ipp.review.two("counterfeit", "serious", "refuse")
    assert not ipp.review.two("design", "general", "uphold")
    named = parse(TEXT.replace("four_eyes = []", 'four_eyes = ["design"]'), "ipp-2026-11.toml")
    assert named.review.two("design", "general", "uphold")
    assert not policy.Review().two("counterfeit", "serious", "uphold")  # a file without the table


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('window = "3 wd"', 'window = "3"', "timers.window: Expected a duration"),
        ('window = "3 wd"', "window = 3", "timers.window: Expected a duration"),
        ('window = "3 wd"', 'window = "0 wd"', "timers.window: Expected a duration"),
        ('review_sla = "24 h"', "", "timers: Object missing required field `review_sla`"),
        ('review_sla = "24 h"', 'review_sla = "1 wd"', "timers.review_sla: "),
        ('review = "triage"', 'review = "x"', "rules.review: Invalid enum value 'x'"),
        ("refuse_at = -40", "refuse_at = 40", "triage.refuse_at: must be below uphold_at"),
        ('refusal = "plainly_unfounded"', 'refusal = "x"', "triage.refusal: there is no refusal 'x'"),
        (
            'signal = "evidence"\nat_least = 3',
            'signal = "evidence"',
            "triage.rules.well_evidenced: needs at_least or at_most",
        ),
        ('signal = "evidence"', 'signal = "x"', "triage.rules[...].signal: Invalid enum value 'x'"),
        ('severity = "serious"', 'severity = "x"', "reasons.counterfeit.severity: Invalid enum value 'x'"),
        ('rights = ["design"]', 'rights = ["desing"]', "reasons.design.rights[0]: Invalid enum value 'desing'"),
        ("rounds = 3", "rounds = -1", "counter.rounds: Expected `int` >= 0"),
        ("rounds = 3", "rounds = 3\nfoo = 1", "counter: Object contains unknown field `foo`"),
        ('calendar = "cn"', 'calendar = "mars"', "calendar: calendars.toml: no calendar 'mars'"),
        ('profile = "ipp"', 'profile = "dmca"', "version: "),
        ('version = "ipp-2026-11"', 'version = "ipp-2026-12"', "version: 'ipp-2026-12' is not the file's name"),
        ("device = 5", "device = 1", "penalties.entity.links[...]: Expected `int` >= 2"),
        ("device = 5", "shoe = 5", "penalties.entity.links"),
        ("points = 6\n", "points = 2\n", "penalties.general.thresholds: points must rise"),
        ('grouping = "3 d"', 'grouping = "3 wd"', "penalties.serious.grouping: expected days"),
        ("unknown_reason = ", "another_reason = ", "refusals: 'unknown_reason' is missing"),
        ("four_eyes = []", 'four_eyes = ["none"]', "review.four_eyes: there is no reason 'none'"),
        ("[timers]", "[timers", "Expected"),
        (
            'version = "ipp-2026-11"',
            'version = "ipp-2026-11"\nbase = "ipp-2020-01"',
            "base: there is no policy 'ipp-2020-01'",
        ),
        (
            'version = "ipp-2026-11"',
            'version = "ipp-2026-11"\nbase = "dmca-2026-11"',
            "base: a base stands on no other",
        ),
        (
            'lookup_retry = "1 h"',
            'lookup_retry = "1 h"\nrestore_by = "14 wd"',
            "timers.restore_by: means nothing unless",
        ),
        ("seller_silent", "seller_silence", "rules: Object contains unknown field `seller_silence`"),
    ],
)
def test_a_wrong_file_names_file_and_key(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(PolicyError) as error:
        parse(TEXT.replace(old, new, 1), "ipp-2026-11.toml")
    assert str(error.value).startswith("ipp-2026-11.toml: ")
    assert message in str(error.value)


def test_every_span_of_a_policy_is_a_duration() -> None:
    start = dt.datetime(2026, 11, 24, 10, tzinfo=dt.UTC)
    timers = load("ipp-2026-11").timers
    for span in msgspec.structs.asdict(timers).values():
        assert span is None or span.after(start, calendar("cn")) > start


@given(st.text())
def test_durations_parse_or_are_refused(text: str) -> None:
    try:
        span = Span(text)
    except ValueError:
        return
    assert span.text == text
    assert span == Span(text)
    assert hash(span) == hash(Span(text))
    assert text in repr(span)


def test_the_package_carries_its_policies() -> None:
    assert policy.FOLDER.joinpath("__init__.py").exists()


def test_threads_that_meet_policies_at_once_do_not_crash() -> None:
    """Jobs of one process read the first policy at the same moment; msgspec alone would not survive it."""
    script = """
import sys, threading
from shared import policy
sys.setswitchinterval(1e-6)
names, together = policy.versions(), threading.Barrier(8)

def read(number):
    together.wait()
    policy.load(names[number % len(names)])

threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
    for _ in range(3):
        subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[3])
