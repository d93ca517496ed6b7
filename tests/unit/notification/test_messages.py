"""Which change is told to whom."""

from __future__ import annotations

from typing import Any

import pytest

from services.notification.domain import messages_for
from shared.events import State as S  # noqa: N817
from tests.unit.notification.making import HOLDER, NOW, SELLER, changed, entered

TO_HOLDER, TO_SELLER = ("outcome", HOLDER), ("outcome", SELLER)
RECEIPT = ("claim_receipt", HOLDER)

CASES: list[tuple[str, S, dict[str, Any], list[tuple[str, str]]]] = [
    # first events
    ("received", S.RECEIVED, {"revision": 1}, [RECEIPT]),
    (
        "at once notified",
        S.NOTIFIED,
        {"revision": 1, "via": (S.RECEIVED, S.UNDER_REVIEW)},
        [RECEIPT, ("seller_notice", SELLER)],
    ),
    (
        "at once incomplete",
        S.NEEDS_INFO,
        {"revision": 1, "missing": ("identity",)},
        [RECEIPT, ("info_request", HOLDER)],
    ),
    ("at once a duplicate", S.DUPLICATE, {"revision": 1, "original": "x.1"}, [RECEIPT]),
    ("at once a dead link", S.LINK_INVALID, {"revision": 1, "seller": None}, [RECEIPT]),
    ("at once refused", S.REJECTED, {"revision": 1, "code": "unknown_reason"}, [RECEIPT]),
    # on the way to a decision
    ("under review", S.UNDER_REVIEW, {"previous": S.NEEDS_INFO}, []),
    ("a dead link, after the look-up", S.LINK_INVALID, {"previous": S.RECEIVED}, [TO_HOLDER]),
    ("refused", S.REJECTED, {"previous": S.UNDER_REVIEW}, [TO_HOLDER]),
    ("lapsed", S.LAPSED, {"previous": S.NEEDS_INFO}, [TO_HOLDER]),
    ("still incomplete", S.NEEDS_INFO, {"previous": S.NEEDS_INFO, "missing": ("right",)}, []),
    ("reopened", S.NOTIFIED, {"previous": S.DUPLICATE, "via": (S.RECEIVED,)}, [("seller_notice", SELLER)]),
    # counters
    ("counter under check", S.COUNTERED, {"previous": S.NOTIFIED}, []),
    (
        "forwarded",
        S.HOLDER_RESPONSE,
        {"previous": S.NOTIFIED, "via": (S.COUNTERED,)},
        [("counter_forwarded", HOLDER), ("counter_received", SELLER)],
    ),
    (
        "sent back at once",
        S.NOTIFIED,
        {"previous": S.NOTIFIED, "via": (S.COUNTERED,), "missing": ("statement",)},
        [("counter_defect", SELLER)],
    ),
    (
        "sent back by a reviewer",
        S.UPHELD_BY_DEFAULT,
        {"previous": S.COUNTERED, "noticed_at": NOW},
        [("counter_defect", SELLER)],
    ),
    ("to the platform", S.PLATFORM_REVIEW, {"previous": S.HOLDER_RESPONSE}, []),
    # ends
    ("accepted", S.UPHELD, {"previous": S.NOTIFIED}, [TO_HOLDER, TO_SELLER]),
    ("by default", S.UPHELD_BY_DEFAULT, {"previous": S.NOTIFIED, "noticed_at": NOW}, [TO_HOLDER, TO_SELLER]),
    ("after counter", S.UPHELD_AFTER_COUNTER, {"previous": S.PLATFORM_REVIEW}, [TO_HOLDER, TO_SELLER]),
    ("restored", S.RESTORED, {"previous": S.HOLDER_RESPONSE}, [TO_HOLDER, TO_SELLER]),
    ("withdrawn before the notice", S.WITHDRAWN, {"previous": S.NEEDS_INFO}, [TO_HOLDER]),
    ("withdrawn after it", S.WITHDRAWN, {"previous": S.UPHELD}, [TO_HOLDER, TO_SELLER]),
    ("the right never came back", S.WITHDRAWN, {"previous": S.SUSPENDED, "noticed_at": NOW}, [TO_HOLDER, TO_SELLER]),
    ("the court's result", S.UPHELD, {"previous": S.LITIGATION, "noticed_at": NOW}, [TO_HOLDER, TO_SELLER]),
    # complaints
    (
        "refused, and complained of",
        S.APPEALED,
        {"previous": S.REJECTED, "seller": None, "by": "holder"},
        [("complaint_received", HOLDER)],
    ),
    (
        "the seller complains",
        S.APPEALED,
        {"previous": S.UPHELD, "noticed_at": NOW, "by": "seller"},
        [("complaint_received", HOLDER), ("complaint_received", SELLER)],
    ),
    ("audited by the platform", S.APPEALED, {"previous": S.NOTIFIED, "noticed_at": NOW}, []),
    ("put to a person", S.APPEALED, {"previous": S.NOTIFIED, "unreached": True}, []),
    (
        "put to a person by what a holder says of the court",
        S.APPEALED,
        {"previous": S.LITIGATION, "via": (S.NOTIFIED,), "by": "holder", "unreached": True},
        [],
    ),
    (
        "upheld by a person, unread",
        S.UPHELD_BY_DEFAULT,
        {"previous": S.APPEALED, "by": "reviewer", "unreached": True},
        [TO_HOLDER, TO_SELLER],
    ),
    (
        "withdrawn, unread",
        S.WITHDRAWN,
        {"previous": S.APPEALED, "by": "holder", "unreached": True},
        [TO_HOLDER, TO_SELLER],
    ),
    (
        "complained of by the holder, unread",
        S.APPEALED,
        {"previous": S.RESTORED, "by": "holder", "unreached": True},
        [("complaint_received", HOLDER), ("complaint_received", SELLER)],
    ),
    ("reached meanwhile", S.NOTIFIED, {"previous": S.APPEALED, "noticed_at": NOW}, []),
    ("confirmed", S.UPHELD, {"previous": S.APPEALED, "noticed_at": NOW, "by": "reviewer"}, [TO_HOLDER, TO_SELLER]),
    ("reversed", S.RESTORED, {"previous": S.APPEALED, "noticed_at": NOW, "by": "reviewer"}, [TO_HOLDER, TO_SELLER]),
    ("to review again", S.UNDER_REVIEW, {"previous": S.APPEALED, "by": "reviewer"}, [("complaint_reversed", HOLDER)]),
    (
        "to the seller at once",
        S.NOTIFIED,
        {"previous": S.APPEALED, "via": (S.UNDER_REVIEW,), "by": "reviewer"},
        [("complaint_reversed", HOLDER), ("seller_notice", SELLER)],
    ),
    ("back to the complaint", S.APPEALED, {"previous": S.SUSPENDED, "noticed_at": NOW}, []),
    # pauses
    ("suspended", S.SUSPENDED, {"previous": S.NOTIFIED}, []),
    ("back to its window", S.NOTIFIED, {"previous": S.SUSPENDED}, []),
    ("back from court", S.HOLDER_RESPONSE, {"previous": S.LITIGATION}, []),
    ("back and on", S.NOTIFIED, {"previous": S.SUSPENDED, "via": (S.UNDER_REVIEW,)}, [("seller_notice", SELLER)]),
]


@pytest.mark.parametrize(("state", "more", "told"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_change_is_told(state: S, more: dict[str, Any], told: list[tuple[str, str]]) -> None:
    assert messages_for(entered(state), changed(state, **more)) == told


@pytest.mark.parametrize(
    "kind", ["handled", "window_opened", "unreached", "reached", "overdue", "reminded", "holder_response"]
)
def test_what_is_no_entry_is_not_told(kind: str) -> None:
    change = changed(S.NOTIFIED, previous=S.NOTIFIED, noticed_at=NOW)

    assert messages_for(f"goodfaith.item.{kind}.v1", change) == []


def test_a_seller_who_complains_of_himself_is_told_once() -> None:
    change = changed(S.UPHELD, previous=S.NOTIFIED, seller=HOLDER)

    assert messages_for(entered(S.UPHELD), change) == [TO_HOLDER]
