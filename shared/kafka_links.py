"""Links to the broker: makes clients from the settings, and says in one sentence what is wrong with a link.

Certificates, authorities and passwords are read again for each connection, so replacing them needs no restart.
kafka-python and aiokafka retry a refused link endlessly and log every attempt; this module puts their messages into
our words and logs them once a minute.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError, KafkaTimeoutError, SaslAuthenticationFailedError, for_code
from kafka.net.sasl.scram import SaslMechanismScram
from kafka.protocol.admin import DescribeClusterRequest
from kafka.protocol.api_header import ResponseClassRegistry
from kafka.protocol.metadata import ApiVersionsRequest
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest
from kafka.structs import OffsetAndMetadata

from shared.log_limits import seldom
from shared.settings import Settings

_LOG: Final = logging.getLogger(__name__)
MECHANISM: Final = "SCRAM-SHA-512"
PROTOCOLS: Final = {"plaintext": "PLAINTEXT", "tls": "SSL", "sasl_tls": "SASL_SSL"}
PROBE_S: Final = 5.0
CAME_OF_IT_S: Final = 5.0
OFFSETS_S: Final = 30.0
"""Seconds to wait for an answer for all partitions, unless the caller gives a timeout."""


_register = ResponseClassRegistry.register_response_class


def _register_primary(proxy: Any) -> None:
    """Register a response class of kafka-python, but not those that it makes of it for each version of an API.

    Version 3.0.12 registers these too, by weak proxies. When two threads use an API for the first time at once, each
    makes a class, one of the two is dropped, and it may be the registered one. From then on every answer of that kind
    would be an error, and the process could not reach the broker again.
    """
    if getattr(proxy, "_class_version", None) is None:
        _register(proxy)


ResponseClassRegistry.register_response_class = staticmethod(_register_primary)


class LinkRefused(KafkaError):  # type: ignore[misc]
    """The broker and this process do not trust each other; the message says who distrusts whom, and the cure."""

    def __str__(self) -> str:
        return str(self.args[0])


class Consumer(KafkaConsumer):  # type: ignore[misc]
    """kafka-python's consumer, whose offset queries answer for all partitions or fail with a Kafka error.

    If version 3.0.12 knows the leader of some partitions, it asks only about those. For the others (a topic that is
    new to it, an election) it then raises ``KeyError``. By the next call it has learned of them.
    """

    def beginning_offsets(self, partitions: Sequence[TopicPartition], timeout_ms: int | None = None) -> Any:
        """Like kafka-python's; raises ``KafkaTimeoutError`` after ``timeout_ms`` or ``OFFSETS_S``."""
        return _complete(super().beginning_offsets, partitions, timeout_ms)

    def end_offsets(self, partitions: Sequence[TopicPartition], timeout_ms: int | None = None) -> Any:
        """Like kafka-python's; raises ``KafkaTimeoutError`` after ``timeout_ms`` or ``OFFSETS_S``."""
        return _complete(super().end_offsets, partitions, timeout_ms)


def _complete(
    ask: Callable[[Any, int | None], Any], partitions: Sequence[TopicPartition], timeout_ms: int | None
) -> Any:
    until = time.monotonic() + (OFFSETS_S if timeout_ms is None else timeout_ms / 1000)
    while True:
        try:
            return ask(partitions, timeout_ms)
        except KeyError as error:
            if time.monotonic() > until:
                raise KafkaTimeoutError(f"no leader is known of {error}") from None
            time.sleep(0.02)


class Context(ssl.SSLContext):
    """TLS context for the broker that follows its files: each connection uses what they hold when it begins.

    Args:
        settings: name the files.

    Raises:
        LinkRefused: a file is missing or invalid; at once, or later when a connection begins.
    """

    def __new__(cls, _settings: Settings) -> Context:
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: tuple[tuple[Any, ...], ssl.SSLContext] | None = None
        self._now()

    def _now(self) -> ssl.SSLContext:
        settings = self._settings
        files = tuple(path for path in (settings.kafka_ca, settings.kafka_certificate, settings.kafka_key) if path)
        stamp = tuple(_stamp(path) for path in files)
        if self._made is None or self._made[0] != stamp:
            self._made = (stamp, _context(settings))
        return self._made[1]

    def wrap_socket(self, *args: Any, **options: Any) -> Any:
        """Wrap by what the files hold now."""
        return self._now().wrap_socket(*args, **options)

    def wrap_bio(self, *args: Any, **options: Any) -> Any:
        """Wrap by what the files hold now."""
        return self._now().wrap_bio(*args, **options)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _context(settings: Settings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.kafka_ca is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(settings.kafka_ca)
        except (OSError, ssl.SSLError) as error:
            raise LinkRefused(
                f"GOODFAITH_KAFKA_CA names {settings.kafka_ca}, no PEM file of certificates: {_short(error)}"
            ) from None
    if settings.kafka_certificate is not None and settings.kafka_key is not None:
        try:
            # a callback, so that an encrypted key is an error and not a prompt on the terminal
            context.load_cert_chain(settings.kafka_certificate, settings.kafka_key, password=lambda: b"")
        except (OSError, ssl.SSLError) as error:
            raise LinkRefused(
                f"GOODFAITH_KAFKA_CERTIFICATE and _KEY ({settings.kafka_certificate}, {settings.kafka_key})"
                f" are no certificate and its unencrypted key: {_short(error)}"
            ) from None
    return context


def _short(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error))[:120]


# ---------------------------------------------------------------------------------------------------------------- clients


def arguments(settings: Settings) -> dict[str, Any]:
    """Arguments of every kafka-python client: where the broker is, and how the link is secured.

    Raises:
        LinkRefused: a file that the settings name is missing or invalid.
    """
    return {"bootstrap_servers": settings.kafka, **_security(settings)}


def _security(settings: Settings) -> dict[str, Any]:
    if settings.kafka_security == "plaintext":
        return {}
    found: dict[str, Any] = {
        "security_protocol": PROTOCOLS[settings.kafka_security],
        "ssl_context": Context(settings),
    }
    if settings.kafka_security == "sasl_tls":
        found |= {
            "sasl_mechanism": MECHANISM,
            "sasl_plain_username": settings.present("kafka_user"),
            "sasl_plain_password": settings.present("kafka_password"),
        }
    return found


def consumer(settings: Settings, **options: Any) -> Any:
    """A kafka-python consumer.

    Raises:
        LinkRefused: broker and process do not trust each other.
        kafka.errors.KafkaError: the broker cannot be reached.
    """
    return _made(settings, lambda: Consumer(**arguments(settings), **options))


def producer(settings: Settings, **options: Any) -> Any:
    """A kafka-python producer; raises like ``consumer``."""
    return _made(settings, lambda: KafkaProducer(**arguments(settings), **options))


def admin(settings: Settings, **options: Any) -> Any:
    """A kafka-python admin client; raises like ``consumer``."""
    return _made(settings, lambda: KafkaAdminClient(**arguments(settings), **options))


def nodes(client: Any) -> int:
    """Number of brokers that are up and not fenced, by an admin client.

    Not by the client's ``describe_cluster``: that always asks for the caller's permissions on the cluster too, and
    for a caller without any the broker logs a refusal each time.

    Raises:
        kafka.errors.KafkaError: the broker cannot be reached, or does not say.
    """
    # kafka-python 3.0.12 has no public call for this
    answer = client._manager.run(client._manager.send, DescribeClusterRequest())
    if answer.error_code:
        raise for_code(answer.error_code)(answer.error_message)
    return len(answer.brokers)


def aio_consumer(settings: Settings, **options: Any) -> Any:
    """An aiokafka consumer, not started. If its start fails, ``why`` says why."""
    from aiokafka import AIOKafkaConsumer  # only the stream views use it

    return AIOKafkaConsumer(bootstrap_servers=settings.kafka, **_security(settings), **options)


def aio_producer(settings: Settings, **options: Any) -> Any:
    """An aiokafka producer, not started. If its start fails, ``why`` says why."""
    from aiokafka import AIOKafkaProducer

    return AIOKafkaProducer(bootstrap_servers=settings.kafka, **_security(settings), **options)


def faust_options(settings: Settings) -> dict[str, Any]:
    """Options of a Faust application: its brokers, and its credentials if it has any."""
    # Faust is heavy, and the services do not need it
    from faust import SASLCredentials, SSLCredentials

    found: dict[str, Any] = {"broker": [f"kafka://{server}" for server in settings.kafka.split(",")]}
    secured = _security(settings)
    if settings.kafka_security == "tls":
        found["broker_credentials"] = SSLCredentials(secured["ssl_context"])
    elif settings.kafka_security == "sasl_tls":
        found["broker_credentials"] = SASLCredentials(
            username=secured["sasl_plain_username"],
            password=secured["sasl_plain_password"],
            mechanism=MECHANISM,
            ssl_context=secured["ssl_context"],
        )
    return found


def topic_ids(client: Any, names: Iterable[str]) -> dict[str, str]:
    """Topic ids by topic, from the consumer's last metadata; unknown topics are left out."""
    # kafka-python 3.0.12 has no public call for this
    found = {name: client._cluster.topic_id(name) for name in names}
    return {name: str(id_) for name, id_ in found.items() if id_ is not None}


def partition_counts(client: Any, names: Iterable[str]) -> dict[str, int]:
    """Number of partitions by topic, from the consumer's last metadata; 0 if the topic is not in them."""
    # the public call would ask the broker for missing topics, and wait
    return {name: len(client._cluster.partitions_for_topic(name) or ()) for name in names}


def group_members(settings: Settings, group: str, names: Container[str]) -> tuple[str, dict[str, set[tuple[str, int]]]]:
    """A group's state, and the partitions of these topics by member.

    Raises:
        kafka.errors.KafkaError: the broker cannot be reached, or does not say.
    """
    client = admin(settings, client_id=f"{group}-members", request_timeout_ms=10_000, bootstrap_timeout_ms=5_000)
    try:
        found = client.describe_groups([group])[group]
    finally:
        client.close()
    if found["error"]:
        raise KafkaError(f"group {group}: {found['error']}")
    members = {
        member["member_id"]: {
            (part["topic"], number)
            for part in (member["member_assignment"] or {}).get("assigned_partitions", ())
            if part["topic"] in names
            for number in part["partitions"]
        }
        for member in found["members"]
    }
    return found["group_state"], members


def seek(consumer: Any, place: Any, offset: int, leader_epoch: int) -> None:
    """Continue reading at an offset.

    With the leader epoch of the record before it (-1: not known), the client notices a truncated log (KIP-320).

    Raises:
        ValueError: the partition is not assigned.
    """
    # the public `seek` of kafka-python 3.0.12 takes no epoch
    consumer.seek(place, offset)
    if leader_epoch >= 0:
        consumer._subscription.seek(place, OffsetAndMetadata(offset, "", leader_epoch))


def committed(consumer: Any, places: list[Any]) -> dict[Any, Any]:
    """Offset and metadata that the consumer's group has committed, by partition.

    One request for all; the public method makes one request per partition.

    Raises:
        kafka.errors.KafkaError: the coordinator does not answer within 10 s.
    """
    found: dict[Any, Any] = consumer._coordinator.fetch_committed_offsets(places, timeout_ms=10_000)
    return found


def _made(settings: Settings, make: Callable[[], Any]) -> Any:
    if reason := why(settings):
        raise LinkRefused(reason)
    return make()


# ------------------------------------------------------------------------------------------------------- what is wrong


def _said(settings: Settings, error: BaseException | str) -> str | None:
    """What a client's error says about the link; None if it is not about trust."""
    if settings.kafka_security == "plaintext":
        return None
    text = str(error)
    if (
        isinstance(error, SaslAuthenticationFailedError)
        or "SaslAuthenticationFailed" in text
        or "invalid credentials" in text
    ):
        user = settings.present("kafka_user")
        return f"the broker does not take user {user.read()!r} with this password: mend GOODFAITH_KAFKA_USER, GOODFAITH_KAFKA_PASSWORD or the broker's entry"
    for pattern, sentence in _SENTENCES:
        if re.search(pattern, text, re.IGNORECASE):
            return str(sentence(settings, text) if callable(sentence) else sentence)
    return None


def _own(settings: Settings, _text: str) -> str:
    """Why a broker may refuse our certificate: the broker itself does not say."""
    path = settings.kafka_certificate
    if path is None:
        return "the broker asks for a certificate, and this process has none: set GOODFAITH_KAFKA_CERTIFICATE and GOODFAITH_KAFKA_KEY"
    with contextlib.suppress(OSError, ValueError):
        mine = x509.load_pem_x509_certificate(path.read_bytes())
        now = dt.datetime.now(dt.UTC)
        if now > mine.not_valid_after_utc:
            return f"this process's certificate ({path}) expired at {mine.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: renew it"
        if now < mine.not_valid_before_utc:
            return f"this process's certificate ({path}) is not valid before {mine.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return f"the broker does not take this process's certificate ({path}): have it signed by an authority that the brokers know"


def _name(settings: Settings, text: str) -> str:
    found = re.search(r"(?:Hostname mismatch|IP address mismatch)[^(]*'([^']{1,200})'", text)
    which = f" {found[1]!r}" if found else " of GOODFAITH_KAFKA"
    return f"the broker's certificate is not for the name{which}: name the broker as its certificate does, or have one issued for this name"


def _unknown(settings: Settings, _text: str) -> str:
    place = (
        f"the authorities in GOODFAITH_KAFKA_CA ({settings.kafka_ca})"
        if settings.kafka_ca
        else "the system's authorities (GOODFAITH_KAFKA_CA is not set)"
    )
    return f"the broker's certificate is not vouched for by {place}: add the authority that issued it"


_SENTENCES: Final[tuple[tuple[str, Any], ...]] = (
    (
        r"certificate has expired",
        "the broker's certificate has expired: renew it at the broker (or mend this machine's clock)",
    ),
    (r"certificate is not yet valid", "the broker's certificate is not valid yet: mend the clocks"),
    (r"hostname mismatch|IP address mismatch|doesn't match", _name),
    (r"CERTIFICATE_VERIFY_FAILED", _unknown),
    (
        r"ALERT_(CERTIFICATE|BAD_CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)|alert (bad|certificate|unknown ca)|certificate required",
        _own,
    ),
    (
        r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|unknown protocol",
        "the broker does not speak TLS at this address: name its TLS listener in GOODFAITH_KAFKA",
    ),
    (
        r"UnsupportedSaslMechanism|unsupported sasl mechanism|Kafka broker does not support|IllegalSaslState",
        f"the broker's listener does not take {MECHANISM}: name another in GOODFAITH_KAFKA, or set GOODFAITH_KAFKA_SECURITY=tls",
    ),
)


def why(settings: Settings) -> str | None:
    """Why the brokers and this process refuse each other; None if they do not, or if no broker can be reached.

    Greets each broker once until one answers. One that refuses is logged and does not keep us from the others: of
    three with their own certificates, one may have expired.

    The clients do not tell. A broker that refuses a login says so and hangs up, and kafka-python 3.0.12 reads nothing
    that arrives together with the end of a connection; about certificates, both clients only say that they could not
    connect.
    """
    if settings.kafka_security == "plaintext":
        return None
    try:
        context = Context(settings)
    except LinkRefused as refused:
        return str(refused)
    refusing: dict[str, str] = {}
    for host, port in _servers(settings):
        try:
            _greet(settings, context, host, port)
        except (OSError, ValueError, KafkaError) as error:
            if reason := _said(settings, error):
                refusing[f"{host}:{port}"] = reason
        else:
            for server, reason in refusing.items():
                if seldom(f"{server}: {reason}"):
                    _LOG.warning("refused by %s, taken by another broker: %s", server, reason)
            return None
    return next(iter(refusing.values()), None)


def _servers(settings: Settings) -> Iterator[tuple[str, int]]:
    for server in settings.kafka.split(","):
        host, _, port = server.strip().rpartition(":")
        yield host.strip("[]"), int(port)


def _greet(settings: Settings, context: ssl.SSLContext, host: str, port: int) -> None:
    """Connect, make one request (with TLS 1.3 a certificate is refused only then), and log in.

    Raises:
        OSError: refused or unreachable; ``ssl.SSLError`` is one.
        kafka.errors.KafkaError: the login is refused.
    """
    with (
        socket.create_connection((host, port), PROBE_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as line,
    ):
        protocol = KafkaProtocol(client_id="goodfaith-greeting")

        def ask(request: Any, version: int) -> Any:
            request.API_VERSION = version
            protocol.send_request(request)
            line.sendall(protocol.send_bytes())
            while True:
                data = line.recv(65_536)
                if not data:
                    raise ConnectionError("the broker hung up")
                for _, answer in protocol.receive_bytes(data):
                    return answer

        ask(ApiVersionsRequest(), 0)
        if settings.kafka_security != "sasl_tls":
            return
        shaken = ask(SaslHandshakeRequest(MECHANISM), 1)
        if shaken.error_code:
            raise for_code(shaken.error_code)(f"unsupported SASL mechanism {MECHANISM}")
        scram = SaslMechanismScram(**_security(settings))
        while not scram.is_done():
            answer = ask(SaslAuthenticateRequest(scram.auth_bytes()), 1)
            if answer.error_code:
                raise for_code(answer.error_code)(answer.error_message)
            scram.receive(answer.auth_bytes)


# ------------------------------------------------------------------------------------------------------------------ logs


class Filter(logging.Filter):
    """Replaces the clients' many lines about a refused link by one in our words, without tracebacks.

    Their other lines pass unchanged, each at most once a minute.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._refused_at = -CAME_OF_IT_S

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        if not record.name.startswith(("kafka", "aiokafka", "faust", "mode")):
            return True
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" {record.exc_info[1]}"
        reason = _said(self._settings, text)
        if reason is None:
            # consequences of a refusal, such as "closed" and "unable to bootstrap", and lines that repeat
            return time.monotonic() - self._refused_at > CAME_OF_IT_S and seldom(f"{record.name} {record.msg}")
        self._refused_at = time.monotonic()
        record.msg, record.args, record.exc_info, record.exc_text = f"broker refused: {reason}", (), None, None
        return seldom(reason)


def listen(settings: Settings, handler: logging.Handler) -> None:
    """If links are secured, put the clients' lines about refused ones into our words and log none twice a minute."""
    if settings.kafka_security != "plaintext":
        handler.addFilter(Filter(settings))
