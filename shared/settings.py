"""Typed settings, read from the environment (prefix ``GOODFAITH_``) and validated at start.

One class serves all processes; each reads what it needs. ``goodfaith settings`` lists every field with its meaning,
default and present value; secrets are shown as ``**********``. An empty variable counts as not set. Secrets may come
from files (``shared/secret_files.py``).

One module, although it has more than 600 lines: a setting is looked up here, and nowhere else.
"""

from __future__ import annotations

import contextvars
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared import callers, secret_files
from shared.site_links import Patterns

SECRET_LEAST: Final = 32
"""Fewest characters of a secret that we compare or sign with."""


def _strong(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if len(text) < SECRET_LEAST or not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError(
            f"needs at least {SECRET_LEAST} characters, printable ASCII without spaces: generate one, for example with `openssl rand -base64 32`"
        )
    return secret


Strong = Annotated[SecretStr, AfterValidator(_strong)]
"""A secret of this installation's own."""
Theirs = Annotated[SecretStr, Field(min_length=1)]
"""A secret that somebody else issued: any form, but not empty."""


def _callers(given: SecretStr) -> SecretStr:
    callers.read(given.get_secret_value())
    return given


KnownCallers = Annotated[SecretStr, AfterValidator(_callers)]
"""Digests of callers' tokens: not secret themselves, but given like a secret."""
REPLACED: Final = {
    "GOODFAITH_SITE_HOSTS": ("GOODFAITH_SITE_LINKS", 'For market.example, set ["market.example/items/{id}"].'),
}
"""Settings of earlier versions, which would else be ignored: what to set instead. Both may be set while upgrading."""
_source: contextvars.ContextVar[secret_files.Source | None] = contextvars.ContextVar("source", default=None)


def wrong(error: ValidationError | secret_files.SecretFileError) -> str:
    """What is wrong with the settings, one line each, without the values, which may be secrets."""
    if isinstance(error, secret_files.SecretFileError):
        return str(error)
    named = (
        (".".join(map(str, one["loc"])).upper(), one["msg"].removeprefix("Value error, ")) for one in error.errors()
    )
    return "\n".join(f"GOODFAITH_{name}: {text}" if name else text for name, text in named)


Relayed = Literal[
    "submit_claim",
    "add_information",
    "withdraw",
    "accept",
    "counter",
    "respond",
    "report_action",
    "report_result",
    "complain",
    "decide",
]
"""What an upstream may file: the names of ``goodfaith.request.<name>.v1``."""


class UpstreamMay(BaseModel):
    """What an upstream may do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accounts: tuple[Annotated[str, Field(min_length=1, max_length=120)], ...]
    """Accounts that it acts for besides its own: ids, or prefixes of ids followed by ``*``."""
    commands: tuple[Relayed, ...]

    def covers(self, account: str) -> bool:
        """Whether the upstream may act for the account."""
        return any(account.startswith(one[:-1]) if one.endswith("*") else account == one for one in self.accounts)


class Settings(BaseSettings):
    """Settings of one process.

    Raises:
        pydantic.ValidationError: at construction, naming each field that is wrong.
    """

    model_config = SettingsConfigDict(
        env_prefix="GOODFAITH_", extra="ignore", frozen=True, hide_input_in_errors=True, env_ignore_empty=True
    )

    _files: dict[str, Path] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Sources in order of precedence: the caller's arguments, the environment, files."""
        files = secret_files.Source(settings_cls, init_settings())
        _source.set(files)
        return init_settings, env_settings, files

    @classmethod
    def at_start(cls) -> Self:
        """The settings of a starting process; if any are wrong, print a line for each, without values, and exit."""
        for old, (new, cure) in REPLACED.items():
            if os.environ.get(old) and not os.environ.get(new):
                print(f"{old}: replaced by {new}. {cure}", file=sys.stderr)  # noqa: T201 - logs are configured from settings
                raise SystemExit(2)
        try:
            return cls()
        except (ValidationError, secret_files.SecretFileError) as error:
            print(wrong(error), file=sys.stderr)  # noqa: T201 - logs are configured from settings
            raise SystemExit(2) from None

    def model_post_init(self, context: Any, /) -> None:
        """Remember which values come from files and may change."""
        source = _source.get()
        _source.set(None)
        if source is not None:
            self._files.update({name: file for name, (file, _) in source.files.items()})

    def present(self, name: str) -> secret_files.Present:
        """A secret (or ``kafka_user``) whose value is read when it is used; empty if it is not set."""
        value = getattr(self, name)
        if isinstance(value, SecretStr):
            return secret_files.Present(value.get_secret_value(), self._files.get(name))
        kind = secret_files.PresentName if name in secret_files.BESIDE_SECRETS else secret_files.Present
        return kind(value or "", self._files.get(name))

    # broker and database
    kafka: str = Field("127.0.0.1:9092", description="Bootstrap servers of the broker, host:port[,host:port...].")
    kafka_security: Literal["plaintext", "tls", "sasl_tls"] = Field(
        "plaintext",
        description="How to connect to the broker: plaintext (not encrypted); tls, with a client certificate if one is"
        " set; sasl_tls (TLS with a password, SCRAM-SHA-512).",
    )
    kafka_ca: Path | None = Field(
        None,
        description="PEM file with one or more authorities that sign the brokers' certificates (default: the"
        " system's). Read again for each connection.",
    )
    kafka_user: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._@-]{0,100}$",
        description="User name at the broker, for sasl_tls; or set GOODFAITH_KAFKA_USER_FILE.",
    )
    kafka_password: Theirs | None = Field(
        None,
        description="Password of kafka_user. If it comes from a file (GOODFAITH_KAFKA_PASSWORD_FILE), it is read again"
        " for each connection.",
    )
    kafka_certificate: Path | None = Field(
        None,
        description="PEM file with this process's client certificate and any intermediate certificates. Read again for"
        " each connection.",
    )
    kafka_key: Path | None = Field(
        None,
        description="PEM file with the private key of kafka_certificate: unencrypted, readable only by its owner.",
    )
    kafka_principal: str = Field(
        "goodfaith-{name}",
        pattern=r"^[A-Za-z0-9._@=-]{0,60}\{name\}[A-Za-z0-9._@=,-]{0,100}$",
        description="The broker's name for each principal ({name}: intake, upstream.crm, ...), used in the ACLs of"
        " `goodfaith topics`.",
    )
    database: Theirs = Field(
        SecretStr("postgresql://goodfaith@127.0.0.1:5432/goodfaith"),
        description="PostgreSQL URL of this process's own role; each service has its own role and schema.",
    )
    topic_prefix: str = Field(
        "",
        pattern=r"^[a-z0-9.-]{0,40}$",
        description="Prefix of every topic name; lets two installations share one broker.",
    )
    partitions: int = Field(
        24, ge=1, le=1000, description="Partitions of every topic keyed by listing or seller. Fixed once created."
    )
    penalties_profile: str = Field(
        "ipp",
        pattern=r"^[a-z0-9-]{1,60}$",
        description="Policy profile that sets sellers' penalties: one for all, whatever the profiles of their items.",
    )
    misuse_profile: str = Field(
        "ipp",
        pattern=r"^[a-z0-9-]{1,60}$",
        description="Policy profile that judges misuse by complainants: one for all, whatever the profiles of their"
        " claims.",
    )
    replication: int = Field(1, ge=1, le=7, description="Replication factor with which topics are created.")
    topic_days: int = Field(
        30,
        ge=7,
        le=30,
        description="Most days that topics keep events; compacted topics keep the last record of each key. If a reader"
        " is down for longer, `goodfaith restore unread` brings back what it missed from the event logs.",
    )
    upstreams: dict[str, str] = Field(
        default_factory=dict,
        description='JSON object: upstream name -> account id. The upstream writes to the topic "inbound.<name>"; an'
        " ACL limits who may.",
    )
    profiles: tuple[str, ...] = Field(
        (),
        description='JSON list of the policy profiles that new claims may name, such as `["ipp", "dmca"]`; empty: all.'
        " Name those that you offer: a claim under another is refused. Items that were filed before are not affected.",
    )
    pinned_policies: dict[str, str] = Field(
        default_factory=dict,
        description='JSON object: profile -> the version that new claims get instead of the newest, such as `{"ipp":'
        ' "ipp-2026-11"}`: until the people are there that a newer version needs. Everything else follows the newest.',
    )
    upstream_may: dict[str, UpstreamMay] = Field(
        default_factory=dict,
        description='JSON object: upstream name -> the accounts it may act for and what it may file: `{"portal":'
        ' {"accounts": ["h-*"], "commands": ["submit_claim"]}}`. An upstream that is not named acts only for its own'
        " account.",
    )

    # the worker's loop
    batch_max_records: int = Field(
        1000, ge=1, le=10000, description="Most records in one batch, that is, in one database transaction."
    )
    poll_ms: int = Field(
        100,
        ge=1,
        le=10000,
        description=(
            "Milliseconds a worker waits for records before it checks its timers; up to a second when there is no work."
        ),
    )
    fetch_min_bytes: int = Field(
        1,
        ge=1,
        le=50_000_000,
        description="Bytes that the broker collects before it answers a worker's fetch (fetch.min.bytes). Under"
        " constant load a larger value makes fewer, fuller batches.",
    )
    fetch_max_wait_ms: int = Field(
        1000,
        ge=1,
        le=10_000,
        description="Longest wait for fetch_min_bytes in milliseconds (fetch.max.wait.ms). If fetch_min_bytes is"
        " above 1, every event may wait this long at each service.",
    )
    session_timeout_ms: int = Field(
        10_000, ge=1000, description="Milliseconds without a heartbeat after which a worker loses its partitions."
    )
    retry_max_s: float = Field(
        10.0, gt=0, description="Longest pause in seconds between retries after a transient failure."
    )
    timers_per_batch: int = Field(1000, ge=1, description="Most due timers fired in one batch.")

    # HTTP APIs and group commit
    http_host: str = Field("127.0.0.1", description="Address that the process's HTTP API listens on.")
    http_port: int = Field(8080, ge=0, le=65535, description="Port of the process's HTTP API (0: any free one).")
    group_commit_ms: float = Field(
        4.0,
        ge=0,
        le=1000,
        description="Milliseconds for which the group commit collects requests for one transaction.",
    )
    group_commit_max: int = Field(256, ge=1, le=10000, description="Most requests in one group commit.")
    token_ttl_days: int = Field(365, ge=1, description="Days until a bearer token expires.")
    token_cache_s: float = Field(
        2.0,
        ge=0,
        le=300,
        description="Seconds for which a process trusts a token it has looked up; a revocation takes up to this long.",
    )
    max_body_bytes: int = Field(1_000_000, ge=1000, description="Largest HTTP request body and Kafka command in bytes.")
    http_proxies: tuple[str, ...] = Field(
        (),
        description='Addresses or networks of proxies in front of the HTTP APIs, such as ["10.0.0.0/8"]: the caller is'
        " the address they name in X-Forwarded-For. Empty: the caller is the peer that connects.",
    )
    http_header_s: float = Field(
        10.0, gt=0, le=300, description="Seconds within which a request's headers must arrive."
    )
    http_body_s: float = Field(
        20.0,
        gt=0,
        le=300,
        description="Seconds within which a request's body must arrive; files have limits of their own.",
    )
    http_address_rate: float = Field(
        100.0,
        ge=0,
        le=1_000_000,
        description="Requests per second from one address to a process of intake's API, ten seconds' worth at once;"
        " 0: no limit.",
    )
    http_account_rate: float = Field(
        50.0,
        ge=0,
        le=1_000_000,
        description="Requests per second of one account to a process of intake's API, ten seconds' worth at once;"
        " 0: no limit.",
    )
    http_failures_a_minute: float = Field(
        30.0,
        ge=0,
        le=1_000_000,
        description="Unknown tokens per minute, and at once, from one address; any more are not looked up. 0: no"
        " limit.",
    )
    http_openings_an_hour: float = Field(
        20.0,
        ge=0,
        le=1_000_000,
        description="Accounts per hour, and at once, opened from one address without an operator; 0: no limit.",
    )
    http_all_openings_an_hour: float = Field(
        1_000.0,
        ge=0,
        le=1_000_000,
        description="Accounts per hour, and at once, opened from all addresses without an operator; 0: no limit.",
    )
    http_statement_s: float = Field(
        10.0,
        gt=0,
        le=600,
        description="Seconds after which the database cancels a request's statement; the caller gets 503 and can"
        " retry.",
    )
    http_account_reads: int = Field(
        2,
        ge=1,
        le=5,
        description="Most requests of one account in the database at a time; 6 of all accounts together.",
    )
    operator_token: Strong | None = Field(
        None,
        description="Bearer token of the first operator account; if set, intake's API opens the account at start.",
    )
    internal_token: Strong | None = Field(
        None,
        description="Bearer token with which this process calls other services' internal APIs; each caller has its"
        " own.",
    )
    internal_callers: KnownCallers | None = Field(
        None,
        description="JSON object: caller's name -> SHA-256 (hex) of its internal_token, or a list of up to 4 while the"
        " token is being changed. An internal API answers only the callers listed for it in shared/callers.py.",
    )
    internal_ca: Path | None = Field(
        None,
        description="PEM file with the authorities that sign the certificates of other services' internal APIs, if"
        " their URLs are https (default: the system's).",
    )
    http_certificate: Path | None = Field(
        None, description="PEM file with the TLS certificate of this process's HTTP API. Empty: plain HTTP."
    )
    http_key: Path | None = Field(None, description="PEM file with the private key of http_certificate, unencrypted.")
    intake_url: str = Field(
        "http://127.0.0.1:8080", description="Base URL of intake's HTTP API, for the services' internal calls."
    )
    verification_url: str = Field(
        "http://127.0.0.1:8083",
        description="Base URL of verification's internal API, which intake asks what items are judged on.",
    )
    enforcement_url: str = Field(
        "http://127.0.0.1:8081", description="Base URL of enforcement's internal API, which intake asks about sellers."
    )
    notification_url: str = Field(
        "http://127.0.0.1:8082",
        description="Base URL of notification's internal API, which intake asks about deliveries and webhooks.",
    )
    internal_timeout_s: float = Field(
        5.0, gt=0, le=60, description="Seconds within which another service's internal API must answer."
    )
    contact_key: Strong | None = Field(
        None,
        description="Base64 of the 32-byte key that wraps each subject's key; a subject's contacts and texts are encrypted"
        " with the subject's key.",
    )
    contact_key_other: Strong | None = Field(
        None,
        description="A second key like contact_key, which unwraps but never wraps: the next or the previous one while"
        " contact_key is being changed (goodfaith rewrap).",
    )
    feed_key: Strong | None = Field(
        None,
        description="Base64 of the 32-byte X25519 key that opens what the marketplace seals of its sellers' contact data;"
        " `goodfaith feed key` prints the public key that it seals with.",
    )
    feed_key_other: Strong | None = Field(
        None, description="A second key like feed_key, which opens too: the next or the previous one during a change."
    )

    # the review queue
    review_lease_s: float = Field(
        900.0,
        gt=0,
        le=86_400,
        description="Wall seconds for which a reviewer holds a case; each heartbeat extends the lease by this time.",
    )
    review_hold_s: float = Field(
        14_400.0, gt=0, le=604_800, description="Wall seconds after which heartbeats no longer extend a lease."
    )
    review_skip_s: float = Field(
        14_400.0,
        gt=0,
        le=2_592_000,
        description="Wall seconds for which a case is not offered to the reviewer who skipped it.",
    )
    review_hand_over_s: float = Field(
        14_400.0,
        gt=0,
        le=2_592_000,
        description="Wall seconds for which a case waits for the reviewer it was handed over to; then any reviewer may"
        " take it.",
    )

    # evidence files
    evidence_url: str = Field(
        "",
        description="Where evidence files are stored: file:///folder, or s3://bucket/prefix with the usual AWS_*"
        " variables. Default: the folder evidence in state_dir.",
    )
    evidence_max_bytes: int = Field(20_000_000, ge=1000, description="Largest evidence file in bytes.")
    evidence_account_bytes: int = Field(
        2_000_000_000, ge=1000, description="Most bytes of evidence that one account may have on file."
    )
    evidence_upload_s: float = Field(
        300.0, gt=0, description="Most seconds that an upload may take; a tenth of them may pass without a byte."
    )
    evidence_least_rate: int = Field(
        16_000, ge=0, description="Lowest average bytes per second of an upload after its first 5 seconds; 0: any."
    )
    evidence_link_minutes: float = Field(10.0, gt=0, le=1440, description="Minutes that a link to a file is valid.")
    evidence_key: Strong | None = Field(
        None,
        description="Secret that signs links to evidence files; without it no links are issued.",
    )

    # admission
    window_standard: int = Field(
        4000, ge=1, description="Items on their way from admission to verification at which the standard lane pauses."
    )
    window_bulk: int = Field(1000, ge=1, description="The same number for the bulk lane.")
    weights: tuple[int, int, int] = Field(
        (8, 3, 1), description="Shares of the lanes express, standard and bulk when they compete for admission."
    )
    watermark_ms: int = Field(
        1000,
        ge=10,
        description="Milliseconds between watermarks on a partition; five times as many when nothing is filed.",
    )
    broker_skew_ms: int = Field(
        500,
        ge=2,
        description="Milliseconds that the broker's clock may be behind the database's; deadlines wait this long for"
        " what arrives by Kafka.",
    )
    clock_bound_ms: int = Field(
        500,
        ge=1,
        description="Milliseconds by which the clocks of the database, the brokers and intake's workers may differ."
        " While they differ by more than this or broker_skew_ms, no deadline fires.",
    )

    # the marketplace port
    marketplace: Literal["kafka", "http"] = Field(
        "kafka", description="Adapter that carries listing actions to the marketplace."
    )
    resend_s: float = Field(
        30.0,
        gt=0,
        description="Wall seconds after which a command without a receipt is sent again; doubles with each attempt.",
    )
    marketplace_url: str = Field(
        "http://127.0.0.1:8090", description="Base URL of the marketplace (HTTP adapter; public listing links)."
    )
    marketplace_secret: Strong | None = Field(None, description="Secret that signs the HTTP adapter's requests.")
    site_links: Patterns = Field(
        ("market.example/items/{id}",),
        min_length=1,
        max_length=200,
        description="Links that lead to listings of this site, as `host/path` with `{id}`, `{slug}`, `{locale}` or `{seller}`; without `{id}`, to a seller's shop. `{seller}.` may begin the host. The first with `{id}` alone is how links are written.",
    )

    # notification
    smtp_host: str = Field("127.0.0.1", description="SMTP server for outgoing mail.")
    smtp_port: int = Field(8025, ge=1, le=65535, description="Port of the SMTP server.")
    smtp_from: str = Field(
        "ip-protection@market.example",
        pattern=r"^[A-Za-z0-9.+_-]{1,64}@[A-Za-z0-9.-]{1,200}$",
        description="Sender address of outgoing mail.",
    )
    smtp_tls: Literal["off", "opportunistic", "required", "implicit"] = Field(
        "off",
        description="TLS to the mail server: required (STARTTLS) and implicit verify its certificate; opportunistic"
        " encrypts if possible and verifies nothing.",
    )
    smtp_ca_file: str = Field(
        "", description="PEM file of authorities to trust at the mail server, instead of the system's."
    )
    smtp_user: str = Field(
        "", description="User name at the mail server; empty: no login. Needs TLS, or a server on loopback."
    )
    smtp_password: Theirs | None = Field(None, description="Password at the mail server.")
    smtp_reports: Literal["off", "failures", "all"] = Field(
        "failures",
        description="Delivery reports requested from the mail server: off; failures (and delays); all (deliveries too,"
        " one more mail each).",
    )
    dkim_selector: str = Field(
        "goodfaith",
        pattern=r"^[a-z0-9.-]{1,63}$",
        description="Selector of the DKIM key: <selector>._domainkey.<domain>.",
    )
    dkim_domain: str = Field("", description="Domain whose DKIM key signs mail (default: that of smtp_from).")
    dkim_key: Theirs | None = Field(
        None,
        description="DKIM private key as PEM: Ed25519, or RSA of 2048 bits or more. Without it mail is not signed"
        " here.",
    )
    bounce_domain: str = Field("", description="Domain of return paths (default: that of smtp_from).")
    bounce_host: str = Field("127.0.0.1", description="Address that receives delivery reports by SMTP.")
    bounce_port: int = Field(
        8026, ge=0, le=65535, description="Port that receives delivery reports by SMTP (0: any free one)."
    )
    mail_limits: dict[str, tuple[float, int]] = Field(
        default_factory=dict,
        description='JSON object: recipient\'s domain, or "*" for all others -> [messages per minute, connections at'
        " once] of all senders together; 0: no limit.",
    )
    mail_key: Strong | None = Field(
        None,
        description="Secret of 32 characters or more that signs return paths of mail and recognises addresses that"
        " have bounced. Without it bounces are not told apart.",
        min_length=32,
    )
    bounce_days: float = Field(
        30.0, gt=0, description="Days for which an address that bounced gets no mail, unless it is changed."
    )
    centre_key: str | None = Field(
        None,
        description="Base64 of the marketplace's X25519 public key, under which messages to its message centre are"
        " sealed; empty: there is no message centre.",
    )
    centre_wait_s: float = Field(
        14_400.0,
        gt=0,
        description="Wall seconds that a message waits for the message centre's receipt before it goes by another channel.",
    )
    centre_private_key: Strong | None = Field(
        None,
        description="Of the marketplace stand-in: base64 of the 32-byte X25519 key that opens messages to its message"
        " centre.",
    )
    collect_s: float = Field(
        2.0,
        ge=0,
        description="Wall seconds that a message waits for more items of its claim before it is sent without them.",
    )
    send_lease_s: float = Field(
        60.0, gt=0, description="Wall seconds that a sender holds a message before another may take it over."
    )

    # webhooks
    webhook_ports: tuple[int, ...] = Field(
        (443, 8443), description="Ports that webhooks may use. Empty: any (for tests)."
    )
    webhook_networks: tuple[str, ...] = Field(
        (),
        description='Networks that webhooks may be in besides public addresses, such as ["127.0.0.0/8"]: for tests or'
        " an in-house receiver.",
    )
    webhook_http: bool = Field(False, description="Whether webhooks may be unencrypted: for tests only.")
    webhook_ca: Path | None = Field(
        None,
        description="PEM file with the authorities that sign webhook servers' certificates (default: the system's).",
    )
    webhook_most: int = Field(5, ge=1, le=100, description="Most webhooks per account.")
    webhook_rotation_s: float = Field(
        86_400.0,
        ge=0,
        le=2_592_000,
        description="Wall seconds for which a webhook's old secret keeps signing along with the new one.",
    )
    webhook_challenge_s: float = Field(
        86_400.0,
        gt=0,
        le=2_592_000,
        description="Wall seconds for which the code that confirms a new webhook is valid.",
    )
    webhook_challenges: int = Field(
        20, ge=1, le=1_000, description="Most confirmation codes sent per account in 24 hours; up to three calls each."
    )
    webhook_host_challenges: int = Field(
        60,
        ge=0,
        le=100_000,
        description="Most confirmation codes sent to one host in an hour, for all accounts together (?). 0: no limit.",
    )
    webhook_timeout_s: float = Field(
        15.0, gt=0, le=120, description="Seconds that a webhook may take to answer, a third of them to connect."
    )
    webhook_in_flight: int = Field(
        800,
        ge=2,
        le=10_000,
        description="Most webhooks that a process calls at a time; at most half of them may have failed their last"
        " call.",
    )
    webhook_retry_s: float = Field(
        259_200.0,
        gt=0,
        le=2_592_000,
        description="Wall seconds for which a message to a webhook is retried (3 days).",
    )
    webhook_fallback_s: float = Field(
        3_600.0,
        gt=0,
        le=259_200,
        description="Wall seconds after which a message that begins a window is sent by another channel if no webhook"
        " has accepted it (?).",
    )
    webhook_disable_s: float = Field(
        432_000.0,
        gt=0,
        le=31_536_000,
        description="Wall seconds of uninterrupted failures after which a webhook is disabled (5 days) (?).",
    )

    # registers of rights
    registers: tuple[Literal["eu", "us"], ...] = Field(
        (), description="Registers of trade marks that are asked for new rights. Others are looked up by people."
    )
    euipo_url: str = Field(
        "https://api.euipo.europa.eu/trademark-search", description="Base URL of the EUIPO's trade mark search (`eu`)."
    )
    euipo_token_url: str = Field(
        "https://euipo.europa.eu/cas-server-webapp/oidc/accessToken",
        description="URL that issues the EUIPO's tokens for euipo_client.",
    )
    euipo_client: Theirs | None = Field(None, description="Client at the EUIPO: `id:secret`.")
    uspto_url: str = Field("https://tsdrapi.uspto.gov", description="Base URL of the USPTO's TSDR (`us`).")
    uspto_key: Theirs | None = Field(None, description="API key at the USPTO.")
    registers_timeout_s: float = Field(10.0, gt=0, le=60, description="Seconds to wait for a register's answer.")
    registers_give_up_s: float = Field(
        86_400.0, gt=0, description="Seconds without an answer of its register after which a right is left to a person."
    )

    # domains of accounts
    domains: bool = Field(
        False, description="Whether accounts may name domains that they control, which are then looked up by DNS."
    )
    domains_resolvers: tuple[str, ...] = Field(
        (),
        description='Resolvers that are asked about these domains, such as ["192.0.2.53:53"]. Empty: the system\'s.',
    )

    # pictures of listings
    pictures_hosts: tuple[str, ...] = Field(
        (),
        description='Hosts from which pictures of listings are fetched, such as ["cdn.example", "img.example:8443"], to be'
        " compared with those of rights. Empty: none is fetched or compared.",
    )
    pictures_networks: tuple[str, ...] = Field(
        (),
        description='Networks that these hosts may be in besides public addresses, such as ["10.1.0.0/16"]: for an'
        " in-house store, or tests.",
    )
    pictures_http: bool = Field(False, description="Whether pictures may be fetched unencrypted.")
    pictures_ca: Path | None = Field(
        None,
        description="PEM file with the authorities that sign these hosts' certificates (default: the system's).",
    )
    pictures_timeout_s: float = Field(10.0, gt=0, le=60, description="Seconds that fetching a picture may take.")
    pictures_max_bytes: int = Field(5_000_000, ge=1_000, le=20_000_000, description="Largest picture that is opened.")
    pictures_give_up_s: float = Field(
        14_400.0,
        gt=0,
        description="Seconds after which pictures that cannot be had are left out of a comparison (4 hours) (?).",
    )

    # statements of reasons
    statements_url: str = Field(
        "",
        description="URL that accepts batches of statements of reasons (the EU database: .../api/v1/statements)."
        " Empty: statements are kept and wait.",
    )
    statements_token: Theirs | None = Field(None, description="Bearer token for statements_url.")
    statements_batch: int = Field(100, ge=1, le=100, description="Most statements of reasons in one request.")
    statements_timeout_s: float = Field(
        20.0, gt=0, le=300, description="Seconds to wait for the answer to a batch of statements of reasons."
    )

    # sellers
    figures_s: float = Field(
        300.0,
        ge=0,
        le=86_400,
        description="Seconds between two counts of the repeat offenders' figures for the gauges; 0: never.",
    )

    # the canary
    canary_listing: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._:-]{0,119})?$",
        description="Listing made for the canary's claims, the only one they may name. Empty: no canary.",
    )
    canary_token: Strong | None = Field(
        None,
        description="Bearer token of the canary's account. If this and canary_listing are set, intake's API opens the"
        " account and its right at start.",
    )
    canary_seller: str = Field(
        "a-canary-seller",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,119}$",
        description="Marketplace account of the canary listing's seller; intake's API opens it if it is missing.",
    )
    canary_mail: str = Field(
        "",
        pattern=r"^([A-Za-z0-9.+_-]{1,64}@[A-Za-z0-9.-]{1,200})?$",
        description="Mail address for the canary's messages, to both of its parties. Empty: messages stay in inboxes,"
        " and the mail server is not tested.",
    )
    canary_page: str = Field(
        "",
        pattern=r"^(https?://\S{1,500})?$",
        description="Public page of the canary listing, which answers 200 while it is visible. Empty: the canary does"
        " not check that it goes down and comes back.",
    )
    canary_every_s: float = Field(
        60.0, ge=1, le=86_400, description="Wall seconds from the start of a canary's round to the start of the next."
    )
    canary_timeout_s: float = Field(
        120.0, ge=1, le=3_600, description="Wall seconds after which an unfinished round has failed."
    )

    # streams
    reconcile_s: float = Field(
        300.0,
        ge=0,
        le=86_400,
        description="Seconds between two comparisons of the stream views with the database; 0: never.",
    )

    # observation
    metrics_host: str = Field("127.0.0.1", description="Address of /live, /ready and /metrics (never a public one).")
    watch_s: float = Field(
        10.0,
        gt=0,
        le=300,
        description="Seconds between two looks of `watch` at broker and database; a shorter lag is reported as 0.",
    )
    metrics_port: int = Field(0, ge=0, le=65535, description="Port of /live, /ready and /metrics (0: any free one).")
    prometheus_url: str = Field(
        "",
        pattern=r"^(https?://[^\s]{1,500})?$",
        description="Base URL of the Prometheus that `goodfaith top` and the status page query. Empty: the local"
        " stack's.",
    )
    streams_url: str = Field(
        "",
        pattern=r"^(https?://[^\s]{1,500})?$",
        description="Base URL of the query API of any stream views' worker; the status page gets the oldest items from"
        " it.",
    )
    status_token: Strong | None = Field(
        None,
        description="Secret that opens the status page with items' ids (/operator). Without it the page is closed.",
    )
    status_cache_s: float = Field(
        5.0,
        ge=0,
        le=300,
        description="Seconds for which the status page caches its answers, for all readers.",
    )
    traces_url: str = Field(
        "",
        pattern=r"^(https?://[^\s@]+)?$",
        description="Where to send spans by OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces. Empty: no"
        " tracing.",
    )
    traces_ratio: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of requests, upstreams' records and timers that are traced unless the caller has decided.",
    )
    traces_asked_per_s: float = Field(
        10.0,
        ge=0,
        le=10_000,
        description="Most requests and upstreams' records per second and process that are traced because the caller's"
        " traceparent asks for it (?).",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")
    log_format: Literal["json", "console"] = Field("json", description="JSON lines, or coloured text for people.")
    instance: str = Field(
        "", pattern=r"^[A-Za-z0-9_.-]{0,40}$", description="Name of this worker in logs (default: the process id)."
    )
    state_dir: Path = Field(Path(".local"), description="Folder of the local stack's state.")

    @model_validator(mode="after")
    def _bound(self) -> Self:
        """Refuse a rule for an upstream that does not exist: it would have no effect."""
        if unknown := sorted(set(self.upstream_may) - set(self.upstreams)):
            raise ValueError(f"GOODFAITH_UPSTREAM_MAY names {unknown[0]!r}, which is not in GOODFAITH_UPSTREAMS")
        return self

    @model_validator(mode="after")
    def _links(self) -> Self:
        """Refuse contradictory settings of the links to the broker and of HTTP."""
        if self.kafka_security == "sasl_tls" and not (self.kafka_user and self.kafka_password):
            raise ValueError(
                "GOODFAITH_KAFKA_SECURITY=sasl_tls needs GOODFAITH_KAFKA_USER and GOODFAITH_KAFKA_PASSWORD (or _FILE)"
            )
        if (self.http_certificate is None) != (self.http_key is None):
            raise ValueError("GOODFAITH_HTTP_CERTIFICATE and GOODFAITH_HTTP_KEY go together: set both or neither")
        if (self.kafka_certificate is None) != (self.kafka_key is None):
            raise ValueError("GOODFAITH_KAFKA_CERTIFICATE and GOODFAITH_KAFKA_KEY go together: set both or neither")
        if self.kafka_security == "plaintext" and (self.kafka_ca or self.kafka_certificate or self.kafka_password):
            raise ValueError(
                "GOODFAITH_KAFKA_CA, _CERTIFICATE and _PASSWORD are of no use with GOODFAITH_KAFKA_SECURITY=plaintext: set tls or sasl_tls"
            )
        return self
