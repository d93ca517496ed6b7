"""`goodfaith claim show ID`: shows what happened to a claim or an item, from every service's event log."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Final

import typer
from msgspec import Struct

from services.ops.terminal import JsonOption, StackOption

app = typer.Typer(no_args_is_help=True, help="Show what happened to a claim or an item.")


@app.callback()
def _group() -> None:
    """Show what happened to a claim or an item."""


class Entry(Struct, frozen=True, omit_defaults=True):
    """One event of a claim. ``by``: who caused it. ``cause``: the event, command, message or timer behind it."""

    time: dt.datetime
    service: str
    event: str
    what: str
    item: str | None = None
    listing: str | None = None
    rule: str | None = None
    cause: str | None = None
    by: str | None = None
    detail: str | None = None


_ROW: Final = """
    select '{name}', recorded_wall, partition, seq, payload from {schema}.{prefix}event_log where claim = %s"""


def timeline(connection: Any, settings: Any, name: str) -> tuple[str, list[Entry]] | None:
    """The claim's id and its events in order of time, or only those of the item ``name``. None: not found."""
    from services.ops.idle import Reader, readers

    row = connection.exec_driver_sql(
        "select claim, id from intake.items where id = %s union all select id, null from intake.claims where id = %s",
        (name, name),
    ).first()
    if row is None:
        return None
    claim, only = row
    there = set(connection.exec_driver_sql("select schemaname || '.' || tablename from pg_tables").scalars())
    known = {reader.name: reader for reader in readers(settings)}
    known.setdefault("intake-inbound", Reader("intake-inbound", "intake", "inbound_", ()))
    found = []
    for reader in known.values():
        if f"{reader.schema}.{reader.prefix}event_log" not in there:
            continue
        sql = _ROW.format(name=reader.name, schema=reader.schema, prefix=reader.prefix)
        for service, wall, partition, seq, payload in connection.exec_driver_sql(sql, (claim,)):
            entry = _entry(service, payload)
            if only is None or _concerns(payload, entry, only):
                # causes were recorded before their effects, and one partition's rows are in order
                found.append(((entry.time, wall, partition, seq), entry))
    return claim, [entry for _, entry in sorted(found, key=lambda pair: pair[0])]


def _concerns(payload: str, entry: Entry, item: str) -> bool:
    if entry.item is not None:
        return entry.item == item
    # one message can be about several items
    return f'"{item}"' in payload


def _entry(service: str, payload: str) -> Entry:
    import msgspec

    from shared.events import decode_envelope

    envelope = decode_envelope(payload)
    data: dict[str, Any] = msgspec.json.decode(envelope.data)
    kind = envelope.type.removeprefix("goodfaith.").rpartition(".v")[0]
    cause = envelope.causationid
    if cause is None and service == "verification":
        cause = "timer"
    return Entry(
        time=envelope.time or dt.datetime.min.replace(tzinfo=dt.UTC),
        service=service,
        event=envelope.id,
        what=kind,
        item=data.get("item"),
        listing=data.get("listing"),
        rule=data.get("rule"),
        cause=cause,
        by=_by(service, kind, data),
        detail=_detail(kind, data),
    )


def _by(service: str, kind: str, data: dict[str, Any]) -> str:
    """Who caused it: the account and its role if it was a party, otherwise the service."""
    if "role" in data:
        return f"{data['by']} ({data['role']})"
    if kind == "item.submitted":
        return f"{data['complainant']} (holder)" if "recurs" not in data else "system"
    if kind == "claim.filed":
        return f"{data['account']} (holder)" if data["channel"] != "recurrence" else "system"
    if kind.startswith("item."):
        # the role; `system` is the default, so it is left out of the event
        return str(data.get("by", "system"))
    return service


def _detail(kind: str, data: dict[str, Any]) -> str | None:
    if kind.startswith("item.") and "state" in data:
        words = [f"{data['previous']} → {data['state']}" if data.get("previous") else data["state"]]
        words += [f"{name} {data[name]}" for name in ("code", "original", "recurs", "due", "sla") if name in data]
        return ", ".join(words)
    names = {
        "message.sent": ("kind", "party", "channel"),
        "account.told": ("kind", "account", "channel"),
        "notice.sent": ("kind", "message"),
        "hold.changed": ("held", "result"),
        "violation.changed": ("seller", "in_force", "severity"),
        "penalty.entered": ("seller", "kind", "ledger", "points"),
        "sanction.changed": ("seller", "change", "cause", "ledger", "level", "measures", "ends"),
        "marketplace.command": ("action", "seq"),
        "recurrence.found": ("item", "before", "title", "distance"),
        "command.refused": ("code", "detail"),
        "command.counter": ("materials",),
        "command.decide": ("decision", "code", "break_glass"),
        "command.respond": ("accept",),
        "command.withdraw": ("ground",),
        "command.change_right": ("status",),
        "item.submitted": ("reason", "right", "lane", "recurs"),
        "claim.filed": ("items", "right_type", "channel"),
    }.get(kind, ())
    return ", ".join(f"{name} {data[name]}" for name in names if name in data) or None


@app.command()
def show(
    id: Annotated[str, typer.Argument(help="Id of a claim or an item.")],
    stack: StackOption = "default",
    json: JsonOption = False,
) -> None:
    """Show the timeline of a claim or an item: what happened when, by which rule, why, and by whom."""
    import msgspec
    from rich.markup import escape
    from rich.table import Column, Table

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
    claim, entries = found
    short = {item: item for item in sorted({entry.item for entry in entries if entry.item is not None})}
    if len(short) > 1:
        short = {item: f"…{item[-3:]}" for item in short}  # items of a claim differ in their last part
    table = Table(
        "time", Column("item", no_wrap=True), "event", "rule", "by", "cause", "detail", title=f"claim {claim}"
    )
    for entry in entries:
        table.add_row(
            f"{entry.time:%Y-%m-%d %H:%M:%S}",
            short.get(entry.item or "", ""),
            f"{entry.what}\n[dim]{entry.event}[/dim]",
            entry.rule or "",
            escape(entry.by or ""),
            escape(entry.cause or ""),
            escape(entry.detail or ""),
        )
    console.print(table)
    if json:
        print_json({"claim": claim, "id": id, "events": msgspec.to_builtins(entries)})


def register(parent: typer.Typer) -> None:
    """Add this module's commands."""
    parent.add_typer(app, name="claim")
