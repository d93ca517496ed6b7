"""Attacks on accounts and credentials: rights, conflicts of interest, caches, weak secrets, internal APIs."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import httpx

from deploy.local import fleet
from deploy.local.children import free_port
from labs.attacks.bed import ACCEPTED, ANSWERS_S, CONTACT, SEEN, Attack, AttackBed, AttackOutcome, listed
from labs.attacks.floods import new_bogus_token

TIMEOUT_S: Final = 10.0
"""Seconds that a client waits for one answer."""


def bootstrap_token(bed: AttackBed) -> AttackOutcome:
    """Revoke the bootstrap token, restart the API, and use the token again."""
    first = bed.bootstrap
    bed.must(first, "DELETE", "/v1/tokens/current")
    bed.fleet["intake-api.0"].restart().wait_ready()
    answer = first.request("GET", "/v1/me")
    return AttackOutcome(answer.is_success, f"after a restart {answer.status_code}")


def suspended_assignment(bed: AttackBed) -> AttackOutcome:
    """Assign a suspended account's right to a fresh account."""
    bad, fresh = bed.person(), bed.person()
    right = bed.right(bad)
    bed.must(bed.admin, "POST", f"/v1/accounts/{bad.account}/status", {"status": "suspended"})
    answer = bad.request("POST", f"/v1/rights/{right}/assignment", {"to": fresh.account})
    owner = bed.must(bed.admin, "GET", f"/v1/rights/{right}")["owner"]
    return AttackOutcome(owner == fresh.account, f"{answer.status_code}")


def squatting(bed: AttackBed) -> AttackOutcome:
    """Register another owner's mark with free text as proof."""
    squatter, owner = bed.person(), bed.person()
    number = bed.number()
    body = {"right_type": "trademark", "register": "us", "number": number, "proof": "trust-me"}
    taken = bed.must(squatter, "POST", "/v1/rights", body)["status"]
    later = bed.must(owner, "POST", "/v1/rights", body)
    return AttackOutcome(
        taken == "active", f"squatter {taken}, owner {later['status']} ({later.get('pending_reason') or 'in force'})"
    )


def conflict_of_interest(bed: AttackBed) -> AttackOutcome:
    """Decide on a right, and verify an account, despite a declared conflict of interest."""
    reviewer, holder = bed.person("reviewer"), bed.person(verified=False)
    body = {"right_type": "trademark", "register": "us", "number": bed.number()}
    right = bed.must(holder, "POST", "/v1/rights", body)["id"]
    bed.must(reviewer, "PUT", "/v1/review/conflicts", {"accounts": [holder.account]})
    answers = bed.statuses(
        [
            partial(reviewer.request, "POST", f"/v1/rights/{right}/decision", ACCEPTED),
            partial(reviewer.request, "POST", f"/v1/accounts/{holder.account}/verify", SEEN),
        ]
    )
    return AttackOutcome(answers["200"] > 0, listed(answers))


def cacheable_answers(bed: AttackBed) -> AttackOutcome:
    """Look for answers with secrets or contacts that a browser or proxy may cache."""
    holder = bed.person()
    bed.must(holder, "PUT", "/v1/contact", CONTACT)
    kept = []
    for method, path in (("POST", "/v1/tokens"), ("GET", "/v1/contact"), ("GET", "/v1/me"), ("GET", "/v1/inbox")):
        fields = holder.request(method, path).headers
        if "no-store" not in fields.get("cache-control", "") or fields.get("x-content-type-options") != "nosniff":
            kept.append(f"{method} {path}")
    return AttackOutcome(bool(kept), f"{len(kept)} of 4 without no-store and nosniff")


def stolen_disk(bed: AttackBed) -> AttackOutcome:
    """Read an uploaded document straight from the store's disk."""
    owner = bed.person()
    secret = f"Confidential {secrets.token_hex(16)}."
    document = bed.must_upload(owner, secret.encode())
    files = [path for path in bed.stack.dir.rglob("*") if path.is_file() and document in str(path)]
    found = [path for path in files if secret.encode() in path.read_bytes()]
    return AttackOutcome(bool(found) or not files, f"{len(files)} file, {len(found)} in clear")


def started(bed: AttackBed, name: str, changed: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], str]:
    """Start another process of a kind with changed settings; returns it and the URL of its HTTP API."""
    spec = fleet.BY_NAME[name]
    env = {**fleet.environment(bed.stack, spec, bed.stack.environment()), **changed}
    taken: set[int] = set()
    port, metrics = free_port(taken), free_port(taken)
    env |= {"GOODFAITH_HTTP_PORT": str(port), "GOODFAITH_METRICS_PORT": str(metrics), "GOODFAITH_INSTANCE": "attacked"}
    # any process of the stack says which Python runs it: this one may not be part of the stack
    command = [*bed.fleet["intake-api.0"].argv[:1], "-m", *(part.format(dir=bed.stack.dir) for part in spec.command)]
    child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return child, f"http://127.0.0.1:{port}"


def _opened_by(bed: AttackBed, name: str, setting: str, value: str, method: str, path: str) -> str:
    """Start a process whose secret has this value, present the same value, and return the status or what happened."""
    child, url = started(bed, name, {setting: value})
    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client:
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


def weak_secrets(bed: AttackBed) -> AttackOutcome:
    """Start processes with an empty or one-character internal secret and present that secret."""
    asked = [
        (name, value, partial(_opened_by, bed, name, "GOODFAITH_INTERNAL_TOKEN", value, method, path))
        for name, method, path in (
            ("intake-api", "POST", "/internal/contacts"),
            ("enforcement-api", "GET", "/internal/standing?seller=s-1"),
        )
        for value in ("", "x")
    ]
    answers = bed.together([ask for _, _, ask in asked], threads=2)
    opened = [
        f"{name} with {value!r}" for (name, value, _), status in zip(asked, answers, strict=True) if status == "200"
    ]
    return AttackOutcome(
        bool(opened), f"opened: {', '.join(opened)}" if opened else f"{listed(Counter(map(str, answers)))}"
    )


def internal_apis(bed: AttackBed) -> AttackOutcome:
    """Call the internal APIs with no token, an empty one, a party's, and the operator's."""
    holder = bed.person()
    shown = [
        None,
        "",
        "Bearer",
        "Bearer x",
        "Basic Og==",
        *(f"Bearer {one.token}" for one in (holder, bed.admin)),
    ]
    shown += [f"Bearer {new_bogus_token()}", "Bearer " + "a" * 8000, "Bearer \u00ff"]
    settings, address = bed.settings, bed.address()
    routes = [
        (settings.intake_url, "POST", "/internal/contacts"),
        (settings.intake_url, "POST", "/internal/codes"),
        (settings.intake_url, "POST", "/internal/claims"),
        (settings.intake_url, "POST", "/internal/webhooks"),
        (settings.intake_url, "POST", "/internal/challenges"),
        (settings.verification_url, "POST", "/internal/seen"),
        (settings.verification_url, "GET", "/internal/revisions?item=i"),
        (settings.enforcement_url, "GET", "/internal/sellers"),
        (settings.enforcement_url, "GET", "/internal/offenders"),
        (settings.notification_url, "GET", "/internal/webhook/health?webhook=w&account=a"),
    ]

    def ask(url: str, method: str, path: str, credential: str | None) -> httpx.Response:
        transport = httpx.HTTPTransport(local_address=address)
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False, transport=transport) as client:
            fields = [] if credential is None else [(b"authorization", credential.encode("latin-1"))]
            return client.request(method, path, headers=fields, json={"ids": []} if method == "POST" else None)

    answers = bed.statuses([partial(ask, *route, credential) for route in routes for credential in shown], threads=4)
    opened = answers.total() - answers["401"] - answers["429"] - answers["400"] - answers["431"]
    return AttackOutcome(opened > 0, listed(answers))


def borrowed_credential(bed: AttackBed) -> AttackOutcome:
    """Read contacts at intake with the internal credentials of processes that may not."""
    kept, answers = bed.stack.environment(), []
    for spec in fleet.FLEET:
        token = fleet.environment(bed.stack, spec, kept).get("GOODFAITH_INTERNAL_TOKEN")
        # notification sends the messages, and may read contacts
        if token is None or spec.service == "notification":
            continue
        with httpx.Client(base_url=bed.settings.intake_url, timeout=TIMEOUT_S, trust_env=False) as client:
            answer = client.post("/internal/contacts", json={"ids": []}, headers={"authorization": f"Bearer {token}"})
        answers.append((spec.name, answer.status_code))
    opened = [name for name, status in answers if status == 200]
    return AttackOutcome(
        bool(opened), f"{len(answers)} credentials" + (f"; opened by those of {', '.join(opened)}" if opened else "")
    )


ACCOUNTS: Final[Sequence[Attack]] = (
    Attack("suspended assignment", "escape a suspension", suspended_assignment, "S12"),
    Attack("squatting", "take someone's mark with free text as proof", squatting, "S18"),
    Attack("conflict of interest", "decide one's own affair", conflict_of_interest, "S11"),
    Attack("cacheable answers", "find secrets in a cache", cacheable_answers, "S20"),
    Attack("stolen disk", "read documents without the key", stolen_disk, "S22"),
    Attack("weak secrets", "enter with an empty or short secret", weak_secrets, "S1"),
    Attack("internal APIs", "call the internal APIs", internal_apis),
    Attack("borrowed credential", "use one service's credential at another", borrowed_credential, "S17"),
)
REVOKES_BOOTSTRAP: Final = Attack(
    "bootstrap token", "use the revoked bootstrap token after a restart", bootstrap_token, "S7", restarts=True
)
"""Runs last, because it revokes the bootstrap token."""
