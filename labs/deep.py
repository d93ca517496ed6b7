"""`goodfaith lab deep`: compare good-faith figures and penalty ledgers with naive recounts, on many random histories.

It needs neither broker nor database. It runs intake's own code (``services.intake.goodfaith.domain``: the meaning of a
change, reversal and entry in batches, window sums, verdicts) on dictionaries instead of tables; the recount is in
``recount.py``. Most histories are random walks over the transitions of the life-cycle table, which is cheap. Every
``--engine-every``-th goes through the real engine (``decide`` and ``fire``), with parties who do anything at any time.
Ledgers are in ``deep_ledger.py``.
"""

from __future__ import annotations

import datetime as dt
import multiprocessing
import os
import random
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Annotated, Any, Final, TypeVar

import typer

from labs import deep_ledger, recount
from services.intake.goodfaith import domain as goodfaith
from services.intake.goodfaith.domain import CountedItem, Counts
from services.ops.terminal import JsonOption
from services.verification import lifecycle
from services.verification.item import ENDED, SETTLED, UPHELD, Item
from shared import policy
from shared.events import (
    Accept,
    AddInformation,
    ChangeRight,
    Command,
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
    Withdraw,
)

T = TypeVar("T")
History = list[tuple[dt.datetime, ItemChanged]]
GROUP: Final = 250
"""Number of histories that are counted together, of a few accounts, reasons and partitions."""
BLOCK: Final = 20
"""Number of groups for a process at a time."""
REPEATED: Final = 0.03
"""Share of batches that are folded twice."""
ACCOUNTS: Final = ("a-1", "a-2", "a-3")
PARTITIONS: Final = 3
BEGINS: Final = dt.datetime(2027, 10, 1, 6, tzinfo=dt.UTC)
"""The windows include short months and 29 February 2028."""
SPANS: Final = tuple(
    dt.timedelta(hours=hours) for hours in (0, 0, 0, 1, 1, 13, 20, 30, 80, 80, 80, 24 * 8, 24 * 8, 24 * 31, 24 * 92)
)
GROUNDS: Final = ("error", "settled", "licensed")


def _edges() -> dict[State, tuple[State, ...]]:
    """State -> states that a row of the table may lead to. BACK counts as any state that an item may return to."""
    edges: dict[State, list[State]] = {state: [] for state in State}
    backs = [state for state in State if state not in ENDED or state in SETTLED]
    for row in lifecycle.TABLE:
        for state in row.states:
            if isinstance(row.to, State):
                edges[state].append(row.to)
            elif row.to == lifecycle.BACK:
                edges[state] += backs
            elif row.to == lifecycle.STAY:
                edges[state].append(state)
    return {state: tuple(to) for state, to in edges.items()}


EDGES: Final = _edges()


# ------------------------------------------------------------------------------------------------------------ histories


def walk(dice: random.Random, number: int, account: str, reason: str) -> History:
    """A random walk over the table's states. Not every walk is possible, but each has the form of a real history."""
    state = State.RECEIVED
    previous: State | None = None
    now = BEGINS + dt.timedelta(hours=dice.randrange(24 * 250))
    held = ever = stands = False
    code: str | None = None
    made: History = []
    for revision in range(1, dice.choice((2, 3, 4, 6, 9, 14)) + 1):
        if revision > 1:
            edges = EDGES[state] or tuple(State)
            previous, state = state, dice.choice(edges)
            now += dice.choice(SPANS)
        if state in UPHELD:
            held = True
        elif state in ENDED:
            held = False
        elif state is State.NOTIFIED:
            held = dice.random() < 0.8 or (held and ever)
        ever = ever or held
        stood = stands
        if state in SETTLED:
            stands = False
        elif state is previous is State.NOTIFIED and held and dice.random() < 0.5:
            stands = True
        if state is not previous or state is State.WITHDRAWN:
            code = dice.choice((*GROUNDS, "right_ended")) if state is State.WITHDRAWN else None
        made.append(
            (
                now,
                ItemChanged(
                    item=f"i-{number}",
                    claim="c",
                    claim_size=1,
                    listing="l",
                    complainant=account,
                    principal="p",
                    right="r",
                    right_type="trademark",
                    reason=reason,
                    profile="ipp",
                    policy="p",
                    revision=revision,
                    state=state,
                    previous=previous,
                    rule="9-stands" if stands and not stood else "r",
                    code=code,
                    held=held,
                    upheld=state in UPHELD or stands,
                    settled=state in SETTLED or (stands and state is State.NOTIFIED),
                    received_at=BEGINS,
                ),
            )
        )
    return made


def _policies() -> tuple[policy.Policy, ...]:
    """`ipp` with all combinations of its rules, so that every branch of the table is taken."""
    from itertools import product

    from msgspec.structs import replace

    ipp = policy.current("ipp")
    return tuple(
        replace(
            ipp,
            rules=replace(
                ipp.rules,
                removal=removal,
                review=review,
                counter_check=check,
                holder_silent=silent,
                overdue_decision=overdue,
                seller_silent=seller,
            ),
        )
        for removal, review, check, silent, overdue, seller in product(
            ("on_notice", "after_window"),
            ("prima_facie", "manual"),
            ("rule", "manual"),
            ("platform_review", "restore"),
            ("restore", "uphold"),
            ("uphold", "nothing"),
        )
    )


class Engine:
    """Histories by the real life cycle."""

    def __init__(self) -> None:
        self._policies = _policies()

    def history(self, dice: random.Random, number: int, account: str, reason: str) -> History:
        """The history of one item from its submission, with parties who do anything at any time."""
        rules = dice.choice(self._policies)
        now = BEGINS + dt.timedelta(hours=dice.randrange(24 * 250))
        name: dict[str, Any] = {"item": f"i-{number}", "claim": "c", "listing": "l"}
        listing = dice.choice(
            (*(Listing(listing="l", seller="s", state="visible"),) * 8, Listing(listing="l", state="unknown"), None)
        )
        submitted = ItemSubmitted(
            **name,
            claim_size=1,
            complainant=account,
            principal=account,
            right="r",
            right_type=rules.reasons[reason].rights[0],
            reason=reason,
            profile="ipp",
            policy=rules.version,
            identity_verified=True,
            authority="owner",
            materials=("ownership",) if dice.random() < 0.9 else (),
            accepted_at=now,
        )
        made: History = []
        original = "i-other" if dice.random() < 0.05 else None

        def facts() -> lifecycle.Facts:
            return lifecycle.Facts(listing, original)

        def take(outcome: lifecycle.Outcome) -> Item | None:
            made.extend((change.at, change.data) for change in outcome.changes)
            return outcome.item

        item = take(lifecycle.decide(None, submitted, facts(), rules, now))
        for _ in range(dice.choice((3, 5, 8, 12, 18))):
            assert item is not None
            now += dice.choice(SPANS)
            while item is not None and item.next_due is not None and item.next_due <= now and dice.random() < 0.9:
                item = take(lifecycle.fire(item, facts(), rules, now))
            assert item is not None
            original = "i-other" if dice.random() < 0.02 else None
            for event in self._events(dice, item, name, now, account, listing):
                item = take(lifecycle.decide(item, event, facts(), rules, now))
        # in the order of the log; a timer takes effect at its due time, so times may step back
        return made

    def _events(
        self,
        dice: random.Random,
        item: Item,
        name: dict[str, Any],
        now: dt.datetime,
        account: str,
        listing: Listing | None,
    ) -> Sequence[lifecycle.Event]:
        if item.awaits and dice.random() < 0.7:
            return (
                NoticeSent(**name, message="m", kind=item.awaits[0], revision=item.revision, sent_at=now),
                *(() if not item.held else (HoldChanged(**name, held=True, at=now),)),
            )
        if item.state is State.DUPLICATE and dice.random() < 0.6:
            return (lifecycle.Reopened(item=item.item, original="i-other"),)
        if item.state is State.RECEIVED and listing is not None:
            return (listing,)

        def command(kind: type[Command], by: str, role: Any, **rest: Any) -> Command:
            # sometimes accepted long before it is read
            at = now - (dt.timedelta() if dice.random() < 0.9 else dt.timedelta(hours=90))
            return kind(command="k", **name, by=by, role=role, accepted_at=max(at, item.received_at), **rest)

        if item.state is State.APPEALED and dice.random() < 0.7:
            ruling = {"decision": dice.choice(("confirm", "reverse")), "code": "new_evidence"}
            return (command(Decide, f"rev-{dice.randrange(3)}", "reviewer", **ruling),)
        if item.state in SETTLED and dice.random() < 0.3:
            by, role = dice.choice(((account, "holder"), ("s", "seller")))
            return (command(Complain, by, role, identity_verified=True, authority="owner", materials=("ownership",)),)
        complete = ("identity", "statement")
        choices: list[tuple[type[Command], str, Any, dict[str, Any]]] = [
            (Counter, "s", "seller", {"materials": complete if dice.random() < 0.8 else ()}),
            (Counter, "s", "seller", {"materials": complete}),
            (Accept, "s", "seller", {}),
            (Respond, account, "holder", {"accept": dice.random() < 0.5}),
            (
                Decide,
                "rev-0",
                "reviewer",
                {
                    "decision": dice.choice(("uphold", "refuse", "complete", "incomplete", "restore")),
                    "code": "not_infringing",
                },
            ),
            (Decide, "rev-0", "reviewer", {"decision": dice.choice(("uphold", "complete"))}),
            (
                AddInformation,
                account,
                "holder",
                {
                    "identity_verified": True,
                    "authority": "owner",
                    "materials": ("ownership",),
                },
            ),
        ]
        rare: list[tuple[type[Command], str, Any, dict[str, Any]]] = [
            (Withdraw, account, "holder", {"ground": dice.choice(GROUNDS)}),
            (ReportAction, account, "holder", {"proof": "p"}),
            (ReportResult, account, "holder", {"outcome": dice.choice(("holder", "seller", "ended")), "proof": "p"}),
            (ChangeRight, "intake", "system", {"status": dice.choice(("active", "active", "lost"))}),
        ]
        kind, by, role, rest = dice.choice(rare if dice.random() < 0.25 else choices)
        return (command(kind, by, role, **rest),)


# ----------------------------------------------------------------------------------------------------------- comparing


class StatisticTables:
    """Dictionaries in place of the tables: what each item counts as, whether it was taken down, and the buckets."""

    def __init__(self) -> None:
        self.counted: dict[str, CountedItem] = {}
        self.taken_down: dict[str, bool] = {}
        self.buckets: dict[goodfaith.Bucket, Counts] = {}

    def batch(self, records: Sequence[tuple[int, dt.datetime, ItemChanged]]) -> None:
        """Fold a batch of (partition, effective time, change), in order within each partition, as ``worker.Fold``."""
        changes: dict[str, goodfaith.OutcomeChange] = {}
        for partition, at, change in records:
            self.taken_down[change.item] = self.taken_down.get(change.item, False) or change.held
            outcome = goodfaith.outcome_change(change, at, partition)
            if outcome is not None:
                changes[change.item] = goodfaith.follow(changes.get(change.item), outcome)
        rows, sums = goodfaith.settle(changes.values(), self.counted, self.taken_down)
        self.counted.update({row.item: row for row in rows})
        for key, counts in sums.items():
            self.buckets[key] = self.buckets.get(key, goodfaith.NOTHING) + counts

    def figures(self, account: str, day: dt.date, months: int) -> goodfaith.WindowFigures:
        """Sums of the window that ends with `day`."""
        after = goodfaith.left_after(day, months)
        return goodfaith.figures_of(
            (reason, counts)
            for (owner, settled_on, reason, _), counts in self.buckets.items()
            if owner == account and after < settled_on <= day
        )


def differences(dice: random.Random, histories: Sequence[History], terms: policy.GoodFaith) -> int:
    """Fold histories in random batches, and recount them; returns the number of differences."""
    partition_of = {history[0][1].item: dice.randrange(PARTITIONS) for history in histories if history}
    # an item's changes stay in order; those of different items mix at random
    order = [index for index, history in enumerate(histories) for _ in history]
    dice.shuffle(order)
    positions = [0] * len(histories)
    records = []
    for index in order:
        at, change = histories[index][positions[index]]
        positions[index] += 1
        records.append((partition_of[change.item], at, change))
    tables = StatisticTables()
    start = 0
    while start < len(records):
        size = dice.choice((1, 7, 60, 400, 2000))
        batch = records[start : start + size]
        tables.batch(batch)
        if dice.random() < REPEATED:
            tables.batch(batch)  # a second time: this changes nothing
        start += size
    counted = [found for history in histories if (found := recount.item(history)) is not None]
    wrong = 0
    naive: dict[tuple[str, dt.date, str], recount.Numbers] = {}
    for account, reason, day, numbers in counted:
        into = naive.setdefault((account, day, reason), dict.fromkeys(numbers, 0))
        for key, value in numbers.items():
            into[key] += value
    kept: dict[tuple[str, dt.date, str], Counts] = {}
    for (account, day, reason, _), counts in tables.buckets.items():
        kept[account, day, reason] = kept.get((account, day, reason), goodfaith.NOTHING) + counts
    for bucket in naive.keys() | kept.keys():
        wrong += _numbers(kept.get(bucket, goodfaith.NOTHING)) != naive.get(bucket, _numbers(goodfaith.NOTHING))
    days = {day for _, _, day, _ in counted} or {BEGINS.date()}
    first, last = min(days), max(days)
    for account in ACCOUNTS:
        for _ in range(3):
            end = first + dt.timedelta(days=dice.randrange((last - first).days + 100))
            figures = tables.figures(account, end, terms.window_months)
            sums = recount.window(counted, account, end, terms.window_months)
            same = {"": _numbers(figures.overall), **{reason: _numbers(n) for reason, n in figures.reasons.items()}}
            wrong += same != sums
            wrong += goodfaith.judge(figures, terms).kind != recount.verdict(sums, terms)
    return wrong


def _numbers(counts: Counts) -> recount.Numbers:
    return {
        "settled": counts.settled,
        "upheld": counts.upheld,
        "taken_down": counts.taken_down,
        "restored": counts.restored,
    }


def run_block(seed: int, first: int, count: int, engine_every: int) -> dict[str, int]:
    """Make and compare `count` histories in groups, from number `first` on."""
    dice = random.Random(f"{seed}.{first}")
    engine = Engine()
    ipp = policy.current("ipp")
    reasons = sorted(ipp.reasons)
    terms = ipp.good_faith
    found = {"histories": 0, "differences": 0, "by_engine": 0, "changes": 0}
    while found["histories"] < count:
        few = reasons[: dice.choice((1, 2, 5, len(reasons)))]
        group: list[History] = []
        for number in range(min(GROUP, count - found["histories"])):
            by_engine = engine_every > 0 and (first + found["histories"] + number) % engine_every == 0
            make = engine.history if by_engine else walk
            group.append(make(dice, number, dice.choice(ACCOUNTS), dice.choice(few)))
            found["by_engine"] += by_engine
            found["changes"] += len(group[-1])
        # thresholds of all heights, so that there are verdicts of each kind
        some = _terms(dice, terms)
        found["differences"] += differences(dice, group, some)
        found["histories"] += len(group)
    return found


def _terms(dice: random.Random, terms: policy.GoodFaith) -> policy.GoodFaith:
    from msgspec.structs import replace

    return replace(
        terms,
        takedown_rate=policy.Rate(f"{dice.choice((0, 10, 25, 33, 40, 50, 60, 90))} %"),
        counter_rate=policy.Rate(f"{dice.choice(('5', '12.5', '20', '33.3', '50', '100'))} %"),
        min_items=dice.choice((1, 5, 20)),
        reason_min_items=dice.choice((1, 1, 4)),
        window_months=dice.choice((1, 3, 3, 3, 6)),
    )


def deep(
    histories: Annotated[int, typer.Option(min=1, help="Number of items' histories.")] = 1_000_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same histories.")] = 1,
    jobs: Annotated[int, typer.Option(min=0, help="Number of parallel processes; 0: one per core.")] = 0,
    engine_every: Annotated[
        int, typer.Option(min=0, help="Run every n-th history through the real life cycle; 0: none.")
    ] = 5,
    entries: Annotated[int, typer.Option(min=0, help="The fewest entries of penalty ledgers; 0: none.")] = 1_000_000,
    json: JsonOption = False,
) -> None:
    """Compare incremental counts of good faith, penalty ledgers and entities with recounts; exit 1 if they differ."""
    from services.ops.terminal import console, errors, print_json

    begun = time.monotonic()
    workers = jobs or os.cpu_count() or 1
    size = GROUP * BLOCK
    blocks = [(first, min(size, histories - first)) for first in range(0, histories, size)]
    parts = [min(deep_ledger.BLOCK, entries - first) for first in range(0, entries, deep_ledger.BLOCK)]
    total = {
        "histories": 0,
        "differences": 0,
        "by_engine": 0,
        "changes": 0,
        "penalty_entries": 0,
        "penalty_differences": 0,
    }
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(run_block, seed, first, count, engine_every) for first, count in blocks]
        futures += [pool.submit(deep_ledger.run_block, seed, number, least) for number, least in enumerate(parts)]
        for done, future in enumerate(futures, 1):
            for name, value in future.result().items():
                total[name] += value
            if done % max(len(futures) // 20, 1) == 0:
                errors.print(
                    f"{total['histories']:,} histories, {total['differences']} differences,"
                    f" {total['penalty_entries']:,} penalty entries, {total['penalty_differences']} differences,"
                    f" {time.monotonic() - begun:.0f} s",
                    style="dim",
                    highlight=False,
                )
    result: dict[str, float] = {**total, "seed": seed, "seconds": round(time.monotonic() - begun, 1)}
    for name, figure in result.items():
        console.print(f"{name.replace('_', ' ')}: {figure:,}", highlight=False)
    if json:
        print_json(result)
    if total["differences"] or total["penalty_differences"]:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(deep)
