"""The marketplace's message centre as a channel: hands messages over, and takes in the receipts.

A message counts as sent once its ``delivered`` receipt is in: until then it is in state ``sending``, held by
``HOLDER``. Its lease is the time that the marketplace has: a sender that takes it afterwards gives the centre up.
The command is an announcement, so it is published once, and in the order of handing over for each seller.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec
import sqlalchemy as sa

from services.notification import history, store, windows
from services.notification.domain import DIGEST, SECRET
from services.notification.metrics import CENTRE
from services.notification.render import Rendered
from services.notification.types import Announcement, Failure, Message, PutOff, Sent
from shared import sealing, topics
from shared.events import CentreMessage, CentreReceipt
from shared.marketplace import Letter
from shared.runtime.types import Tx, Unacceptable

HOLDER: Final = "centre"
"""Who holds a message that waits for its receipt."""
WAITS: Final = "centre"
"""Result of a message that waits, and why it is prepared for the centre."""
COMMAND: Final = "goodfaith.marketplace.message.v1"
LONGEST: Final = 500_000
"""Most bytes of subject and body."""

_HAND = """
    update messages t set state = 'sending', holder = %s, result = %s, attempts = attempts + 1,
        due_wall = clock_timestamp() + %s * interval '1 second'
    where id = any(%s) and holder = %s and state in ('queued', 'sending') and due_wall > clock_timestamp() returning id"""
_NOTE = """
    insert into centre (message, party, handed_at, template, version, digest, locale, edition, rendered_at)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s)"""
_HANDED = "select message, party from centre where message = any(%s)"
_OPEN = """
    select c.*, m.holder = %s and m.state = 'sending' as waits from centre c join messages m on m.id = c.message
    where c.message = any(%s) order by m.id for update of m, c"""
_ANSWERED = "update centre set result = %s, answered_at = %s where message = any(%s)"
_READ = "update centre set read_at = %s where message = any(%s)"

_encode = msgspec.json.Encoder().encode


class HandOver(NamedTuple):
    """A message for the centre, sealed."""

    message: Message
    rendered: Rendered
    digest: str
    command: CentreMessage


def is_for_seller(message: Message) -> bool:
    """Whether its party is a seller of the marketplace: of its items, or of a sanction."""
    if message.kind in SECRET or message.kind == DIGEST:
        return False
    if message.notice is not None:
        return message.notice.kind.startswith("sanction_")
    return bool(message.items) and all(item.facts.seller == message.party for item in message.items)


def seal(message: Message, rendered: Rendered, digest: str, public: str) -> HandOver | None:
    """Seal a message for the centre; None: it is too long for a record."""
    plain = _encode(Letter(rendered.subject, rendered.body))
    if len(plain) > LONGEST:
        return None
    sealed = sealing.seal(public, sealing.about_message(message.party, message.id), plain)
    command = CentreMessage(
        message=message.id, seller=message.party, kind=message.kind, language=rendered.locale, sealed=sealed
    )
    return HandOver(message, rendered, digest, command)


def hand_over(
    connection: sa.Connection,
    holder: str,
    messages: Sequence[HandOver],
    now: dt.datetime,
    *,
    wait_s: float,
    partitions: int,
) -> int:
    """Queue the commands, and begin to wait for receipts; returns of how many that are still held."""
    if not messages:
        return 0
    ids = [one.message.id for one in messages]
    ours = set(connection.exec_driver_sql(_HAND, (HOLDER, WAITS, wait_s, ids, holder)).scalars())
    out = []
    for one in messages:
        message, rendered = one.message, one.rendered
        if message.id not in ours:
            continue
        connection.exec_driver_sql(
            _NOTE,
            (
                message.id,
                message.party,
                now,
                rendered.template,
                rendered.version,
                one.digest,
                rendered.locale,
                rendered.edition,
                rendered.at,
            ),
        )
        place = topics.partition_of(message.party, partitions)
        out.append(Announcement(place, message.party, message.id, COMMAND, _encode(one.command).decode()))
    history.announce(connection, out)
    return len(ours)


def silent(message: Message) -> PutOff:
    """A message whose receipt did not come in time: it goes by another channel."""
    return PutOff(message, "queued", "gave_up", failure=Failure("centre", "gave_up", "no_receipt"))


# ---------------------------------------------------------------------------------------------------- the receipts


def handed(connection: sa.Connection, receipts: Iterable[CentreReceipt]) -> dict[str, str]:
    """By message that was handed to the centre, its seller."""
    ids = sorted({one.message for one in receipts})
    return {row.message: row.party for row in connection.exec_driver_sql(_HANDED, (ids,))} if ids else {}


def check(receipt: CentreReceipt, key: str, known: Mapping[str, str]) -> None:
    """Check a receipt against what was handed over.

    Raises:
        Unacceptable: it is about nothing that was handed to this seller's message centre.
    """
    if receipt.seller != key:
        raise Unacceptable("seller: not the record's key; key each receipt by its seller")
    if receipt.message not in known:
        raise Unacceptable(
            "message: none of this id was handed to the message centre; name one of marketplace.messages"
        )
    if known[receipt.message] != receipt.seller:
        raise Unacceptable("seller: the message is another seller's; answer with the seller that the message names")


Counted = Literal["delivered", "read", "refused", "late"]


class Answered(NamedTuple):
    """What receipts do: messages delivered, refused and read, and how each receipt counts."""

    delivered: list[str]
    refused: dict[str, str]
    read: list[str]
    counts: list[Counted]


class Standing(NamedTuple):
    """What is known of a message in the centre."""

    waits: bool
    refused: bool
    read: bool


def weigh(known: Mapping[str, Standing], receipts: Sequence[CentreReceipt]) -> Answered:
    """What receipts do, in their order. Pure.

    The first of ``delivered`` and ``refused`` counts, as long as the message waits. What was read was delivered. A
    reading counts also when the message has gone by another channel meanwhile: the seller has read it.
    """
    standing = dict(known)
    done = Answered([], {}, [], [])
    for one in receipts:
        now = standing[one.message]
        if one.result == "refused":
            if now.waits:
                done.refused[one.message] = one.reason or "refused"
                now = now._replace(waits=False, refused=True)
                done.counts.append("refused")
            else:
                done.counts.append("late")
        else:
            counts: Counted = "late"
            if now.waits:
                done.delivered.append(one.message)
                now, counts = now._replace(waits=False), "delivered"
            if one.result == "read" and not now.read and not now.refused:
                done.read.append(one.message)
                now, counts = now._replace(read=True), "read"
            done.counts.append(counts)
        standing[one.message] = now
    return done


def receive(tx: Tx, receipts: Sequence[CentreReceipt]) -> None:
    """Take in receipts that were checked."""
    if not receipts:
        return
    connection, now = tx.connection, tx.now
    ids = sorted({one.message for one in receipts})
    rows: dict[str, Any] = {row.message: row for row in connection.exec_driver_sql(_OPEN, (HOLDER, ids))}
    known = {
        id_: Standing(bool(row.waits), row.result == "refused", row.read_at is not None) for id_, row in rows.items()
    }
    done = weigh(known, receipts)
    messages = {one.id: one for one in store.read(connection, [*done.delivered, *done.refused])}
    sent = [_sent(messages[id_], rows[id_]) for id_ in done.delivered]
    back = [
        PutOff(messages[id_], "queued", "refused", failure=Failure("centre", "refused", reason))
        for id_, reason in done.refused.items()
    ]
    store.finish(connection, HOLDER, sent, now, tx.wall)
    store.put_off(connection, HOLDER, back, now, tx.wall)
    connection.exec_driver_sql(_ANSWERED, ("delivered", now, done.delivered))
    connection.exec_driver_sql(_ANSWERED, ("refused", now, list(done.refused)))
    connection.exec_driver_sql(_READ, (now, done.read))
    windows.begin_windows(connection, done.read, "read", now, now=now)
    for result in done.counts:
        tx.count(CENTRE, result)


def _sent(message: Message, row: Any) -> Sent:
    return Sent(
        message,
        "centre",
        "sent",
        row.template,
        row.version,
        row.digest,
        locale=row.locale,
        edition=row.edition,
        rendered_at=row.rendered_at,
        delivered=True,
        trace=next(iter(message.traces), None),
    )
