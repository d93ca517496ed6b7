"""Calls to real servers, without broker and database: what comes of each, and where none goes."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from standardwebhooks import Webhook, WebhookVerificationError

from services.intake.accounts.webhooks import new_secret
from services.notification.calling import (
    BatchEnded,
    Call,
    CallBatch,
    Caller,
    CallResult,
    ChallengeCall,
    PrivateAddress,
    opener,
)
from services.notification.circuit import Circuit, succeeded
from services.notification.render import Rendered
from services.notification.retrying import Answer
from services.notification.types import Message
from services.notification.webhook_store import DueDelivery
from shared.outbound import Rules
from shared.settings import Settings
from tests.integration.hooks import Hooks
from tests.patience import PATIENCE_S

NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
LOOPBACK: dict[str, Any] = {
    "webhook_networks": ("127.0.0.0/8",),
    "webhook_http": True,
    "webhook_ports": (),
    "webhook_timeout_s": 1.0,
}


class Zone:
    """Names whose addresses may change from look-up to look-up."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = deque(answers)

    async def addresses(self, host: str) -> Sequence[str]:
        return self._answers.popleft() if len(self._answers) > 1 else self._answers[0]


@pytest.fixture(scope="module")
def hooks() -> Iterator[Hooks]:
    hooks = Hooks().start()
    yield hooks
    hooks.stop()


def batch(url: str, *ids: str, secrets: Sequence[str] = (), circuit: Circuit | None = None) -> CallBatch:
    """Messages for one endpoint."""
    made = CallBatch("w-1", "a-1", 1, circuit or Circuit(), url, secrets or [new_secret()])
    for id_ in ids or ("m-1",):
        due = DueDelivery(id_, False, 0, NOW, False)
        message = Message(id_, "c", "a-1", "outcome", False, 0, NOW)
        made.calls.append(Call(due, message, b'{"type":"outcome"}', "", Rendered("", "", "outcome", 1)))
    made.until = time.monotonic() + PATIENCE_S
    return made


def call(*batches: CallBatch, names: Any = None, wait_s: float = 20.0, **values: Any) -> list[Answer]:
    """What comes of them."""
    caller = Caller(Settings(**{**LOOPBACK, **values}), names=names)
    caller.start(batches)
    found: list[CallResult | BatchEnded] = []
    until = time.monotonic() + wait_s
    while sum(isinstance(one, BatchEnded) for one in found) < len(batches):
        assert time.monotonic() < until
        caller.news.wait(0.05)
        found += caller.drain()
    caller.close(1)
    return [one.answer for one in found if isinstance(one, CallResult)]


def test_a_call_is_signed_by_each_secret_and_a_receiver_sees_what_was_altered(hooks: Hooks) -> None:
    secrets = [new_secret(), new_secret()]
    (answer,) = call(batch(hooks.url("/ok/signed"), secrets=secrets))
    assert answer.outcome == "delivered"
    (one,) = hooks.at("/ok/signed")
    for secret in secrets:
        assert Webhook(secret).verify(one.body, one.headers) == {"type": "outcome"}
    late = {**one.headers, "webhook-timestamp": str(int(time.time()) - 600)}
    for body, headers, key in (
        (one.body + b" ", one.headers, secrets[0]),
        (one.body, late, secrets[0]),
        (one.body, one.headers, new_secret()),
        (one.body, {**one.headers, "webhook-id": "m-2"}, secrets[0]),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(key).verify(body, headers)


def test_a_receiver_with_a_wrong_clock_refuses_and_is_tried_again(hooks: Hooks) -> None:
    """Its answer is a failure like any other; the next call carries a time of its own."""
    hooks.check = lambda one: 204 if abs(time.time() + 3600 - int(one.headers["webhook-timestamp"])) < 300 else 401
    (answer,) = call(batch(hooks.url("/ok/clock")))
    hooks.check = None
    assert (answer.outcome, answer.reason) == ("failed", "401")


@pytest.mark.parametrize("path", ["/redirect", "/back"])
def test_redirects_lead_nowhere(hooks: Hooks, path: str) -> None:
    (answer,) = call(batch(hooks.url(path)))
    assert answer.outcome == "failed"
    assert answer.status in (302, 307)
    assert not hooks.at("/ok/inner")


def test_answers_that_are_late_or_lost_leave_the_outcome_unknown(hooks: Hooks) -> None:
    answers = call(batch(hooks.url("/hang/a")), batch(hooks.url("/lost")))
    assert sorted((answer.outcome, answer.reason) for answer in answers) == [
        ("unknown", "broken"),
        ("unknown", "timeout"),
    ]
    hooks.let_go()


def test_what_was_never_sent_is_known_to_have_failed() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        (answer,) = call(batch(f"http://127.0.0.1:{taken.getsockname()[1]}/"))
    assert (answer.outcome, answer.reason) == ("failed", "unreachable")


def test_an_answer_of_a_gigabyte_is_not_read(hooks: Hooks) -> None:
    (answer,) = call(batch(hooks.url("/big")))
    assert answer.outcome == "delivered"
    assert hooks.written < 16 << 20  # what kernels buffer


def test_interim_answers_without_end_are_broken_off(hooks: Hooks) -> None:
    (answer,) = call(batch(hooks.url("/continue/flood")))
    assert (answer.outcome, answer.reason) == ("unknown", "broken")
    assert hooks.flooded < 16 << 20  # what kernels buffer


def test_what_cannot_even_be_signed_is_a_failure_and_no_end(hooks: Hooks) -> None:
    (answer,) = call(batch(hooks.url("/ok/unsigned"), secrets=["whsec_"]))
    assert (answer.outcome, answer.reason) == ("failed", "failed")
    assert not hooks.at("/ok/unsigned")


def test_after_a_failure_the_rest_waits(hooks: Hooks) -> None:
    made = batch(hooks.url("/fail/rest"), "m-1", "m-2", "m-3")
    assert [answer.outcome for answer in call(made)] == ["failed"]
    assert [call.due.message for call in made.calls] == ["m-2", "m-3"]


def test_two_calls_at_a_time_to_one_that_took_the_last(hooks: Hooks) -> None:
    made = batch(hooks.url("/hang/two"), "m-1", "m-2", "m-3", circuit=succeeded())
    call(made)
    hooks.let_go()
    assert hooks.most_open["/hang/two"] == 2
    assert len(hooks.at("/hang/two")) == 2


@pytest.mark.parametrize(
    ("names", "url"),
    [
        (Zone(["127.0.0.1"]), "http://hook.example:{port}/ok/inner"),
        (Zone(["1.1.1.1", "127.0.0.1"]), "http://hook.example:{port}/ok/inner"),
        (Zone(["::ffff:127.0.0.1"]), "http://hook.example:{port}/ok/inner"),
        (Zone(["64:ff9b::7f00:1"]), "http://hook.example:{port}/ok/inner"),
        (None, "http://127.0.0.1:{port}/ok/inner"),
        (None, "http://[::ffff:127.0.0.1]:{port}/ok/inner"),
    ],
)
def test_an_address_that_is_inner_by_now_is_not_called(hooks: Hooks, names: Any, url: str) -> None:
    """Whatever was so when it was registered: it is looked at again, by its name and by the address itself."""
    (answer,) = call(batch(url.format(port=hooks.port)), names=names, webhook_networks=())
    assert (answer.outcome, answer.reason) == ("failed", "url_private")
    assert not hooks.at("/ok/inner")


def asked(url: str, **values: Any) -> Answer:
    """What comes of a question to a webhook's owner."""
    caller = Caller(Settings(**{**LOOPBACK, **values}))
    caller.challenge([ChallengeCall("w-1", 1, url, [new_secret()], b"{}")])
    until = time.monotonic() + PATIENCE_S
    while not (found := caller.challenge_answers()):
        assert time.monotonic() < until
        time.sleep(0.01)
    caller.close(1)
    ((call, answer),) = found
    assert (call.endpoint, call.id) == ("w-1", "w-1.1")
    return answer


def test_a_question_to_an_owner_goes_no_other_way(hooks: Hooks) -> None:
    """It keeps to the rules of all calls."""
    assert asked(hooks.url("/ok/asked")).outcome == "delivered"
    assert hooks.at("/ok/asked")[0].id == "w-1.1"
    assert asked(hooks.url("/ok/inner"), webhook_networks=()).reason == "url_private"
    assert asked(hooks.url("/back")).reason == "302"
    assert asked(hooks.url("/hang/asked")).outcome == "unknown"
    hooks.let_go()
    assert not hooks.at("/ok/inner")


def test_the_address_that_was_looked_at_is_the_one_that_is_called(hooks: Hooks) -> None:
    """A name that has another address at each look-up (DNS rebinding): it is looked up once for a call."""
    zone = Zone(["127.0.0.1"], ["10.0.0.1"])
    (answer,) = call(batch(f"http://hook.example:{hooks.port}/ok/rebound"), names=zone)
    assert answer.outcome == "delivered"
    assert hooks.at("/ok/rebound")[0].headers["host"] == f"hook.example:{hooks.port}"


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "::ffff:10.0.0.1", "fe80::1"])
def test_a_socket_goes_to_no_inner_address(address: str) -> None:
    version = ipaddress.ip_address(address).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with pytest.raises(PrivateAddress):
        opener(Rules())((family, socket.SOCK_STREAM, 6, "", (address, 443)))
    opener(Rules())((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("1.1.1.1", 443))).close()


def certificate(folder: Path, *names: str) -> tuple[Path, ssl.SSLContext]:
    """An authority's certificate, and a server that it vouches for, at 127.0.0.1 and by these names."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test")])
    now = dt.datetime.now(dt.UTC)
    own: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), *map(x509.DNSName, names)]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(own), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert, secret = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, secret)
    return cert, context


def test_only_a_server_that_is_vouched_for_is_told(tmp_path: Path) -> None:
    cert, context = certificate(tmp_path)
    hooks = Hooks(ssl_context=context).start()
    try:
        (refused,) = call(batch(hooks.url("/ok/tls")))
        assert (refused.outcome, refused.reason) == ("failed", "tls")
        assert not hooks.received
        (taken,) = call(batch(hooks.url("/ok/tls")), webhook_ca=cert)
        assert taken.outcome == "delivered"
        (other,) = call(batch(f"https://hook.example:{hooks.port}/ok/tls"), names=Zone(["127.0.0.1"]), webhook_ca=cert)
        assert (other.outcome, other.reason) == ("failed", "tls")
    finally:
        hooks.stop()
