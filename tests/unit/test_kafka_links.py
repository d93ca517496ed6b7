"""What clients of the broker are given, and what is said when a link is refused: without a broker, by TLS in memory."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import logging
import re
import ssl
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiokafka.conn import ScramAuthenticator
from kafka.errors import KafkaTimeoutError
from kafka.net.sasl.scram import SaslMechanismScram
from kafka.protocol.api_header import ResponseClassRegistry
from kafka.protocol.metadata import MetadataResponse

from deploy.local.authority import Authority, Issued
from shared import kafka_links, logs
from shared.kafka_links import Context, Filter, LinkRefused, _complete, _said
from shared.settings import Settings

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def trusted(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "trusted")


def tls(authority: Authority, own: Issued | None = None) -> Settings:
    return Settings(
        kafka="broker.example:9093",
        kafka_security="tls",
        kafka_ca=authority.certificate,
        kafka_certificate=own and own.certificate,
        kafka_key=own and own.key,
    )


def sasl(tmp_path: Path, authority: Authority) -> Settings:
    (tmp_path / "user").write_text("goodfaith-intake")
    (tmp_path / "password").write_text("first-password\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOODFAITH_KAFKA_USER_FILE", str(tmp_path / "user"))
        patch.setenv("GOODFAITH_KAFKA_PASSWORD_FILE", str(tmp_path / "password"))
        return Settings(kafka_security="sasl_tls", kafka_ca=authority.certificate)


def shake_hands(
    client: ssl.SSLContext, server: Issued, name: str, asks: Path | None = None, version: ssl.TLSVersion | None = None
) -> str:
    """The common name that the server sees of the client ("" for none), or raises what the client meets."""
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    other.load_cert_chain(server.certificate, server.key)
    if asks is not None:
        other.load_verify_locations(asks)
        other.verify_mode = ssl.CERT_REQUIRED
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=name)
    far = other.wrap_bio(to_server, to_client, server_side=True)
    refused: ssl.SSLError | None = None
    for _ in range(10):
        for step in (near.do_handshake, far.do_handshake):
            try:
                step()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                if step == near.do_handshake:
                    raise
                refused = error
    if refused is not None:
        near.read(1)  # TLS 1.3: the alert comes after the handshake
    seen = far.getpeercert()
    return str(dict(part[0] for part in seen["subject"])["commonName"]) if seen else ""  # type: ignore[misc]


def why(settings: Settings, server: Issued, name: str = "broker.example", asks: Path | None = None) -> str:
    with pytest.raises(ssl.SSLError) as caught:
        shake_hands(Context(settings), server, name, asks)
    said = _said(settings, f"Handshake failed: {caught.value}")
    assert said is not None
    assert _said(settings, caught.value) == said
    return said


def test_plain_links_are_given_nothing() -> None:
    assert kafka_links.arguments(Settings(kafka="a:1,b:2")) == {"bootstrap_servers": "a:1,b:2"}
    assert kafka_links.faust_options(Settings(kafka="a:1,b:2")) == {"broker": ["kafka://a:1", "kafka://b:2"]}


def test_a_broker_that_is_vouched_for_is_trusted(trusted: Authority) -> None:
    server = trusted.issue("broker", ["broker.example", "127.0.0.1"])
    for name in ("broker.example", "127.0.0.1"):
        assert shake_hands(Context(tls(trusted)), server, name) == ""


def test_one_showing_its_certificate_is_known_by_it(trusted: Authority) -> None:
    server, own = trusted.issue("broker", ["broker.example"]), trusted.issue("goodfaith-intake")
    assert shake_hands(Context(tls(trusted, own)), server, "broker.example", trusted.certificate) == "goodfaith-intake"


def test_each_refusal_is_one_sentence_with_its_cure(trusted: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger", "somebody else")
    good = trusted.issue("broker", ["broker.example"])
    past = NOW - dt.timedelta(hours=1)
    assert "certificate has expired: renew it at the broker" in why(
        tls(trusted), trusted.issue("old", ["broker.example"], ends=past)
    )
    unknown = why(tls(trusted), stranger.issue("broker", ["broker.example"]))
    assert "not vouched for by the authorities in GOODFAITH_KAFKA_CA" in unknown
    assert "is not for the name 'elsewhere.example'" in why(tls(trusted), good, "elsewhere.example")
    assert "is not for the name '10.0.0.7'" in why(tls(trusted), good, "10.0.0.7")
    asks = trusted.certificate
    assert "asks for a certificate, and this process has none" in why(tls(trusted), good, asks=asks)
    assert re.search(
        r"this process's certificate .* expired at \d{4}-",
        why(tls(trusted, trusted.issue("me", ends=past)), good, asks=asks),
    )
    assert "have it signed by an authority" in why(tls(trusted, stranger.issue("me")), good, asks=asks)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:992)", "does not speak TLS"),
        ("Kafka broker does not support SCRAM-SHA-512 sasl mechanism", "listener does not take SCRAM-SHA-512"),
        (
            "[Error 58] SaslAuthenticationFailedError: Authentication failed during authentication due to invalid credentials",
            "does not take user 'goodfaith-intake' with this password",
        ),
    ],
)
def test_what_clients_say_is_understood(text: str, says: str, tmp_path: Path, trusted: Authority) -> None:
    settings = sasl(tmp_path, trusted)
    said = _said(settings, text)
    assert said is not None
    assert says in said
    assert "first-password" not in said
    assert _said(Settings(), text) is None


def test_what_is_not_about_trust_is_left_alone(trusted: Authority) -> None:
    for text in (
        "Connection refused",
        "Unable to bootstrap from broker.example:9093",
        "Request timed out after 30000 ms",
    ):
        assert _said(tls(trusted), text) is None


def test_files_that_are_not_what_they_should_be_are_refused(trusted: Authority, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    one, another = trusted.issue("one"), trusted.issue("another")
    mixed = Issued(one.certificate, another.key, one.both)
    for settings, says in (
        (tls(trusted).model_copy(update={"kafka_ca": tmp_path / "missing"}), "GOODFAITH_KAFKA_CA names .*No such file"),
        (tls(trusted).model_copy(update={"kafka_ca": tmp_path / "no.pem"}), "GOODFAITH_KAFKA_CA names .*no PEM file"),
        (tls(trusted, mixed), "GOODFAITH_KAFKA_CERTIFICATE and _KEY .*no certificate and its unencrypted key"),
    ):
        with pytest.raises(LinkRefused, match=says):
            kafka_links.arguments(settings)


def test_what_is_exchanged_is_taken_up_by_the_next_connection(trusted: Authority, tmp_path: Path) -> None:
    following = Authority(tmp_path / "following", "the next one")
    server, next_server = trusted.issue("broker", ["b.example"]), following.issue("broker", ["b.example"])
    own = trusted.issue("me", folder=tmp_path)
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(trusted.certificate.read_bytes())
    settings = tls(trusted, own).model_copy(update={"kafka_ca": bundle})
    context = Context(settings)
    assert shake_hands(context, server, "b.example", trusted.certificate) == "me"
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(context, next_server, "b.example")
    # both are trusted for a while; then the old one no more
    bundle.write_bytes(trusted.certificate.read_bytes() + following.certificate.read_bytes())
    assert shake_hands(context, server, "b.example", bundle) == "me"
    assert shake_hands(context, next_server, "b.example", bundle) == "me"
    following.issue("me", folder=tmp_path)
    bundle.write_bytes(following.certificate.read_bytes())
    assert shake_hands(context, next_server, "b.example", following.certificate) == "me"
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(context, server, "b.example")


def test_both_clients_read_user_and_password_for_each_connection(tmp_path: Path, trusted: Authority) -> None:
    settings = sasl(tmp_path, trusted)
    given = kafka_links.arguments(settings)
    assert "first-password" not in repr(given)

    def told() -> list[tuple[bytes, bytes]]:
        one = SaslMechanismScram(**given)._scram_client
        other = ScramAuthenticator(
            loop=None,
            sasl_plain_username=given["sasl_plain_username"],
            sasl_plain_password=given["sasl_plain_password"],
            sasl_mechanism="SCRAM-SHA-512",
        )
        user = re.fullmatch(r"n,,n=([^,]+),r=.*", other.first_message())
        assert user is not None
        return [(one.user, one.password), (user[1].encode(), other._sasl_plain_password)]

    assert told() == [(b"goodfaith-intake", b"first-password")] * 2
    (tmp_path / "user").write_text("goodfaith-other.intake")
    (tmp_path / "password").write_text("second-password")
    assert told() == [(b"goodfaith-other.intake", b"second-password")] * 2


def test_aiokafka_and_faust_are_given_the_same(tmp_path: Path, trusted: Authority) -> None:
    settings = sasl(tmp_path, trusted)
    options = kafka_links.faust_options(settings)
    credentials = options["broker_credentials"]
    assert credentials.protocol.value == "SASL_SSL"
    assert credentials.mechanism.value == "SCRAM-SHA-512"
    assert credentials.password.read() == "first-password"

    async def make() -> None:
        for client, inner in (
            (kafka_links.aio_consumer(settings), "_client"),
            (kafka_links.aio_producer(settings), "client"),
        ):
            assert getattr(client, inner)._security_protocol == "SASL_SSL"
            assert isinstance(getattr(client, inner)._ssl_context, Context)
            await client.stop()

    asyncio.run(make())


def test_many_lines_of_the_clients_are_one(trusted: Authority, caplog: pytest.LogCaptureFixture) -> None:
    logs._said.clear()
    caplog.handler.addFilter(only := Filter(tls(trusted)))
    try:
        for _ in range(20):
            kafka = logging.getLogger("kafka.net.manager")
            kafka.error(
                "Connection failed: %s",
                "Handshake failed: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:992)",
            )
            kafka.error("Bootstrap failed: %s", "Unable to bootstrap from broker.example:9093")
            logging.getLogger("aiokafka").error(
                "Unable connect to %s: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired",
                "b",
            )
        logging.getLogger("shared.runtime").warning("another's line")
    finally:
        caplog.handler.removeFilter(only)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "broker refused: the broker's certificate has expired: renew it at the broker (or mend this machine's clock)",
        "another's line",
    ]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"kafka_security": "sasl_tls"}, "needs GOODFAITH_KAFKA_USER and GOODFAITH_KAFKA_PASSWORD"),
        ({"kafka_security": "tls", "kafka_key": "k"}, "set both or neither"),
        ({"kafka_ca": "ca.pem"}, "of no use with GOODFAITH_KAFKA_SECURITY=plaintext"),
        ({"kafka_principal": "all"}, "kafka_principal"),
        ({"kafka_user": "a,b=c"}, "kafka_user"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Settings(**values)  # type: ignore[arg-type]


def test_an_answer_that_lacks_a_partition_is_asked_for_again_until_it_is_late() -> None:
    answers: list[dict[str, int] | None] = [None, None, {"p": 7}]

    def ask(_partitions: object, _timeout_ms: int | None) -> dict[str, int]:
        found = answers.pop(0)
        if found is None:
            raise KeyError("p")
        return found

    assert _complete(ask, [], None) == {"p": 7}
    answers += [None] * 10_000
    with pytest.raises(KafkaTimeoutError, match="no leader is known of 'p'"):
        _complete(ask, [], 50)


def test_one_broker_that_refuses_keeps_nobody_from_the_others(
    trusted: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended = ssl.SSLCertVerificationError("certificate verify failed: certificate has expired")
    takes = {"a": ended, "b": OSError("away"), "c": None}

    def greet(_settings: Settings, _context: ssl.SSLContext, host: str, _port: int) -> None:
        if (error := takes[host]) is not None:
            raise error

    monkeypatch.setattr(kafka_links, "_greet", greet)
    logs._said.clear()
    settings = tls(trusted).model_copy(update={"kafka": "a:1,b:2,c:3"})
    assert kafka_links.why(settings) is None
    assert kafka_links.why(settings) is None
    assert [record.getMessage() for record in caplog.records if "a:1" in record.getMessage()] == [
        "refused by a:1, taken by another broker: the broker's certificate has expired: renew it at the broker (or mend this"
        " machine's clock)"
    ], "once a minute"
    takes["c"] = ended
    assert "has expired" in str(kafka_links.why(settings))
    takes |= {"a": OSError("away"), "c": OSError("away")}
    assert kafka_links.why(settings) is None, "they are away, which is no refusal"


def test_a_response_class_outlives_a_race_of_two_threads_that_make_it() -> None:
    """In kafka-python 3.0.12 the registry keeps the class made last, weakly, while ``_VERSIONS`` may keep the other."""
    made = MetadataResponse._VERSIONS.pop(9, None)
    try:
        first = MetadataResponse[9]
        del MetadataResponse._VERSIONS[9]
        MetadataResponse[9]
        MetadataResponse._VERSIONS[9] = first
        gc.collect()
        header = SimpleNamespace(request_api_key=MetadataResponse.API_KEY, request_api_version=9)
        assert ResponseClassRegistry.get_response_class(header) is first
    finally:
        if made is not None:
            MetadataResponse._VERSIONS[9] = made
