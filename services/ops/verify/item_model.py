"""An independent model of a claim item's life cycle: the rules of docs/explanation/domain.md, again in plain Python.

`goodfaith verify` replays the logs against it (`judge.py`), and the unit tests compare the life cycle's table with it.
It shares the policy, the calendar and the event types with the services, but none of their code, so a mistake in the
table is not repeated here.

What it cannot know is given to it: what the marketplace said of the listing, whether another item blocks this one, and
the band that triage gave it (``weighed`` repeats that from the signals that triage kept).
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from services.ops.verify.item_state import (
    AFTER_NOTICE,
    ASIDE,
    LIVE,
    UNHEARD,
    UPHELD,
    Filed,
    ItemState,
    PassedDeadline,
    Proof,
    SavedState,
)
from shared.policy import Triage as TriageRules

UNDOABLE: Final = frozenset({"lapse", "window", "check", "silence", "restore_by", "grace", "end"})
"""Deadlines that end a party's time to act: a command accepted by then is judged as if they had not passed."""
LASTING: Final = (
    "listing",
    "original",
    "ours",
    "band",
    "noticed",
    "unreached",
    "handled",
    "sla",
    "sla_due",
    "paused",
    "revision",
    "moves",
)
"""Attributes that a command leaves as they are when it undoes a deadline."""


def weighed(
    rules: TriageRules, severity: str, known: Mapping[str, float], *, canary: bool
) -> tuple[int, dict[str, int], str, set[str]]:
    """Score, rules that fired, band, and findings that are lacking, by what triage knew of an item."""

    def holds(signal: str, least: float | None, most: float | None) -> bool:
        return signal in known and not (
            (least is not None and known[signal] < least) or (most is not None and known[signal] > most)
        )

    fired = {}
    for name, rule in rules.rules.items():
        if rule.needs_settled and known.get("settled", -1) < rule.needs_settled:
            continue
        if holds(rule.signal, rule.at_least, rule.at_most):
            fired[name] = rule.weight
    score = rules.base + sum(fired.values())
    if score <= rules.refuse_at:
        band = "refuse"
    elif score < rules.uphold_at:
        band = "review"
    else:
        band = "uphold"
    if rules.needs is None or canary:
        return score, fired, band, set()
    ways = [set(way) for way in (rules.needs.serious if severity == "serious" else rules.needs.general)]
    absent = {
        name
        for name, finding in rules.findings.items()
        if not all(holds(bound.signal, bound.at_least, bound.at_most) for bound in finding.all)
    }
    complete = [way for way in ways if not way & absent]
    if band == "uphold" and (not complete or [weight for weight in fired.values() if weight < 0]):
        band = "review"
    return score, fired, band, set() if complete else absent & set().union(*ways)


class ItemModel(ItemState):
    """One item, and the rules by which its state changes."""

    # ---- admission

    def lacking(self) -> bool:
        """Whether elements are missing (row 4)."""
        on_file = {
            "identity": self.proof.identity,
            "authority": self.proof.authority != "missing",
            "right": self.proof.right == "active",
        }
        reason = self.policy.reasons.get(self.filed.reason)
        needed: tuple[str, ...] = ()
        if reason is not None:
            lighter = reason.good_faith_materials if self.filed.good_faith else None
            needed = reason.materials if lighter is None else lighter
            if not self.filed.registered:
                needed += reason.unregistered_materials
        return not all(on_file.get(name, name in self.proof.materials) for name in self.policy.claim.required) or any(
            name not in self.proof.materials for name in needed
        )

    def gone(self) -> bool:
        """Whether the listing is gone (row 3)."""
        if not self.filed.on_site:
            return True
        if self.listing is None:
            return False
        return self.listing.state in ("ended", "unknown") or (self.listing.state == "removed" and not self.ours)

    def look(self) -> None:
        """Remember the listing's seller, as first known."""
        if self.seller is None and self.listing is not None and self.listing.seller:
            self.seller = self.listing.seller

    def admit(self) -> None:
        """Apply rows 2-7, in RECEIVED and NEEDS_INFO."""
        if self.original:
            return self.go("DUPLICATE")
        if self.gone():
            return self.go("LINK_INVALID")
        known = self.seller is not None or (self.listing is not None and bool(self.listing.seller))
        if not known and not self.given_up:
            if self.state == "RECEIVED" and "give_up" not in self.deadline:
                self.wait(give_up=self.end(self.timers.lookup_give_up, self.now))
            return None
        if self.lacking():
            if self.state != "NEEDS_INFO":
                self.go("NEEDS_INFO")
                self.look()
                self.waiting = frozenset({"info_request"})
            return None
        self.go("UNDER_REVIEW")
        self.look()
        self.by_rule()
        return None

    def received(self) -> None:
        """Enter RECEIVED, and judge the item."""
        self.go("RECEIVED")
        self.admit()

    def other_seller(self) -> bool:
        """Whether the claim names shops, and the listing is of none of them."""
        return bool(self.filed.sellers) and self.seller is not None and self.seller not in self.filed.sellers

    def by_hand(self) -> bool:
        """Whether only a person decides: a near copy (row 20), more than the complainant used to file, another shop."""
        if self.filed.brake or self.other_seller():
            return True
        rules = self.policy.recurrence
        return self.filed.recurs and (rules is None or rules.review != "as_usual")

    def by_rule(self) -> None:
        """Apply rows 6 and 7, in UNDER_REVIEW, as far as no person is needed."""
        reason = self.policy.reasons.get(self.filed.reason)
        if reason is None or self.filed.right_type not in reason.rights:
            return self.go("REJECTED")
        if "own_listing" in self.policy.refusals and self.seller in self.filed.parties:
            return self.go("REJECTED")
        review = self.policy.rules.review
        if self.given_up or self.seller is None or self.by_hand() or review == "manual":
            return None
        if review == "triage":
            if self.audit is not None and self.audit[1] is None:
                self.audit = None
            if self.band in ("uphold", "refuse") and self.sampled(
                "upheld_by_rule" if self.band == "uphold" else "refused_by_rule"
            ):
                return None  # a person decides it instead
        if review == "triage" and self.band == "refuse" and not self.deciders:
            return self.go("REJECTED")
        if review == "prima_facie" or self.band == "uphold":
            self.notified()
        return None

    def pictured(self, now: dt.datetime) -> bool:
        """What pictures show completes the evidence (row 7). Returns whether that can be."""
        waits = self.audit is not None and self.audit[1] is None
        if self.state != "UNDER_REVIEW" or self.deciders or waits or self.policy.rules.review != "triage":
            return False
        if self.band != "uphold" or self.by_hand():
            return False
        self.at(now)
        self.go("UNDER_REVIEW")
        self.by_rule()
        if self.state == "UNDER_REVIEW":
            self.path = ()  # an audit has begun instead
        self.done()
        return True

    def notified(self) -> None:
        """Enter NOTIFIED (row 7)."""
        self.go("NOTIFIED")
        self.look()
        self.held = self.policy.rules.removal == "on_notice"
        self.counter_until = None
        self.unreached = False
        self.waiting = frozenset({"seller_notice"})

    def returned(self) -> None:
        """After a return to a state, apply what goes by rule."""
        if self.state in UPHELD:
            self.right_gone = False
            self.audited()
        elif self.right_gone and self.state != "LITIGATION":
            self.suspend()
        elif self.state in ("RECEIVED", "NEEDS_INFO"):
            self.admit()
        elif self.state == "UNDER_REVIEW":
            self.by_rule()
        elif self.state == "NOTIFIED":
            self.put_to_person()
        elif self.state == "APPEALED" and self.kept[-1].state == "NOTIFIED" and not self.unreached:
            self.back()

    def suspend(self) -> None:
        """Enter SUSPENDED (row 22)."""
        self.keep(self.when)
        self.go("SUSPENDED", end=self.end(self.timers.suspended, self.now))
        self.right_gone = True

    # ---- events

    def submit(self, filed: Filed, proof: Proof, accepted_at: dt.datetime, now: dt.datetime) -> None:
        """The item is submitted (row 1)."""
        self.at(max(now, accepted_at))
        self.filed, self.proof = filed, proof
        self.sla_due = self.end(self.timers.review_sla, accepted_at)
        self.received()
        self.done()

    def listed(self, now: dt.datetime) -> None:
        """The marketplace says what the listing is."""
        self.at(now)
        if self.state == "RECEIVED":
            self.admit()
            self.done()
        elif self.state == "UNDER_REVIEW" and self.given_up and self.seller is None and self.gone():
            self.go("LINK_INVALID")
            self.done()

    def reopened(self, now: dt.datetime) -> None:
        """A duplicate's original has ended: the duplicate is judged again (row 2)."""
        if self.state == "DUPLICATE":
            self.at(now)
            self.given_up = False
            self.received()
            self.done()

    def receipt(self, at: dt.datetime, now: dt.datetime) -> None:
        """The marketplace has taken the listing down for the item."""
        if self.handled is None and self.held:
            self.at(now)
            self.handled = at
            self.done()

    def sent(self, kind: str, begins: dt.datetime, now: dt.datetime) -> bool:
        """A notice of the present or a saved state was sent.

        Returns whether that is published: it began a window of the present state, or the seller is reached after all.
        """
        self.at(now)
        unreached = self.unreached
        if (
            kind == "seller_notice"
            and self.unreached
            and self.state == "APPEALED"
            and self.kept[-1].state == "NOTIFIED"
        ):
            self.back()
        first = kind == "seller_notice" and self.noticed is None
        if kind in self.waiting:
            self.unreached = self.unreached and kind != "seller_notice"
            if first:
                self.noticed = begins
            left = self._begin(kind, begins, self._present(None))
            self.deadline, self.waiting, self.counter_until = left.deadline, left.waiting, left.counter_until
            if self.silence_means_nothing and kind == "seller_notice":
                self.upheld = self.held
            self.done()
            return True
        for number, was in reversed(list(enumerate(self.kept))):
            if kind in was.waiting:
                left = self._begin(kind, begins, was)
                if self.silence_means_nothing and kind == "seller_notice":
                    left = left._replace(upheld=left.upheld or left.held)
                self.kept = (*self.kept[:number], left, *self.kept[number + 1 :])
                self.unreached = self.unreached and kind != "seller_notice"
                if first:
                    self.noticed = begins
                return unreached and not self.unreached
        if first and self.state in AFTER_NOTICE:
            self.noticed, self.unreached = begins, False
            if self.counter_until is None and not self.silence_means_nothing:
                self.counter_until = self.end(self.timers.window, begins)
        return unreached and not self.unreached

    def not_reached(self, put_at: dt.datetime, now: dt.datetime) -> bool:
        """The seller's notice went where nobody reads it. Returns whether that is news.

        If the seller has countered meanwhile, it knows.
        """
        if self.countered is not None:
            return self.sent("seller_notice", put_at, now)
        self.at(now)
        if self.unreached:
            return False
        if self.state == "NOTIFIED" and "seller_notice" in self.waiting:
            self.unreached = True
            self.put_to_person()
            self.done()
            return True
        if self.state in ("LITIGATION", "SUSPENDED"):
            self.unreached = any("seller_notice" in was.waiting for was in self.kept)
        return self.unreached

    def put_to_person(self) -> None:
        """Row 9: under some profiles a person looks at a takedown of which the seller cannot be told."""
        if self.unreached and self.policy.sellers.unreachable == "review":
            self.complained |= {"platform"}
            self.appeal(self.when)

    @property
    def silence_means_nothing(self) -> bool:
        """Whether no window runs for the seller and a counter is never late (row 9, under some profiles)."""
        return self.policy.rules.seller_silent == "nothing"

    def _begin(self, kind: str, begins: dt.datetime, was: SavedState) -> SavedState:
        """Begin the window of a state."""
        was = was._replace(waiting=was.waiting - {kind})
        if kind == "info_request":
            return was._replace(deadline={**was.deadline, "lapse": self.end(self.timers.needs_info, begins)})
        if kind == "counter_forwarded":
            longer = self.timers.holder_response_abroad if self.filed.abroad else None
            due = self.end(longer or self.timers.holder_response, begins)
            return was._replace(deadline={**was.deadline, "silence": due})
        if self.silence_means_nothing:
            return was
        until = self.end(self.timers.window if kind == "seller_notice" else self.timers.refile, begins)
        if was.counter_until is not None:
            until = max(until, was.counter_until)
        was = was._replace(counter_until=until)
        if was.state == "NOTIFIED" and not was.waiting:
            was = was._replace(deadline={**was.deadline, "window": until})
        return was

    def pass_to(self, upto: dt.datetime, *, excluding: bool = False) -> None:
        """Let deadlines pass: all up to ``upto``, or all before it."""
        while (running := self.running()) and (running[0].due < upto or (running[0].due == upto and not excluding)):
            self.pass_next()

    def pass_next(self) -> None:
        """Let the earliest deadline pass. There must be one."""
        due, name = self.running()[0]
        before = self.copy()
        self.at(due)
        if name == "sla":
            self.sla = "missed"
        else:
            self.wait(name)
            self.passed(name, due)
        self.done()
        self.revision += 1
        if name in UNDOABLE:
            self.undo = PassedDeadline(due, before)

    def passed(self, name: str, due: dt.datetime) -> None:
        """Apply a deadline that passed."""
        rules = self.policy.rules
        if name == "give_up":
            self.given_up = True
            self.admit()
        elif name == "lapse":
            self.go("LAPSED")
        elif name == "window":
            self.go("UPHELD_BY_DEFAULT")
            self.audited()
        elif name == "check":
            self.checked(rules.overdue_counter_check == "complete")
        elif name == "restore_by":
            self.go("RESTORED")
            self.audited(silence=True)
        elif name == "silence":
            if rules.holder_silent == "restore":
                self.go("RESTORED")
                self.audited(silence=True)
            else:
                self.go("PLATFORM_REVIEW", review=self.end(self.timers.platform_review, due))
        elif name == "review":
            self.wait(grace=self.end(self.timers.platform_review_grace, due))
        elif name == "grace":
            self.go("RESTORED" if rules.overdue_decision == "restore" else "UPHELD_AFTER_COUNTER")
            self.audited(silence=True)
        elif name == "appeal":
            self.wait(appeal=self.end(self.policy.appeals.review, due))
        elif name == "reminder":
            self.wait(reminder=self.end(self.timers.litigation_reminder, due))
        else:
            assert name == "end"
            self.go("WITHDRAWN")
            self.withdrawn("right_ended")

    def withdrawn(self, ground: str) -> None:
        """Rows 18 and 22: only some grounds reverse the penalties."""
        if ground in self.policy.withdrawal.reverses:
            self.upheld = False

    def audited(self, *, silence: bool = False) -> None:
        """Row 19: the platform itself reviews a share of the defaults, and of what another ``silence`` led to."""
        if self.state != "UPHELD_BY_DEFAULT" and not silence:
            return
        share = self.policy.rules.audited_share
        if self.deciders or "platform" in self.complained:
            return
        if share:
            drawn = int(hashlib.blake2b(self.filed.item.encode(), digest_size=4).hexdigest(), 16) / 2**32
            chosen = self.state == "UPHELD_BY_DEFAULT" and drawn < share
        else:
            chosen = self.sampled("restored_by_default" if self.state == "RESTORED" else "upheld_by_default")
        if chosen:
            self.complained |= {"platform"}
            self.appeal(self.when)

    def sampled(self, outcome: str) -> bool:
        """Whether a person is to look at this outcome, blind; notes it."""
        rules = self.policy.audits
        share = 0.0 if rules is None else {str(name): of for name, of in rules.shares.items()}.get(outcome, 0.0)
        if rules is None or not share or self.deciders or self.filed.canary:
            return False
        named = "/".join((rules.seed, outcome, self.filed.item))
        if int(hashlib.blake2b(named.encode(), digest_size=8).hexdigest(), 16) >= share * 2**64:
            return False
        self.audit = (outcome, None)
        return True

    def looked_at(self, decision: str) -> None:
        """A person has decided: does the audit that waited agree with what happened without one?"""
        if self.audit is not None and self.audit[1] is None:
            outcome = self.audit[0]
            same = {"upheld_by_rule": "uphold", "refused_by_rule": "refuse"}.get(outcome, "confirm")
            self.audit = (outcome, "agrees" if decision == same else "overturned")

    def appeal(self, stopped: dt.datetime) -> None:
        """Enter APPEALED, from which the item may return."""
        self.keep(stopped)
        self.go("APPEALED", appeal=self.end(self.policy.appeals.review, self.now))
        self.right_gone = False

    def checked(self, complete: bool) -> None:
        """The counter was checked (rows 11 and 12)."""
        if complete:
            self.kept = self.kept[:-1]
            self.refiled = 0
            self.go("HOLDER_RESPONSE")
            self.waiting = frozenset({"counter_forwarded"})
            if self.timers.restore_by is not None:
                assert self.countered is not None
                self.wait(restore_by=self.end(self.timers.restore_by, self.countered))
            return
        self.back()
        self.rounds -= 1
        if self.refiled < self.policy.counter.refiles:
            self.refiled += 1
            self.waiting |= {"counter_defect"}
            self.wait("window")
        else:
            self.deadline = {name: max(due, self.now) for name, due in self.deadline.items()}
        self.audited()
        if self.state == "NOTIFIED":
            self.put_to_person()

    def command(
        self, name: str, accepted_at: dt.datetime, now: dt.datetime, *, by_seller: bool = False, **arguments: Any
    ) -> bool:
        """Apply a command of the right party, as of when it was accepted. Returns whether it was applied.

        A seller that acts has been reached (row 9).
        """
        when = min(accepted_at, now)
        self.pass_to(when, excluding=True)
        if self.unreached and by_seller and self.sent("seller_notice", when, now):
            self.revision += 1
        here = self.copy()
        if self.undo is not None and when <= self.undo.due:
            facts = {key: here[key] for key in LASTING}
            self.__dict__.update(self.undo.before | facts)
            undone = self.state
            self.at(now, when)
            self.path = (undone,)
            if getattr(self, f"on_{name}")(when, **arguments):
                self.done()
                return True
            self.__dict__.update(here)
        self.at(now, when)
        if getattr(self, f"on_{name}")(when, **arguments):
            self.done()
            return True
        self.__dict__.update(here)
        return False

    def on_information(self, when: dt.datetime, proof: Proof) -> bool:
        """Row 5."""
        if self.state != "NEEDS_INFO":
            return False
        self.renew(proof)
        self.admit()
        self.undo = None
        return True

    def renew(self, proof: Proof) -> None:
        """Update the proof on file with that of the holder's side."""
        self.proof = Proof(
            self.proof.identity or proof.identity,
            self.proof.authority if proof.authority == "missing" else proof.authority,
            proof.right,
            self.proof.materials | proof.materials,
        )

    def on_withdraw(self, when: dt.datetime, ground: str) -> bool:
        """Row 18."""
        if self.state not in LIVE | UPHELD | ASIDE:
            return False
        self.go("WITHDRAWN")
        self.withdrawn(ground)
        return True

    def on_accept(self, when: dt.datetime) -> bool:
        """Row 8."""
        if self.state != "NOTIFIED":
            return False
        self.go("UPHELD")
        return True

    def on_counter(self, when: dt.datetime, materials: Iterable[str]) -> bool:
        """Row 10."""
        if self.state not in UPHELD | {"NOTIFIED"} or self.rounds >= self.policy.counter.rounds:
            return False
        in_time = self.counter_until is None or "counter_defect" in self.waiting or when <= self.counter_until
        if not in_time:
            if self.late >= self.policy.counter.late:
                return False
            if self.noticed is not None and when > self.end(self.timers.late_counter, self.noticed):
                return False
            self.late += 1
        self.rounds += 1
        self.countered = when
        self.keep(None)
        self.go("COUNTERED", check=self.end(self.timers.counter_check, self.now))
        if self.policy.rules.counter_check == "rule":
            self.checked(set(self.policy.counter.required) <= set(materials))
        return True

    def on_respond(self, when: dt.datetime, accept: bool) -> bool:
        """Rows 13, 14."""
        if self.state != "HOLDER_RESPONSE" or self.answered:
            return False
        if accept:
            self.go("RESTORED")
        elif self.policy.rules.holder_rejects == "no_effect":
            self.answered = True
        else:
            self.go("PLATFORM_REVIEW", review=self.end(self.timers.platform_review, self.now))
        return True

    def on_action(self, when: dt.datetime, proof: bool) -> bool:
        """Row 16."""
        known = self.state == "LITIGATION" or any(was.state == "LITIGATION" for was in self.kept)
        if not proof or known or self.state not in LIVE | UPHELD | {"SUSPENDED", "APPEALED"}:
            return False
        if self.state != "SUSPENDED":
            self.keep(when)
        self.go("LITIGATION", reminder=self.end(self.timers.litigation_reminder, self.now))
        return True

    def on_result(self, when: dt.datetime, outcome: str, proof: bool) -> bool:
        """Row 21."""
        if not proof or self.state != "LITIGATION":
            return False
        if outcome == "ended":
            self.back()
            self.returned()
        else:
            self.go("UPHELD_AFTER_COUNTER" if outcome == "holder" else "RESTORED")
        return True

    def on_complain(self, when: dt.datetime, side: str, proof: Proof) -> bool:
        """Row 19."""
        against = "holder" if self.state in UNHEARD | {"RESTORED"} else "seller" if self.state in UPHELD else ""
        if side != against or side in self.complained or self.complaints >= self.policy.appeals.rounds:
            return False
        since = self.decided
        if side == "seller" and since is not None and self.noticed is not None:
            since = max(since, self.noticed)
        if since is not None and when > self.end(self.policy.appeals.within, since):
            return False
        self.complaints += 1
        self.complained |= {side}
        if side == "holder":
            self.renew(proof)
        self.appeal(when)
        return True

    def on_decide(
        self,
        when: dt.datetime,
        decision: str,
        by: str,
        code: str | None = None,
        revision: int | None = None,
        looked: tuple[str, ...] = (),
    ) -> bool:
        """Rows 6, 7, 12, 17, 19."""
        if revision is not None and revision < self.entered:
            return False
        if self.state == "APPEALED" and (by in self.deciders or code not in self.policy.appeals.reasons):
            return False
        if decision == "refuse" and code not in self.policy.refusals:
            return False
        deciders, audit = self.deciders, self.audit
        self.deciders |= {by, *looked}
        self.looked_at(decision)
        if not self.decides(decision):
            self.deciders, self.audit = deciders, audit
            return False
        if audit is not None and audit[1] is None and decision == "confirm":
            self.decided = self.now  # only now is anybody told
        return True

    def decides(self, decision: str) -> bool:
        """Apply a decision; False: it does not fit the state."""
        match self.state, decision:
            case "APPEALED", "confirm":
                if self.kept[-1].state == "NOTIFIED":
                    self.go("UPHELD_BY_DEFAULT")
                elif self.kept[-1].state == "DUPLICATE" and not self.original:
                    self.kept = self.kept[:-1]
                    self.given_up = False
                    self.received()
                else:
                    self.back()
            case "APPEALED", "reverse":
                was = self.kept[-1].state
                self.kept = self.kept[:-1]
                if was in UPHELD or was == "NOTIFIED":
                    self.go("RESTORED")
                elif was == "RESTORED":
                    self.go("UPHELD_AFTER_COUNTER")
                else:
                    self.review_again()
            case "UNDER_REVIEW", "refuse":
                self.go("REJECTED")
            case "UNDER_REVIEW", "uphold":
                if self.seller is None and (self.listing is None or not self.listing.seller):
                    return False
                self.notified()
            case "COUNTERED", "complete":
                self.checked(True)
            case "COUNTERED", "incomplete":
                self.checked(False)
            case "PLATFORM_REVIEW", "uphold":
                self.go("UPHELD_AFTER_COUNTER")
            case "PLATFORM_REVIEW", "restore":
                self.go("RESTORED")
            case _:
                return False
        return True

    def review_again(self) -> None:
        """Enter UNDER_REVIEW after a reversed complaint (row 19). The rules apply again."""
        self.go("UNDER_REVIEW")
        self.look()
        if self.proof.right in ("expired", "lost", "unauthorised"):
            self.suspend()
        else:
            self.by_rule()

    def on_right(self, when: dt.datetime, status: str, materials: frozenset[str] = frozenset()) -> bool:
        """Rows 4 and 22."""
        active = self.proof._replace(right="active", materials=self.proof.materials | materials)
        if status != "active":
            if self.state not in LIVE | {"LITIGATION", "APPEALED"}:
                return False
            self.proof = self.proof._replace(right=status)
            self.suspend()
            return True
        if self.state == "SUSPENDED":
            self.proof, self.right_gone = active, False
            self.back()
            self.returned()
            return True
        if self.state == "LITIGATION" and self.right_gone:
            self.proof, self.right_gone = active, False
            return True
        if self.state == "NEEDS_INFO":
            self.proof = active
            self.admit()
            self.undo = None
            return True
        return False
