"""Recorded inputs under two policies: what changes, what is made up, and that the same policy changes nothing."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.verification.backtest import UNREACHED, Input, Past, Replay, Tally, Timeline, difference, past, violations
from services.verification.item import Bounds
from shared.events import (
    Accept,
    Command,
    Counter,
    Decide,
    HoldChanged,
    ItemSubmitted,
    Listing,
    NoticeSent,
    NoticeUnreached,
    PicturesCompared,
    Respond,
    State,
    Triage,
    Withdraw,
)
from shared.policy import Policy, Span, TriageNeeds, TriageRule, current
from tests.unit.verification.world import DAY, HOUR, IPP, MANUAL, policy

T = dt.datetime(2026, 3, 2, 10, tzinfo=dt.UTC)
"""A Monday."""
MINUTE = dt.timedelta(minutes=1)
VISIBLE = Listing(listing="l", seller="seller", state="visible")


def timers(**spans: str) -> Policy:
    """The ``ipp`` policy with other durations."""
    changed = msgspec.structs.replace(IPP.timers, **{name: Span(text) for name, text in spans.items()})
    return msgspec.structs.replace(IPP, timers=changed)


class Log:
    """What was recorded of one listing, step by step. Wall time is business time."""

    def __init__(self, listing: Listing | None = VISIBLE) -> None:
        self.inputs: list[Input] = []
        self.commands = 0
        if listing is not None:
            self.add(T - HOUR, listing)

    def add(self, at: dt.datetime, data: Any) -> None:
        self.inputs.append(Input(at, at, data))

    def file(self, at: dt.datetime = T, item: str = "i-1", **more: Any) -> None:
        fields: dict[str, Any] = {
            "item": item,
            "claim": f"c-{item}",
            "claim_size": 1,
            "listing": "l",
            "complainant": "h-1",
            "principal": "h-1",
            "right": "r-1",
            "right_type": "trademark",
            "reason": "counterfeit",
            "profile": "ipp",
            "policy": IPP.version,
            "identity_verified": True,
            "authority": "owner",
            "materials": ("ownership",),
            "accepted_at": at,
        }
        self.add(at, ItemSubmitted(**{**fields, **more}))

    def told(self, at: dt.datetime, kind: Any, revision: int, item: str = "i-1") -> None:
        self.add(
            at,
            NoticeSent(
                item=item, claim=f"c-{item}", listing="l", message="m", kind=kind, revision=revision, sent_at=at
            ),
        )

    def receipt(self, at: dt.datetime, item: str = "i-1") -> None:
        self.add(at, HoldChanged(item=item, claim=f"c-{item}", listing="l", held=True, at=at))

    def command(self, at: dt.datetime, kind: type[Command], by: str, role: str, item: str = "i-1", **more: Any) -> None:
        self.commands += 1
        fields: dict[str, Any] = {
            "command": f"k-{self.commands}",
            "item": item,
            "claim": f"c-{item}",
            "listing": "l",
            "by": by,
            "role": role,
            "accepted_at": at,
        }
        self.add(at, kind(**fields, **more))

    def notified(self, at: dt.datetime = T, item: str = "i-1", **more: Any) -> None:
        """Filed, upheld by rule, taken down and told of, with a minute between."""
        self.file(at, item, **more)
        self.told(at + MINUTE, "seller_notice", 1, item)
        self.receipt(at + 2 * MINUTE, item)

    def timeline(self, end: dt.datetime) -> Timeline:
        """As if every deadline fired on the minute up to the end."""
        steps = [(T + n * HOUR, T + n * HOUR, T + n * HOUR) for n in range(int((end - T) / HOUR))]
        return Timeline(steps, end)

    def both(self, old: Policy, new: Policy, end: dt.datetime) -> tuple[Replay, Replay]:
        line = self.timeline(end)
        before = Replay(self.inputs, line, lambda _: old)
        return before, Replay(self.inputs, line, lambda _: new, before)


def tally(log: Log, replays: Sequence[Replay]) -> dict[str, Any]:
    old, new = replays
    found = Tally()
    found.replays(old, new)
    for step in log.inputs:
        if isinstance(step.data, ItemSubmitted):
            name = step.data.item
            found.outcome(step.data, old.result(name), new.result(name), settled=new.items[name].settled)
    return found.as_json()


def test_what_pictures_showed_counts_again_by_the_policy_that_is_tried() -> None:
    new = msgspec.structs.replace(current("ipp"), audits=None)
    assert new.triage is not None
    needs = TriageNeeds(general=(("match",),), serious=(("match",),))
    old = msgspec.structs.replace(new, triage=msgspec.structs.replace(new.triage, needs=needs))
    log = Log()
    log.file(right_type="copyright", reason="copied_image_or_text")
    log.add(
        T + MINUTE,
        PicturesCompared(item="i-1", claim="c-i-1", listing="l", content="c" * 64, match=0.98, at=T + MINUTE),
    )
    before, after = log.both(old, new, T + HOUR)
    assert [replay.result("i-1").state for replay in (before, after)] == [State.UNDER_REVIEW, State.NOTIFIED]
    before, after = log.both(new, old, T + HOUR)
    assert [replay.result("i-1").state for replay in (before, after)] == [State.NOTIFIED, State.UNDER_REVIEW]


def test_a_shorter_window_makes_a_counter_late() -> None:
    log = Log()
    log.notified()
    log.command(T + 2 * DAY, Counter, "seller", "seller", materials=("identity", "statement"))
    log.command(T + 2 * DAY + HOUR, Respond, "h-1", "holder", accept=True)
    old, new = log.both(IPP, timers(window="1 d", late_counter="1 h"), T + 10 * DAY)
    assert old.result("i-1").state is State.RESTORED
    assert new.result("i-1").state is State.UPHELD_BY_DEFAULT
    assert new.refused == {"counter_too_late": 1, "not_now": 1}
    found = tally(log, (old, new))
    assert found["changed"] == 1
    assert found["transitions"] == {"RESTORED -> UPHELD_BY_DEFAULT": 1}
    assert found["by_reason"]["counterfeit"] == {"items": 1, "changed": 1, "transitions": found["transitions"]}
    assert found["by_complainant"] == [{"complainant": "h-1", "items": 1, "changed": 1}]
    assert found["commands"] == {"old": {"applied": 2}, "new": {"applied": 0, "counter_too_late": 1, "not_now": 1}}
    assert found["made_up"] == {"notices": 0, "receipts": 0}
    assert found["changed_but_open"] == 0


def test_a_seller_that_was_not_reached_is_upheld_by_default_only_where_the_policy_proceeds() -> None:
    log = Log()
    log.file()
    log.add(T + MINUTE, NoticeUnreached(item="i-1", claim="c-i-1", listing="l", message="m", revision=1, at=T))
    log.receipt(T + 2 * MINUTE)
    old, new = log.both(policy(), policy(unreachable="proceed"), T + 10 * DAY)
    assert (old.result("i-1").state, new.result("i-1").state) == (State.APPEALED, State.UPHELD_BY_DEFAULT)
    assert new.made_up == {"notices": 1}
    waits = log.both(policy(), policy(unreachable="wait"), T + 10 * DAY)[1]
    assert (waits.result("i-1").state, waits.items["i-1"].unreached) == (State.NOTIFIED, True)


def test_a_longer_window_is_still_open_where_the_log_ends() -> None:
    log = Log()
    log.notified()
    found = tally(log, log.both(IPP, timers(window="90 d"), T + 10 * DAY))
    assert found["transitions"] == {"UPHELD_BY_DEFAULT -> NOTIFIED": 1}
    assert found["changed_but_open"] == 1


def test_without_the_rule_nobody_has_decided() -> None:
    """The holder's withdrawal still counts; the seller's commands meet a case that has not begun."""
    log = Log()
    log.notified()
    log.notified(item="i-2", right="r-2")
    log.command(T + DAY, Accept, "seller", "seller")
    log.command(T + DAY, Withdraw, "h-1", "holder", "i-2", ground="error")
    replays = log.both(IPP, policy(review="manual"), T + 10 * DAY)
    found = tally(log, replays)
    assert found["transitions"] == {"UPHELD -> UNDER_REVIEW": 1, "WITHDRAWN -> WITHDRAWN": 1}
    assert replays[1].result("i-1").first is None
    assert replays[1].result("i-1").sla == "missed"
    assert found["fields"] == {"first": 2, "state": 1, "upheld": 1, "held": 1, "taken_down": 2, "sla": 2}
    assert found["commands"]["new"] == {"applied": 1, "not_now": 1}


def test_a_decision_counts_only_where_it_was_made() -> None:
    """An uphold of platform review is none of a claim under review, though the word is the same."""
    log = Log()
    log.notified()
    log.command(T + DAY, Counter, "seller", "seller", materials=("identity", "statement"))
    log.told(T + DAY + MINUTE, "counter_forwarded", 4)
    log.command(T + DAY + HOUR, Respond, "h-1", "holder", accept=False)
    log.command(T + 2 * DAY, Decide, "r-1", "reviewer", decision="uphold", revision=6)
    old, new = log.both(IPP, policy(review="manual"), T + 10 * DAY)
    assert old.result("i-1").state is State.UPHELD_AFTER_COUNTER
    assert new.result("i-1").state is State.UNDER_REVIEW
    assert new.refused[UNREACHED] == 1


def test_a_decision_is_not_stale_by_another_count_of_revisions() -> None:
    log = Log()
    log.file()
    log.command(T + HOUR, Decide, "r-1", "reviewer", decision="uphold", revision=1)
    log.told(T + HOUR + MINUTE, "seller_notice", 2)
    log.receipt(T + HOUR + 2 * MINUTE)
    log.command(T + DAY, Counter, "seller", "seller", materials=("identity", "statement"))
    log.command(T + DAY + HOUR, Decide, "r-2", "reviewer", decision="complete", revision=2)
    log.command(T + DAY + 2 * HOUR, Decide, "r-1", "reviewer", decision="complete", revision=5)
    log.told(T + 2 * DAY, "counter_forwarded", 6)
    log.command(T + 3 * DAY, Respond, "h-1", "holder", accept=True)
    slower = msgspec.structs.replace(MANUAL, rules=msgspec.structs.replace(MANUAL.rules, removal="after_window"))
    old, new = log.both(MANUAL, slower, T + 10 * DAY)
    assert old.refused == new.refused == {"stale": 1}
    assert old.result("i-1").state is new.result("i-1").state is State.RESTORED
    assert (old.result("i-1").taken_down, new.result("i-1").taken_down) == (True, False)


def test_what_was_not_sent_and_not_done_is_supposed_at_once() -> None:
    """A manual claim that nobody decided runs by rule: its notice and its receipt are made up, and the window ends."""
    log = Log()
    log.file()
    old, new = log.both(policy(review="manual"), IPP, T + 10 * DAY)
    assert old.result("i-1").state is State.UNDER_REVIEW
    assert new.result("i-1").state is State.UPHELD_BY_DEFAULT
    assert new.result("i-1").sla == "met"
    assert new.made_up == {"notices": 1, "receipts": 1}
    assert old.made_up == {}


def test_a_recorded_notice_that_would_have_come_too_late_is_supposed_earlier() -> None:
    log = Log()
    log.file()
    log.command(T + 5 * DAY, Decide, "r-1", "reviewer", decision="uphold")
    log.told(T + 5 * DAY + HOUR, "seller_notice", 3)
    log.receipt(T + 5 * DAY + HOUR)
    old, new = log.both(policy(review="manual"), IPP, T + 6 * DAY)
    assert old.result("i-1").state is State.NOTIFIED
    assert new.result("i-1").state is State.UPHELD_BY_DEFAULT
    assert new.items["i-1"].noticed_at == T
    assert new.refused == {UNREACHED: 1}


def test_a_notice_on_its_way_is_not_supposed() -> None:
    """The same wait, of another revision: what was recorded begins the window, when it was recorded."""
    log = Log(None)
    log.file()
    log.add(T + HOUR, VISIBLE)
    log.told(T + 2 * HOUR, "seller_notice", 2)
    log.receipt(T + 2 * HOUR)
    old, new = log.both(IPP, timers(window="1 d"), T + 2 * DAY)
    assert old.result("i-1").state is State.NOTIFIED
    assert new.items["i-1"].noticed_at == T + 2 * HOUR
    assert new.result("i-1").state is State.UPHELD_BY_DEFAULT
    assert new.made_up == {}


def test_a_removed_reason_is_refused_and_sets_its_duplicates_free() -> None:
    log = Log()
    log.notified()
    log.file(T + HOUR, "i-2", complainant="h-2")
    without = {code: reason for code, reason in IPP.reasons.items() if code != "counterfeit"}
    replays = log.both(IPP, msgspec.structs.replace(IPP, reasons=without), T + 10 * DAY)
    found = tally(log, replays)
    assert found["transitions"] == {"UPHELD_BY_DEFAULT -> REJECTED": 1, "DUPLICATE -> REJECTED": 1}
    assert replays[1].items["i-1"].code == "unknown_reason"
    assert [row["complainant"] for row in found["by_complainant"]] == ["h-1", "h-2"]


def test_the_oldest_duplicate_goes_on_when_its_original_ends() -> None:
    log = Log()
    log.notified()
    for number in (3, 2):
        log.file(T + number * HOUR, f"i-{number}")
    log.command(T + DAY, Withdraw, "h-1", "holder", ground="error")
    old, new = log.both(IPP, IPP, T + 10 * DAY)
    assert [old.items[f"i-{n}"].state for n in (1, 2, 3)] == [State.WITHDRAWN, State.NOTIFIED, State.DUPLICATE]
    assert old.items["i-3"].original == "i-2"
    assert new.items == old.items


def test_triage_weighs_what_was_decided_before_the_transaction() -> None:
    """A claim that failed before comes to a person; the worker reads that once a transaction."""
    for hours, state in ((1, State.UNDER_REVIEW), (0, State.NOTIFIED)):
        log = Log()
        log.notified()
        log.command(T + HOUR, Counter, "seller", "seller", materials=("identity", "statement"))
        log.command(T + 2 * HOUR, Respond, "h-1", "holder", accept=True)
        log.file(T + (2 + hours) * HOUR, "i-2")
        replays = log.both(policy(review="triage"), policy(review="prima_facie"), T + 3 * HOUR)
        assert replays[0].items["i-1"].state is State.RESTORED
        assert replays[0].items["i-2"].state is state
        found = tally(log, replays)
        assert found["transitions"] == ({"UNDER_REVIEW -> NOTIFIED": 1} if hours else {})
        assert replays[1].made_up == ({"notices": 1, "receipts": 1} if hours else {})


def test_violations_of_the_seller_are_told_by_the_rules_that_fired() -> None:
    def rule(low: float | None, high: float | None = None) -> TriageRule:
        return TriageRule(signal="seller_violations", at_least=low, at_most=high, weight=1)

    assert IPP.triage is not None
    rules = msgspec.structs.replace(
        IPP.triage, rules={**IPP.triage.rules, "few": rule(None, 1), "some": rule(2, 4), "many": rule(5)}
    )
    theirs = {"seller_offends_repeatedly"}
    assert violations({"few", "well_evidenced"}, rules) == 0
    assert violations({"some", *theirs}, rules) == 2
    assert violations({"many", *theirs}, rules) == 5
    assert violations({"many", "few"}, rules) is None
    assert violations((), msgspec.structs.replace(rules, rules={})) is None
    assert violations((), IPP.triage) == 0
    log = Log()
    log.file()
    replay = Replay(log.inputs, Timeline(), lambda _: policy(review="triage"), pasts={"i-1": Past(violations=2)})
    assert replay.items["i-1"].triage is not None
    assert theirs <= set(replay.items["i-1"].triage.rules)


@pytest.mark.parametrize(
    ("mark", "title", "recorded"),
    [
        ("iPhone", "case for iPhone 15", {"mark_in_title": 10}),
        ("Apple", "pineapple slicer", {"mark_in_title": 10}),  # what 0.2.0 made of it
        ("Zephyr", "sapphire zipper", {}),  # in between, by its ratio
        ("Zephyr", "blue mug", {"mark_not_in_title": -20}),
        ("3M", "3m cable", {"mark_in_title": 10}),
        ("3M", "3m cable", {}),
    ],
)
def test_a_title_counts_as_it_did_when_it_was_weighed(mark: str, title: str, recorded: dict[str, int]) -> None:
    """Versions compare titles in different ways; recorded items still come out as stored."""
    assert IPP.triage is not None
    told = Triage(score=50 + sum(recorded.values()), band="uphold", rules=recorded)
    log = Log(msgspec.structs.replace(VISIBLE, title=title))
    log.file(mark=mark)
    replay = Replay(log.inputs, Timeline(), lambda _: policy(review="triage"), pasts={"i-1": past([told], IPP.triage)})
    weighed = replay.items["i-1"].triage
    assert weighed is not None
    assert weighed.rules == recorded


def test_titles_that_were_weighed_differently_each_time_are_compared_again() -> None:
    assert IPP.triage is not None
    first, second = (Triage(score=0, band="review", rules={name: 1}) for name in ("mark_in_title", "mark_not_in_title"))
    assert past([first, first], IPP.triage).title_similarity == Bounds(85, math.inf, known=True)
    assert past([first, second], IPP.triage).title_similarity is None
    bare = msgspec.structs.replace(IPP.triage, rules={})
    assert past([first], bare) == Past()


def test_items_of_another_profile_keep_theirs() -> None:
    log = Log()
    log.notified()
    log.notified(item="i-2", right="r-2", profile="dmca")
    line = log.timeline(T + 10 * DAY)
    old = Replay(log.inputs, line, lambda _: IPP)
    manual = policy(review="manual")
    new = Replay(log.inputs, line, lambda filed: manual if filed.profile == "ipp" else IPP, old)
    assert new.result("i-1") != old.result("i-1")
    assert new.items["i-2"] == old.items["i-2"]


def test_a_timer_fires_when_it_fired() -> None:
    """A receipt that was read before the deadline fired counts, however late it was read."""
    log = Log()
    log.file()
    log.receipt(T + 25 * HOUR)
    late = [(T + 26 * HOUR, T + 24 * HOUR, T + 26 * HOUR)]
    early = [(T + 24 * HOUR + MINUTE, T + 24 * HOUR, T + 24 * HOUR + MINUTE)]
    for steps, changes in ((late, 2), (early, 3)):
        replay = Replay(log.inputs, Timeline(steps, T + 30 * HOUR), lambda _: IPP)
        assert replay.items["i-1"].sla == "missed"
        assert replay.items["i-1"].revision == changes


def test_differences_are_named_and_counted() -> None:
    log = Log()
    log.notified()
    replay, _ = log.both(IPP, IPP, T + DAY)
    change = replay.tracks["i-1"].last
    assert change is not None
    found = Tally()
    assert found.agreement is None
    found.stored("i-1", change, change)
    found.stored("i-2", change, msgspec.structs.replace(change, state=State.UPHELD))
    found.stored("i-3", change, msgspec.structs.replace(change, code="x", lane="bulk"))
    found.stored("i-4", change, None)
    assert found.agreement == 0.25
    assert {row["kind"]: row["examples"] for row in found.as_json()["differences"]} == {
        "state: UPHELD stored, NOTIFIED simulated": ["i-2"],
        "lane, code": ["i-3"],
        "not judged": ["i-4"],
    }
    assert difference(None, change) == "not simulated"


STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 60), st.integers(1, 2), st.integers(1, 9)), max_size=25)


@settings(max_examples=150, deadline=None)
@example(steps=[(2, 1, 1, 1), (0, 1, 2, 1), (3, 1, 2, 7), (3, 1, 2, 1)], rules=IPP)
@given(steps=STEPS, rules=st.sampled_from((IPP, MANUAL, policy(seller_silent="nothing", holder_silent="restore"))))
def test_the_same_policy_changes_nothing(steps: list[tuple[int, int, int, int]], rules: Policy) -> None:
    """Whatever is recorded, in whatever order: what leads a replay by the same policy leads it to the same end."""
    log = Log(None)
    at = T
    for kind, hours, number, revision in steps:
        at += hours * HOUR
        item = f"i-{number}"
        match kind:
            case 0 | 1:
                log.file(at, item, authority="missing" if revision == 1 else "owner")
            case 2:
                log.add(at, VISIBLE)
            case 3:
                log.told(at, ("seller_notice", "info_request", "counter_forwarded")[revision % 3], revision, item)
            case 4:
                log.receipt(at, item)
            case 5:
                log.command(at, Counter, "seller", "seller", item, materials=("identity", "statement")[: revision % 3])
            case 6:
                log.command(at, Respond, "h-1", "holder", item, accept=revision % 2 == 0)
            case 7:
                said: Any = ("uphold", "refuse", "complete", "incomplete", "restore")[revision % 5]
                code = "misuse" if said == "refuse" else None
                log.command(at, Decide, "r-1", "reviewer", item, decision=said, code=code, revision=revision)
            case 8:
                log.command(at, Withdraw, "h-1", "holder", item, ground="error")
            case 9:
                log.command(at, Accept, "seller", "seller", item)
    old, new = log.both(rules, rules, at + 20 * DAY)
    assert new.items == old.items
    assert new.refused == old.refused
    assert new.applied == old.applied
    assert not new.made_up
