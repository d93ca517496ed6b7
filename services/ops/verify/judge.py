"""Judges verification's log: replays its inputs on an independent model (`item_model.py`), and compares.

The log names the cause of every change, so the replay follows its order and repeats each step on the model: who was
in time, what a command does, when a deadline passes. If model and log disagree, the item is reported once and not
judged further. What left no trace in the log (a notice for a state that the item had left, a right's change without
effect) is replayed where it must have happened.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from services.ops.verify.findings import Category
from services.ops.verify.item_model import ItemModel, weighed
from services.ops.verify.item_state import ENDED, TIMERS, Filed, Move, Proof
from shared import policy
from shared.events import (
    COMMANDS,
    TYPES,
    AddInformation,
    Audit,
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
    NoticeUnreached,
    PicturesCompared,
    ReportAction,
    ReportResult,
    Respond,
    State,
    Triage,
    Withdraw,
)

Add = Callable[[Category, str, str], None]
Input = ItemSubmitted | Command | NoticeSent | NoticeUnreached | HoldChanged | PicturesCompared
SUBMITTED: Final = "goodfaith.item.submitted.v1"
NOTICE: Final = "goodfaith.notice.sent.v1"
UNREACHED: Final = "goodfaith.notice.unreached.v1"
HOLD: Final = "goodfaith.hold.changed.v1"
PICTURES: Final = "goodfaith.pictures.compared.v1"
AS_FILED: Final = {
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
        "brake",
    )
} | {"received_at": "accepted_at"}
"""Fields of a change, and the submission's fields of which they are copies."""
_COMMANDS: Final[dict[type[Command], tuple[str, tuple[str, ...]]]] = {
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
    if name in (SUBMITTED, NOTICE, UNREACHED, HOLD, PICTURES) or issubclass(kind, Command)
}


class _StackEntry(Struct):
    state: State


class StoredItem(Struct):
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
    brake: str | None = None
    recurs: str | None = None
    seller: str | None = None
    state: State = State.RECEIVED
    revision: int = 0
    timers: tuple[tuple[str, dt.datetime], ...] = ()
    awaits: tuple[str, ...] = ()
    stack: tuple[_StackEntry, ...] = ()
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
    audit: Audit | None = None
    content: str | None = None

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
    if name
    not in (
        "previous",
        "via",
        "rule",
        "command",
        "by",
        "begun_by",
        "settled",
        "triage",
        "content",
        "unreached",
        "other_seller",
    )
)
"""Fields of a change that describe the item; the others describe the change, follow from it, or go on without one."""


class Disagreement(Exception):
    """Log and model disagree about the same input."""

    def __init__(self, kind: str, detail: str, category: Category = "problem") -> None:
        super().__init__(detail)
        self.kind = kind
        self.category = category


class Change(NamedTuple):
    """A change of an item, and when it took effect."""

    at: dt.datetime
    event: ItemChanged


class Refusal(NamedTuple):
    """A refused command, and when it was refused."""

    at: dt.datetime
    event: CommandRefused


class Outcome(Struct):
    """What one cause did to one item. ``original``: whether another item blocked it then."""

    cause: str | None
    original: bool
    changes: list[Change] = []
    refused: Refusal | None = None


class OpenCommand(NamedTuple):
    """A command that is not judged yet, and its event's id."""

    id: str
    event: Command


class Choice(NamedTuple):
    """A way to understand the log up to some outcome.

    Attributes:
        judged_upto: how many of the outcomes that were kept it accounts for.
    """

    model: dict[str, Any]
    commands: deque[OpenCommand]
    silent: list[NoticeSent | NoticeUnreached]
    revision: int
    judged_upto: int


class JudgedItem:
    """An item under judgement.

    Attributes:
        commands: the item's commands that are not judged yet, in the order of intake's log.
        silent: notices that are not judged yet and led to no published change.
        choices: how else the log may be understood, latest last.
        since: what was judged since the first of them.
        outcome: what was last read of the log, not judged yet.
        pictures: what was told of its pictures.
        ended_before: it is appealed, and had ended before.
        abandoned: it is not judged further, because log and model disagree or its log has gaps.
    """

    __slots__ = (
        "abandoned",
        "choices",
        "commands",
        "ended_before",
        "filed",
        "model",
        "outcome",
        "pictures",
        "revision",
        "silent",
        "since",
    )

    def __init__(self, filed: ItemSubmitted, rules: policy.Policy) -> None:
        self.filed = filed
        self.model = ItemModel(rules)
        self.model.ours = True  # by the marketplace's contract only the programme removes a listing
        self.commands: deque[OpenCommand] = deque()
        self.silent: list[NoticeSent | NoticeUnreached] = []
        self.choices: list[Choice] = []
        self.since: list[Outcome] = []
        self.outcome: Outcome | None = None
        self.pictures: set[float] = set()
        self.revision = 0
        self.ended_before = False
        self.abandoned = False

    def kept(self, judged_upto: int = 0) -> Choice:
        """What it is at present."""
        return Choice(self.model.copy(), self.commands.copy(), list(self.silent), self.revision, judged_upto)

    def take(self, choice: Choice) -> None:
        """Make it what it was."""
        self.model.__dict__.update(choice.model)
        self.commands, self.silent, self.revision = choice.commands.copy(), list(choice.silent), choice.revision

    def overlooked(self) -> bool:
        """Whether a notice that was not published would have been, if it had come to the present state."""
        return any(one.kind in self.model.waiting and one.revision <= self.revision for one in self.silent)


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
        self._items: dict[str, JudgedItem] = {}
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
                    self._items.setdefault(data.item, JudgedItem(data, self._load(data.policy)))
                except policy.PolicyError as error:
                    self._add("problem", "policy-unknown", f"{id_}: {error}")
                self._inputs[id_] = data
                continue
            judged = self._items.get(data.item)
            if judged is None:
                continue  # never filed: other checks report that
            if isinstance(data, NoticeSent | NoticeUnreached) and id_ not in heeded:
                judged.silent.append(data)
                continue
            if isinstance(data, Command):
                judged.commands.append(OpenCommand(id_, data))
            if isinstance(data, PicturesCompared):
                judged.pictures.add(data.match)
            self._inputs[id_] = data

    # ---- the log, in its order

    def changed(self, at: dt.datetime, cause: str | None, change: ItemChanged) -> None:
        """Take in a change of an item."""
        judged = self._items.get(change.item)
        if judged is None:
            return
        self._outcome(judged, cause).changes.append(Change(at, change))
        before = change.via[-1] if change.via else change.previous
        if change.state == "APPEALED" and before not in ("LITIGATION", "SUSPENDED", "APPEALED"):
            judged.ended_before = before in ENDED
        blocks = change.state not in ENDED and not (change.state == "APPEALED" and judged.ended_before)
        others = self._blocking.setdefault(_triple(judged.filed), set())
        (others.add if blocks else others.discard)(change.item)

    def refused(self, at: dt.datetime, cause: str | None, refused: CommandRefused) -> None:
        """Take in a refused command."""
        judged = self._items.get(refused.item)
        if judged is not None:
            self._outcome(judged, cause).refused = Refusal(at, refused)

    def _outcome(self, judged: JudgedItem, cause: str | None) -> Outcome:
        if judged.outcome is not None and cause is not None and judged.outcome.cause == cause:
            return judged.outcome
        self._judge(judged)
        others = self._blocking.get(_triple(judged.filed), set())
        judged.outcome = Outcome(cause, bool(others - {judged.filed.item}))
        return judged.outcome

    def end(self, upto: dt.datetime | None, set_aside: Container[str] = ()) -> None:
        """End the log: judge what is left.

        Args:
            upto: the partition's watermark; deadlines up to it have passed.
            set_aside: listings with dead letters, whose records and deadlines wait for a person.
        """
        for item, judged in self._items.items():
            self._judge(judged)
            judged.abandoned |= judged.filed.listing in set_aside
            if judged.abandoned or not judged.revision:
                continue
            try:
                self._catch_up(judged, None)
                self._reconsider(judged)
            except Disagreement as disagreement:
                self._disagree(judged, disagreement)
                continue
            if judged.choices:
                continue  # the log allows of more than one set of deadlines
            running = judged.model.running()
            if upto is not None and running and running[0].due <= upto:
                due, name = running[0]
                self._add("lost", "deadline-unkept", f"{item}: {TIMERS[name]} of {due.isoformat()}")

    def timers(self, item: str) -> dict[str, dt.datetime] | None:
        """Deadlines that an item must have in the end, by their names in stored items; None: not judged to the end.

        Nor are they known if the log does not show in which of two absences a notice came.
        """
        judged = self._items.get(item)
        if judged is None or judged.abandoned or judged.choices:
            return None
        return {TIMERS[name]: due for due, name in judged.model.running()}

    # ---- judging

    def _judge(self, judged: JudgedItem) -> None:
        outcome, judged.outcome = judged.outcome, None
        if outcome is None or judged.abandoned:
            return
        revisions = [change.event.revision for change in outcome.changes]
        if revisions != list(range(judged.revision + 1, judged.revision + 1 + len(revisions))):
            judged.abandoned = True  # gaps and forks: the fold reports them
            return
        try:
            self._follow(judged, [outcome])
        except Disagreement as disagreement:
            self._disagree(judged, disagreement)

    def _follow(self, judged: JudgedItem, outcomes: Sequence[Outcome]) -> None:
        """Judge outcomes. If one shows that an earlier choice was wrong, judge again what came after it."""
        for number, outcome in enumerate(outcomes):
            revision = judged.revision
            try:
                self._repeat_in_order(judged, outcome)
            except Disagreement as disagreement:
                if not judged.choices:
                    raise
                try:
                    self._choose_otherwise(judged, outcomes[number:])
                except Disagreement:
                    judged.revision = revision
                    raise disagreement from None
                return
            if judged.choices:
                judged.since.append(outcome)

    def _choose_otherwise(self, judged: JudgedItem, outcomes: Sequence[Outcome] = ()) -> None:
        """Take the latest choice that is left, and judge again what came since, then these outcomes."""
        choice = judged.choices.pop()
        again = judged.since[choice.judged_upto :]
        del judged.since[choice.judged_upto :]
        judged.take(choice)
        self._follow(judged, [*again, *outcomes])

    def _reconsider(self, judged: JudgedItem) -> None:
        """In the end, a notice that would have been published must have come earlier, where it was not."""
        while judged.choices and judged.overlooked():
            now = judged.kept()
            try:
                self._choose_otherwise(judged)
                self._catch_up(judged, None)
            except Disagreement:
                judged.take(now)

    def _disagree(self, judged: JudgedItem, disagreement: Disagreement) -> None:
        judged.abandoned = True
        self._add(
            disagreement.category, disagreement.kind, f"{judged.filed.item}/{judged.revision + 1}: {disagreement}"
        )

    def _repeat_in_order(self, judged: JudgedItem, outcome: Outcome) -> None:
        """Repeat what caused the changes, after as few of the silent notices as the changes agree with.

        An item may leave a state twice before its notice is sent. Only the changes show in which absence that was.
        """
        upto = judged.revision + len(outcome.changes)
        if not judged.silent:
            self._repeat(judged, outcome)
            judged.revision = upto
            return
        start = judged.kept()
        chosen: Choice | None = None
        for before in range(len(start.silent) + 1):
            judged.take(start)
            judged.silent = start.silent[:before]
            try:
                self._repeat(judged, outcome)
            except Disagreement:
                if before == len(start.silent) and chosen is None:
                    raise
                continue
            judged.silent += start.silent[before:]
            judged.revision = upto
            found = judged.kept(len(judged.since) + 1)
            if chosen is not None:
                judged.choices.append(found)
                break
            chosen = found
            if not judged.overlooked():
                return
        assert chosen is not None
        judged.take(chosen)

    def _repeat(self, judged: JudgedItem, outcome: Outcome) -> None:
        """Repeat on the model what caused the changes, and compare."""
        model = judged.model
        source = None if outcome.cause is None else self._inputs.get(outcome.cause)
        if source is not None and source.item != judged.filed.item:
            source = None  # another item's, whose end reopened this one
        if isinstance(source, Command):
            self._catch_up(judged, outcome.cause)
        self._notices(judged)
        model.moves, model.revision, model.original = (), judged.revision, outcome.original
        last = outcome.changes[-1] if outcome.changes else None
        if last is not None:
            self._take_facts(judged, last.event)
        if isinstance(source, Command):
            self._command(judged, outcome, source)
        elif last is None:
            return  # a refusal without its command: other checks report it
        else:
            self._event(judged, source, outcome.cause, *last)
        path: list[Move] = [  # what changed no state is compared by its fields
            Move(at, (*change.via, change.state))
            for at, change in outcome.changes
            if change.via or change.state is not change.previous
        ]
        if path != list(model.moves):
            wanted = " then ".join(map(_described, model.moves)) or "nothing"
            was = " then ".join(map(_described, path)) or "nothing"
            raise Disagreement(
                "command-misjudged" if isinstance(source, Command) else "item-misjudged", f"{was}, not {wanted}"
            )
        if last is not None:
            self._fields(model, last.event)
            self._audited(judged, last.event)

    def _event(
        self, judged: JudgedItem, source: Input | None, cause: str | None, at: dt.datetime, change: ItemChanged
    ) -> None:
        """Repeat an event other than a command."""
        model = judged.model
        if isinstance(source, ItemSubmitted):
            self._filed(source, change, model)
            proof = Proof(source.identity_verified, source.authority, source.right_status, frozenset(source.materials))
            model.submit(Filed.of(source), proof, source.accepted_at, at)
        elif isinstance(source, NoticeSent):
            if not model.sent(source.kind, source.begins, at):
                raise Disagreement("item-misjudged", f"no {source.kind} was awaited")
        elif isinstance(source, NoticeUnreached):
            if not model.not_reached(source.at, at):
                raise Disagreement("item-misjudged", "no seller_notice was awaited")
        elif isinstance(source, HoldChanged):
            model.receipt(source.at, at)
        elif isinstance(source, PicturesCompared):
            if not model.pictured(at):
                raise Disagreement("item-misjudged", "nothing about it depended on pictures")
        elif change.previous == "DUPLICATE":
            model.reopened(at)
        elif cause is not None:
            model.listed(at)
        else:
            running = model.running()
            if not running or running[0].due != at:
                due = (
                    f"{TIMERS[running[0].name]} is due at {running[0].due.isoformat()}" if running else "nothing is due"
                )
                raise Disagreement("deadline-differs", f"{change.rule} at {at.isoformat()}, but {due}")
            model.pass_next()

    @staticmethod
    def _filed(source: ItemSubmitted, change: ItemChanged, model: ItemModel) -> None:
        wrong = [name for name, filed in AS_FILED.items() if getattr(change, name) != getattr(source, filed)]
        reason = model.policy.reasons.get(source.reason)
        if change.severity != ("general" if reason is None else reason.severity):
            wrong.append("severity")
        if wrong:
            raise Disagreement("item-not-as-filed", ", ".join(wrong))

    def _command(self, judged: JudgedItem, outcome: Outcome, command: Command) -> None:
        """Repeat a command: do log and model agree on its time, the state, and who may give it?"""
        if not judged.commands or judged.commands[0].id != outcome.cause:
            raise Disagreement("command-misjudged", f"{command.command} came twice or out of order")
        judged.commands.popleft()
        own = [at for at, change in outcome.changes if change.command == command.command]
        # without a trace of its own, it may have come at any time after it was accepted
        now = own[0] if own else outcome.refused.at if outcome.refused else max(command.accepted_at, judged.model.now)
        name = f"{command.command}, accepted at {command.accepted_at.isoformat()},"
        applied = self._apply(judged, command, now)
        if applied and outcome.refused is not None:
            raise Disagreement("command-wronged", f"{name} was refused as {outcome.refused.event.code}", "lost")
        if own and not applied:
            raise Disagreement("command-unearned", f"{name} was applied")

    @staticmethod
    def _apply(judged: JudgedItem, command: Command, now: dt.datetime) -> bool:
        name, roles = _COMMANDS[type(command)]
        parties = {"holder": (judged.filed.complainant, judged.filed.principal), "seller": (judged.model.seller,)}
        if command.role not in roles or command.by not in parties.get(command.role, (command.by,)):
            return False
        by_seller = command.role == "seller"
        return judged.model.command(name, command.accepted_at, now, by_seller=by_seller, **_arguments(command))

    def _catch_up(self, judged: JudgedItem, cause: str | None) -> None:
        """Repeat earlier commands that left no trace: changes of a right that change no state."""
        model = judged.model
        if cause is not None and all(one.id != cause for one in judged.commands):
            return
        while judged.commands and judged.commands[0].id != cause:
            command = judged.commands.popleft().event
            if not isinstance(command, ChangeRight):
                continue  # still open: other checks report it
            model.moves, model.revision = (), judged.revision
            model.original = False
            # it may have come at any time after it was accepted, and nothing that it may change here depends on when
            self._apply(judged, command, max(command.accepted_at, model.now))
            if model.moves:
                raise Disagreement("command-wronged", f"{command.command} ({command.status}) came to nothing", "lost")
        self._notices(judged)

    @staticmethod
    def _notices(judged: JudgedItem) -> None:
        """Repeat notices that came after the item had left their state."""
        model = judged.model
        later = []
        for notice in judged.silent:
            if notice.revision > judged.revision or notice.kind in model.waiting:
                later.append(notice)
            elif isinstance(notice, NoticeSent):
                model.sent(notice.kind, notice.begins, model.now)
            elif model.countered is not None:  # else it would have been published
                model.not_reached(notice.at, model.now)
        judged.silent = later

    @staticmethod
    def _take_facts(judged: JudgedItem, change: ItemChanged) -> None:
        """Take from the log what the model cannot know."""
        model = judged.model
        if "LINK_INVALID" in (*change.via, change.state):
            model.listing = Listing(listing=change.listing, state="unknown")
        elif change.seller is not None:
            model.listing = Listing(listing=change.listing, seller=change.seller, state="visible")
        else:
            model.listing = None
        if change.triage is not None:
            model.band = change.triage.band
            if change.triage.signals:
                Judge._weighed(judged, change.triage)

    @staticmethod
    def _audited(judged: JudgedItem, change: ItemChanged) -> None:
        """Was the item drawn for an audit, by nothing but its id and the policy, and what did the audit find?"""
        was = None if change.audit is None else (change.audit.outcome, change.audit.found)
        if was != judged.model.audit:
            raise Disagreement("item-misjudged", f"audit {was}, not {judged.model.audit}")
        settled = 0 if judged.filed.record is None else judged.filed.record.settled
        size = next(name for name, least in (("200+", 200), ("20-199", 20), ("1-19", 1), ("0", 0)) if settled >= least)
        if change.audit is not None and change.audit.size != size:
            raise Disagreement("item-misjudged", f"audited as of a complainant of {change.audit.size}, not {size}")

    @staticmethod
    def _weighed(judged: JudgedItem, triage: Triage) -> None:
        """Weigh what triage says that was known once more. Versions before kept no signals: then its band is taken."""
        rules = judged.model.policy.triage
        if rules is None:
            raise Disagreement("item-misjudged", "weighed under a policy that knows no triage")
        if triage.signals.get("picture_match") not in (None, *judged.pictures):
            raise Disagreement("item-misjudged", "weighed by pictures of which nothing was told")
        reason = judged.model.policy.reasons.get(judged.filed.reason)
        severity = "general" if reason is None else reason.severity
        score, fired, band, lacks = weighed(rules, severity, triage.signals, canary=judged.filed.canary)
        if (triage.score, triage.rules, triage.band, set(triage.lacks)) != (score, fired, band, lacks):
            wanted = f"{score}, {band}, {sorted(fired)}, lacking {sorted(lacks)}"
            raise Disagreement(
                "item-misjudged",
                f"triage {triage.score}, {triage.band}, {sorted(triage.rules)}, lacking {sorted(triage.lacks)}; not {wanted}",
            )

    @staticmethod
    def _fields(model: ItemModel, change: ItemChanged) -> None:
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
            "unreached": (change.unreached, model.unreached),
            "other_seller": (change.other_seller, model.other_seller()),
        }
        wrong = [f"{name} {was}, not {wanted}" for name, (was, wanted) in pairs.items() if was != wanted]
        if wrong:
            raise Disagreement("item-misjudged", "; ".join(wrong))


def _triple(filed: ItemSubmitted) -> tuple[str, str, str]:
    return filed.listing, filed.right, filed.reason


def _described(move: Move) -> str:
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
            return {"status": command.status, "materials": frozenset(command.materials)}
    return {}
