"""Typed settings, read from the environment (prefix ``GOODFAITH_``) and validated at start.

One class for all processes: a process reads what it needs. ``goodfaith settings`` lists every field with its
meaning, default and present value; secrets are shown as ``**********``. An empty variable counts as not set. Secrets may come from files (``shared/secret_files.py``).
"""

from __future__ import annotations

import contextvars
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

SECRET_LEAST: Final = 32
"""Characters of a secret that we compare or sign with."""


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
"""A secret that somebody else issued: whatever its form, it is not empty."""


def _callers(given: SecretStr) -> SecretStr:
    callers.read(given.get_secret_value())
    return given


KnownCallers = Annotated[SecretStr, AfterValidator(_callers)]
"""Digests of callers' tokens: no secret by themselves, but given like one."""
_source: contextvars.ContextVar[secret_files.Source | None] = contextvars.ContextVar("source", default=None)


def wrong(error: ValidationError | secret_files.Refused) -> str:
    """What is wrong with the settings: a line for each, without the values, which may be secrets."""
    if isinstance(error, secret_files.Refused):
        return str(error)
    named = (
        (".".join(map(str, one["loc"])).upper(), one["msg"].removeprefix("Value error, ")) for one in error.errors()
    )
    return "\n".join(f"GOODFAITH_{name}: {text}" if name else text for name, text in named)


Relayed = Literal[
    "submit_claim", "add_information", "withdraw", "accept", "counter", "respond", "report_action", "report_result", "complain",
    "decide",
]  # fmt: skip
"""What an upstream may file: the names of ``goodfaith.door.<name>.v1``."""


class UpstreamMay(BaseModel):
    """What an upstream is bound to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accounts: tuple[Annotated[str, Field(min_length=1, max_length=120)], ...]
    """Accounts that it acts for beside its own: ids, or beginnings of ids with ``*`` behind."""
    commands: tuple[Relayed, ...]

    def covers(self, account: str) -> bool:
        """Whether it may act for the account."""
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
        """What the caller gives, the environment, and files, in this order."""
        files = secret_files.Source(settings_cls, init_settings())
        _source.set(files)
        return init_settings, env_settings, files

    @classmethod
    def at_start(cls) -> Self:
        """The settings of a process that starts: exits with one line for each setting that is wrong, without its value."""
        try:
            return cls()
        except (ValidationError, secret_files.Refused) as error:
            print(wrong(error), file=sys.stderr)  # noqa: T201 - logs are configured from settings
            raise SystemExit(2) from None

    def model_post_init(self, context: Any, /) -> None:
        """Keep in mind which values may change."""
        source = _source.get()
        _source.set(None)
        if source is not None:
            self._files.update({name: file for name, (file, _) in source.files.items()})

    def present(self, name: str) -> secret_files.Present:
        """A secret (or ``kafka_user``) as it is whenever it is asked for; empty when it is not set."""
        value = getattr(self, name)
        if isinstance(value, SecretStr):
            return secret_files.Present(value.get_secret_value(), self._files.get(name))
        kind = secret_files.PresentName if name in secret_files.BESIDE_SECRETS else secret_files.Present
        return kind(value or "", self._files.get(name))

    # where the parts are
    kafka: str = Field("127.0.0.1:9092", description="Bootstrap servers of the broker, host:port[,host:port...].")
    kafka_security: Literal["plaintext", "tls", "sasl_tls"] = Field(
        "plaintext",
        description="How the broker is spoken to: not encrypted; by TLS, with a certificate of one's own where one is given; by TLS with a password (SCRAM-SHA-512).",
    )
    kafka_ca: Path | None = Field(
        None,
        description="PEM file of the authorities that vouch for the brokers, one or several; read anew for each connection (default: the system's).",
    )
    kafka_user: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._@-]{0,100}$",
        description="Login at the broker, for sasl_tls; or GOODFAITH_KAFKA_USER_FILE.",
    )
    kafka_password: Theirs | None = Field(
        None,
        description="Its password; from a file (GOODFAITH_KAFKA_PASSWORD_FILE) it is read anew for each connection.",
    )
    kafka_certificate: Path | None = Field(
        None,
        description="PEM file of this process's own certificate and those between it and its authority; read anew for each connection.",
    )
    kafka_key: Path | None = Field(
        None, description="PEM file of its private key, unencrypted and readable by its owner alone."
    )
    kafka_principal: str = Field(
        "goodfaith-{name}",
        pattern=r"^[A-Za-z0-9._@=-]{0,60}\{name\}[A-Za-z0-9._@=,-]{0,100}$",
        description="What the broker calls a login, by the name of its part ({name}: intake, upstream.crm, ...), for the ACLs of `goodfaith topics`.",
    )
    database: Theirs = Field(
        SecretStr("postgresql://goodfaith@127.0.0.1:5432/goodfaith"),
        description="PostgreSQL URL of this process's own role (each service has its own role and schema).",
    )
    topic_prefix: str = Field(
        "",
        pattern=r"^[a-z0-9.-]{0,40}$",
        description="Prefix of every topic name; lets two installations share one broker.",
    )
    partitions: int = Field(
        24, ge=1, le=1000, description="Partitions of every topic keyed by listing or seller. Fixed at creation."
    )
    penalties_profile: str = Field(
        "ipp",
        pattern=r"^[a-z0-9-]{1,60}$",
        description="Profile whose penalties sellers' ledgers follow: one for all, whatever profiles their items are handled under.",
    )
    misuse_profile: str = Field(
        "ipp",
        pattern=r"^[a-z0-9-]{1,60}$",
        description="Profile by whose rules misuse by complainants is judged: one for all, whatever profiles their claims are under.",
    )
    replication: int = Field(1, ge=1, le=7, description="Replication factor of the topics at creation.")
    topic_days: int = Field(
        30,
        ge=7,
        le=30,
        description="Days for which topics keep events, at most; compacted ones keep the last of each key. What a reader that is away for longer has not read comes back from the event logs (`goodfaith restore unread`).",
    )
    upstreams: dict[str, str] = Field(
        default_factory=dict,
        description='JSON object: upstream name -> account id. The upstream writes to the topic "inbound.<name>"; the ACL binds who may.',
    )
    upstream_may: dict[str, UpstreamMay] = Field(
        default_factory=dict,
        description='JSON object: upstream name -> for which accounts it may act, and what it may file: `{"portal": {"accounts": ["h-*"], "commands": ["submit_claim"]}}`. An upstream that is not named acts for its own account only.',
    )

    # the worker's loop
    batch_max_records: int = Field(
        1000, ge=1, le=10000, description="Most records in one batch, and so in one database transaction."
    )
    poll_ms: int = Field(
        100,
        ge=1,
        le=10000,
        description="Milliseconds a worker waits for records before it looks at timers; five times as long when there is no work.",
    )
    fetch_min_bytes: int = Field(
        1,
        ge=1,
        le=50_000_000,
        description="Bytes for which the broker lets a worker wait (fetch.min.bytes). Larger under constant load: fewer and fuller batches.",
    )
    fetch_max_wait_ms: int = Field(
        500,
        ge=1,
        le=10_000,
        description="Longest such wait in milliseconds (fetch.max.wait.ms). With fetch_min_bytes above 1 every event may wait as long at each service.",
    )
    session_timeout_ms: int = Field(
        10_000, ge=1000, description="Milliseconds without heartbeat before a worker loses its partitions."
    )
    retry_max_s: float = Field(
        10.0, gt=0, description="Longest pause in seconds between tries after a transient failure."
    )
    timers_per_batch: int = Field(1000, ge=1, description="Most due timers fired in one batch.")

    # the door
    http_host: str = Field("127.0.0.1", description="Address that the process's HTTP API listens on.")
    http_port: int = Field(8080, ge=0, le=65535, description="Port of the process's HTTP API (0: any free one).")
    door_commit_ms: float = Field(
        4.0, ge=0, le=1000, description="Milliseconds the door collects requests for one commit."
    )
    door_commit_max: int = Field(256, ge=1, le=10000, description="Most requests in one commit of the door.")
    token_ttl_days: int = Field(365, ge=1, description="Days until a bearer token expires.")
    token_cache_s: float = Field(
        2.0,
        ge=0,
        le=300,
        description="Seconds a process may trust a token it has looked up; the delay of a revocation.",
    )
    max_body_bytes: int = Field(1_000_000, ge=1000, description="Largest HTTP request body and Kafka command in bytes.")
    http_proxies: tuple[str, ...] = Field(
        (),
        description='Addresses or networks of proxies in front of the HTTP APIs, such as ["10.0.0.0/8"]: whoever they name in X-Forwarded-For is the caller. Empty: the caller is who connects.',
    )
    http_header_s: float = Field(
        10.0, gt=0, le=300, description="Seconds in which the headers of a request must have come."
    )
    http_body_s: float = Field(
        20.0,
        gt=0,
        le=300,
        description="Seconds in which the body of a request must have come; files have limits of their own.",
    )
    http_address_rate: float = Field(
        100.0,
        ge=0,
        le=1_000_000,
        description="Requests a second from one address to a process of intake's API, ten seconds' worth at once; 0: no limit.",
    )
    http_account_rate: float = Field(
        50.0,
        ge=0,
        le=1_000_000,
        description="Requests a second of one account to a process of intake's API, ten seconds' worth at once; 0: no limit.",
    )
    http_failures_a_minute: float = Field(
        30.0,
        ge=0,
        le=1_000_000,
        description="Unknown tokens a minute, and at once, from one address; after that no further one is looked up. 0: no limit.",
    )
    http_openings_an_hour: float = Field(
        20.0,
        ge=0,
        le=1_000_000,
        description="Accounts an hour, and at once, that are opened from one address without an operator; 0: no limit.",
    )
    http_all_openings_an_hour: float = Field(
        1_000.0, ge=0, le=1_000_000, description="Such accounts an hour, and at once, from all addresses; 0: no limit."
    )
    http_statement_s: float = Field(
        10.0,
        gt=0,
        le=600,
        description="Seconds after which the database cancels a statement of a request; the caller is told to come again (503).",
    )
    http_account_reads: int = Field(
        2, ge=1, le=5, description="Requests of one account that work in the database at a time; 6 of all accounts do."
    )
    operator_token: Strong | None = Field(
        None, description="Bearer token of the first operator account, opened by the API at its start if given."
    )
    internal_token: Strong | None = Field(
        None,
        description="Bearer token by which this process calls other services' internal APIs; each caller has its own.",
    )
    internal_callers: KnownCallers | None = Field(
        None,
        description="JSON object: caller's name -> SHA-256 (hex) of its internal_token, or a list of up to 4 while it is changed. An internal API answers those whom the code lists for it (shared/callers.py) and nobody else.",
    )
    internal_ca: Path | None = Field(
        None,
        description="PEM file of the authorities that vouch for other services' internal APIs, where their URLs are https (default: the system's).",
    )
    http_certificate: Path | None = Field(
        None, description="PEM file of the certificate by which this process's HTTP API speaks TLS. Empty: plain HTTP."
    )
    http_key: Path | None = Field(None, description="PEM file of its private key, unencrypted.")
    intake_url: str = Field(
        "http://127.0.0.1:8080", description="Base URL of intake's HTTP API, for the services' internal calls."
    )
    enforcement_url: str = Field(
        "http://127.0.0.1:8081", description="Base URL of enforcement's internal API, which intake asks about sellers."
    )
    notification_url: str = Field(
        "http://127.0.0.1:8082",
        description="Base URL of notification's internal API, which intake asks about deliveries and webhooks.",
    )
    internal_timeout_s: float = Field(
        5.0, gt=0, le=60, description="Seconds in which another service's internal API must have answered."
    )
    contact_key: Strong | None = Field(
        None,
        description="Base64 of the 32-byte key that wraps each subject's own key; contacts are encrypted under the subject's key.",
    )
    contact_key_other: Strong | None = Field(
        None,
        description="A further such key, which opens and never wraps: the next one or the one before, while contact_key is changed (goodfaith rewrap).",
    )

    # the review queue
    review_lease_s: float = Field(
        900.0,
        gt=0,
        le=86_400,
        description="Wall seconds for which a reviewer holds a case; a heartbeat prolongs it by as much.",
    )
    review_hold_s: float = Field(
        14_400.0, gt=0, le=604_800, description="Wall seconds after which no heartbeat prolongs a lease any more."
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
        description="Wall seconds for which a case waits for the reviewer that it was handed over to; then it is anybody's.",
    )

    # evidence files
    evidence_url: str = Field(
        "",
        description="Where evidence files lie: file:///folder, or s3://bucket/prefix with the usual AWS_* variables. Default: the folder evidence in state_dir.",
    )
    evidence_max_bytes: int = Field(20_000_000, ge=1000, description="Largest evidence file in bytes.")
    evidence_account_bytes: int = Field(
        2_000_000_000, ge=1000, description="Bytes of evidence that one account may have on file."
    )
    evidence_upload_s: float = Field(
        300.0, gt=0, description="Seconds that one upload may take; a tenth of them may pass without a byte."
    )
    evidence_least_rate: int = Field(
        16_000, ge=0, description="Least bytes a second of an upload, on average after its first 5 seconds; 0: any."
    )
    evidence_link_minutes: float = Field(10.0, gt=0, le=1440, description="Minutes that a link to a file is good for.")
    evidence_key: Strong | None = Field(
        None,
        description="Secret that signs links to evidence files; without it none are given out.",
    )

    # admission
    window_standard: int = Field(
        4000, ge=1, description="Items under way between door and verification at which standard admission pauses."
    )
    window_bulk: int = Field(1000, ge=1, description="Items under way at which bulk admission pauses.")
    weights: tuple[int, int, int] = Field(
        (8, 3, 1), description="Shares of express, standard and bulk in a contended admission."
    )
    watermark_ms: int = Field(1000, ge=10, description="Milliseconds between watermarks on an idle partition.")
    broker_skew_ms: int = Field(
        500,
        ge=2,
        description="How far the broker's clock may be behind the database's: deadlines wait so long for what comes by Kafka.",
    )
    clock_bound_ms: int = Field(
        500,
        ge=1,
        description="Milliseconds by which the clocks of database, brokers and intake's workers may differ; while they differ by more, or by more than broker_skew_ms, no deadline fires.",
    )

    # the marketplace port
    marketplace: Literal["kafka", "http"] = Field(
        "kafka", description="Adapter by which listing actions reach the marketplace."
    )
    resend_s: float = Field(
        30.0,
        gt=0,
        description="Wall seconds after which a command without a receipt is sent again; doubles with each try.",
    )
    marketplace_url: str = Field(
        "http://127.0.0.1:8090", description="Base URL of the marketplace (HTTP adapter; public listing links)."
    )
    marketplace_secret: Strong | None = Field(None, description="Secret that signs the HTTP adapter's requests.")
    site_hosts: tuple[str, ...] = Field(
        ("market.example",), description="Host names whose links are listings of this site."
    )

    # notification
    smtp_host: str = Field("127.0.0.1", description="SMTP server for outgoing mail.")
    smtp_port: int = Field(8025, ge=1, le=65535, description="Port of the SMTP server.")
    smtp_from: str = Field(
        "ip-protection@market.example",
        pattern=r"^[A-Za-z0-9.+_-]{1,64}@[A-Za-z0-9.-]{1,200}$",
        description="Sender of outgoing mail: an address.",
    )
    smtp_tls: Literal["off", "opportunistic", "required", "implicit"] = Field(
        "off",
        description="TLS to the mail server: required (STARTTLS) and implicit verify its certificate; opportunistic encrypts where it can and verifies nothing.",
    )
    smtp_ca_file: str = Field("", description="PEM file of certificates that are trusted instead of the system's.")
    smtp_user: str = Field(
        "", description="User name at the mail server; empty: no login. Needs TLS, or a server on loopback."
    )
    smtp_password: Theirs | None = Field(None, description="Password at the mail server.")
    smtp_reports: Literal["off", "failures", "all"] = Field(
        "failures",
        description="Delivery reports that are asked of the mail server: of failures and delays, or of deliveries as well (one more mail each).",
    )
    dkim_selector: str = Field(
        "goodfaith",
        pattern=r"^[a-z0-9.-]{1,63}$",
        description="Selector of the DKIM key: <selector>._domainkey.<domain>.",
    )
    dkim_domain: str = Field("", description="Domain whose DKIM key signs mail (default: that of smtp_from).")
    dkim_key: Theirs | None = Field(
        None,
        description="DKIM private key, RSA of 2048 bits or more or Ed25519, as PEM. Without it mail is not signed here.",
    )
    bounce_domain: str = Field("", description="Domain of return paths (default: that of smtp_from).")
    bounce_host: str = Field("127.0.0.1", description="Address on which delivery reports are taken by SMTP.")
    bounce_port: int = Field(
        8026, ge=0, le=65535, description="Port on which delivery reports are taken (0: any free one)."
    )
    mail_limits: dict[str, tuple[float, int]] = Field(
        default_factory=dict,
        description='JSON object: recipient\'s domain, or "*" for every other -> [messages a minute, connections at once] of all senders together; 0: no limit.',
    )
    mail_key: Strong | None = Field(
        None,
        description="Secret, 32 characters or more, by which return paths of mail are signed and addresses that bounced are recognised again. Without it bounces are not told apart.",
        min_length=32,
    )
    bounce_days: float = Field(
        30.0, gt=0, description="Days for which no mail goes to an address that bounced, unless it is changed."
    )
    collect_s: float = Field(
        2.0,
        ge=0,
        description="Wall seconds a message waits for further items of its claim before it is sent without them.",
    )
    send_lease_s: float = Field(
        60.0, gt=0, description="Wall seconds a sender holds a message before another may take it over."
    )

    # webhooks
    webhook_ports: tuple[int, ...] = Field(
        (443, 8443), description="Ports that webhooks may have. Empty: any (for tests)."
    )
    webhook_networks: tuple[str, ...] = Field(
        (),
        description='Networks that webhooks may be in beside public addresses, such as ["127.0.0.0/8"]: for tests, or a receiver in the house.',
    )
    webhook_http: bool = Field(False, description="Whether webhooks may be unencrypted: for tests only.")
    webhook_ca: Path | None = Field(
        None,
        description="File with the certificates of authorities that vouch for webhooks' servers (default: the system's).",
    )
    webhook_most: int = Field(5, ge=1, le=100, description="Most webhooks of an account.")
    webhook_rotation_s: float = Field(
        86_400.0,
        ge=0,
        le=2_592_000,
        description="Wall seconds for which a webhook's former secret goes on signing beside the new one.",
    )
    webhook_challenge_s: float = Field(
        86_400.0,
        gt=0,
        le=2_592_000,
        description="Wall seconds for which the code is good by which the owner of a new webhook confirms it.",
    )
    webhook_challenges: int = Field(
        20, ge=1, le=1_000, description="Most such codes that an account has sent in 24 hours; up to three calls each."
    )
    webhook_host_challenges: int = Field(
        60,
        ge=0,
        le=100_000,
        description="Most such codes that all accounts together have sent to one host in an hour (?). 0: no limit.",
    )
    webhook_timeout_s: float = Field(
        15.0, gt=0, le=120, description="Seconds that a webhook may take to answer; a third of them to connect."
    )
    webhook_in_flight: int = Field(
        800,
        ge=2,
        le=10_000,
        description="Most webhooks that a process calls at one time; half of them such as did not take the last call.",
    )
    webhook_retry_s: float = Field(
        259_200.0,
        gt=0,
        le=2_592_000,
        description="Wall seconds for which a message is tried again at a webhook (3 days).",
    )
    webhook_fallback_s: float = Field(
        3_600.0,
        gt=0,
        le=259_200,
        description="Wall seconds after which a message that begins a window goes by another channel when no webhook has taken it (?).",
    )
    webhook_disable_s: float = Field(
        432_000.0,
        gt=0,
        le=31_536_000,
        description="Wall seconds of failures without a success after which a webhook is disabled (5 days) (?).",
    )

    # statements of reasons
    statements_url: str = Field(
        "",
        description="Address that takes batches of statements of reasons (the EU database: .../api/v1/statements). Empty: they are kept, and wait.",
    )
    statements_token: Theirs | None = Field(None, description="Bearer token for statements_url.")
    statements_batch: int = Field(100, ge=1, le=100, description="Most statements of reasons in one request.")
    statements_timeout_s: float = Field(
        20.0, gt=0, le=300, description="Seconds to wait for the answer to a batch of statements."
    )

    # sellers
    figures_s: float = Field(
        300.0,
        ge=0,
        le=86_400,
        description="Seconds between counts of the repeat offenders' figures for the gauges; 0: none.",
    )

    # the canary
    canary_listing: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._:-]{0,119})?$",
        description="Listing made for the canary's claims, the only one that it may name. Empty: there is no canary.",
    )
    canary_token: Strong | None = Field(
        None,
        description="Bearer token of the canary's account; intake's API opens account and right at its start if this and canary_listing are given.",
    )
    canary_seller: str = Field(
        "a-canary-seller",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,119}$",
        description="Account of the canary listing's seller at the marketplace; opened by intake's API if there is none.",
    )
    canary_mail: str = Field(
        "",
        pattern=r"^([A-Za-z0-9.+_-]{1,64}@[A-Za-z0-9.-]{1,200})?$",
        description="Address to which the canary's messages go, to both its sides. Empty: they stay in inboxes, and no mail server is tried.",
    )
    canary_page: str = Field(
        "",
        pattern=r"^(https?://\S{1,500})?$",
        description="Public page of the canary listing: 200 while it shows. Empty: whether it went down and came back is not looked at.",
    )
    canary_every_s: float = Field(
        60.0, ge=1, le=86_400, description="Wall seconds from the beginning of a canary's round to the next."
    )
    canary_timeout_s: float = Field(
        120.0, ge=1, le=3_600, description="Wall seconds after which a round that is not through has failed."
    )

    # streams
    reconcile_s: float = Field(
        300.0,
        ge=0,
        le=86_400,
        description="Seconds between comparisons of the stream views with the database; 0: none.",
    )

    # observation
    metrics_host: str = Field("127.0.0.1", description="Address of /live, /ready and /metrics (never the public one).")
    watch_s: float = Field(
        10.0,
        gt=0,
        le=300,
        description="Seconds between two looks of `watch` at broker and database; a lag below it is told as 0.",
    )
    metrics_port: int = Field(0, ge=0, le=65535, description="Port of /live, /ready and /metrics (0: any free one).")
    prometheus_url: str = Field(
        "",
        pattern=r"^(https?://[^\s]{1,500})?$",
        description="Base URL of the Prometheus that `goodfaith top` and the status page ask. Empty: the local stack's.",
    )
    streams_url: str = Field(
        "",
        pattern=r"^(https?://[^\s]{1,500})?$",
        description="Base URL of the query API of any worker of the stream views; the status page asks it for the oldest items.",
    )
    status_token: Strong | None = Field(
        None, description="Secret that opens the status page with items' ids (/operator). Without it nothing does."
    )
    status_cache_s: float = Field(
        5.0,
        ge=0,
        le=300,
        description="Seconds for which the status page shows what it has asked again, to all readers.",
    )
    traces_url: str = Field(
        "",
        pattern=r"^(https?://[^\s@]+)?$",
        description="Where spans go: OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces. Empty: nothing is traced.",
    )
    traces_ratio: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of requests, upstreams' records and timers that are traced where no caller has decided it.",
    )
    traces_asked_per_s: float = Field(
        10.0,
        ge=0,
        le=10_000,
        description="Requests and upstreams' records a second and process that are traced because their caller's traceparent says so (?).",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["json", "console"] = Field("json", description="JSON lines, or coloured text for people.")
    instance: str = Field(
        "", pattern=r"^[A-Za-z0-9_.-]{0,40}$", description="Name of this worker in logs (default: the process id)."
    )
    state_dir: Path = Field(Path(".local"), description="Folder of the local stack's state.")

    @model_validator(mode="after")
    def _bound(self) -> Self:
        """Refuse a binding of an upstream that there is not: it would bind nothing."""
        if unknown := sorted(set(self.upstream_may) - set(self.upstreams)):
            raise ValueError(f"GOODFAITH_UPSTREAM_MAY names {unknown[0]!r}, which is not in GOODFAITH_UPSTREAMS")
        return self

    @model_validator(mode="after")
    def _links(self) -> Self:
        """Refuse what does not fit together about the link to the broker."""
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
