"""E-mails as bytes: whatever a contact says, one recipient, no further headers, and what was written is read back."""

from __future__ import annotations

import base64
import email
import email.policy
from email.message import EmailMessage

import dkim
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from dkim.canonicalization import Relaxed
from hypothesis import given, settings
from hypothesis import strategies as st

from services.notification import mime
from services.notification.signing import SEALED, Dkim
from tests.unit.notification.making import NOW

HEADERS = {
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Auto-Submitted",
    "Content-Language",
    "MIME-Version",
    "Content-Type",
}
NASTY = st.text(
    st.sampled_from('\r\n\0\t\x0b\x85\u2028\u202e\u2066\u200f\ud800"\\<>@,;:()=?. aé中😀') | st.characters(),
    max_size=400,
)


def made(**more: object) -> bytes:
    fields: dict[str, object] = {
        "id": "m-1",
        "sender": "ip@market.example",
        "to": "ann@holder.example",
        "name": "Ann",
        "subject": "A claim",
        "at": NOW,
        "text": "Text\n",
    }
    return mime.compose(**{**fields, **more})  # type: ignore[arg-type]


def read(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def plain(text: str) -> str:
    """Text as a parser gives it: whatever white space there was, folded or between encoded words, is one space."""
    return " ".join(text.split())


@given(NASTY, NASTY, NASTY, st.none() | NASTY)
def test_nothing_that_a_party_wrote_makes_a_header(name: str, subject: str, text: str, html: str | None) -> None:
    raw = made(name=name, subject=subject, text=text, html=html)
    assert b"\r" not in raw.replace(b"\r\n", b"")
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert b"\0" not in raw
    assert max(map(len, raw.split(b"\r\n"))) <= mime.LONGEST
    message = read(raw)
    assert set(message.keys()) - {"Content-Transfer-Encoding"} == HEADERS
    assert [address.addr_spec for address in message["To"].addresses] == ["ann@holder.example"]
    # the parser puts a space between two encoded words of a name, where RFC 2047 has none
    shown = message["To"].addresses[0].display_name
    assert "".join(shown.split()) == "".join(mime._harmless(name).split())
    assert plain(message["Subject"]) == plain(mime._harmless(subject))
    want = [text] if html is None else [text, html]
    found = [message] if html is None else list(message.iter_parts())
    for part, written in zip(found, want, strict=True):
        lines = mime._ENDS.split(written)
        if lines[-1] == "":
            lines.pop()
        back = part.get_payload(decode=True)
        assert back == ("\r\n".join(lines) + "\r\n").encode("utf-8", "replace")


@given(NASTY)
def test_an_address_is_one_or_none(text: str) -> None:
    for candidate in (text, f"{text}@holder.example", f"ann@{text}", f"ann@{text}.example"):
        found = mime.address(candidate)
        if not found:
            continue
        assert found.count("@") == 1
        local, _, domain = found.partition("@")
        assert domain.isascii()
        assert mime.address(found) == found
        message = email.message_from_string(made(to=found).decode(), policy=email.policy.default)
        (recipient,) = message["To"].addresses
        assert (recipient.domain, recipient.username) == (domain, local)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("ann@holder.example", "ann@holder.example"),
        ("Ann.B+c@HOLDER.example", "Ann.B+c@holder.example"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("安@例え.example", "安@xn--r8jz45g.example"),
        ("ann@holder.example\r\nBcc: eve@x.example", ""),
        ("ann@holder.example,eve@x.example", ""),
        ("ann@holder.example\0", ""),
        ("ann\u202e@holder.example", ""),
        ("<ann@holder.example>", ""),
        ('"ann b"@holder.example', ""),
        ("ann@[127.0.0.1]", ""),
        ("ann@127.0.0.1", ""),
        ("ann@localhost", ""),
        ("ann@-x.example", ""),
        (".ann@holder.example", ""),
        ("ann..b@holder.example", ""),
        ("a" * 65 + "@holder.example", ""),
        ("ann@" + "a" * 64 + ".example", ""),
        ("ann@" + "a." * 140 + "example", ""),
        ("a" * 1_000_000, ""),
        ("@holder.example", ""),
        ("ann", ""),
        (None, ""),
    ],
)
def test_addresses(text: object, want: str) -> None:
    assert mime.address(text) == want


@pytest.mark.parametrize("title", ["x" * 1_000_000, "é" * 1_000_000, "word " * 200_000, "\u202e" * 1_000_000])
def test_a_title_of_a_megabyte_is_cut(title: str) -> None:
    raw = made(subject=title, name=title)
    assert len(raw) < 4_000
    assert max(map(len, raw.split(b"\r\n"))) <= mime.LONGEST
    assert plain(read(raw)["Subject"]) == plain(title)[: mime.MOST].strip() * ("\u202e" not in title)


def test_a_text_that_holds_the_boundary_ends_nothing() -> None:
    raw = made(text="--=_m-1--\n", html="<p>--=_m-1</p>")
    parts = list(read(raw).iter_parts())
    assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
    assert parts[0].get_content() == "--=_m-1--\r\n"


@pytest.mark.parametrize("to", ["", "ann", "ann@holder.example\r\nBcc: eve@x.example", "Ann <ann@holder.example>"])
def test_what_is_no_address_is_not_written_to(to: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        made(to=to)


# ------------------------------------------------------------------------------------------------------------- DKIM

RSA = rsa.generate_private_key(65537, 2048)
ED = ed25519.Ed25519PrivateKey.generate()


def pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def record(name: bytes, timeout: int = 5) -> bytes | None:
    """The DNS record of the RSA key."""
    assert name == b"gf1._domainkey.market.example."
    der = RSA.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    return b"v=DKIM1; k=rsa; p=" + base64.b64encode(der)


@settings(max_examples=15)
@given(NASTY, NASTY, NASTY, st.none() | NASTY)
def test_dkimpy_verifies_what_is_signed(name: str, subject: str, text: str, html: str | None) -> None:
    signed = Dkim("market.example", "gf1", pem(RSA)).sign(
        made(name=name, subject=subject, text=text, html=html), int(NOW.timestamp())
    )
    assert max(map(len, signed.split(b"\r\n"))) <= mime.LONGEST
    assert dkim.verify(signed, dnsfunc=record)


@pytest.mark.parametrize("name", [name.decode() for name in SEALED])
def test_a_header_more_breaks_the_signature(name: str) -> None:
    signed = Dkim("market.example", "gf1", pem(RSA)).sign(made(), int(NOW.timestamp()))
    assert dkim.verify(signed, dnsfunc=record)
    assert not dkim.verify(f"{name}: eve@x.example\r\n".encode() + signed, dnsfunc=record)
    assert not dkim.verify(signed.replace(b"A claim", b"A cl4im"), dnsfunc=record)
    assert not dkim.verify(signed.replace(b"Text", b"Texts"), dnsfunc=record)


def test_ed25519() -> None:
    """By hand: ``dkimpy`` verifies these by a library that nothing else here needs."""

    signed = Dkim("market.example", "gf2", pem(ED)).sign(made(), int(NOW.timestamp()))
    message = email.message_from_bytes(signed)
    value = message["DKIM-Signature"]
    assert "a=ed25519-sha256" in value
    tags = dict(tag.strip().split("=", 1) for tag in value.split(";"))
    names = "".join(tags["h"].split()).split(":")
    left = [(name.lower().encode(), text.encode()) for name, text in message.items()]
    chosen = []
    for wanted in names:
        place = next((n for n in range(len(left) - 1, -1, -1) if left[n][0] == wanted.encode()), None)
        if place is not None:
            chosen.append(left.pop(place))
    head, _, signature = value.rpartition("b=")
    chosen.append((b"dkim-signature", head.encode() + b"b="))
    data = b"".join(name + b":" + text for name, text in Relaxed.canonicalize_headers(chosen))[:-2]
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    ED.public_key().verify(base64.b64decode("".join(signature.split())), digest.finalize())


def test_no_weak_key() -> None:
    with pytest.raises(ValueError, match="1024 bits"):
        Dkim("market.example", "gf1", pem(rsa.generate_private_key(65537, 1024)))  # noqa: S505 (the point of it)


def test_no_legal_notice_can_be_unsubscribed_from() -> None:
    assert b"unsubscribe" not in Dkim("market.example", "gf1", pem(RSA)).sign(made(), 1).lower()
