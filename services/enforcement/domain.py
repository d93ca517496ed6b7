"""Holds: when a listing goes down and when it comes back.

A listing must be down exactly while it has at least one hold; lifting the last hold restores it. Only a listing's
latest command counts. An item waits for the receipt of that command, or for none if the marketplace is already in the
wanted state.

The functions change the states passed to them, and only after everything that they return has been built.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from shared import events
from shared.events import Data, HoldChanged, ItemChanged, MarketplaceCommand, Receipt, ViolationChanged

Down = Literal["suspend", "remove"]
RESEND_AFTER: Final = dt.timedelta(seconds=30)
"""Default wall time after which a command without a receipt is sent again; doubles with each try."""
RESEND_MOST: Final = dt.timedelta(minutes=10)

UNCHANGING: Final = frozenset(
    {"goodfaith.item.window_opened.v1", "goodfaith.item.overdue.v1", "goodfaith.item.reminded.v1"}
)
"""Events that only report times: hold and violation are those of the revision before, so folding may skip them."""


@dataclass(slots=True)
class Listing:
    """What is known of a listing: how many items hold it, and the latest command on it.

    Attributes:
        holds: number of items that hold it now; above 0 it must be down.
        seq: number of the latest command; 0 before the first.
        action: action of the latest command.
        confirmed: highest ``seq`` with a receipt; below ``seq`` a command is under way.
        result: result of the confirmed command.
        resend_at: wall time at which the command under way is sent again.
        tries: how often the command under way was sent again.
    """

    listing: str
    partition: int
    holds: int = 0
    seq: int = 0
    action: Literal["suspend", "remove", "restore", ""] = ""
    confirmed: int = 0
    result: Literal["done", "unknown_listing"] = "done"
    resend_at: dt.datetime | None = None
    tries: int = 0


@dataclass(slots=True)
class Hold:
    """An item's hold on its listing, and whether the item counts as a violation.

    Attributes:
        revision: highest revision of the item that was folded in.
        waits: ``seq`` of the command whose receipt the item waits for; 0 for none.
        seller: seller whose violation was declared last.
        violation: whether that violation is in force.
    """

    item: str
    claim: str
    listing: str
    revision: int = 0
    held: bool = False
    waits: int = 0
    seller: str | None = None
    violation: bool = False


def matters(type: str, event: ItemChanged) -> bool:
    """Whether this event can have changed hold or violation. Most events cannot, and cost nothing."""
    if type in UNCHANGING:
        return False
    if type == "goodfaith.item.handled.v1" and event.held and not event.upheld:
        return False  # verification's answer to our event that the hold took effect
    # nothing is older than a first event, so one without a hold need not be remembered
    return event.held or event.upheld or event.revision > 1


def command_id(listing: str, seq: int) -> str:
    """Id of a listing's command; it stays the same when the command is sent again."""
    return f"{hashlib.sha256(listing.encode()).hexdigest()[:32]}.{seq}"


def latest(listing: Listing) -> MarketplaceCommand:
    """The latest command on a listing, which must have one."""
    assert listing.action
    return MarketplaceCommand(
        command=command_id(listing.listing, listing.seq),
        listing=listing.listing,
        action=listing.action,
        seq=listing.seq,
    )


def change(
    listing: Listing,
    hold: Hold,
    event: ItemChanged,
    down: Down,
    at: dt.datetime,
    now: dt.datetime,
    wall: dt.datetime,
    resend: dt.timedelta = RESEND_AFTER,
) -> list[Data] | None:
    """Fold a change of an item; None if this revision or a later one is known already.

    Args:
        down: the action that takes a listing down.
        at: when the item changed.
        now: business time at which the hold changes.
        wall: wall time, from which a command's receipt is awaited.
    """
    if event.revision <= hold.revision:
        return None
    out: list[Data] = []
    violated = event.upheld and event.seller is not None and not event.canary
    seller = event.seller if violated else hold.seller
    if violated != hold.violation and seller is not None:
        out.append(
            ViolationChanged(
                seller=seller,
                claim=event.claim,
                item=event.item,
                listing=event.listing,
                severity=event.severity,
                in_force=violated,
                revision=event.revision,
                at=at,
            )
        )
    if event.held != hold.held:
        before = listing.holds
        holds = before + 1 if event.held else before - 1
        if (before == 0) == (holds == 0):
            # others hold it as well: nothing to do at the marketplace, though its receipt may still be awaited
            if not event.held or listing.confirmed == listing.seq:
                out.append(_hold_changed(hold.item, event.claim, listing, event.held, None, now))
                hold.waits = 0
            else:
                hold.waits = listing.seq
        else:
            listing.seq += 1
            listing.action = down if event.held else "restore"
            listing.tries = 0
            listing.resend_at = wall + resend
            hold.waits = listing.seq
            out.append(latest(listing))
        listing.holds = holds
        hold.held = event.held
    hold.revision = event.revision
    hold.seller = seller
    hold.violation = violated
    return out


def receive(
    listing: Listing | None, holds: Iterable[Hold], receipt: Receipt, now: dt.datetime
) -> list[HoldChanged] | None:
    """Take in a receipt; None if it confirms nothing: it is not of the command under way, or known already.

    Args:
        holds: the listing's holds, at least all that wait.
    """
    if (
        listing is None
        or listing.confirmed == listing.seq
        or receipt.command != command_id(listing.listing, listing.seq)
    ):
        return None
    confirmed = listing.confirmed
    listing.confirmed = listing.seq
    listing.result = receipt.result
    listing.resend_at = None
    return [
        _hold_changed(hold.item, hold.claim, listing, hold.held, receipt.command, now)
        for hold in holds
        if hold.waits > confirmed
    ]


def reappeared(
    listing: Listing | None,
    reported: events.Listing,
    down: Down,
    wall: dt.datetime,
    resend: dt.timedelta = RESEND_AFTER,
) -> MarketplaceCommand | None:
    """Take down again a listing that is visible although it is held; None if there is nothing to do.

    It was unknown when its command came, or somebody at the marketplace put it back. What the marketplace reported
    before it carried out our command may be read after the receipt: one command too many is then sent, which changes
    nothing.
    """
    if listing is None or not listing.holds or listing.confirmed < listing.seq or reported.state != "visible":
        return None
    listing.seq += 1
    listing.action = down
    listing.tries = 0
    listing.resend_at = wall + resend
    return latest(listing)


def again(listing: Listing, wall: dt.datetime, resend: dt.timedelta = RESEND_AFTER) -> MarketplaceCommand | None:
    """Send the command under way again; None if there is none."""
    if listing.confirmed == listing.seq:
        listing.resend_at = None
        return None
    command = latest(listing)
    listing.tries += 1
    listing.resend_at = wall + min(resend * 2 ** min(listing.tries, 10), max(resend, RESEND_MOST))
    return command


def _hold_changed(
    item: str, claim: str, listing: Listing, held: bool, action: str | None, now: dt.datetime
) -> HoldChanged:
    return HoldChanged(
        item=item,
        claim=claim,
        listing=listing.listing,
        held=held,
        action=action,
        result=listing.result,
        at=now,
    )
