"""An independent model of the life cycle: domain.md's table told once more, as plain Python without a table.

It knows states and deadlines only. It shares nothing with ``services.verification`` but the policy and the calendar.
"""

from __future__ import annotations

import copy
import datetime as dt
from typing import Any

from shared.calendars import calendar
from shared.events import Listing
from shared.policy import Policy, Span

LIVE = {"RECEIVED", "NEEDS_INFO", "UNDER_REVIEW", "NOTIFIED", "COUNTERED", "HOLDER_RESPONSE", "PLATFORM_REVIEW"}
UPHELD = {"UPHELD", "UPHELD_BY_DEFAULT", "UPHELD_AFTER_COUNTER"}
UNHEARD = {"REJECTED", "DUPLICATE", "LINK_INVALID", "LAPSED"}
AFTER_NOTICE = UPHELD | {"COUNTERED", "HOLDER_RESPONSE", "PLATFORM_REVIEW", "LITIGATION", "SUSPENDED", "APPEALED"}


class Model:
    """One item."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.timers = policy.timers
        self.state = ""
        self.deadline: dict[str, dt.datetime] = {}
        self.waiting: set[str] = set()
        self.kept: list[dict[str, Any]] = []
        self.undo: tuple[dt.datetime, dict[str, Any]] | None = None
        self.listing: Listing | None = None
        self.original = False
        self.proof: dict[str, Any] = {}
        self.seller_known = False
        self.given_up = False
        self.right_gone = False
        self.rounds = 0
        self.late = 0
        self.refiled = 0
        self.noticed: dt.datetime | None = None
        self.counter_until: dt.datetime | None = None
        self.decided: dt.datetime | None = None
        self.complained: set[str] = set()
        self.complaints = 0
        self.deciders: set[str] = set()
        self.now = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)

    # ---- helpers

    def end(self, span: Span, start: dt.datetime) -> dt.datetime:
        """End of a duration."""
        return span.after(start, calendar(self.policy.calendar))

    def go(self, state: str, **deadlines: dt.datetime) -> None:
        """Into a state."""
        self.state, self.deadline, self.waiting, self.undo = state, deadlines, set(), None
        if state not in LIVE | {"LITIGATION", "SUSPENDED", "APPEALED"}:
            self.kept, self.right_gone = [], False
            self.decided, self.complained = self.now, set()
        if state == "UPHELD_AFTER_COUNTER":
            self.counter_until = self.end(self.timers.round_window, self.now)

    def keep(self, stopped: dt.datetime | None) -> None:
        """Remember the present state."""
        self.kept.append(
            {
                "state": self.state,
                "deadline": dict(self.deadline),
                "waiting": set(self.waiting),
                "counter_until": self.counter_until,
                "stopped": stopped,
            }
        )

    def back(self) -> None:
        """To the remembered state."""
        was = self.kept.pop()
        shift = self.now - was["stopped"] if was["stopped"] else dt.timedelta()
        self.state, self.waiting, self.undo = was["state"], was["waiting"], None
        self.deadline = {name: due + shift for name, due in was["deadline"].items()}
        self.counter_until = was["counter_until"] + shift if was["counter_until"] else None

    def copy(self) -> dict[str, Any]:
        """All of it."""
        return copy.deepcopy({key: value for key, value in self.__dict__.items() if key not in ("policy", "timers")})

    # ---- admission

    def lacking(self) -> bool:
        """Elements are missing (the tests file counterfeits only)."""
        return not (
            self.proof["identity"]
            and self.proof["authority"] != "missing"
            and self.proof["right"] == "active"
            and "ownership" in self.proof["materials"]
        )

    def gone(self) -> bool:
        """Row 3 (the tests know no holds of others)."""
        return self.listing is not None and self.listing.state in ("ended", "unknown", "removed")

    def admit(self) -> None:
        """Rows 2-7."""
        if self.original:
            return self.go("DUPLICATE")
        if self.gone():
            return self.go("LINK_INVALID")
        if self.listing is not None and self.listing.seller:
            self.seller_known = True
        if not self.seller_known and not self.given_up:
            if self.state != "RECEIVED" or "give_up" not in self.deadline:
                self.go("RECEIVED", give_up=self.end(self.timers.lookup_give_up, self.now))
            return None
        if self.lacking():
            if self.state != "NEEDS_INFO":
                self.go("NEEDS_INFO")
                self.waiting = {"info_request"}
            return None
        self.go("UNDER_REVIEW")
        if self.policy.rules.review == "prima_facie" and not self.given_up and not self.by_hand():
            self.notified()
        return None

    def by_hand(self) -> bool:
        """Row 20."""
        rules = self.policy.recurrence
        return bool(self.proof["recurs"]) and (rules is None or rules.review != "as_usual")

    def notified(self) -> None:
        """Row 7."""
        self.seller_known = True
        self.go("NOTIFIED")
        self.counter_until = None
        self.waiting = {"seller_notice"}

    def returned(self) -> None:
        """After a return: what goes by rule."""
        if self.state in UPHELD:
            self.right_gone = False
        elif self.right_gone and self.state != "LITIGATION":
            self.keep(self.now)
            self.go("SUSPENDED", end=self.end(self.timers.suspended, self.now))
        elif self.state in ("RECEIVED", "NEEDS_INFO"):
            self.admit()
        elif self.state == "UNDER_REVIEW":
            self.by_rule()

    # ---- events

    def submit(self, **proof: Any) -> None:
        """Row 1."""
        self.proof = proof
        self.state = "RECEIVED"
        self.admit()

    def listed(self) -> None:
        """The marketplace said what the listing is."""
        if self.state == "RECEIVED":
            self.admit()
        elif self.state == "UNDER_REVIEW" and self.given_up and not self.seller_known and self.gone():
            self.go("LINK_INVALID")

    def reopened(self) -> None:
        """Row 2, back."""
        if self.state == "DUPLICATE":
            self.given_up = False
            self.state = "RECEIVED"
            self.deadline = {}
            self.admit()

    def sent(self, kind: str, sent_at: dt.datetime) -> None:
        """A notice that belongs to the present (or a remembered) visit was sent."""
        places = [self.__dict__, *self.kept[::-1]]
        names = {"info_request": "lapse", "counter_forwarded": "silence"}
        for place in places:
            if kind not in place["waiting"]:
                continue
            place["waiting"].discard(kind)
            if kind in names:
                span = self.timers.needs_info if kind == "info_request" else self.timers.holder_response
                place["deadline"][names[kind]] = self.end(span, sent_at)
                return
            span = self.timers.window if kind == "seller_notice" else self.timers.refile
            until = self.end(span, sent_at)
            if place["counter_until"] is not None:
                until = max(until, place["counter_until"])
            place["counter_until"] = until
            if kind == "seller_notice" and self.noticed is None:
                self.noticed = sent_at
            if place["state"] == "NOTIFIED" and not place["waiting"]:
                place["deadline"]["window"] = until
            return
        if kind == "seller_notice" and self.noticed is None and self.state in AFTER_NOTICE:
            self.noticed = sent_at
            if self.counter_until is None:
                self.counter_until = self.end(self.timers.window, sent_at)

    def pass_to(self, upto: dt.datetime) -> None:
        """Let deadlines pass."""
        while self.deadline and min(self.deadline.values()) <= upto:
            name = min(self.deadline, key=lambda name: self.deadline[name])
            due = self.deadline[name]
            before = self.copy()
            self.now = due
            self.passed(name, due)
            if name not in ("give_up", "review", "reminder", "appeal"):
                self.undo = (due, before)

    def passed(self, name: str, due: dt.datetime) -> None:
        """One deadline."""
        rules = self.policy.rules
        if name == "give_up":
            self.given_up = True
            self.admit()
        elif name == "lapse":
            self.go("LAPSED")
        elif name == "window":
            self.go("UPHELD_BY_DEFAULT")
        elif name == "check":
            self.checked(rules.overdue_counter_check == "complete")
        elif name == "silence":
            if rules.holder_silent == "restore":
                self.go("RESTORED")
            else:
                self.go("PLATFORM_REVIEW", review=self.end(self.timers.platform_review, due))
        elif name == "review":
            del self.deadline["review"]
            self.deadline["grace"] = self.end(self.timers.platform_review_grace, due)
        elif name == "grace":
            self.go("RESTORED" if rules.overdue_decision == "restore" else "UPHELD_AFTER_COUNTER")
        elif name == "appeal":
            self.deadline["appeal"] = self.end(self.policy.appeals.review, due)
        elif name == "reminder":
            self.deadline["reminder"] = self.end(self.timers.litigation_reminder, due)
        else:
            assert name == "end"
            self.go("WITHDRAWN")

    def checked(self, complete: bool) -> None:
        """Rows 11, 12."""
        if complete:
            self.kept.pop()
            self.refiled = 0
            self.go("HOLDER_RESPONSE")
            self.waiting = {"counter_forwarded"}
            return
        self.back()
        self.rounds -= 1
        if self.refiled < self.policy.counter.refiles:
            self.refiled += 1
            self.waiting |= {"counter_defect"}
            self.deadline.pop("window", None)
        else:
            self.deadline = {name: max(due, self.now) for name, due in self.deadline.items()}

    def command(self, name: str, accepted_at: dt.datetime, now: dt.datetime, **arguments: Any) -> bool:
        """A command of the right party; whether it was applied."""
        when = min(accepted_at, now)
        # deadlines before it
        while self.deadline and min(self.deadline.values()) < when:
            self.pass_to(min(self.deadline.values()))
        here = self.copy()
        if self.undo is not None and when <= self.undo[0]:
            facts = {name: here[name] for name in ("listing", "original", "noticed")}
            self.__dict__.update(copy.deepcopy(self.undo[1]) | facts)
            self.now = now
            if getattr(self, f"on_{name}")(when, **arguments):
                return True
            self.__dict__.update(here)
        self.now = now
        if getattr(self, f"on_{name}")(when, **arguments):
            return True
        self.__dict__.update(here)
        return False

    def on_information(self, when: dt.datetime, **proof: Any) -> bool:
        """Row 5."""
        if self.state != "NEEDS_INFO":
            return False
        self.proof["identity"] |= proof["identity"]
        if proof["authority"] != "missing":
            self.proof["authority"] = proof["authority"]
        self.proof["right"] = proof["right"]
        self.proof["materials"] |= proof["materials"]
        self.admit()
        self.undo = None
        return True

    def on_withdraw(self, when: dt.datetime) -> bool:
        """Row 18."""
        if self.state not in LIVE | UPHELD | {"LITIGATION", "SUSPENDED", "APPEALED"}:
            return False
        self.go("WITHDRAWN")
        return True

    def on_accept(self, when: dt.datetime) -> bool:
        """Row 8."""
        if self.state != "NOTIFIED":
            return False
        self.go("UPHELD")
        return True

    def on_counter(self, when: dt.datetime, complete: bool) -> bool:
        """Row 10."""
        if self.state not in UPHELD | {"NOTIFIED"} or self.rounds >= self.policy.counter.rounds:
            return False
        in_time = self.counter_until is None or "counter_defect" in self.waiting or when <= self.counter_until
        if not in_time:
            if self.late >= self.policy.counter.late:
                return False
            if self.noticed is not None and when > self.noticed + self.timers.late_counter.exact:
                return False
            self.late += 1
        self.rounds += 1
        self.keep(None)
        self.go("COUNTERED", check=self.end(self.timers.counter_check, self.now))
        if self.policy.rules.counter_check == "rule":
            self.checked(complete)
        return True

    def on_respond(self, when: dt.datetime, accept: bool) -> bool:
        """Rows 13, 14."""
        if self.state != "HOLDER_RESPONSE":
            return False
        if accept:
            self.go("RESTORED")
        else:
            self.go("PLATFORM_REVIEW", review=self.end(self.timers.platform_review, self.now))
        return True

    def on_action(self, when: dt.datetime, proof: bool) -> bool:
        """Row 16."""
        known = self.state == "LITIGATION" or any(was["state"] == "LITIGATION" for was in self.kept)
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

    def on_complain(self, when: dt.datetime, side: str, **proof: Any) -> bool:
        """Row 19."""
        against = "holder" if self.state in UNHEARD | {"RESTORED"} else "seller" if self.state in UPHELD else ""
        if side != against or side in self.complained or self.complaints >= self.policy.appeals.rounds:
            return False
        if self.decided is not None and when > self.decided + self.policy.appeals.within.exact:
            return False
        self.complaints += 1
        self.complained.add(side)
        if side == "holder":
            self.proof["identity"] |= proof["identity"]
            self.proof["authority"] = proof["authority"]
            self.proof["right"] = proof["right"]
            self.proof["materials"] |= proof["materials"]
        self.keep(when)
        self.go("APPEALED", appeal=self.end(self.policy.appeals.review, self.now))
        return True

    def on_decide(self, when: dt.datetime, decision: str, by: str) -> bool:
        """Rows 6, 7, 12, 17, 19."""
        if self.state == "APPEALED" and by in self.deciders:
            return False
        if not self.decides(decision):
            return False
        self.deciders.add(by)
        return True

    def decides(self, decision: str) -> bool:
        """What comes of a decision; False: it does not fit."""
        match self.state, decision:
            case "APPEALED", "confirm":
                if self.kept[-1]["state"] == "DUPLICATE" and not self.original:
                    self.kept.pop()
                    self.given_up = False
                    self.state, self.deadline = "RECEIVED", {}
                    self.admit()
                else:
                    self.back()
            case "APPEALED", "reverse":
                was = self.kept.pop()["state"]
                if was in UPHELD:
                    self.go("RESTORED")
                elif was == "RESTORED":
                    self.go("UPHELD_AFTER_COUNTER")
                else:
                    self.anew()
            case "UNDER_REVIEW", "refuse":
                self.go("REJECTED")
            case "UNDER_REVIEW", "uphold":
                if not self.seller_known and (self.listing is None or not self.listing.seller):
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

    def anew(self) -> None:
        """Row 19, reversed: to review, and what the rules say of it there."""
        self.go("UNDER_REVIEW")
        if self.listing is not None and self.listing.seller:
            self.seller_known = True
        if self.proof["right"] in ("expired", "lost", "unauthorised"):
            self.right_gone = True
            self.keep(self.now)
            self.go("SUSPENDED", end=self.end(self.timers.suspended, self.now))
        else:
            self.by_rule()

    def by_rule(self) -> None:
        """Row 7."""
        if self.policy.rules.review == "prima_facie" and not self.given_up and self.seller_known and not self.by_hand():
            self.notified()

    def on_right(self, when: dt.datetime, status: str) -> bool:
        """Row 22."""
        if status != "active":
            if self.state not in LIVE | {"LITIGATION", "APPEALED"}:
                return False
            self.keep(when)
            self.proof["right"] = status
            self.right_gone = True
            self.go("SUSPENDED", end=self.end(self.timers.suspended, self.now))
            return True
        if self.state == "SUSPENDED":
            self.proof["right"], self.right_gone = "active", False
            self.back()
            self.returned()
            return True
        if self.state == "LITIGATION" and self.right_gone:
            self.proof["right"], self.right_gone = "active", False
            return True
        if self.state == "NEEDS_INFO":
            self.proof["right"] = "active"
            self.admit()
            self.undo = None
            return True
        return False
