"""Links to the broker: settings turned into clients, in this one place, and what is wrong with a link said in one sentence.

Certificates, authorities and passwords are read again for each connection, so that those that were exchanged are taken up
without a restart. kafka-python and aiokafka try a link that is refused again and again and say so each time; what they say
is put into our words here, and said once a minute.
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

from shared.logs import seldom
from shared.settings import Settings

_LOG: Final = logging.getLogger(__name__)
MECHANISM: Final = "SCRAM-SHA-512"
PROTOCOLS: Final = {"plaintext": "PLAINTEXT", "tls": "SSL", "sasl_tls": "SASL_SSL"}
PROBE_S: Final = 5.0
CAME_OF_IT_S: Final = 5.0
OFFSETS_S: Final = 30.0
"""Seconds for which an answer of all partitions is waited for, unless the caller says."""


class _Responses(dict[int, Any]):
    """kafka-python's response classes by API key, held for good.

    Version 3.0.12 registers a weak proxy of each class that it makes for a version of an API. When two threads use an
    API for the first time at once, each makes a class, one of the two is dropped, and it may be the registered one.
    From then on every answer of that kind would be an error, and the process could not reach the broker again.
    """

    def __setitem__(self, key: int, proxy: Any) -> None:
        super().__setitem__(key, next(made for made in proxy.mro() if getattr(made, "_class_version", None) is None))


_responses = _Responses()
for _key, _proxy in ResponseClassRegistry._response_class_registry.items():
    _responses[_key] = _proxy
ResponseClassRegistry._response_class_registry = _responses


class LinkRefused(KafkaError):  # type: ignore[misc]
    """The broker and this process do not trust each other; the message says which does not trust whom, and the cure."""

    def __str__(self) -> str:
        return str(self.args[0])


class Consumer(KafkaConsumer):  # type: ignore[misc]
    """kafka-python's, whose questions for offsets are answered for all partitions, or fail as errors of Kafka do.

    Version 3.0.12 asks for those partitions alone whose leader it knows, if it knows one of them; of the others (a topic that it is
    asked for the first time, an election) it then misses the answer with a ``KeyError``. It has learned of them when it is asked again.
    """

    def beginning_offsets(self, partitions: Sequence[TopicPartition], timeout_ms: int | None = None) -> Any:
        """As kafka-python's; ``KafkaTimeoutError`` after ``timeout_ms`` or ``OFFSETS_S``."""
        return _complete(super().beginning_offsets, partitions, timeout_ms)

    def end_offsets(self, partitions: Sequence[TopicPartition], timeout_ms: int | None = None) -> Any:
        """As kafka-python's; ``KafkaTimeoutError`` after ``timeout_ms`` or ``OFFSETS_S``."""
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
    """Of TLS to the broker, made of what the files say when a connection begins.

    Args:
        settings: whose paths are followed.

    Raises:
        LinkRefused: at a connection, and at once: a file is missing or not what it should be.
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
        """As of now."""
        return self._now().wrap_socket(*args, **options)

    def wrap_bio(self, *args: Any, **options: Any) -> Any:
        """As of now."""
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
            # a callback, so that a key that is encrypted is an error and not a question on the terminal
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
    """What every client of kafka-python is given: where the broker is, and how the link is secured.

    Raises:
        LinkRefused: a file that the settings name is missing or not what it should be.
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
    """A consumer of kafka-python.

    Raises:
        LinkRefused: broker and process do not trust each other.
        kafka.errors.KafkaError: the broker cannot be reached.
    """
    return _made(settings, lambda: Consumer(**arguments(settings), **options))


def producer(settings: Settings, **options: Any) -> Any:
    """A producer of kafka-python; raises what ``consumer`` does."""
    return _made(settings, lambda: KafkaProducer(**arguments(settings), **options))


def admin(settings: Settings, **options: Any) -> Any:
    """An admin client of kafka-python; raises what ``consumer`` does."""
    return _made(settings, lambda: KafkaAdminClient(**arguments(settings), **options))


def nodes(client: Any) -> int:
    """Brokers that are there and not fenced, as an admin client is told.

    Not by its ``describe_cluster``, which always asks as well what the caller may do with the cluster: the broker notes each
    time that it was refused to whoever may do nothing with it.

    Raises:
        kafka.errors.KafkaError: the broker is away, or does not say.
    """
    # public nowhere in kafka-python 3.0.12
    answer = client._manager.run(client._manager.send, DescribeClusterRequest())
    if answer.error_code:
        raise for_code(answer.error_code)(answer.error_message)
    return len(answer.brokers)


def aio_consumer(settings: Settings, **options: Any) -> Any:
    """A consumer of aiokafka, not started. Why its start fails: ``why``."""
    from aiokafka import AIOKafkaConsumer  # the stream views alone use it

    return AIOKafkaConsumer(bootstrap_servers=settings.kafka, **_security(settings), **options)


def aio_producer(settings: Settings, **options: Any) -> Any:
    """A producer of aiokafka, not started. Why its start fails: ``why``."""
    from aiokafka import AIOKafkaProducer

    return AIOKafkaProducer(bootstrap_servers=settings.kafka, **_security(settings), **options)


def faust_options(settings: Settings) -> dict[str, Any]:
    """Options of a Faust application: its brokers, and its credentials where there are any."""
    # Faust is heavy, and the services have no use for it
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
    """By topic its id, as a consumer's last metadata have it; those that it does not know are left out."""
    # public nowhere in kafka-python 3.0.12
    found = {name: client._cluster.topic_id(name) for name in names}
    return {name: str(id_) for name, id_ in found.items() if id_ is not None}


def partition_counts(client: Any, names: Iterable[str]) -> dict[str, int]:
    """By topic how many partitions it has, as a consumer's last metadata have it; 0: they do not have it."""
    # the public call asks the broker for what is missing, and waits
    return {name: len(client._cluster.partitions_for_topic(name) or ()) for name in names}


def group_members(settings: Settings, group: str, names: Container[str]) -> tuple[str, dict[str, set[tuple[str, int]]]]:
    """A group's state, and by member the partitions of these topics that it has.

    Raises:
        kafka.errors.KafkaError: the broker is away, or does not say.
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
    """Read on at an offset; with the leader epoch of the record before it (-1: not known), a log that was cut off is noticed (KIP-320).

    Raises:
        ValueError: the partition is not assigned.
    """
    # the public `seek` of kafka-python 3.0.12 takes no epoch
    consumer.seek(place, offset)
    if leader_epoch >= 0:
        consumer._subscription.seek(place, OffsetAndMetadata(offset, "", leader_epoch))


def committed(consumer: Any, places: list[Any]) -> dict[Any, Any]:
    """What the consumer's group has committed, with metadata, by place: in one request, which the public method makes for each.

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
    """What an error of a client says of the link; None when it is not about trust."""
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
    """Why a broker may not take a certificate of ours: of its own it only says that it does not."""
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
    (r"certificate has expired", "the broker's certificate has expired: renew it at the broker (or mend this machine's clock)"),
    (r"certificate is not yet valid", "the broker's certificate is not valid yet: mend the clocks"),
    (r"hostname mismatch|IP address mismatch|doesn't match", _name),
    (r"CERTIFICATE_VERIFY_FAILED", _unknown),
    (r"ALERT_(CERTIFICATE|BAD_CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)|alert (bad|certificate|unknown ca)|certificate required", _own),
    (r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|unknown protocol", "the broker does not speak TLS at this address: name its TLS listener in GOODFAITH_KAFKA"),
    (
        r"UnsupportedSaslMechanism|unsupported sasl mechanism|Kafka broker does not support|IllegalSaslState",
        f"the broker's listener does not take {MECHANISM}: name another in GOODFAITH_KAFKA, or set GOODFAITH_KAFKA_SECURITY=tls",
    ),
)  # fmt: skip


def why(settings: Settings) -> str | None:
    """What keeps a process and its brokers apart, found by greeting each once until one answers; None: nothing, or they are away.

    One that refuses is logged, and keeps nobody from the others: of three with their own certificates one may have expired.
    It has to be asked for: a broker that refuses a login says so and hangs up, and of what comes together with the end of a
    connection kafka-python 3.0.12 reads nothing; of certificates both clients only say that they could not connect.
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
    """Connect, have a question answered (with TLS 1.3 a certificate is refused only then), and log in.

    Raises:
        OSError: refused, or not reached; ``ssl.SSLError`` is one.
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
    """Has the clients' many lines about a link that is refused said once, in our words, without their tracebacks.

    Other lines of theirs pass as they are, each once a minute.
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
            # what came of a refusal, such as "closed" and "unable to bootstrap", and what is said again and again
            return time.monotonic() - self._refused_at > CAME_OF_IT_S and seldom(f"{record.name} {record.msg}")
        self._refused_at = time.monotonic()
        record.msg, record.args, record.exc_info, record.exc_text = f"broker refused: {reason}", (), None, None
        return seldom(reason)


def listen(settings: Settings, handler: logging.Handler) -> None:
    """Put the clients' lines about refused links into our words, where links are secured, and have no line twice a minute."""
    if settings.kafka_security != "plaintext":
        handler.addFilter(Filter(settings))
