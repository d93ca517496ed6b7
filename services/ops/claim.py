"""`goodfaith claim show ID`: shows what happened to a claim or an item, from every service's event log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, Literal

import typer
from msgspec import Struct

from services.ops.terminal import JsonOption, StackOption

app = typer.Typer(no_args_is_help=True, help="Show what happened to a claim or an item.")


@app.callback()
def _group() -> None:
    """Show what happened to a claim or an item."""


class Entry(Struct, frozen=True, omit_defaults=True):
    """One event of a claim.

    Attributes:
        what: type of the event, such as ``item.notified``.
        by: who caused it: a party, or the service that decided it.
        cause: the event, command or message behind it, or ``timer``.
        data: the event's data, without personal data.
    """

    time: dt.datetime
    service: str
    event: str
    what: str
    by: str
    data: dict[str, Any]
    cause: str | None = None

    @property
    def item(self) -> str | None:
        """The item that it is about; None: the claim or several items."""
        return self.data.get("item")

    @property
    def rule(self) -> str | None:
        """Row of the life-cycle table that fired."""
        return self.data.get("rule")

    def concerns(self, item: str) -> bool:
        """Whether it is about an item, alone or with others."""
        if self.item is not None:
            return self.item == item
        items = self.data.get("items")
        return item in items if isinstance(items, list) else self.what == "claim.filed"


class ItemFacts(Struct, frozen=True):
    """What an item's latest event says about it. ``target``: whether the 24-hour target was met; open until then."""

    item: str
    listing: str
    seller: str | None
    complainant: str
    right: str
    right_type: str
    reason: str
    policy: str
    state: str
    due: dt.datetime | None
    target: Literal["open", "met", "missed"]
    target_due: dt.datetime | None
    handled_at: dt.datetime | None


class Timeline(Struct, frozen=True):
    """A claim, or one of its items, and all events in order of time."""

    claim: str
    id: str
    items: list[ItemFacts]
    events: list[Entry]


_ROW: Final = """
    select '{name}', recorded_wall, partition, seq, payload from {tables}event_log where claim = %s"""


def timeline(connection: Any, settings: Any, id: str) -> Timeline | None:
    """Read the event logs of all services. None: there is no claim or item with this id."""
    from services.ops.idle import writers

    row = connection.exec_driver_sql(
        "select claim, id from intake.items where id = %s union all select id, null from intake.claims where id = %s",
        (id, id),
    ).first()
    if row is None:
        return None
    claim, only = row
    there = set(connection.exec_driver_sql("select schemaname || '.' || tablename from pg_tables").scalars())
    found = []
    for reader in writers(settings):
        if f"{reader.tables}event_log" not in there:
            continue
        sql = _ROW.format(name=reader.name, tables=reader.tables)
        for service, wall, partition, seq, payload in connection.exec_driver_sql(sql, (claim,)):
            entry = entry_of(service, payload)
            if only is None or entry.concerns(only):
                # causes were recorded before their effects, and one partition's rows are in order
                found.append(((entry.time, wall, entry.what != "claim.filed", partition, seq), entry))
    entries = [entry for _, entry in sorted(found, key=lambda pair: pair[0])]
    return Timeline(claim, id, item_facts(entries), entries)


def entry_of(service: str, payload: str) -> Entry:
    """An event from its row in a service's log."""
    import msgspec

    from shared.events import decode_envelope

    envelope = decode_envelope(payload)
    data: dict[str, Any] = msgspec.json.decode(envelope.data)
    what = envelope.type.removeprefix("goodfaith.").rpartition(".v")[0]
    cause = envelope.causationid
    if cause is None and service == "verification":
        cause = "timer"
    time = envelope.time or dt.datetime.min.replace(tzinfo=dt.UTC)
    return Entry(time, service, envelope.id, what, _by(service, what, data), data, cause)


def _by(service: str, what: str, data: dict[str, Any]) -> str:
    """The account and its role if it was a party, the role if that is all the event says, otherwise the service."""
    if "role" in data:
        return f"{data['by']} ({data['role']})"
    if what == "item.submitted" and "recurs" not in data:
        return f"{data['complainant']} (holder)"
    if what == "claim.filed" and data["channel"] != "recurrence":
        return f"{data['account']} (holder)"
    # `system` is the default, so it is left out of the event
    return str(data.get("by", service)) if what.startswith("item.") else service


def item_facts(entries: Iterable[Entry]) -> list[ItemFacts]:
    """The facts of each item, by id, from its event with the highest revision."""
    latest: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if entry.item is not None and entry.what.startswith("item."):
            known = latest.get(entry.item, {})
            if entry.data.get("revision", 0) >= known.get("revision", 0):
                latest[entry.item] = entry.data
    return [
        ItemFacts(
            item=item,
            listing=data["listing"],
            seller=data.get("seller"),
            complainant=data["complainant"],
            right=data["right"],
            right_type=data["right_type"],
            reason=data["reason"],
            policy=data["policy"],
            state=data.get("state", "SUBMITTED"),
            due=_time(data.get("due")),
            target=data.get("sla", "open"),
            target_due=_time(data.get("sla_due")),
            handled_at=_time(data.get("handled_at")),
        )
        for item, data in sorted(latest.items())
    ]


# -------------------------------------------------------------------------------------------------------- in words


WHAT: Final = {
    "command.accept": "takedown accepted",
    "command.add_information": "information added",
    "command.change_right": "right changed",
    "command.complain": "complaint filed",
    "command.counter": "counter-notification filed",
    "command.decide": "decision made",
    "command.refused": "request refused",
    "command.report_action": "court action reported",
    "command.report_result": "court result reported",
    "command.respond": "answer to the counter-notification",
    "command.withdraw": "withdrawal requested",
    "item.holder_response": "counter-notification forwarded",
    "item.litigation": "taken to court",
    "item.needs_info": "information requested",
    "item.notified": "takedown decided",
    "item.reached": "seller reached",
    "item.stands": "stands without a window",
    "item.under_review": "put to review",
    "item.unreached": "seller cannot be reached",
    "notice.sent": "notice counted as sent",
    "notice.unreached": "notice put into an inbox that nobody owns",
    "recurrence.found": "near copy of the listing found",
}
"""Words for types of events that do not speak for themselves."""
DETAILS: Final[dict[str, tuple[str, ...]]] = {
    "claim.filed": ("right_type", "channel"),
    "command.change_right": ("status",),
    "command.counter": ("materials",),
    "command.decide": ("decision", "code"),
    "command.refused": ("code",),
    "command.report_result": ("outcome",),
    "command.withdraw": ("ground",),
    "item.submitted": ("reason", "recurs"),
    "message.sent": ("party", "channel"),
    "notice.sent": ("kind",),
    "marketplace.command": ("listing",),
    "penalty.entered": ("points", "ledger", "seller"),
    "recurrence.found": ("listing", "title"),
    "sanction.changed": ("measures", "cause", "seller"),
    "violation.changed": ("severity", "seller"),
}
"""Fields that tell the reason of events that are not about an item's state."""
PHRASES: Final = {
    "channel": "by {}",
    "ledger": "{} ledger",
    "listing": "{}",
    "party": "to {}",
    "points": "{} points",
    "recurs": "recurrence of {}",
    "seller": "seller {}",
    "title": "titles {} % alike",
}
"""How these fields are said; the others are codes, said in words."""
HANDLES: Final = frozenset(
    f"item.{name}" for name in ("duplicate", "handled", "lapsed", "link_invalid", "overdue", "rejected")
)
"""Changes with which an item meets or misses the 24-hour target."""


def says(entry: Entry) -> str:
    """An event as a sentence: what happened, by whom, and why."""
    why = ", ".join(_item_reason(entry) if _is_change(entry) else _reason(entry))
    return f"{_what(entry)} by {entry.by}{f': {why}' if why else ''}"


def _is_change(entry: Entry) -> bool:
    return entry.what.startswith("item.") and "state" in entry.data


def _what(entry: Entry) -> str:
    data = entry.data
    match entry.what:
        case "hold.changed":
            return "listing taken down" if data["held"] else "listing restored"
        case "marketplace.command":
            return f"{data['action']} sent to the marketplace"
        case "message.sent":
            return f"{_words(data['kind'])} sent"
        case "sanction.changed":
            return f"sanction {data['change']}"
        case "violation.changed":
            return "violation in force" if data["in_force"] else "violation reversed"
        case "command.respond":
            return f"counter-notification {'accepted' if data['accept'] else 'rejected'}"
    return WHAT.get(entry.what) or _words(entry.what.removeprefix("item."))


def _item_reason(entry: Entry) -> Iterator[str]:
    data = entry.data
    rule = _words(data["rule"].partition("-")[2])
    if rule != _words(entry.what.removeprefix("item.")):
        yield rule
    if "code" in data:
        yield _words(data["code"])
    if data.get("missing"):
        yield f"missing: {' '.join(data['missing'])}"
    if data["state"] == "DUPLICATE" and "original" in data:
        yield f"of {data['original']}"
    if "sla" in data and entry.what in HANDLES:
        yield f"target {data['sla']}"
    elif "due" in data:
        yield f"due {dt.datetime.fromisoformat(data['due']):%m-%d %H:%M}"


def _reason(entry: Entry) -> Iterator[str]:
    data = entry.data
    if entry.what == "claim.filed":
        yield f"{data['items']} {'listing' if data['items'] == 1 else 'listings'}"
    if entry.what == "sanction.changed" and "measures" not in data:
        yield "warning"
    for name in DETAILS.get(entry.what, ()):
        if name in data:
            value = data[name]
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield PHRASES[name].format(text) if name in PHRASES else _words(text)


def _words(name: str) -> str:
    return name.replace("_", " ").replace(".", " ").replace("-", " ")


def _time(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)


def lines(found: Timeline, *, width: int | None = None, wide: bool = False) -> Iterator[str]:
    """A timeline as lines of text: a header, then one line per event. Pure.

    Args:
        width: Characters after which an event's line is cut; None: lines are not cut.
        wide: Whether each event is followed by its ids, rule, cause and data, on a line that is not cut.
    """
    yield from _header(found)
    several = len(found.items) > 1
    for entry in found.events:
        item = f"{_label(entry.item):<4}  " if several else ""
        text = f"{_utc(entry.time)}  {item}{says(entry)}"
        yield text if width is None or wide or len(text) <= width else f"{text[: width - 1]}…"
        if wide:
            yield f"    {_details(entry)}"


def _label(item: str | None) -> str:
    """Items of one claim differ in the last part of their ids."""
    return "" if item is None else f"…{item[-3:]}"


def _header(found: Timeline) -> Iterator[str]:
    items = found.items
    yield f"Item {found.id} of claim {found.claim}" if found.id != found.claim else f"Claim {found.claim}"
    if not items:
        yield "  no item has been submitted yet"
    elif len(items) == 1:
        (one,) = items
        if found.id == found.claim:
            yield f"  item      {one.item}"
        yield f"  listing   {one.listing}{f' of seller {one.seller}' if one.seller else ''}"
        yield from _right(one)
        yield f"  state     {one.state}{f', due {_utc(one.due)}' if one.due else ''}"
        yield f"  target    {_target(one)}"
    else:
        yield from _right(items[0])
        yield f"  items     {len(items)}"
        yield ""
        yield f"{'item':<4}  {'state':<20}  {'due':<16}  {'target':<6}  listing"
        for one in items:
            due = f"{one.due:%Y-%m-%d %H:%M}" if one.due else "-"
            yield f"{_label(one.item)}  {one.state:<20}  {due:<16}  {one.target:<6}  {one.listing}"
    yield ""


def _right(one: ItemFacts) -> Iterator[str]:
    yield f"  right     {one.right} ({_words(one.right_type)})"
    yield f"  reason    {_words(one.reason)}, policy {one.policy}"
    yield f"  holder    {one.complainant}"


def _target(one: ItemFacts) -> str:
    if one.target == "open":
        return f"open until {_utc(one.target_due)}" if one.target_due else "open"
    return one.target + (f", handled {_utc(one.handled_at)}" if one.handled_at else ", not handled yet")


def _utc(at: dt.datetime) -> str:
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}"


def _details(entry: Entry) -> str:
    shown = {"event": entry.event, "cause": entry.cause, **entry.data}
    return ", ".join(f"{name} {value}" for name, value in shown.items() if value is not None)


@app.command()
def show(
    id: Annotated[str, typer.Argument(help="Id of a claim or an item.")],
    wide: Annotated[
        bool, typer.Option("--wide", help="Show each event's ids, rule, cause and data, and cut no line.")
    ] = False,
    stack: StackOption = "default",
    json: JsonOption = False,
) -> None:
    """Show the timeline of a claim or an item: what happened when (UTC), by whom, and why."""
    import msgspec

    from services.ops import installation
    from services.ops.terminal import console, print_json
    from shared import db
    from shared.failures import CommandError

    settings = installation.settings(stack)
    engine = db.administer(settings.database.get_secret_value(), pooled=False)
    with engine.connect() as connection:
        found = timeline(connection, settings, id)
    if found is None:
        raise CommandError(f"there is no claim or item {id!r}")
    for line in lines(found, width=console.width if console.is_terminal else None, wide=wide):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if json:
        print_json(msgspec.to_builtins(found))


def register(parent: typer.Typer) -> None:
    """Add this module's commands."""
    parent.add_typer(app, name="claim")
