"""Attacks on the rules: forged cursors, races, weak secrets, outbound addresses, mail, internal APIs, an upstream's topic."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import email
import email.policy
import json
import secrets
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import httpx

from deploy.local import fleet
from deploy.local.children import free_port
from labs.attacks.floods import new_bogus_token
from labs.attacks.ground import CONTACT, SITE, Attack, AttackBed, Outcome, Person, as_json, listed
from shared import kafka_links, topics
from shared.paging import cursor_of

UPSTREAM: Final = "crm"
UPSTREAM_ACCOUNT: Final = "a-upstream-crm"
ENVIRONMENT: Final = {
    "GOODFAITH_UPSTREAMS": json.dumps({UPSTREAM: UPSTREAM_ACCOUNT}),
    "GOODFAITH_UPSTREAM_MAY": json.dumps({UPSTREAM: {"accounts": ["h-crm-*"], "commands": ["submit_claim"]}}),
}
"""Settings of the attacked stack: one upstream, which files claims for accounts of its own."""
VICTIM: Final = "victim@victim.example"
LURE: Final = "lure.example"
ANSWERS_S: Final = 60.0
"""Seconds to wait for something that arrives by topic or mail."""
FORGED: Final[Sequence[object]] = (
    (),
    ("",),
    ("zzz",),
    (None,),
    (True,),
    (-1,),
    (2**63,),
    (2**70,),
    (1e308,),
    ("0", 0),
    ("", -1),
    ("z" * 300,),
    ([["x"]],),
    ({"a": 1},),
    ("\0",),
    ("1970-01-01T00:00:00Z", ""),
    ("9999-12-31T23:59:59Z", "z"),
    ("'; select 1; --",),
    ("%",),
    (0, "a", []),
)
"""Keys to forge cursors from."""


# ---------------------------------------------------------------------------------------------------------------- cursors


def _pages(ground: AttackBed, person: Person, path: str, cursor: str | None) -> Iterator[dict[str, Any]]:
    """Entries of up to ten pages."""
    for _ in range(10):
        mark = "" if cursor is None else f"&cursor={cursor}"
        answer = person.ask("GET", f"{path}{'&' if '?' in path else '?'}limit=200{mark}")
        if not answer.is_success:
            return
        page = answer.json()
        yield from page["items"]
        cursor = page["next"]
        if cursor is None:
            return


def _of_another_claim(ground: AttackBed, part: str, field: str, forged: object) -> Outcome:
    """List one claim with a forged cursor and look for entries of another claim."""
    holder = ground.person()
    right = ground.right(holder)
    first, second = (ground.claim(holder, right, "", "") for _ in range(2))
    for made in (first, second):
        for item in made["items"]:
            ground.note_change(item["item"])
    own = {item["item"] for item in second["items"]}
    seen = {one[field] for one in _pages(ground, holder, f"/v1/claims/{second['claim']}/{part}", cursor_of(*forged))}  # type: ignore[misc]
    others = seen - own
    return Outcome(bool(others), f"{len(seen)} entries, {len(others)} of another claim")


def items_cursor(ground: AttackBed) -> Outcome:
    """Page through a claim's items with a cursor that starts before the claim."""
    return _of_another_claim(ground, "items", "id", ("0",))


def timeline_cursor(ground: AttackBed) -> Outcome:
    """Page through a claim's timeline with a cursor that starts before the claim."""
    return _of_another_claim(ground, "timeline", "item", ("0", 0))


def evidence_cursor(ground: AttackBed) -> Outcome:
    """Read document ids out of the `next` cursors of pages that hide the documents themselves."""
    owner, other = ground.person(), ground.person()
    right = ground.right(owner)
    documents = [ground.must_upload(owner, f"Private letter {secrets.token_hex(8)}.".encode()) for _ in range(3)]
    claim = ground.claim(owner, right, evidence=documents)["claim"]
    told: set[str] = set()
    cursor: str | None = None
    for _ in range(5):
        mark = "" if cursor is None else f"&cursor={cursor}"
        page = other.ask("GET", f"/v1/evidence?about={claim}&limit=1{mark}")
        cursor = page.json().get("next") if page.is_success else None
        if cursor is None:
            break
        told |= {document for document in documents if document in _read(cursor)}
    return Outcome(bool(told), f"{len(told)} of {len(documents)} ids told")


def _read(cursor: str) -> str:
    with contextlib.suppress(ValueError):
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode(errors="replace")
    return ""


LISTS: Final = (
    "/v1/claims",
    "/v1/rights",
    "/v1/authorisations",
    "/v1/inbox",
    "/v1/evidence",
    "/v1/good-faith/history",
    "/v1/misuse/history",
    "/v1/deliveries",
    "/v1/webhooks",
    "/v1/accounts",
    "/v1/misuse/complaints",
    "/v1/review/cases",
    "/v1/sellers",
    "/v1/standing/ledger",
)


def list_cursors(ground: AttackBed) -> Outcome:
    """Send forged cursors to every list as a holder, a seller and an operator."""
    neighbour = ground.person()
    ground.claim(neighbour, ground.right(neighbour))
    holder, seller = ground.person(), ground.person("seller")
    cursors = [cursor_of(*key) if isinstance(key, tuple) else str(key) for key in FORGED]
    cursors += ["", "=", "%00", "AAAA", "WyJ4Il0=", "x" * 399, base64.urlsafe_b64encode(b"[" * 200).decode()]
    told: Counter[str] = Counter()
    foreign = 0
    for person in (holder, seller, ground.admin):
        for path in LISTS:
            for cursor in cursors:
                answer = person.ask("GET", path, params={"cursor": cursor})
                told[str(answer.status_code)] += 1
                if person is not ground.admin and answer.is_success:
                    foreign += neighbour.account in answer.text
    failed = sum(count for status, count in told.items() if status >= "500" and status != "503")
    return Outcome(bool(failed or foreign), f"{listed(told)}; {foreign} foreign entries")


# ------------------------------------------------------------------------------------------------------------------ races


def right_race(ground: AttackBed) -> Outcome:
    """Reactivate a registration while a reviewer gives the right to its true owner."""
    rounds, won = ground.count(3, 10), 0
    for _ in range(rounds):
        impostor, owner = ground.person(), ground.person()
        number = ground.number()
        false = ground.right(impostor, number=number)
        true = ground.right(owner, number=number, active=False)
        patch = partial(impostor.ask, "PATCH", f"/v1/rights/{false}", {"status": "active"})
        decide = partial(ground.reviewer.ask, "POST", f"/v1/rights/{true}/decision", {"accept": True})
        ground.together([*[patch] * 6, decide, *[patch] * 6], threads=13)
        ground.must(ground.admin, "GET", f"/v1/rights/{true}")
        states = [ground.must(ground.admin, "GET", f"/v1/rights/{id}")["status"] for id in (false, true)]
        won += states[0] == "active"
    return Outcome(won > 0, f"the impostor won {won} of {rounds} rounds")


def idle_patch(ground: AttackBed) -> Outcome:
    """Repeat a PATCH that changes nothing on a right with 300 items."""
    holder = ground.person()
    right = ground.right(holder)
    for _ in range(3):
        ground.claim(holder, right, *[""] * 100)

    def written() -> int:
        return int(
            ground.query(
                """select count(*) from intake.commands where kind = 'change_right' and item in (
                    select i.id from intake.items i join intake.claims c on c.id = i.claim where c.right_id = %s)""",
                right,
            )[0][0]
        )

    # bringing the right into force may have told its items; that has to be over
    before = -1
    while before != (before := written()):
        time.sleep(2.0)
    told = ground.statuses(
        [partial(holder.ask, "PATCH", f"/v1/rights/{right}", {"status": "active"})] * ground.count(5, 50), threads=4
    )
    ground.wait(lambda: written() > before, 5.0)
    more = written() - before
    return Outcome(more > 0, f"{listed(told)}; {more:,} commands written for 300 items")


def idempotency_race(ground: AttackBed) -> Outcome:
    """Send one request many times at once under one idempotency key."""
    holder = ground.person()
    right = ground.right(holder)
    body = {"right": right, "reason": "counterfeit", "listings": [SITE + secrets.token_hex(6)]}
    ask = partial(holder.ask, "POST", "/v1/claims", body, headers={"Idempotency-Key": secrets.token_hex(8)})
    answers = [one for one in ground.together([ask] * ground.count(32, 200)) if isinstance(one, httpx.Response)]
    made = {one.json()["claim"] for one in answers if one.is_success}
    stored = ground.query("select count(*) from intake.claims where complainant = %s", holder.account)[0][0]
    return Outcome(len(made) > 1 or stored != 1, f"{len(answers)} requests, {stored} claim")


def revoked_token(ground: AttackBed) -> Outcome:
    """Use a token while it is being revoked, and afterwards."""
    holder = ground.person()
    revoked = threading.Event()

    def use() -> None:
        while not revoked.is_set():
            holder.ask("GET", "/v1/me")

    def revoke() -> None:
        time.sleep(0.3)
        ground.must(holder, "DELETE", "/v1/tokens/current")
        revoked.set()

    ground.together([use] * 8 + [revoke], threads=9)
    time.sleep(ground.settings.token_cache_s + 0.5)
    told = ground.statuses([partial(holder.ask, "GET", "/v1/me")] * 10)
    return Outcome(told["200"] > 0, f"afterwards {listed(told)}")


def double_decision(ground: AttackBed) -> Outcome:
    """Have two reviewers decide one right at the same time."""
    other, doubled = ground.person("reviewer"), 0
    for _ in range(rounds := ground.count(3, 10)):
        holder = ground.person()
        body = {"right_type": "trademark", "register": "us", "number": ground.number()}
        right = ground.must(holder, "POST", "/v1/rights", body)["id"]
        path = f"/v1/rights/{right}/decision"
        told = ground.statuses(
            [
                partial(who.ask, "POST", path, {"accept": accept})
                for who, accept in ((other, True), (ground.reviewer, True)) * 4
            ]
        )
        doubled += told["200"] > 1
    return Outcome(doubled > 0, f"{doubled} of {rounds} decided twice")


# ------------------------------------------------------------------------------------------------- accounts and secrets


def bootstrap_token(ground: AttackBed) -> Outcome:
    """Revoke the bootstrap token, restart the API, and use the token again."""
    first = ground.bootstrap
    ground.must(first, "DELETE", "/v1/tokens/current")
    ground.fleet["intake-api.0"].restart().wait_ready()
    answer = first.ask("GET", "/v1/me")
    return Outcome(answer.is_success, f"after a restart {answer.status_code}")


def suspended_assignment(ground: AttackBed) -> Outcome:
    """Assign a suspended account's right to a fresh account."""
    bad, fresh = ground.person(), ground.person()
    right = ground.right(bad)
    ground.must(ground.admin, "POST", f"/v1/accounts/{bad.account}/status", {"status": "suspended"})
    answer = bad.ask("POST", f"/v1/rights/{right}/assignment", {"to": fresh.account})
    owner = ground.must(ground.admin, "GET", f"/v1/rights/{right}")["owner"]
    return Outcome(owner == fresh.account, f"{answer.status_code}")


def squatting(ground: AttackBed) -> Outcome:
    """Register somebody else's mark with free text as proof."""
    squatter, owner = ground.person(), ground.person()
    number = ground.number()
    body = {"right_type": "trademark", "register": "us", "number": number, "proof": "trust-me"}
    taken = ground.must(squatter, "POST", "/v1/rights", body)["status"]
    later = ground.must(owner, "POST", "/v1/rights", body)
    return Outcome(
        taken == "active", f"squatter {taken}, owner {later['status']} ({later.get('pending_reason') or 'in force'})"
    )


def conflict_of_interest(ground: AttackBed) -> Outcome:
    """Decide on a right, and verify an account, despite a declared conflict of interest."""
    reviewer, holder = ground.person("reviewer"), ground.person(identity_verified=False)
    body = {"right_type": "trademark", "register": "us", "number": ground.number()}
    right = ground.must(holder, "POST", "/v1/rights", body)["id"]
    ground.must(reviewer, "PUT", "/v1/review/conflicts", {"accounts": [holder.account]})
    told = ground.statuses(
        [
            partial(reviewer.ask, "POST", f"/v1/rights/{right}/decision", {"accept": True}),
            partial(reviewer.ask, "POST", f"/v1/accounts/{holder.account}/verify", {"identity_verified": True}),
        ]
    )
    return Outcome(told["200"] > 0, listed(told))


def cacheable_answers(ground: AttackBed) -> Outcome:
    """Look for answers with secrets or contacts that a browser or proxy may cache."""
    holder = ground.person()
    ground.must(holder, "PUT", "/v1/contact", CONTACT)
    kept = []
    for method, path in (("POST", "/v1/tokens"), ("GET", "/v1/contact"), ("GET", "/v1/me"), ("GET", "/v1/inbox")):
        fields = holder.ask(method, path).headers
        if "no-store" not in fields.get("cache-control", "") or fields.get("x-content-type-options") != "nosniff":
            kept.append(f"{method} {path}")
    return Outcome(bool(kept), f"{len(kept)} of 4 without no-store and nosniff")


def stolen_disk(ground: AttackBed) -> Outcome:
    """Read an uploaded document straight from the store's disk."""
    owner = ground.person()
    secret = f"Confidential {secrets.token_hex(16)}."
    document = ground.must_upload(owner, secret.encode())
    files = [path for path in ground.stack.dir.rglob("*") if path.is_file() and document in str(path)]
    found = [path for path in files if secret.encode() in path.read_bytes()]
    return Outcome(bool(found) or not files, f"{len(files)} file, {len(found)} in clear")


def _started(ground: AttackBed, name: str, changed: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], str]:
    """Start one more process of a kind with changed settings; returns it and the URL of its HTTP API."""
    spec = fleet.BY_NAME[name]
    env = {**fleet.environment(ground.stack, spec, ground.stack.environment()), **changed}
    taken: set[int] = set()
    port, metrics = free_port(taken), free_port(taken)
    env |= {"GOODFAITH_HTTP_PORT": str(port), "GOODFAITH_METRICS_PORT": str(metrics), "GOODFAITH_INSTANCE": "attacked"}
    command = [*ground.fleet[f"{name}.0"].argv[:1], "-m", *(part.format(dir=ground.stack.dir) for part in spec.command)]
    child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return child, f"http://127.0.0.1:{port}"


def _opened_by(ground: AttackBed, name: str, setting: str, value: str, method: str, path: str) -> str:
    """Start a process whose secret has this value, present the same value, and return the answer."""
    child, url = _started(ground, name, {setting: value})
    try:
        with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:
            until = time.monotonic() + ANSWERS_S
            while child.poll() is None and time.monotonic() < until:
                with contextlib.suppress(httpx.TransportError):
                    answer = client.request(
                        method,
                        path,
                        headers={"authorization": f"Bearer {value}"} if value else None,
                        json={"ids": []} if method == "POST" else None,
                    )
                    if answer.status_code != 503:
                        return str(answer.status_code)
                time.sleep(0.2)
        return "does not start" if child.poll() is not None else "no answer"
    finally:
        child.kill()
        child.wait()


PATIENCE: Final = 10.0


def weak_secrets(ground: AttackBed) -> Outcome:
    """Start processes with an empty or one-character internal secret and present that secret."""
    asked = [
        (name, value, partial(_opened_by, ground, name, "GOODFAITH_INTERNAL_TOKEN", value, method, path))
        for name, method, path in (
            ("intake-api", "POST", "/internal/contacts"),
            ("enforcement-api", "GET", "/internal/standing?seller=s-1"),
        )
        for value in ("", "x")
    ]
    told = ground.together([ask for _, _, ask in asked], threads=2)
    opened = [f"{name} with {value!r}" for (name, value, _), status in zip(asked, told, strict=True) if status == "200"]
    return Outcome(bool(opened), f"opened: {', '.join(opened)}" if opened else f"{listed(Counter(map(str, told)))}")


def internal_apis(ground: AttackBed) -> Outcome:
    """Call the internal APIs with no token, an empty one, a party's, and the operator's."""
    holder = ground.person()
    shown = [
        None,
        "",
        "Bearer",
        "Bearer x",
        "Basic Og==",
        *(f"Bearer {one.token}" for one in (holder, ground.admin)),
    ]
    shown += [f"Bearer {new_bogus_token()}", "Bearer " + "a" * 8000, "Bearer \u00ff"]
    settings, address = ground.settings, ground.address()
    routes = [
        (settings.intake_url, "POST", "/internal/contacts"),
        (settings.intake_url, "POST", "/internal/codes"),
        (settings.intake_url, "POST", "/internal/claims"),
        (settings.intake_url, "POST", "/internal/webhooks"),
        (settings.intake_url, "POST", "/internal/challenges"),
        (settings.enforcement_url, "GET", "/internal/sellers"),
        (settings.enforcement_url, "GET", "/internal/offenders"),
        (settings.notification_url, "GET", "/internal/webhook/health?webhook=w&account=a"),
    ]

    def ask(url: str, method: str, path: str, credential: str | None) -> httpx.Response:
        transport = httpx.HTTPTransport(local_address=address)
        with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False, transport=transport) as client:
            fields = [] if credential is None else [(b"authorization", credential.encode("latin-1"))]
            return client.request(method, path, headers=fields, json={"ids": []} if method == "POST" else None)

    told = ground.statuses([partial(ask, *route, credential) for route in routes for credential in shown], threads=4)
    opened = told.total() - told["401"] - told["429"] - told["400"] - told["431"]
    return Outcome(opened > 0, listed(told))


def borrowed_credential(ground: AttackBed) -> Outcome:
    """Read contacts at intake with the internal credential of a process that has no business there."""
    kept, told = ground.stack.environment(), []
    for spec in fleet.FLEET:
        token = fleet.environment(ground.stack, spec, kept).get("GOODFAITH_INTERNAL_TOKEN")
        # notification sends the messages, and may ask
        if token is None or spec.service == "notification":
            continue
        with httpx.Client(base_url=ground.settings.intake_url, timeout=PATIENCE, trust_env=False) as client:
            answer = client.post("/internal/contacts", json={"ids": []}, headers={"authorization": f"Bearer {token}"})
        told.append((spec.name, answer.status_code))
    opened = [name for name, status in told if status == 200]
    return Outcome(
        bool(opened), f"{len(told)} credentials" + (f"; opened by those of {', '.join(opened)}" if opened else "")
    )


# ---------------------------------------------------------------------------------------------------- addresses and mail

INTERNAL_URLS: Final = (
    "https://127.0.0.1/",
    "https://localhost/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:0:127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b:1::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001:0:7f00:1::]/",
    "https://[fe80::5efe:7f00:1]/",
    "https://[2a00::200:5efe:127.0.0.1]/",
    "https://[4000::1]/",
    "https://[8000::1]/",
    "https://[fec0::1]/",
    "https://10.0.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://0x7f000001/",
    "https://2130706433/",
    "https://017700000001/",
    "https://127.1/",
    "https://user@8.8.8.8/",
    "https://8.8.8.8:22/",
    "http://8.8.8.8/",
    "https://168.63.129.16/",
    "https://100.100.100.200/",
    "file:///etc/passwd",
    "gopher://8.8.8.8/",
    "https://8.8.8.8\\@127.0.0.1/",
    "https://[::ffff:0:10.0.0.1]/hook",
    "https://0.0.0.0/",
    "https://[::]/",
)
"""URLs that lead to internal addresses or break the rules for outbound calls."""


def ssrf(ground: AttackBed) -> Outcome:
    """Register webhooks at internal addresses, in every notation."""
    person = ground.person()
    taken = [url for url in INTERNAL_URLS if person.ask("POST", "/v1/webhooks", {"url": url}).is_success]
    return Outcome(
        bool(taken), f"{len(taken)} of {len(INTERNAL_URLS)} taken" + (f": {', '.join(taken)}" if taken else "")
    )


def _mails(ground: AttackBed, to: str) -> list[str]:
    """Every mail to an address, with headers and all text parts."""
    book = ground.stack.dir / "mailbox.jsonl"
    found = []
    for line in book.read_text("utf-8").splitlines() if book.exists() else ():
        entry = json.loads(line)
        if to in entry["to"]:
            message = email.message_from_bytes(
                (ground.stack.dir / entry["file"]).read_bytes(), policy=email.policy.default
            )
            parts = [str(part.get_content()) for part in message.walk() if part.get_content_maintype() == "text"]
            found.append("\n".join([*(f"{name}: {value}" for name, value in message.items()), *parts]))
    return found


def mail_relay(ground: AttackBed) -> Outcome:
    """Open an account, enter a victim's address and a name with a link, and request a confirmation mail."""
    client = ground.client()
    opened = client.post("/v1/accounts", json={}).json()
    sender = Person(opened["account"], opened["token"], client)
    to = f"{secrets.token_hex(4)}.{VICTIM}"
    contact = {"name": f"You have won: https://{LURE}/now", "address": f"{LURE} 1\nTown", "email": to}
    asked = sender.ask("PUT", "/v1/contact", contact)
    told = sender.ask("POST", "/v1/contact/code")
    if not told.is_success:
        return Outcome(False, f"contact {asked.status_code}, code {told.status_code}")
    mails: list[str] = ground.wait(lambda: _mails(ground, to), ANSWERS_S) or []
    lured = sum(LURE in mail for mail in mails)
    return Outcome(lured > 0, f"{len(mails)} mail, {lured} with the lure")


def mail_injection(ground: AttackBed) -> Outcome:
    """Put line breaks and separators into every field that ends up in a mail."""
    person = ground.person()
    tricks = ("\r\nBcc: x@lure.example", "\nX: y", "\r\n\r\nbody", "\0", "\u2028Bcc: x", "\x0b", "\x85Bcc: x")
    told: Counter[str] = Counter()
    for trick in tricks:
        for name in ("name", "email", "address"):
            # an address of several lines is one
            if name == "address" and trick == "\nX: y":
                continue
            body = {**CONTACT, name: CONTACT[name] + trick}
            told[str(person.ask("PUT", "/v1/contact", body).status_code)] += 1
    for value in (
        "a@b.example,c@d.example",
        "a@b.example>\r\nRCPT TO:<c@d.example",
        '"a b"@c.example',
        "a@b@c.example",
        "<a@b.example>",
    ):
        told[str(person.ask("PUT", "/v1/contact", {**CONTACT, "email": value}).status_code)] += 1
    return Outcome(told["204"] > 0, listed(told))


BIDI: Final = (
    "https://market.example/items/\u202eelpmaxe",
    "https://market.example/items/a\u2066b",
    "https://elsewhere.example/\u202egpj.exe",
    "https://elsewhere.example/<script>alert(1)</script>",
    'https://elsewhere.example/"onload="x',
    "https://elsewhere.example/a\u200bb",
)
"""Links that display as something else or contain markup."""


def misleading_links(ground: AttackBed) -> Outcome:
    """File listing links with bidirectional, invisible or markup characters."""
    holder = ground.person()
    right = ground.right(holder)
    kept = []
    for link in BIDI:
        made = holder.ask("POST", "/v1/claims", {"right": right, "reason": "counterfeit", "listings": [link]})
        if made.is_success:
            shown = holder.ask("GET", f"/v1/claims/{made.json()['claim']}/items").json()["items"][0]
            text = json.dumps(shown, ensure_ascii=False)
            kept += [link] * any(mark in text for mark in ("\u202e", "\u2066", "\u200b", "<script", '\\"onload'))
    return Outcome(bool(kept), f"{len(kept)} of {len(BIDI)} kept as they came")


# --------------------------------------------------------------------------------------------------------- an upstream


class _Topic:
    """A producer for the upstream's topic."""

    def __init__(self, ground: AttackBed) -> None:
        settings = ground.settings
        self._topic = settings.topic_prefix + topics.inbound(UPSTREAM).name
        self._producer: Any = kafka_links.producer(settings, acks="all", max_request_size=3_000_000)

    def send(self, raw: bytes | None, key: bytes = b"k") -> None:
        self._producer.send(self._topic, key=key, value=raw).get(ANSWERS_S)

    def ask(self, kind: str, data: Mapping[str, Any], **changed: Any) -> str:
        """One event; its id."""
        id = secrets.token_hex(8)
        document = {
            "specversion": "1.0",
            "id": id,
            "source": f"/upstream/{UPSTREAM}",
            "type": f"goodfaith.request.{kind}.v1",
            "time": dt.datetime.now(dt.UTC).isoformat(),
            "datacontenttype": "application/json",
            "data": data,
            **changed,
        }
        self.send(as_json(document))
        return id

    def close(self) -> None:
        self._producer.close()


def _upstream(ground: AttackBed) -> None:
    """Make sure that the account of the topic exists."""
    with contextlib.suppress(Exception):
        ground.must(
            ground.admin,
            "POST",
            "/v1/accounts",
            {"role": "upstream", "id": UPSTREAM_ACCOUNT, "identity_verified": True},
        )


def impersonation(ground: AttackBed) -> Outcome:
    """Withdraw a stranger's claim through an upstream's topic."""
    _upstream(ground)
    victim = ground.person()
    made = ground.claim(victim, ground.right(victim))
    item = made["items"][0]["item"]
    with contextlib.closing(_Topic(ground)) as topic:
        event = topic.ask("withdraw", {"item": item, "ground": "error", "on_behalf_of": victim.account})

        def done() -> str:
            if ground.query("select 1 from intake.commands where item = %s and kind = 'withdraw'", item):
                return "withdrawn"
            refused = ground.query("select 1 from intake.inbound_event_log where payload like %s", f"%{event}%")
            return "refused" if refused else ""

        said = ground.wait(done, ANSWERS_S)
    return Outcome(said == "withdrawn", said or "no answer")


def hostile_records(ground: AttackBed) -> Outcome:
    """Send garbage to an upstream's topic; a valid record after it must still be answered."""
    _upstream(ground)
    before = ground.fleet["intake-inbound.0"].pid
    rubbish: list[bytes | None] = [
        None,
        b"",
        b"null",
        b"{}",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        secrets.token_bytes(1000),
        b'"' + b"a" * 900_000 + b'"',
        b"\xff\xfe" * 10,
        b'{"specversion":"1.0","id":"\\u0000","source":"x","type":"y","data":{}}',
        b"9" * 500_000,
        b'{"specversion":"1.0","id":"' + b"i" * 10_000 + b'","source":"/","type":"t","data":{}}',
        as_json(
            {
                "specversion": "1.0",
                "id": "x",
                "source": "/",
                "type": "goodfaith.request.decide.v1",
                "data": {"on_behalf_of": "a-operator"},
            }
        ),
    ]
    with contextlib.closing(_Topic(ground)) as topic:
        for raw in rubbish:
            topic.send(raw)
        event = topic.ask("withdraw", {"item": "i-none", "ground": "error"})
        heard = ground.wait(
            lambda: ground.query("select 1 from intake.inbound_event_log where payload like %s", f"%{event}%"),
            ANSWERS_S,
        )
    same = ground.fleet["intake-inbound.0"].pid == before
    return Outcome(
        not heard or not same, f"{len(rubbish)} records; what came after was {'answered' if heard else 'not answered'}"
    )


ENTRANCES: Final[Sequence[Attack]] = (
    Attack("items cursor", "read items beyond the claim", items_cursor, "S4"),
    Attack("timeline cursor", "read the timeline beyond the claim", timeline_cursor, "S4"),
    Attack("evidence cursor", "learn other parties' document ids", evidence_cursor, "S9"),
    Attack("list cursors", "crash a list or read others' entries", list_cursors),
    Attack("right race", "undo a reviewer's decision", right_race, "S2"),
    Attack("idle patch", "cause work for every item", idle_patch, "S3"),
    Attack("idempotency race", "have one request executed twice", idempotency_race),
    Attack("revoked token", "keep using a revoked token", revoked_token),
    Attack("double decision", "have one right decided twice", double_decision),
    Attack("suspended assignment", "escape a suspension", suspended_assignment, "S12"),
    Attack("squatting", "take someone's mark with free text as proof", squatting, "S18"),
    Attack("conflict of interest", "decide one's own affair", conflict_of_interest, "S11"),
    Attack("cacheable answers", "find secrets in a cache", cacheable_answers, "S20"),
    Attack("stolen disk", "read documents without the key", stolen_disk, "S22"),
    Attack("weak secrets", "enter with an empty or short secret", weak_secrets, "S1"),
    Attack("internal APIs", "call the internal APIs", internal_apis),
    Attack("borrowed credential", "use one service's credential at another", borrowed_credential, "S17"),
    Attack("SSRF", "make us call internal addresses", ssrf, "S19"),
    Attack("mail relay", "send one's own words in our name", mail_relay, "S5"),
    Attack("mail injection", "inject headers and recipients", mail_injection),
    Attack("misleading links", "show one address and mean another", misleading_links, "S24"),
    Attack("impersonation", "act for a stranger through a topic", impersonation, "S13"),
    Attack("hostile records", "stop the upstream intake", hostile_records),
    # last, because it revokes the bootstrap token
    Attack("bootstrap token", "use the revoked bootstrap token after a restart", bootstrap_token, "S7", restarts=True),
)
