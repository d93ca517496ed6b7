"""The marketplace's message centre: what goes there, and what receipts do."""

from __future__ import annotations

import base64
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.marketplace import centre as site
from services.notification import centre
from services.notification.domain import WINDOW_KINDS
from services.notification.render import Rendered
from services.notification.routing import channel
from services.notification.types import Item, Message
from shared import sealing
from shared.events import AccountNotice, CentreReceipt
from shared.marketplace import Letter
from shared.runtime.types import Unacceptable
from tests.unit.notification.making import HOLDER, NOW, SELLER, facts

KEY = sealing.private_key("key", base64.b64encode(bytes(range(32))).decode())
PUBLIC = sealing.public_text(KEY)


def message(party: str = SELLER, kind: str = "seller_notice") -> Message:
    return Message("m-1", "c-1", party, kind, False, 0, NOW, items=[Item("i-1", 1, 0, facts())])


def receipt(result: Literal["delivered", "read", "refused"], **more: Any) -> CentreReceipt:
    return CentreReceipt(**{"message": "m-1", "seller": SELLER, "result": result, **more})


def test_only_what_is_told_to_sellers_goes_there() -> None:
    assert centre.is_for_seller(message())
    assert not centre.is_for_seller(message(HOLDER, "outcome"))
    assert not centre.is_for_seller(message(SELLER, "digest"))
    for kind, goes in (("sanction_imposed", True), ("email_code", False), ("right_active", False)):
        told = message(SELLER, "account." + kind)
        told.notice, told.items = AccountNotice(notice="n", account=SELLER, kind=kind, at=NOW), []
        assert centre.is_for_seller(told) is goes


@pytest.mark.parametrize(
    ("order", "tried", "mail", "goes"),
    [
        ([], [], True, "centre"),
        ([], ["centre"], True, "email"),
        ([], ["centre", "email"], True, "inbox"),
        ([], [], False, "centre"),
        (["email"], [], True, "email"),
        (["email"], [], False, "centre"),
        (["email"], ["email"], True, "centre"),
        (["inbox"], ["centre"], True, "inbox"),
    ],
)
def test_where_a_sellers_message_goes(order: list[str], tried: list[str], mail: bool, goes: str) -> None:
    assert channel("outcome", order, [], tried, mail=mail, centre=True) == goes
    if order != ["inbox"]:
        assert {channel(kind, order, [], tried, mail=mail, centre=True) for kind in WINDOW_KINDS} == {goes}
    assert channel("outcome", order, [], tried, mail=mail) != "centre"


def test_it_is_sealed_for_this_seller_and_message_only() -> None:
    rendered = Rendered(subject="About you", body="Anna Example complains", template="t", version=1, html="")
    handed = centre.seal(message(), rendered, "d", PUBLIC)
    assert handed is not None
    told = handed.command
    assert b"Anna" not in base64.b64decode(told.sealed)
    letter, answers = site.take(told, known=True, habit=None, key=KEY)
    assert letter == Letter("About you", "Anna Example complains")
    assert [one.result for one in answers] == ["delivered"]
    for wrong in ({"seller": "s-2"}, {"message": "m-2"}, {"sealed": told.sealed[:-8] + "AAAAAAA="}):
        moved = type(told)(**{name: getattr(told, name) for name in told.__struct_fields__} | wrong)
        letter, answers = site.take(moved, known=True, habit=None, key=KEY)
        assert (letter, answers[0].result, answers[0].reason) == (None, "refused", "unsealable")
    long = Rendered(subject="s", body="x" * centre.LONGEST, template="t", version=1, html="")
    assert centre.seal(message(), long, "d", PUBLIC) is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"message": "m-2"}, "message: none of this id"),
        ({"seller": "s-2"}, "seller: not the record's key"),
    ],
)
def test_a_receipt_must_be_about_what_was_handed_over(wrong: dict[str, str], says: str) -> None:
    with pytest.raises(Unacceptable, match=says):
        centre.check(receipt("read", **wrong), SELLER, {"m-1": SELLER})
    with pytest.raises(Unacceptable, match="another seller's"):
        centre.check(receipt("read", seller="s-2"), "s-2", {"m-1": SELLER})


@given(
    waits=st.booleans(),
    results=st.lists(st.sampled_from(["delivered", "read", "refused"]), max_size=6),
)
def test_receipts_in_any_order_count_once(waits: bool, results: list[Literal["delivered", "read", "refused"]]) -> None:
    done = centre.weigh({"m-1": centre.Standing(waits, refused=False, read=False)}, [receipt(one) for one in results])
    assert len(done.counts) == len(results)
    first = next(iter(results), None)
    assert done.delivered == (["m-1"] if waits and first in ("delivered", "read") else [])
    assert list(done.refused) == (["m-1"] if waits and first == "refused" else [])
    assert done.read == (["m-1"] if "read" in results and not done.refused else [])
    # told again, nothing changes
    standing = centre.Standing(waits and not results, refused=bool(done.refused), read=bool(done.read))
    if results:
        again = centre.weigh({"m-1": standing}, [receipt(one) for one in results])
        assert (again.delivered, again.refused, again.read) == ([], {}, [])
        assert set(again.counts) <= {"late"}
