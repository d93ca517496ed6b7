"""`goodfaith claim show`: from rows of the event logs to lines that fit a terminal."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest

from services.ops.claim import DETAILS, PHRASES, WHAT, Entry, Timeline, entry_of, item_facts, lines, says
from shared import events
from shared.events import State

T = dt.datetime(2026, 11, 24, 10, tzinfo=dt.UTC)
CLAIM = "c-01JDEZ4T5V8W9X0Y1Z2A3B4C000"
ITEM = "i-01JDEZ4T5V8W9X0Y1Z2A3B4C001"
OTHER = "i-01JDEZ4T5V8W9X0Y1Z2A3B4C002"
WHOSE: dict[str, Any] = {"claim": CLAIM, "claim_size": 2, "complainant": "h-acme", "principal": "h-acme"}
RIGHT: dict[str, Any] = {"right": "r-1", "right_type": "trademark", "reason": "counterfeit", "profile": "ipp"}


def entry(service: str, kind: str, data: events.Data, *, after_s: float = 0, cause: str | None = "intake.1.1") -> Entry:
    payload = events.encode(
        data,
        id=f"{service}.1.7",
        source="/test",
        type=f"goodfaith.{kind}.v1",
        subject=None,
        time=T + dt.timedelta(seconds=after_s),
        key=None,
        correlation=CLAIM,
        causation=cause,
    )
    return entry_of(service, payload.decode())


def submitted(item: str = ITEM) -> events.ItemSubmitted:
    return events.ItemSubmitted(
        item=item, listing=f"shoe-{item[-1]}", policy="ipp-2026-11", accepted_at=T, **WHOSE, **RIGHT
    )


def changed(state: State, rule: str, item: str = ITEM, **more: Any) -> events.ItemChanged:
    facts = {"revision": 1, "received_at": T, **more}
    return events.ItemChanged(
        item=item, listing=f"shoe-{item[-1]}", policy="ipp-2026-11", state=state, rule=rule, **WHOSE, **RIGHT, **facts
    )


HANDLED = T + dt.timedelta(seconds=4)
DUE = T + dt.timedelta(days=3)
COMMAND: dict[str, Any] = {"command": "k-1", "item": ITEM, "claim": CLAIM, "listing": "shoe-1", "accepted_at": T}
LIFE = [
    entry(
        "intake",
        "claim.filed",
        events.ClaimFiled(claim=CLAIM, account="h-acme", items=2, right_type="trademark", channel="http", at=T),
    ),
    entry("intake", "item.submitted", submitted(), after_s=1),
    entry("verification", "item.received", changed(State.RECEIVED, "1-submitted", sla_due=DUE)),
    entry(
        "verification",
        "item.notified",
        changed(State.NOTIFIED, "7-upheld-prima-facie", revision=2, held=True, seller="s-9"),
        after_s=2,
    ),
    entry(
        "enforcement",
        "hold.changed",
        events.HoldChanged(item=ITEM, claim=CLAIM, listing="shoe-1", held=True, at=T),
        after_s=3,
    ),
    entry(
        "verification",
        "item.handled",
        changed(State.NOTIFIED, "7-handled", revision=3, sla="met", handled_at=HANDLED, seller="s-9"),
        after_s=4,
    ),
    entry(
        "notification",
        "message.sent",
        events.MessageSent(
            message="m-1",
            claim=CLAIM,
            party="s-9",
            kind="seller_notice",
            items=(ITEM, OTHER),
            channel="email",
            template="seller_notice",
            version=1,
            digest="0" * 64,
            sent_at=T,
        ),
        after_s=5,
    ),
    entry(
        "verification",
        "item.window_opened",
        changed(State.NOTIFIED, "7-window-opened", revision=4, sla="met", handled_at=HANDLED, due=DUE, seller="s-9"),
        after_s=6,
    ),
    entry(
        "intake",
        "command.counter",
        events.Counter(by="s-9", role="seller", materials=("statement",), **COMMAND),
        after_s=7,
    ),
    entry(
        "verification",
        "item.upheld_by_default",
        changed(State.UPHELD_BY_DEFAULT, "9-window-ended", revision=5, sla="met", handled_at=HANDLED, seller="s-9"),
        after_s=8,
        cause=None,
    ),
]


def shown(found: Timeline, **how: Any) -> list[str]:
    return list(lines(found, **how))


def of(entries: list[Entry], id: str = ITEM) -> Timeline:
    return Timeline(CLAIM, id, item_facts(entries), entries)


def test_one_item_is_a_header_and_a_line_per_event() -> None:
    assert shown(of(LIFE)) == [
        f"Item {ITEM} of claim {CLAIM}",
        "  listing   shoe-1 of seller s-9",
        "  right     r-1 (trademark)",
        "  reason    counterfeit, policy ipp-2026-11",
        "  holder    h-acme",
        "  state     UPHELD_BY_DEFAULT",
        "  target    met, handled 2026-11-24 10:00:04",
        "",
        "2026-11-24 10:00:00  claim filed by h-acme (holder): 2 listings, trademark, by http",
        "2026-11-24 10:00:01  submitted by h-acme (holder): counterfeit",
        "2026-11-24 10:00:00  received by verification: submitted",
        "2026-11-24 10:00:02  takedown decided by verification: upheld prima facie",
        "2026-11-24 10:00:03  listing taken down by enforcement",
        "2026-11-24 10:00:04  handled by verification: target met",
        "2026-11-24 10:00:05  seller notice sent by notification: to s-9, by email",
        "2026-11-24 10:00:06  window opened by verification: due 11-27 10:00",
        "2026-11-24 10:00:07  counter-notification filed by s-9 (seller): statement",
        "2026-11-24 10:00:08  upheld by default by verification: window ended",
    ]


def test_a_claim_lists_its_items_and_names_them_in_each_line() -> None:
    entries = [
        *LIFE[:3],
        entry("intake", "item.submitted", submitted(OTHER)),
        entry(
            "verification",
            "item.rejected",
            changed(State.REJECTED, "6-refused", OTHER, by="reviewer", code="no_likelihood", revision=2),
        ),
    ]
    text = shown(of(entries, CLAIM))
    assert text[0] == f"Claim {CLAIM}"
    assert text[6:9] == [
        "item  state                 due               target  listing",
        "…001  RECEIVED              -                 open    shoe-1",
        "…002  REJECTED              -                 open    shoe-2",
    ]
    assert text[-1] == "2026-11-24 10:00:00  …002  rejected by reviewer: refused, no likelihood"
    assert "2026-11-24 10:00:00        claim filed by h-acme (holder): 2 listings, trademark, by http" in text


def test_a_target_that_is_open_says_until_when() -> None:
    received = entry("verification", "item.received", changed(State.RECEIVED, "1-submitted", sla_due=DUE))
    assert "  target    open until 2026-11-27 10:00:00" in shown(of([received]))
    missed = entry("verification", "item.overdue", changed(State.UNDER_REVIEW, "5-overdue", sla="missed"))
    assert "  target    missed, not handled yet" in shown(of([missed]))
    assert says(missed) == "overdue by verification: target missed"


def test_lines_are_cut_to_the_terminal_unless_all_is_asked_for() -> None:
    long = changed(State.NEEDS_INFO, "4-elements-missing", missing=tuple(f"element_{n}" for n in range(20)))
    found = of([*LIFE, entry("verification", "item.needs_info", long)])
    assert max(map(len, shown(found, width=80))) == 80
    assert shown(found, width=80)[-1].endswith("…")
    wide = shown(found, width=80, wide=True)
    assert any("element_19" in line for line in wide)
    assert wide[-1].startswith("    event verification.1.7, cause intake.1.1, item i-01")
    assert len(wide) - len(shown(found)) == len(found.events)


def test_what_concerns_an_item() -> None:
    filed, mine, _, _, _, _, message, *_ = LIFE
    assert filed.concerns(ITEM)
    assert mine.concerns(ITEM)
    assert not mine.concerns(OTHER)
    assert message.concerns(OTHER)
    assert not message.concerns("i-another")


def test_json_has_everything() -> None:
    found = msgspec.to_builtins(of(LIFE))
    assert [item["target"] for item in found["items"]] == ["met"]
    assert found["events"][-1]["data"]["rule"] == "9-window-ended"
    assert found["events"][-1]["cause"] == "timer"


SAMPLES: dict[type[events.Data], dict[str, Any]] = {
    events.Respond: {"accept": False},
    events.Withdraw: {"ground": "error"},
    events.Decide: {"decision": "uphold"},
    events.ReportResult: {"outcome": "seller"},
    events.ChangeRight: {"status": "expired"},
}


@pytest.mark.parametrize("kind", [name for name, data in events.TYPES.items() if issubclass(data, events.Command)])
def test_every_command_is_a_sentence(kind: str) -> None:
    data = events.TYPES[kind]
    command = data(by="s-9", role="seller", **COMMAND, **SAMPLES.get(data, {}))
    text = says(entry("intake", kind.removeprefix("goodfaith.").removesuffix(".v1"), command))
    assert " by s-9 (seller)" in text
    assert "_" not in text


def test_words_are_for_types_and_fields_that_exist() -> None:
    types = {name.removeprefix("goodfaith.").removesuffix(".v1"): data for name, data in events.TYPES.items()}
    assert types.keys() >= WHAT.keys() | DETAILS.keys()
    for kind, names in DETAILS.items():
        assert set(names) <= set(types[kind].__struct_fields__), kind
    assert PHRASES.keys() <= {name for names in DETAILS.values() for name in names}


def test_an_item_before_its_first_judgment() -> None:
    assert "  state     SUBMITTED" in shown(of([entry("intake", "item.submitted", submitted())]))
    assert shown(of([], CLAIM)) == [f"Claim {CLAIM}", "  no item has been submitted yet", ""]
