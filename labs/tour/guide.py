"""The installation as the people of a story see it, and the page that tells the story.

Stories do everything over HTTP, as their people would; business time is stepped. Each sentence is told only after what
it says was observed.
"""

from __future__ import annotations

import datetime as dt
import email
import email.policy
import json as jsonlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from typing import Any, NamedTuple, TypeVar

import httpx

from deploy.local import fleet
from deploy.local.children import StackError
from deploy.local.stack import Stack
from shared import clock, db, policy
from shared.failures import Finding

T = TypeVar("T")
BEGINS = dt.datetime(2026, 3, 2, 2, 0, tzinfo=dt.UTC)
"""A Monday at ten in the morning, in the policy's calendar."""
SITE = "https://market.example/items/"
WAIT_S = 120.0


class ExplainedStanding(NamedTuple):
    """A seller's standing, step by step, each step with its explanation."""

    agrees: bool
    differences: Sequence[str]
    steps: Sequence[tuple[Any, str]]


def must(truth: bool, what: str) -> None:
    """Check that a story goes as it is told.

    Raises:
        Finding: it does not.
    """
    if not truth:
        raise Finding(f"the story goes wrong: {what}")


class Tour:
    """The installation as the story's people see it, and the page that the story tells."""

    def __init__(self, stack: Stack, tell: Callable[[str], None], head: str) -> None:
        self.stack = stack
        self.settings = fleet.settings_of(stack, secret=True)
        self.page = head
        self.day = BEGINS
        self._tell = tell
        self._engine = db.administer(stack.admin_url)
        self._http = httpx.Client(
            base_url=fleet.url(stack, "intake"), verify=fleet.trust(stack), timeout=30, trust_env=False
        )
        self._site = httpx.Client(base_url=f"http://127.0.0.1:{stack.port('marketplace')}", timeout=30, trust_env=False)
        self._tokens = {"operator": stack.secret("operator_token")}

    def close(self) -> None:
        """Close connections."""
        self._http.close()
        self._site.close()
        self._engine.dispose()

    # ---- telling

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self.page += f"\n## {title}\n"
        self._tell(f"\n{title}")

    def say(self, text: str) -> None:
        """Tell what was observed."""
        self.page += f"\n{text}\n"
        self._tell(f"  {text}")

    # ---- doing

    def call(self, who: str, method: str, path: str, body: Any = None, *, expect: int | None = None) -> Any:
        """Send one request; returns the JSON of the answer.

        Args:
            who: Account that sends it; empty: nobody.
            method: HTTP method.
            path: Path and query.
            body: JSON, or bytes as they are.
            expect: The status to expect; None: any success.

        Raises:
            Finding: the answer has another status.
        """
        headers = {"authorization": f"Bearer {self._tokens[who]}"} if who else {}
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        answer = self._http.request(method, path, headers=headers, **content)
        good = answer.status_code < 300 if expect is None else answer.status_code == expect
        if not good:
            raise Finding(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else None

    def account(self, name: str, role: str) -> str:
        """Have the operator open a verified account with a contact."""
        body = {"role": role, "id": name, "identity_verified": True, "seen": "office"}
        made = self.call("operator", "POST", "/v1/accounts", body)
        self._tokens[name] = made["token"]
        self.contact(name, name)
        self.call("operator", "POST", f"/v1/accounts/{name}/verify", {"email_confirmed": True})
        return name

    def opens(self) -> str:
        """Open an account without the operator; returns its id."""
        made = self.call("", "POST", "/v1/accounts", {})
        self._tokens[made["account"]] = made["token"]
        return str(made["account"])

    def contact(self, account: str, name: str) -> None:
        """Enter an account's contact."""
        contact = {"name": f"Party {name}", "address": "1 Example Street", "email": f"{name}@party.example"}
        self.call(account, "PUT", "/v1/contact", contact)

    def offer(self, seller: str, titles: dict[str, str]) -> list[str]:
        """Put a seller's listings (id -> title) on the demo marketplace; returns their links."""
        headers = {"authorization": f"Bearer {self.stack.secret('internal_token')}"}
        body = [{"listing": name, "seller": seller, "title": title} for name, title in titles.items()]
        answer = self._site.post("/seed", json=body, headers=headers)
        if answer.status_code != 202:
            raise StackError(f"the demo marketplace answers {answer.status_code}")
        self.until(f"{next(reversed(titles))} shows", lambda: self.shows(next(reversed(titles))))
        return [SITE + name for name in titles]

    def refused(self, seller: str, titles: dict[str, str]) -> str:
        """Offer listings that the marketplace must refuse; returns why it does.

        Raises:
            Finding: it does not refuse them.
        """
        headers = {"authorization": f"Bearer {self.stack.secret('internal_token')}"}
        body = [{"listing": name, "seller": seller, "title": title} for name, title in titles.items()]
        answer = self._site.post("/seed", json=body, headers=headers)
        if answer.status_code != 403:
            raise Finding(f"the demo marketplace answers {answer.status_code}")
        return f"{answer.status_code}: {answer.json()['detail']}"

    def link(self, sellers: dict[str, list[dict[str, str]]]) -> None:
        """Have the demo marketplace report keys of sellers."""
        headers = {"authorization": f"Bearer {self.stack.secret('internal_token')}"}
        body = [{"seller": seller, "keys": keys} for seller, keys in sellers.items()]
        answer = self._site.post("/sellers", json=body, headers=headers)
        if answer.status_code != 202:
            raise StackError(f"the demo marketplace answers {answer.status_code}")

    def explain(self, seller: str) -> ExplainedStanding:
        """What `goodfaith standing explain` says about a seller."""
        from services.enforcement import explain, reading

        rules = policy.current(self.settings.penalties_profile)
        with self._engine.connect() as connection:
            connection.exec_driver_sql("set search_path = enforcement, platform")
            now, _ = clock.read(connection)
            found = reading.why(connection, seller, rules.penalties, rules.version, now)
        steps = [(step, explain.says(step, rules.penalties)) for step in found.steps]
        return ExplainedStanding(found.agrees, found.differences, steps)

    def shows(self, listing: str) -> bool:
        """Whether a listing is up, although its page may be hidden with all others of a frozen seller."""
        answer = self._site.get(f"/items/{listing}")
        return answer.status_code == 200 or (answer.status_code == 404 and "the account is " in answer.text)

    def visible(self, listing: str) -> bool:
        """Whether a listing's page is shown."""
        return self._site.get(f"/items/{listing}").status_code == 200

    def under(self, seller: str) -> list[str]:
        """Measures that a seller's account is under, as the marketplace shows in public."""
        return list(self._site.get(f"/sellers/{seller}").json()["measures"])

    def file(self, who: str, right: str, links: list[str], **more: Any) -> dict[str, Any]:
        """File a claim."""
        body = {"right": right, "reason": "counterfeit", "listings": links, **more}
        answer: dict[str, Any] = self.call(who, "POST", "/v1/claims", body)
        return answer

    def do(self, who: str, item: str, what: str, body: Any = None) -> str:
        """Give a command about an item; returns its id, or nothing for a decision that is only a proposal so far."""
        commands = self.call(who, "POST", f"/v1/items/{item}/{what}", body or {})["commands"]
        return str(commands[0]["command"]) if commands else ""

    def applied(self, command: str) -> None:
        """Wait until a command was applied.

        Raises:
            Finding: it was refused.
        """
        found = self.until(
            f"command {command} is applied or refused",
            lambda: (c := self.call("operator", "GET", f"/v1/commands/{command}"))["status"] != "accepted" and c,
        )
        if found["status"] != "applied":
            raise Finding(f"refused: {found['code']}: {found['detail']}")

    def lease(self, reviewer: str, claim: str, state: str, count: int) -> tuple[str, list[str]]:
        """Lease this many cases to a reviewer; returns the lease's token and the items."""

        def take() -> Any:
            got = self.call(reviewer, "POST", "/v1/review/lease", {"claim": claim, "state": state, "count": count})
            if got["token"] and len(got["cases"]) < count:
                self._lease(reviewer, "DELETE", "", got["token"])
                return None
            return got["token"] and got

        got = self.until(f"{reviewer} is leased {count} {state} of {claim}", take)
        return got["token"], [case["item"] for case in got["cases"]]

    def _lease(self, reviewer: str, method: str, path: str, token: str) -> None:
        headers = {"authorization": f"Bearer {self._tokens[reviewer]}", "lease-token": token}
        self._http.request(method, f"/v1/review/lease{path}", headers=headers)

    # ---- observing

    def states(self, claim: str) -> Counter[str]:
        """Number of a claim's items by state."""
        return Counter(self.call("operator", "GET", f"/v1/claims/{claim}")["states"])

    def reach(self, claim: str, **states: int) -> None:
        """Wait until a claim has these numbers of items by state."""
        self.until(
            f"items of {claim} are {states}",
            lambda: self.states(claim) == states,
            seen=lambda: dict(self.states(claim)),
        )

    def items(self, claim: str, state: str | None = None) -> list[dict[str, Any]]:
        """Items of a claim, all or those in a state."""
        query = f"&state={state}" if state else ""
        found: list[dict[str, Any]] = []
        cursor = ""
        while cursor is not None:
            more = f"&cursor={cursor}" if cursor else ""
            page = self.call("operator", "GET", f"/v1/claims/{claim}/items?limit=200{query}{more}")
            found += page["items"]
            cursor = page["next"]
        return found

    def mails(self, name: str, words: str) -> list[str]:
        """Texts, without line breaks, of the mails to a party whose subject has these words."""
        book = self.stack.dir / "mailbox.jsonl"
        found = []
        for line in book.read_text().splitlines() if book.exists() else []:
            entry = jsonlib.loads(line)
            if f"{name}@party.example" in entry["to"]:
                message = email.message_from_bytes(
                    (self.stack.dir / entry["file"]).read_bytes(), policy=email.policy.default
                )
                assert isinstance(message, EmailMessage)
                if words in str(message["Subject"]):
                    text = message.get_body(("plain",))
                    assert isinstance(text, EmailMessage)
                    found.append(" ".join(str(text.get_content()).split()))
        return found

    def until(self, what: str, look: Callable[[], T | None], *, seen: Callable[[], object] | None = None) -> T:
        """Wait until a condition holds; returns what `look` returned.

        Args:
            what: What is waited for, in words.
            look: Returns something true when the condition holds.
            seen: What there is instead, for the error.

        Raises:
            Finding: the condition does not hold in time.
        """
        end = time.monotonic() + WAIT_S
        while not (found := look()):
            if time.monotonic() > end:
                raise Finding(f"not within {WAIT_S:.0f} s: {what}{f' (there is: {seen()})' if seen else ''}")
            time.sleep(0.05)
        return found

    # ---- time

    def to(self, moment: dt.datetime) -> None:
        """Set business time ahead."""
        with self._engine.begin() as connection:
            self.day = clock.set_anchor(connection, business=moment, rate=0).business

    def pass_days(self, days: float) -> None:
        """Let days pass."""
        self.to(self.day + dt.timedelta(days=days))
