"""The table of Goodfaith's processes: their names, commands, logins and secrets. Add a process only here."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from deploy.local import secured
from deploy.local.stack import Stack
from services.ops import installation
from shared import callers
from shared.callers import Caller
from shared.failures import CommandError
from shared.settings import Settings


@dataclass(frozen=True)
class Spec:
    """One kind of process.

    Attributes:
        name: Its name; instances are `<name>.0`, `<name>.1`, ...
        command: What follows `python -m`; `{dir}` is the stack's folder.
        service: The service it belongs to, for counts by service.
        role: Its database login is `goodfaith_<role>`; None for a process without tables.
        port: Name of the stack's port on which its first instance serves HTTP.
        secrets: The secrets it gets, as fields of `shared.settings.Settings`; it gets no others.
        scales: Whether several instances share the work; otherwise there is at most one.
        needs: A setting without which it is not started.
        principal: Its principal at the broker (`shared/access.py`); None for a process that does not use the broker.
    """

    name: str
    command: tuple[str, ...]
    service: str
    role: str | None = None
    port: str | None = None
    secrets: tuple[str, ...] = ()
    scales: bool = True
    needs: str | None = None
    principal: str | None = None


UNREVIEWED_IPP: Final = "ipp-2026-11"
UNREVIEWED_DMCA: Final = "dmca-2026-11"
UNREVIEWED: Final = {"GOODFAITH_PINNED_POLICIES": f'{{"ipp": "{UNREVIEWED_IPP}", "dmca": "{UNREVIEWED_DMCA}"}}'}
"""For stacks on which nobody reviews: claims are upheld if nothing speaks against them, where later versions leave to
people what no evidence supports, or what is more than an account used to file."""
UNREVIEWED_NOTICES: Final = {"GOODFAITH_PINNED_POLICIES": f'{{"dmca": "{UNREVIEWED_DMCA}"}}'}
"""For stacks on which people review, but not the notices that are replayed: those come from accounts without a record."""
FLEET = (
    Spec("mailbox", ("deploy.mailbox", "{dir}"), "mailbox", scales=False),
    Spec(
        "marketplace",
        ("deploy.marketplace",),
        "marketplace",
        "marketplace",
        port="marketplace",
        secrets=("marketplace_secret", "internal_callers"),
        scales=False,
        principal="marketplace",
    ),
    Spec(
        "intake-api",
        ("services.intake", "api"),
        "intake",
        "intake",
        port="intake",
        secrets=("internal_token", "internal_callers", "contact_key", "operator_token", "evidence_key", "canary_token"),
        scales=False,
    ),
    Spec(
        "intake-worker",
        ("services.intake", "worker"),
        "intake",
        "intake",
        secrets=("contact_key", "feed_key"),
        principal="intake",
    ),
    Spec(
        "intake-inbound",
        ("services.intake", "inbound"),
        "intake",
        "intake",
        needs="GOODFAITH_UPSTREAMS",
        principal="intake",
    ),
    Spec(
        "intake-registers",
        ("services.intake", "registers"),
        "intake",
        "intake",
        secrets=("contact_key", "euipo_client", "uspto_key"),
        needs="GOODFAITH_REGISTERS",
    ),
    Spec(
        "intake-pictures",
        ("services.intake", "pictures"),
        "intake",
        "intake",
        secrets=("internal_token", "contact_key"),
        needs="GOODFAITH_PICTURES_HOSTS",
    ),
    Spec("verification", ("services.verification",), "verification", "verification", principal="verification"),
    Spec(
        "verification-api",
        ("services.verification", "api"),
        "verification",
        "verification",
        port="verification",
        secrets=("internal_callers",),
        scales=False,
    ),
    Spec(
        "enforcement-worker",
        ("services.enforcement", "worker"),
        "enforcement",
        "enforcement",
        principal="enforcement",
    ),
    Spec(
        "enforcement-ledger",
        ("services.enforcement", "ledger"),
        "enforcement",
        "enforcement",
        principal="enforcement",
    ),
    Spec("enforcement-entities", ("services.enforcement", "entities"), "enforcement", "enforcement", scales=False),
    Spec(
        "enforcement-delivery",
        ("services.enforcement", "delivery"),
        "enforcement",
        "enforcement",
        secrets=("marketplace_secret",),
        needs="GOODFAITH_MARKETPLACE",
    ),
    Spec(
        "enforcement-statements",
        ("services.enforcement", "statements"),
        "enforcement",
        "enforcement",
        secrets=("statements_token",),
        needs="GOODFAITH_STATEMENTS_URL",
    ),
    Spec(
        "enforcement-api",
        ("services.enforcement", "api"),
        "enforcement",
        "enforcement",
        port="enforcement",
        secrets=("internal_callers",),
        scales=False,
    ),
    Spec(
        "notification-worker",
        ("services.notification", "worker"),
        "notification",
        "notification",
        principal="notification",
    ),
    Spec(
        "notification-webhooks",
        ("services.notification", "webhooks"),
        "notification",
        "notification",
        secrets=("internal_token",),
    ),
    Spec(
        "notification-sender",
        ("services.notification", "sender"),
        "notification",
        "notification",
        secrets=("internal_token", "mail_key"),
    ),
    Spec(
        "notification-api",
        ("services.notification", "api"),
        "notification",
        "notification",
        port="notification",
        secrets=("internal_callers",),
        scales=False,
    ),
    Spec(
        "notification-bounces",
        ("services.notification", "bounces"),
        "notification",
        "notification",
        secrets=("mail_key",),
        scales=False,
    ),
    Spec(
        "streams",
        ("services.streams",),
        "streams",
        "streams",
        port="streams",
        secrets=(
            "internal_token",
            "internal_callers",
        ),
        principal="streams",
    ),
    Spec(
        "status",
        ("services.observer", "status"),
        "operator",
        port="status",
        secrets=("status_token", "internal_token"),
        scales=False,
        needs="GOODFAITH_PROMETHEUS_URL",
    ),
    Spec(
        "canary",
        ("services.observer", "canary"),
        "canary",
        secrets=("canary_token",),
        scales=False,
        needs="GOODFAITH_CANARY_LISTING",
    ),
    Spec("watch", ("services.observer", "watch"), "watch", "watch", scales=False, principal="watch"),
)

BY_NAME = {spec.name: spec for spec in FLEET}
SERVICES = tuple(dict.fromkeys(spec.service for spec in FLEET))
ROLES = tuple(dict.fromkeys(spec.role for spec in FLEET if spec.role))
PRINCIPALS = tuple(dict.fromkeys(spec.principal for spec in FLEET if spec.principal))
LINKS = (
    "GOODFAITH_KAFKA_USER",
    "GOODFAITH_KAFKA_USER_FILE",
    "GOODFAITH_KAFKA_PASSWORD",
    "GOODFAITH_KAFKA_PASSWORD_FILE",
    "GOODFAITH_KAFKA_CERTIFICATE",
    "GOODFAITH_KAFKA_KEY",
    "GOODFAITH_SECRETS_DIR",
)
"""Settings with which the caller itself logs in to the broker; the stack's processes do not get them."""
RATES = (
    "GOODFAITH_HTTP_ADDRESS_RATE",
    "GOODFAITH_HTTP_ACCOUNT_RATE",
    "GOODFAITH_HTTP_FAILURES_A_MINUTE",
    "GOODFAITH_HTTP_OPENINGS_AN_HOUR",
    "GOODFAITH_HTTP_ALL_OPENINGS_AN_HOUR",
)
"""Rate limits, which a local stack has only if its environment or its stored settings set them."""
SECRETS = tuple(dict.fromkeys(name for spec in FLEET for name in spec.secrets))


def source(spec: Spec | None, secret: str) -> str:
    """The name under which a process's secret is kept (None: the command line's). Each internal caller has a token."""
    return f"internal_token_{spec.name}" if secret == "internal_token" and spec is not None else secret  # noqa: S105


CALLERS: dict[Caller, str] = {caller: source(BY_NAME.get(caller), "internal_token") for caller in callers.CALLERS}
"""The name under which each internal caller's token is kept."""
KEPT = tuple(
    dict.fromkeys(
        (
            *CALLERS.values(),
            *(source(spec, name) for spec in FLEET for name in spec.secrets if name != "internal_callers"),
        )
    )
)
"""The secrets of an installation, each generated once. ``internal_callers`` is derived from the callers' tokens."""


def expand(counts: Mapping[str, int] | None, kept: Mapping[str, str]) -> Iterator[tuple[Spec, int]]:
    """How many of each process to run; `kept` are the stack's settings.

    Raises:
        CommandError: a name in `counts` that is neither a service nor a process.
    """
    counts = dict.fromkeys(SERVICES, 1) if counts is None else counts
    if unknown := sorted(set(counts) - set(SERVICES) - set(BY_NAME)):
        raise CommandError(f"neither a service nor a process: {', '.join(unknown)}")
    for spec in FLEET:
        count = counts.get(spec.name, counts.get(spec.service, 0))
        if spec.needs is not None and not (kept.get(spec.needs) or os.environ.get(spec.needs)):
            continue
        yield spec, count if spec.scales else min(count, 1)


INTERNAL_APIS = ("intake", "verification", "enforcement", "notification", "streams")
"""Ports of processes that answer internal calls, with TLS if the stack's links are secured."""


def url(stack: Stack, api: str) -> str:
    """URL of an API of the stack."""
    return f"{'http' if stack.secured is None else 'https'}://127.0.0.1:{stack.port(api)}"


def trust(stack: Stack) -> ssl.SSLContext | bool:
    """How clients of the stack's APIs verify certificates."""
    return True if stack.secured is None else ssl.create_default_context(cafile=stack.secured.authority.certificate)


def shared_environment(stack: Stack) -> dict[str, str]:
    """Settings with the addresses of a stack's parts. No secrets."""
    return {
        "GOODFAITH_INTAKE_URL": url(stack, "intake"),
        "GOODFAITH_VERIFICATION_URL": url(stack, "verification"),
        "GOODFAITH_ENFORCEMENT_URL": url(stack, "enforcement"),
        "GOODFAITH_NOTIFICATION_URL": url(stack, "notification"),
        "GOODFAITH_STREAMS_URL": url(stack, "streams"),
        **({} if stack.secured is None else {"GOODFAITH_INTERNAL_CA": str(stack.secured.authority.certificate)}),
        "GOODFAITH_MARKETPLACE_URL": f"http://127.0.0.1:{stack.port('marketplace')}",
        "GOODFAITH_SMTP_HOST": "127.0.0.1",
        "GOODFAITH_SMTP_PORT": str(stack.port("smtp")),
        "GOODFAITH_BOUNCE_PORT": str(stack.port("bounces")),
        "GOODFAITH_STATE_DIR": str(stack.dir),
        # all parties of a local stack share one address, and few accounts generate the load
        **{name: os.environ.get(name, "0") for name in RATES},
    }


def environment(stack: Stack, spec: Spec, kept: Mapping[str, str]) -> dict[str, str]:
    """The environment of one process, except its ports: the caller's, the stack's settings, its login and secrets."""
    secret = ("GOODFAITH_DATABASE", *(f"GOODFAITH_{name.upper()}" for name in SECRETS))
    withheld = {*secret, *(f"{name}_FILE" for name in secret), *LINKS}
    env = {key: value for key, value in os.environ.items() if key not in withheld}
    env |= {**shared_environment(stack), **stack.broker_login(spec.principal), **kept, "PYTHONUNBUFFERED": "1"}
    if spec.role is not None:
        url = stack.role_url(spec.role)
        if stack.secured is None:
            env["GOODFAITH_DATABASE"] = url
        else:
            env["GOODFAITH_DATABASE_FILE"] = str(stack.secured.database_login(spec.role, url))
    if stack.secured is not None and spec.port in INTERNAL_APIS:
        own = stack.secured.http()
        env |= {"GOODFAITH_HTTP_CERTIFICATE": str(own.certificate), "GOODFAITH_HTTP_KEY": str(own.key)}
    for name in spec.secrets:
        env[f"GOODFAITH_{name.upper()}"] = secret_of(stack, source(spec, name))
    return env


def secret_of(stack: Stack, kept: str) -> str:
    """A secret of the stack, by the name under which it is kept."""
    if kept == "internal_callers":
        return callers.written({caller: stack.secret(name) for caller, name in CALLERS.items()})
    return stack.secret(kept)


def settings_of(stack: Stack, role: str | None = None, *, secret: bool = False) -> Settings:
    """Settings with which this process itself (the command line, a test) works on a stack.

    If the stack is not ours, they come from the environment, secrets included.

    Args:
        stack: A running stack.
        role: Whose database login to use; None: the superuser's.
        secret: Whether to include the stack's secrets.

    Raises:
        CommandError: a role is given, and the stack is not ours.
    """
    if not stack.ours:
        if role is not None:
            raise CommandError(f"the login of {role} is known on a local stack only")
        return Settings()
    values = operators(stack, secret=secret)
    if role is not None:
        values["GOODFAITH_DATABASE"] = stack.role_url(role)
    # through the environment, so that values are read as a process of the stack would read them
    return installation.read(values)


def operators(stack: Stack, *, secret: bool) -> dict[str, str]:
    """Environment variables with which an operator works on the stack."""
    values = {**shared_environment(stack), **stack.broker_login("operator"), **stack.environment()}
    values["GOODFAITH_DATABASE"] = stack.admin_url
    if secret:
        values |= {f"GOODFAITH_{name.upper()}": secret_of(stack, name) for name in SECRETS}
    return values


def hand_over(stack: Stack) -> None:
    """Save the operator's variables for the command line."""
    secured.write(stack.dir / installation.FILE, json.dumps(operators(stack, secret=True), indent=2))
