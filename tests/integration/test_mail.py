"""Mail on a real SMTP conversation: TLS, login, groups of commands; and what comes back: reports, and the other channel."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import email
import email.policy
import hashlib
import ipaddress
import signal
import smtplib
import ssl
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dkim
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from litestar.testing import TestClient
from prometheus_client import REGISTRY

from deploy.local.children import free_port
from deploy.mailbox.server import Server, ehlo, envelope_of, report
from services.notification import api
from services.notification.bounces import BounceHandler, serve
from services.notification.mail import Letter, Mailer, MailResult, Relay, RelayDown
from services.notification.reports import message_of, return_path
from shared import callers, internal
from shared.events import DeliveryChanged, MessageSent, NoticeSent, State
from tests.integration.test_notification import INNER, World, wait, world
from tests.patience import PATIENCE_S

__all__ = ["world"]
pytestmark = [
    pytest.mark.stack,
    pytest.mark.filterwarnings("ignore:The Result.tuples:sqlalchemy.exc.SADeprecationWarning"),
]
KEY = "k" * 40
DOMAIN = "market.example"


class Answers:
    """A server's answers: each recipient may be refused, and an answer or a connection be lost."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str, bytes, frozenset[str]]] = []
        self.refuse: dict[str, str] = {}
        self.lose: set[str] = set()
        self.handle_EHLO = ehlo

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        back, (to,), notify = envelope_of(envelope)
        self.taken.append((back, to, envelope.original_content, notify))
        if to in self.lose:
            self.lose.discard(to)
            server.transport.abort()
        return "250 2.0.0 OK"


@contextmanager
def listening(answers: Answers, *, port: int = 0, implicit: ssl.SSLContext | None = None, **more: Any) -> Iterator[int]:
    port = port or free_port(set())

    class Listening(Controller):
        def factory(self) -> Server:
            return Server(answers, hostname="mx", **more)

    controller = Listening(answers, hostname="127.0.0.1", port=port, ssl_context=implicit)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


def letter(n: int, to: str = "") -> Letter:
    return Letter(f"m-{n}", to or f"a{n}@x.example", f"back{n}@market.example", b"Subject: %d\r\n\r\n.text\r\n" % n)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PEM of a key and a certificate for 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mx")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "mx.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


def context_of(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def login(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    assert isinstance(data, LoginPassword)
    return AuthResult(success=(data.login, data.password) == (b"us", b"pass"), handled=False)


# ------------------------------------------------------------------------------------------------------------- lines


@pytest.mark.parametrize("tls", ["required", "opportunistic", "implicit"])
def test_tls_and_login(certificate: Path, tls: Any) -> None:
    answers = Answers()
    context = context_of(certificate)
    logs_in = tls == "required"
    more: dict[str, Any] = {}
    if tls != "implicit":
        more = {"tls_context": context, "require_starttls": True, "auth_required": logs_in, "authenticator": login}
    user, password = ("us", "pass") if logs_in else ("", "")
    with listening(answers, implicit=context if tls == "implicit" else None, **more) as port:
        mailer = Mailer(Relay("127.0.0.1", port, tls, str(certificate), user, password))
        assert [answer.result for answer in mailer.send([letter(1), letter(2)])] == ["sent", "sent"]
        mailer.quit()
        # a wrong password, and a certificate that nobody vouches for: nothing goes out
        if logs_in:
            with pytest.raises(RelayDown):
                list(Mailer(Relay("127.0.0.1", port, tls, str(certificate), "us", "no")).send([letter(3)]))
        if tls != "opportunistic":
            with pytest.raises(RelayDown):
                list(Mailer(Relay("127.0.0.1", port, tls, "", user, password)).send([letter(3)]))
    assert [to for _, to, _, _ in answers.taken] == ["a1@x.example", "a2@x.example"]


def test_required_means_required() -> None:
    answers = Answers()
    with listening(answers) as port:
        with pytest.raises(RelayDown, match="no STARTTLS"):
            list(Mailer(Relay("127.0.0.1", port, "required")).send([letter(1)]))
        opportunistic = Mailer(Relay("127.0.0.1", port, "opportunistic"))
        assert [answer.result for answer in opportunistic.send([letter(1)])] == ["sent"]
        opportunistic.quit()
    assert len(answers.taken) == 1
    for tls in ("off", "opportunistic"):
        with pytest.raises(ValueError, match="smtp_user"):
            Relay("mx.example", 25, tls, user="us", password="pass")


@pytest.mark.parametrize("pipelining", [True, False])
def test_one_recipients_refusal_is_nobody_elses(pipelining: bool) -> None:
    answers = Answers()
    if not pipelining:
        del answers.handle_EHLO
    answers.refuse = {
        "a2@x.example": "550 5.1.1 no such user",
        "a3@x.example": "451 4.2.2 full",
        "a6@x.example": "553 no",
    }
    with listening(answers) as port:
        mailer = Mailer(Relay("127.0.0.1", port, reports="all"))
        found = list(mailer.send([letter(n) for n in range(1, 8)]))
        mailer.quit()
    assert found == [
        MailResult("sent", text=True),
        MailResult("refused", "5.1.1"),
        MailResult("later", "4.2.2"),
        MailResult("sent", text=True),
        MailResult("sent", text=True),
        MailResult("refused", "553"),
        MailResult("sent", text=True),
    ]
    assert [(back, to) for back, to, _, _ in answers.taken] == [
        (f"back{n}@market.example", f"a{n}@x.example") for n in (1, 4, 5, 7)
    ]
    assert answers.taken[0][2] == b"Subject: 1\r\n\r\n.text\r\n"
    assert (answers.taken[0][3] >= {"SUCCESS", "DELAY"}) is pipelining


@pytest.mark.parametrize("pipelining", [True, False])
def test_a_lost_answer_leaves_one_message_unknown(pipelining: bool) -> None:
    answers = Answers()
    if not pipelining:
        del answers.handle_EHLO
    answers.lose = {"a2@x.example", "a3@x.example"}
    with listening(answers) as port:
        mailer = Mailer(Relay("127.0.0.1", port))
        found = [answer.result for answer in mailer.send([letter(n) for n in range(1, 6)])]
        mailer.quit()
    assert found == ["sent", "unknown", "unknown", "sent", "sent"]
    assert [to for _, to, _, _ in answers.taken] == [f"a{n}@x.example" for n in range(1, 6)]


def test_a_connection_that_the_server_closed_meanwhile_is_opened_again() -> None:
    answers = Answers()
    port = free_port(set())
    with listening(answers, port=port):
        mailer = Mailer(Relay("127.0.0.1", port))
        assert [answer.result for answer in mailer.send([letter(1)])] == ["sent"]
    with listening(answers, port=port):
        assert [answer.result for answer in mailer.send([letter(2)])] == ["sent"]
        mailer.quit()
    with pytest.raises(RelayDown):
        list(mailer.send([letter(3)]))


def test_letters_that_nobody_asked_for_leave_no_half_open_transaction() -> None:
    answers = Answers()
    with listening(answers) as port:
        mailer = Mailer(Relay("127.0.0.1", port))
        sending = mailer.send([letter(1), letter(2), letter(3)])
        assert next(sending).result == "sent"
        sending.close()
        assert [answer.result for answer in mailer.send([letter(4)])] == ["sent"]
        mailer.quit()
    assert [to for _, to, _, _ in answers.taken] == ["a1@x.example", "a4@x.example"]


# ------------------------------------------------------------------------------------------------------- what comes back


def counted(result: str) -> float:
    return REGISTRY.get_sample_value("goodfaith_bounces_total", {"result": result}) or 0.0


@contextmanager
def bounces(world: World, **more: Any) -> Iterator[int]:
    """The process that takes reports, in a thread."""
    port = free_port(set())
    settings = world.settings(mail_key=KEY, bounce_port=port, **more)
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()

    async def run() -> None:
        bounces = BounceHandler(settings)
        server = await serve(bounces, settings)
        ready.set()
        await stop.wait()
        server.close()
        bounces.close()
        await asyncio.sleep(0.05)

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    assert ready.wait(PATIENCE_S)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


def hand_over(port: int, to: str, raw: bytes) -> int:
    """Send a report; the last answer's code."""
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as smtp:
        try:
            smtp.sendmail("", [to], raw)
        except smtplib.SMTPRecipientsRefused as refused:
            return next(code for code, _ in refused.recipients.values())
        except smtplib.SMTPResponseException as refused:
            return refused.smtp_code
    return 250


def back(id_: str) -> str:
    return return_path(KEY, id_, DOMAIN)


def of(id_: str, outcome: str, reason: str) -> bytes:
    return report(
        to=back(id_), about="a@x.example", outcome=outcome, reason=reason, original=b"To: a@x.example\r\n\r\nx"
    )


def test_a_bounce_sends_the_notice_the_other_way_and_the_next_one_at_once(world: World) -> None:
    with world.running(mail_key=KEY), bounces(world) as port:
        world.claim(1)
        wait(world.idle)
        ((notice,),) = world.messages("id", "kind = 'seller_notice'")
        ((receipt,),) = world.messages("id", "kind = 'claim_receipt'")
        assert hand_over(port, back(receipt), of(receipt, "delivered", "2.1.5")) == 250
        assert hand_over(port, back(notice), of(notice, "delayed", "4.4.1")) == 250
        assert hand_over(port, back(notice).upper(), of(notice, "bounced", "5.1.1")) == 250
        wait(lambda: world.messages(where="kind = 'seller_notice' and channel = 'inbox'") and world.idle())
        # once more, as a server does that lost our answer
        before = counted("late")
        assert hand_over(port, back(notice), of(notice, "bounced", "5.1.1")) == 250
        assert counted("late") == before + 1
        world.say(State.NOTIFIED, item="d.1", claim="d", listing="d-1", seller="seller-0", revision=1)
        wait(lambda: len(world.messages()) == 4 and world.idle())

    assert world.messages("claim, channel, result, tried, state", "kind = 'seller_notice'") == [
        ("c", "inbox", "bounced", ["email"], "sent"),
        ("d", "inbox", "bouncing", [], "sent"),
    ]
    assert world.messages("state, channel", "kind = 'claim_receipt' and claim = 'c'") == [("delivered", "email")]
    history = world.sql(
        "select channel, state, reason from notification.deliveries where message = %s order by id", notice
    )
    assert history == [
        ("email", "sent", None),
        ("email", "delayed", "4.4.1"),
        ("email", "bounced", "5.1.1"),
        ("inbox", "sent", "bounced"),
    ]
    published = [data for _, _, data in world.published()]
    changes = [data for data in published if isinstance(data, DeliveryChanged) and data.message == notice]
    assert [(data.channel, data.state, data.reason) for data in changes] == [
        ("email", "bounced", "5.1.1"),
        ("inbox", "sent", "bounced"),
    ]
    # announced once, and one window each, whatever way it went
    assert Counter(data.message for data in published if isinstance(data, MessageSent)).most_common(1)[0][1] == 1
    assert sorted(data.item for data in published if isinstance(data, NoticeSent)) == ["c.1", "d.1"]
    everything = " ".join(row[0] for row in world.sql("select payload from notification.event_log"))
    everything += str(world.sql("select * from notification.bouncing")) + str(
        world.sql("select * from notification.deliveries")
    )
    assert "x.example" not in everything


def test_a_changed_address_is_written_to_again(world: World) -> None:
    with world.running(mail_key=KEY), bounces(world) as port:
        world.claim(1)
        wait(world.idle)
        ((notice,),) = world.messages("id", "kind = 'seller_notice'")
        assert hand_over(port, back(notice), of(notice, "bounced", "5.2.2")) == 250
        wait(lambda: world.messages(where="kind = 'seller_notice' and channel = 'inbox'"))
        # a full mailbox says nothing about the next message
        assert not world.sql("select 1 from notification.bouncing")
        world.sql("insert into notification.bouncing values ('seller-0', 'of another address', '5.1.1', now(), now())")
        world.say(State.NOTIFIED, item="d.1", claim="d", listing="d-1", seller="seller-0", revision=1)
        wait(lambda: world.messages(where="claim = 'd'") and world.idle())
    assert world.messages("channel", "claim = 'd' and kind = 'seller_notice'") == [("email",)]


def test_only_a_return_path_of_ours_is_listened_to(world: World) -> None:
    unknown = "m-" + uuid.uuid4().hex
    with bounces(world) as port:
        before = {name: counted(name) for name in ("refused", "ignored", "unknown")}
        forged = return_path("other" * 10, unknown, DOMAIN)
        for address in (forged, f"someone@{DOMAIN}", back(unknown).replace(DOMAIN, "other.example")):
            assert hand_over(port, address, of(unknown, "bounced", "5.1.1")) == 550
        assert hand_over(port, back(unknown), of(unknown, "bounced", "5.1.1")) == 250
        assert hand_over(port, back(unknown), b"Subject: I am on holiday\r\n\r\nuntil Monday\r\n") == 250
        assert hand_over(port, back(unknown), b"x" * 1_100_000) == 552
    assert {name: counted(name) - before[name] for name in before} == {"refused": 3, "ignored": 1, "unknown": 1}


def test_a_report_about_a_message_that_is_being_sent_comes_again(world: World) -> None:
    with world.running(mail_key=KEY):
        world.claim(1)
        wait(world.idle)
    ((notice,),) = world.messages("id", "kind = 'seller_notice'")
    world.sql("update notification.messages set state = 'sending' where id = %s", notice)
    with bounces(world) as port:
        assert hand_over(port, back(notice), of(notice, "bounced", "5.1.1")) == 451
        world.sql("update notification.messages set state = 'sent' where id = %s", notice)
        assert hand_over(port, back(notice), of(notice, "bounced", "5.1.1")) == 250
    assert world.messages("state, tried", "kind = 'seller_notice'") == [("queued", ["email"])]
    # the other way it says what it said: the window runs from the first sending
    ((made,),) = world.sql(
        "update notification.messages set rendered_at = rendered_at - interval '70 hours' where id = %s returning rendered_at",
        notice,
    )
    with world.running(mail_key=KEY):
        wait(world.idle)
    assert world.messages("channel, rendered_at", "kind = 'seller_notice'") == [("inbox", made)]


def test_killed_between_the_bounce_and_the_other_way_nothing_is_lost(world: World) -> None:
    """The process that takes reports dies, and comes back; the sender dies with the other way in hand."""
    with world.running(mail_key=KEY):
        world.claim(2, sellers=2)
        wait(world.idle)
    notices = [id_ for (id_,) in world.messages("id", "kind = 'seller_notice'")]
    port = free_port(set())

    def taken(id_: str) -> bool:
        try:
            return hand_over(port, back(id_), of(id_, "bounced", "5.1.1")) == 250
        except OSError:
            return False

    with world.process("bounces", mail_key=KEY, bounce_port=port) as first:
        wait(lambda: taken(notices[0]))
        first.kill()
        first.wait()
        assert not taken(notices[1])
    with world.process("bounces", mail_key=KEY, bounce_port=port) as second:
        # its server hands on what it has no answer for, and perhaps what it had one for
        wait(lambda: taken(notices[1]))
        assert taken(notices[0])
        second.send_signal(signal.SIGTERM)
        assert second.wait(PATIENCE_S) == 0
    with world.process("sender", mail_key=KEY, crash="notification-sender:before_commit:1") as sender:
        assert sender.wait(PATIENCE_S) == -signal.SIGKILL
    assert world.messages("state, channel", "kind = 'seller_notice'") == [("queued", "email")] * 2
    world.leases_end()
    with world.running(mail_key=KEY):
        wait(world.idle)
    assert world.messages("state, channel, repeats", "kind = 'seller_notice'") == [("sent", "inbox", 0)] * 2
    assert len(world.post.mails) == 3
    published = [data for _, _, data in world.published()]
    assert sorted(data.item for data in published if isinstance(data, NoticeSent)) == ["c.1", "c.2"]
    ways = Counter((data.channel, data.state) for data in published if isinstance(data, DeliveryChanged))
    assert ways == {("email", "bounced"): 2, ("inbox", "sent"): 2}


def test_refused_at_once_for_a_bad_address_it_is_not_tried_again(world: World) -> None:
    world.post.answers = {"seller-0@x.example": ["550 5.1.1 no such user"]}
    with world.running(mail_key=KEY):
        world.claim(1)
        wait(world.idle)
        world.say(State.NOTIFIED, item="d.1", claim="d", listing="d-1", seller="seller-0", revision=1)
        wait(lambda: world.messages(where="claim = 'd'") and world.idle())
    assert world.messages("claim, result, tried", "kind = 'seller_notice'") == [
        ("c", "refused", ["email"]),
        ("d", "bouncing", []),
    ]
    assert not world.post.to("seller-0@x.example")


def test_mail_is_signed_and_has_a_return_path_and_the_digest_is_of_what_was_signed(
    world: World,
) -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    world.post.stop()
    answers = Answers()
    with listening(answers, port=world.post.port), world.running(mail_key=KEY, dkim_key=pem.decode()):
        world.claim(1)
        wait(world.idle)

    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    stored = dict(world.messages("id, digest"))
    assert len(answers.taken) == 2
    for path, _, raw, notify in answers.taken:
        assert dkim.verify(raw, dnsfunc=lambda _name, timeout=5: b"v=DKIM1; p=" + base64.b64encode(public))
        id_ = message_of(KEY, path, DOMAIN)
        assert id_ in stored
        assert notify == {"FAILURE", "DELAY"}
        message = email.message_from_bytes(raw, policy=email.policy.default)
        assert message["Message-ID"] == f"<{id_}@{DOMAIN}>"
        assert message["List-Unsubscribe"] is None
        unsigned = raw[raw.index(b"\r\nFrom: ") + 2 :]
        assert hashlib.sha256(unsigned).hexdigest() == stored[id_]


def test_the_mailbox_reports_what_it_is_asked_for(world: World, tmp_path: Path) -> None:
    """The local stack's mail server: a report of a delivery comes in by itself."""
    from deploy.mailbox.__main__ import Keeper

    world.post.stop()
    with bounces(world) as port:
        keeper = Keeper(tmp_path, ("127.0.0.1", port))
        with (
            listening(keeper, port=world.post.port),  # type: ignore[arg-type]
            world.running(mail_key=KEY, smtp_reports="all"),
        ):
            world.claim(1)
            wait(lambda: world.messages("id", "state = 'delivered'")[1:])
        keeper.close()
    assert set(world.messages("state, channel")) == {("delivered", "email")}


def test_a_domain_that_refuses_for_now_delays_no_other(world: World) -> None:
    """Its own messages wait for its rest to pass; a limit books a moment for each."""
    front = world.post.answers
    front["seller-0@x.example"] = ["451 4.7.1 too fast"]
    with world.running(mail_key=KEY, mail_limits={"x.example": (60_000.0, 1)}):
        world.claim(3, sellers=1)
        wait(lambda: world.messages(where="kind = 'seller_notice' and result in ('later', 'held')"))
        wait(world.idle)
    assert world.messages("state, channel, tries", "kind = 'seller_notice'") == [("sent", "email", 1)]


def test_what_became_of_messages_is_told_to_the_front(world: World) -> None:
    with world.running(mail_key=KEY), bounces(world) as port:
        world.claim(1)
        wait(world.idle)
        world.say(State.UPHELD, item="c.1", previous=State.NOTIFIED, seller="seller-0", claim="c", revision=2)
        wait(lambda: len(world.messages()) == 4 and world.idle())
        ((notice,),) = world.messages("id", "kind = 'seller_notice'")
        assert hand_over(port, back(notice), of(notice, "bounced", "5.1.1")) == 250
        wait(lambda: world.messages(where="kind = 'seller_notice' and channel = 'inbox'"))
    settings = world.settings(internal_callers=callers.written({"intake-api": INNER}))
    app = internal.create(api.ROUTES, lambda: internal.Parts(settings, schema="notification", name="test"))
    headers = {"Authorization": f"Bearer {INNER}"}
    with TestClient(app) as client:
        assert client.get("/internal/deliveries", params={"party": "seller-0"}).status_code == 401
        first = client.get("/internal/deliveries", params={"party": "seller-0", "limit": 1}, headers=headers).json()
        after = {"party": "seller-0", "cursor": first["next"]}
        rest = client.get("/internal/deliveries", params=after, headers=headers).json()
        assert client.get("/internal/deliveries", params={"party": "nobody"}, headers=headers).json()["items"] == []
        bad = {"party": "seller-0", "cursor": "x"}
        assert client.get("/internal/deliveries", params=bad, headers=headers).status_code == 400
    outcome, told = first["items"][0], rest["items"][0]
    assert rest["next"] is None
    assert (outcome["kind"], outcome["state"], outcome["channel"]) == ("outcome", "sent", "email")
    assert (told["kind"], told["channel"], told["failed_channels"]) == ("seller_notice", "inbox", ["email"])
    assert [(step["channel"], step["state"], step.get("reason")) for step in told["steps"]] == [
        ("email", "sent", None),
        ("email", "bounced", "5.1.1"),
        ("inbox", "sent", "bounced"),
    ]
    assert "x.example" not in str(first) + str(rest)
