"""Judges verification's log: replays its inputs on an independent model (`item_model.py`), and compares.

The log names the cause of every change, so the replay follows its order and repeats each step on the model: who was
in time, what a command does, when a deadline passes. If model and log disagree, the item is reported once and not
judged further. What left no trace in the log (a notice for a state that the item had left, a right's change without
effect) is replayed where it must have happened.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Callable, Container, Iterable
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from services.ops.verify.item_model import ENDED, TIMERS, Filed, Model, Move, Proof
from shared import policy
from shared.events import (
    COMMANDS,
    TYPES,
    AddInformation,
    ChangeRight,
    Command,
    CommandRefused,
    Complain,
    Counter,
    Decide,
    HoldChanged,
    ItemChanged,
    ItemSubmitted,
    Listing,
    NoticeSent,
    ReportAction,
    ReportResult,
    Respond,
    State,
    Triage,
    Withdraw,
)

Add = Callable[[Literal["lost", "doubled", "problem"], str, str], None]
Input = ItemSubmitted | Command | NoticeSent | HoldChanged
SUBMITTED: Final = "goodfaith.item.submitted.v1"
NOTICE: Final = "goodfaith.notice.sent.v1"
HOLD: Final = "goodfaith.hold.changed.v1"
_AS_FILED: Final = {
    name: name
    for name in (
        "claim",
        "claim_size",
        "listing",
        "complainant",
        "principal",
        "right",
        "right_type",
        "reason",
        "profile",
        "policy",
        "lane",
        "abroad",
        "recurs",
        "canary",
    )
} | {"received_at": "accepted_at"}
"""Fields of a change, and the submission's fields of which they are copies."""
_OF: Final[dict[type[Command], tuple[str, tuple[str, ...]]]] = {
    COMMANDS[name]: (short, sides)
    for name, short, sides in (
        ("add_information", "information", ("holder",)),
        ("withdraw", "withdraw", ("holder",)),
        ("accept", "accept", ("seller",)),
        ("counter", "counter", ("seller",)),
        ("respond", "respond", ("holder",)),
        ("report_action", "action", ("holder", "seller")),
        ("report_result", "result", ("holder", "seller")),
        ("complain", "complain", ("holder", "seller")),
        ("decide", "decide", ("reviewer", "operator")),
        ("change_right", "right", ("system",)),
    )
}
"""Command -> the model's name for it, and the roles that may give it."""


class _Data(Struct):
    data: msgspec.Raw


_data = msgspec.json.Decoder(_Data)
_decoders: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    name: msgspec.json.Decoder(kind)
    for name, kind in TYPES.items()
    if name in (SUBMITTED, NOTICE, HOLD) or issubclass(kind, Command)
}


class _Frame(Struct):
    state: State


class Stored(Struct):
    """A stored item, as far as it is compared."""

    item: str
    claim: str
    claim_size: int
    listing: str
    complainant: str
    principal: str
    right: str
    right_type: str
    reason: str
    profile: str
    policy: str
    received_at: dt.datetime
    sla_due: dt.datetime
    severity: str = "general"
    lane: str = "standard"
    on_site: bool = True
    abroad: bool = False
    canary: bool = False
    recurs: str | None = None
    seller: str | None = None
    state: State = State.RECEIVED
    revision: int = 0
    timers: tuple[tuple[str, dt.datetime], ...] = ()
    awaits: tuple[str, ...] = ()
    stack: tuple[_Frame, ...] = ()
    code: str | None = None
    missing: tuple[str, ...] = ()
    original: str | None = None
    held: bool = False
    upheld: bool = False
    noticed_at: dt.datetime | None = None
    counter_round: int = 0
    flagged: bool = False
    handled_at: dt.datetime | None = None
    sla: str | None = None
    triage: Triage | None = None

    @property
    def due(self) -> dt.datetime | None:
        """The earliest deadline of a party or the operator."""
        return min((at for name, at in self.timers if name not in ("lookup", "lookup_give_up")), default=None)

    @property
    def next_due(self) -> dt.datetime | None:
        """The earliest deadline of all."""
        return min((at for _, at in self.timers), default=None)

    @property
    def blocks(self) -> bool:
        """Whether a further claim would be its duplicate."""
        return self.state not in ENDED and not (self.state == "APPEALED" and self.stack[-1].state in ENDED)

    @property
    def waits(self) -> bool:
        """Whether the marketplace has yet to say what the listing is."""
        if self.state == "UNDER_REVIEW":
            return self.flagged and self.seller is None
        return self.state == "RECEIVED" and self.on_site

    def differs(self, last: ItemChanged) -> list[str]:
        """Fields in which the last change differs from the stored item."""
        wrong = [name for name in _KEPT if getattr(self, name) != getattr(last, name)]
        reviewed = "UNDER_REVIEW" in (last.state, *last.via)
        if last.triage != (self.triage if reviewed else None):
            wrong.append("triage")
        return wrong


_KEPT: Final = tuple(
    name
    for name in ItemChanged.__struct_fields__
    if name not in ("previous", "via", "rule", "command", "by", "begun_by", "settled", "triage")
)
"""Fields of a change that describe the item; the others describe the change, or follow from it."""


class Parted(Exception):
    """Log and model disagree about the same input."""

    def __init__(self, kind: str, detail: str, category: Literal["lost", "doubled", "problem"] = "problem") -> None:
        super().__init__(detail)
        self.kind = kind
        self.category = category


class Group(Struct):
    """What one cause did to one item. ``original``: whether another item blocked it then."""

    cause: str | None
    original: bool
    changes: list[tuple[dt.datetime, ItemChanged]] = []
    refused: tuple[dt.datetime, CommandRefused] | None = None


class Case:
    """An item under judgement.

    Attributes:
        commands: the item's commands that are not judged yet, in the order of intake's log.
        silent: notices that are not judged yet and led to no published change.
        group: what was last read of the log, not judged yet.
        hidden: it is appealed, and had ended before.
        off: log and model disagree.
    """

    __slots__ = ("commands", "filed", "group", "hidden", "model", "off", "revision", "silent")

    def __init__(self, filed: ItemSubmitted, rules: policy.Policy) -> None:
        self.filed = filed
        self.model = Model(rules)
        self.model.ours = True  # by the marketplace's contract only the programme removes a listing
        self.commands: deque[tuple[str, Command]] = deque()
        self.silent: list[NoticeSent] = []
        self.group: Group | None = None
        self.revision = 0
        self.hidden = False
        self.off = False


class Judge:
    """The items of one partition of verification's log.

    Args:
        add: takes a finding: category, kind, example.
        load: finds a policy by its version.
    """

    def __init__(self, add: Add, load: Callable[[str], policy.Policy] = policy.load) -> None:
        self._add = add
        self._load = load
        self._inputs: dict[str, Input] = {}
        self._cases: dict[str, Case] = {}
        self._blocking: dict[tuple[str, str, str], set[str]] = {}

    def learn(self, rows: Iterable[tuple[str, str, str]], heeded: Container[str] = ()) -> None:
        """Take in events that verification reads: submissions first, and all before its log.

        Args:
            rows: id, type and payload; submissions and commands in the order of intake's log.
            heeded: ids of notices that the log names as causes.
        """
        for id_, type_, payload in rows:
            decoder = _decoders.get(type_)
            if decoder is None:
                continue
            try:
                data = decoder.decode(_data.decode(payload).data)
            except msgspec.DecodeError as error:
                self._add("problem", "event-unreadable", f"{id_}: {error}")
                continue
            if isinstance(data, ItemSubmitted):
                try:
                    self._cases.setdefault(data.item, Case(data, self._load(data.policy)))
                except policy.PolicyError as error:
                    self._add("problem", "policy-unknown", f"{id_}: {error}")
                self._inputs[id_] = data
                continue
            case = self._cases.get(data.item)
            if case is None:
                continue  # never filed: other checks report that
            if isinstance(data, NoticeSent) and id_ not in heeded:
                case.silent.append(data)
                continue
            if isinstance(data, Command):
                case.commands.append((id_, data))
            self._inputs[id_] = data

    # ---- the log, in its order

    def changed(self, at: dt.datetime, cause: str | None, change: ItemChanged) -> None:
        """Take in a change of an item."""
        case = self._cases.get(change.item)
        if case is None:
            return
        self._group(case, cause).changes.append((at, change))
        before = change.via[-1] if change.via else change.previous
        if change.state == "APPEALED" and before not in ("LITIGATION", "SUSPENDED", "APPEALED"):
            case.hidden = before in ENDED
        blocks = change.state not in ENDED and not (change.state == "APPEALED" and case.hidden)
        others = self._blocking.setdefault(_triple(case.filed), set())
        (others.add if blocks else others.discard)(change.item)

    def refused(self, at: dt.datetime, cause: str | None, refused: CommandRefused) -> None:
        """Take in a refused command."""
        case = self._cases.get(refused.item)
        if case is not None:
            self._group(case, cause).refused = (at, refused)

    def _group(self, case: Case, cause: str | None) -> Group:
        if case.group is not None and cause is not None and case.group.cause == cause:
            return case.group
        self._judge(case)
        others = self._blocking.get(_triple(case.filed), set())
        case.group = Group(cause, bool(others - {case.filed.item}))
        return case.group

    def end(self, upto: dt.datetime | None, parked: Container[str] = ()) -> None:
        """End the log: judge what is left.

        Args:
            upto: the partition's watermark; deadlines up to it have passed.
            parked: listings with dead letters, whose records and deadlines wait for a person.
        """
        for item, case in self._cases.items():
            self._judge(case)
            case.off |= case.filed.listing in parked
            if case.off or not case.revision:
                continue
            try:
                self._catch_up(case, None)
            except Parted as parted:
                self._part(case, parted)
                continue
            running = case.model.running()
            if upto is not None and running and running[0][0] <= upto:
                due, name = running[0]
                self._add("lost", "deadline-unkept", f"{item}: {TIMERS[name]} of {due.isoformat()}")

    def timers(self, item: str) -> dict[str, dt.datetime] | None:
        """Deadlines that an item must have in the end, by their names in stored items; None: not judged to the end."""
        case = self._cases.get(item)
        if case is None or case.off:
            return None
        return {TIMERS[name]: due for due, name in case.model.running()}

    # ---- judging

    def _judge(self, case: Case) -> None:
        group, case.group = case.group, None
        if group is None or case.off:
            return
        changes = [change for _, change in group.changes]
        if [change.revision for change in changes] != list(range(case.revision + 1, case.revision + 1 + len(changes))):
            case.off = True  # gaps and forks: the fold reports them
            return
        try:
            self._repeat(case, group)
        except Parted as parted:
            self._part(case, parted)
        case.revision += len(changes)

    def _part(self, case: Case, parted: Parted) -> None:
        case.off = True
        self._add(parted.category, parted.kind, f"{case.filed.item}/{case.revision + 1}: {parted}")

    def _repeat(self, case: Case, group: Group) -> None:
        """Repeat on the model what caused the changes, and compare."""
        model = case.model
        source = None if group.cause is None else self._inputs.get(group.cause)
        if source is not None and source.item != case.filed.item:
            source = None  # another item's, whose end reopened this one
        if isinstance(source, Command):
            self._catch_up(case, group.cause)
        self._notices(case)
        model.moves, model.revision, model.original = (), case.revision, group.original
        last = group.changes[-1] if group.changes else None
        if last is not None:
            self._given(case, last[1])
        if isinstance(source, Command):
            self._command(case, group, source)
        elif last is None:
            return  # a refusal without its command: other checks report it
        else:
            self._event(case, source, group.cause, *last)
        path: list[Move] = [  # what changed no state is compared by its fields
            Move(at, (*change.via, change.state))
            for at, change in group.changes
            if change.via or change.state is not change.previous
        ]
        if path != list(model.moves):
            wanted = " then ".join(map(_told, model.moves)) or "nothing"
            was = " then ".join(map(_told, path)) or "nothing"
            raise Parted(
                "command-misjudged" if isinstance(source, Command) else "item-misjudged", f"{was}, not {wanted}"
            )
        if last is not None:
            self._fields(model, last[1])

    def _event(self, case: Case, source: Input | None, cause: str | None, at: dt.datetime, change: ItemChanged) -> None:
        """Repeat an event other than a command."""
        model = case.model
        if isinstance(source, ItemSubmitted):
            self._filed(source, change, model)
            proof = Proof(source.identity_verified, source.authority, source.right_status, frozenset(source.materials))
            model.submit(Filed.of(source), proof, source.accepted_at, at)
        elif isinstance(source, NoticeSent):
            if not model.sent(source.kind, source.begins, at):
                raise Parted("item-misjudged", f"no {source.kind} was awaited")
        elif isinstance(source, HoldChanged):
            model.receipt(source.at, at)
        elif change.previous == "DUPLICATE":
            model.reopened(at)
        elif cause is not None:
            model.listed(at)
        else:
            running = model.running()
            if not running or running[0][0] != at:
                due = f"{TIMERS[running[0][1]]} is due at {running[0][0].isoformat()}" if running else "nothing is due"
                raise Parted("deadline-differs", f"{change.rule} at {at.isoformat()}, but {due}")
            model.pass_next()

    @staticmethod
    def _filed(source: ItemSubmitted, change: ItemChanged, model: Model) -> None:
        wrong = [name for name, filed in _AS_FILED.items() if getattr(change, name) != getattr(source, filed)]
        reason = model.policy.reasons.get(source.reason)
        if change.severity != ("general" if reason is None else reason.severity):
            wrong.append("severity")
        if wrong:
            raise Parted("item-not-as-filed", ", ".join(wrong))

    def _command(self, case: Case, group: Group, command: Command) -> None:
        """Repeat a command: do log and model agree on its time, the state, and who may give it?"""
        if not case.commands or case.commands[0][0] != group.cause:
            raise Parted("command-misjudged", f"{command.command} came twice or out of order")
        case.commands.popleft()
        own = [at for at, change in group.changes if change.command == command.command]
        # without a trace of its own, it may have come at any time after it was accepted
        now = own[0] if own else group.refused[0] if group.refused else max(command.accepted_at, case.model.now)
        name = f"{command.command}, accepted at {command.accepted_at.isoformat()},"
        applied = self._apply(case, command, now)
        if applied and group.refused is not None:
            raise Parted("command-wronged", f"{name} was refused as {group.refused[1].code}", "lost")
        if own and not applied:
            raise Parted("command-unearned", f"{name} was applied")

    @staticmethod
    def _apply(case: Case, command: Command, now: dt.datetime) -> bool:
        name, roles = _OF[type(command)]
        parties = {"holder": (case.filed.complainant, case.filed.principal), "seller": (case.model.seller,)}
        if command.role not in roles or command.by not in parties.get(command.role, (command.by,)):
            return False
        return case.model.command(name, command.accepted_at, now, **_arguments(command))

    def _catch_up(self, case: Case, cause: str | None) -> None:
        """Repeat earlier commands that left no trace: changes of a right that change no state."""
        model = case.model
        if cause is not None and all(id_ != cause for id_, _ in case.commands):
            return
        while case.commands and case.commands[0][0] != cause:
            _, command = case.commands.popleft()
            if not isinstance(command, ChangeRight):
                continue  # still open: other checks report it
            model.moves, model.revision = (), case.revision
            model.original = False
            # it may have come at any time after it was accepted, and nothing that it may change here depends on when
            self._apply(case, command, max(command.accepted_at, model.now))
            if model.moves:
                raise Parted("command-wronged", f"{command.command} ({command.status}) came to nothing", "lost")
        self._notices(case)

    @staticmethod
    def _notices(case: Case) -> None:
        """Repeat notices that came after the item had left their state."""
        model = case.model
        later = []
        for notice in case.silent:
            if notice.revision > case.revision or notice.kind in model.waiting:
                later.append(notice)
            else:
                model.sent(notice.kind, notice.begins, model.now)
        case.silent = later

    @staticmethod
    def _given(case: Case, change: ItemChanged) -> None:
        """Take from the log what the model cannot know."""
        model = case.model
        if "LINK_INVALID" in (*change.via, change.state):
            model.listing = Listing(listing=change.listing, state="unknown")
        elif change.seller is not None:
            model.listing = Listing(listing=change.listing, seller=change.seller, state="visible")
        else:
            model.listing = None
        if change.triage is not None:
            model.band = change.triage.band

    @staticmethod
    def _fields(model: Model, change: ItemChanged) -> None:
        pairs = {
            "held": (change.held, model.held),
            "upheld": (change.upheld, model.upheld),
            "handled_at": (change.handled_at, model.handled),
            "sla": (change.sla, model.sla),
            "sla_due": (change.sla_due, model.sla_due),
            "due": (change.due, model.next_due),
            "counter_round": (change.counter_round, model.rounds),
            "seller": (change.seller, model.seller),
            "noticed_at": (change.noticed_at or model.noticed, model.noticed),
        }
        wrong = [f"{name} {was}, not {wanted}" for name, (was, wanted) in pairs.items() if was != wanted]
        if wrong:
            raise Parted("item-misjudged", "; ".join(wrong))


def _triple(filed: ItemSubmitted) -> tuple[str, str, str]:
    return filed.listing, filed.right, filed.reason


def _told(move: Move) -> str:
    return f"{' > '.join(move.path)} at {move.at.isoformat()}"


def _arguments(command: Command) -> dict[str, Any]:
    """What the model needs of a command."""
    match command:
        case AddInformation() | Complain():
            proof = Proof(
                command.identity_verified, command.authority, command.right_status, frozenset(command.materials)
            )
            return {"proof": proof} if isinstance(command, AddInformation) else {"proof": proof, "side": command.role}
        case Withdraw():
            return {"ground": command.ground}
        case Counter():
            return {"materials": command.materials}
        case Respond():
            return {"accept": command.accept}
        case ReportAction():
            return {"proof": bool(command.proof)}
        case ReportResult():
            return {"proof": bool(command.proof), "outcome": command.outcome}
        case Decide():
            return {
                "decision": command.decision,
                "by": command.by,
                "code": command.code,
                "revision": command.revision,
                "looked": command.looked,
            }
        case ChangeRight():
            return {"status": command.status}
    return {}
