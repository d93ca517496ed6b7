"""What a file is: real ones are known, and every forged one is refused by its own reason."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pikepdf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.evidence import detection
from services.intake.evidence.detection import RefusedFile
from tests import evidence_files as files

SVG = b'<?xml version="1.0"?>\n<!-- a picture -->\n<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>x()</script></svg>'
GOOD: dict[str, tuple[Callable[[], bytes], str]] = {
    "png": (lambda: files.picture("PNG"), "image/png"),
    "jpeg": (lambda: files.picture("JPEG"), "image/jpeg"),
    "progressive jpeg": (lambda: files.picture("JPEG", progressive=True), "image/jpeg"),
    "jpeg with exif": (
        lambda: files.picture("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0", comment=b"x" * 500),
        "image/jpeg",
    ),
    "jpeg padded with zeros": (lambda: files.picture("JPEG") + bytes(100), "image/jpeg"),
    "jpeg with a second one, as cameras do": (
        lambda: files.picture("JPEG") + bytes(7) + files.picture("JPEG", (16, 16)),
        "image/jpeg",
    ),
    "webp": (lambda: files.picture("WEBP"), "image/webp"),
    "lossless webp": (lambda: files.picture("WEBP", lossless=True), "image/webp"),
    "pdf": (files.pdf, "application/pdf"),
    "pdf with object streams": (
        lambda: files.pdf(object_stream_mode=pikepdf.ObjectStreamMode.generate),
        "application/pdf",
    ),
    "linear pdf": (lambda: files.pdf(linearize=True), "application/pdf"),
    "pdf with a link": (lambda: files.pdf(_link), "application/pdf"),
    "pdf with a bookmark": (lambda: files.pdf(_bookmarked), "application/pdf"),
    "pdf that opens at a page": (
        lambda: files.pdf(
            lambda d: d.Root.__setitem__("/OpenAction", _action("GoTo", D=[d.pages[0].obj, pikepdf.Name.Fit]))
        ),
        "application/pdf",
    ),
    "pdf with a picture": (lambda: files.picture("PDF"), "application/pdf"),
    "pdf with the structure of its text": (lambda: files.pdf(_structured), "application/pdf"),
    "text": (lambda: b"I made this.\r\n\tYes.\n", "text/plain"),
    "text with a mark": (lambda: b"\xef\xbb\xbfGr\xc3\xbc\xc3\x9fe", "text/plain"),
    "chinese text": (lambda: "我是权利人。".encode(), "text/plain"),
    "text about a < b": (lambda: b"if a < b and c > d", "text/plain"),
}


def _link(document: pikepdf.Pdf) -> None:
    action = pikepdf.Dictionary(S=pikepdf.Name.URI, URI="https://example.org")
    note = pikepdf.Dictionary(Type=pikepdf.Name.Annot, Subtype=pikepdf.Name.Link, Rect=[0, 0, 9, 9], A=action)
    document.pages[0].Annots = pikepdf.Array([document.make_indirect(note)])


def _action(kind: str, **values: Any) -> pikepdf.Dictionary:
    return pikepdf.Dictionary(S=pikepdf.Name("/" + kind), **values)


def _bookmarked(document: pikepdf.Pdf) -> None:
    document.add_blank_page()
    with document.open_outline() as outline:
        outline.root += [pikepdf.OutlineItem("One", 0), pikepdf.OutlineItem("Two", 1)]


def _structured(document: pikepdf.Pdf) -> None:
    """A structure element whose attributes are under /A, as accessible documents have them."""
    table = pikepdf.Dictionary(S=pikepdf.Name.Table, A=pikepdf.Dictionary(O=pikepdf.Name.Table, Summary="x"), K=[])
    document.Root.StructTreeRoot = pikepdf.Dictionary(
        Type=pikepdf.Name.StructTreeRoot, K=[document.make_indirect(table)]
    )


def _annotated(**values: Any) -> Callable[[], bytes]:
    def change(document: pikepdf.Pdf) -> None:
        document.pages[0].Annots = pikepdf.Array(
            [document.make_indirect(pikepdf.Dictionary(Rect=[0, 0, 9, 9], **values))]
        )

    return lambda: files.pdf(change)


def _linked(kind: str, **values: Any) -> Callable[[], bytes]:
    return _annotated(Subtype=pikepdf.Name.Link, A=_action(kind, **values))


def _stream(data: bytes = b"", **values: Any) -> Callable[[], bytes]:
    def change(document: pikepdf.Pdf) -> None:
        document.Root["/X"] = document.make_indirect(pikepdf.Stream(document, data, pikepdf.Dictionary(**values)))

    return lambda: files.pdf(change)


def _payload() -> bytes:
    """A JPEG by its markers, without a picture: what it carries is in a comment."""
    return b"\xff\xd8\xff\xfe\x00\x13MZ this is no pix\xff\xd9"


def _in_root(key: str, value: Callable[[], object]) -> Callable[[], bytes]:
    return lambda: files.pdf(lambda document: document.Root.__setitem__(key, value()))


def _attached(document: pikepdf.Pdf) -> None:
    document.attachments["run.exe"] = b"MZ"


def _hidden(document: pikepdf.Pdf) -> None:
    """A launch action deep in arrays, in an object that nothing refers to by a telling name."""
    action = pikepdf.Dictionary(S=pikepdf.Name.Launch, F="cmd.exe")
    document.Root["/Quiet"] = document.make_indirect(pikepdf.Array([pikepdf.Array([pikepdf.Dictionary(X=action)])]))


def _escaped() -> bytes:
    """A name written with an escape, as those do who hide it."""
    plain = files.pdf(lambda d: d.Root.__setitem__("/OpenAction", files.script()), qdf=True)
    escaped = plain.replace(b"/JavaScript", b"/J#61vaScript").replace(b"/JS", b"/J#53")
    assert escaped != plain
    # qdf keeps a table of offsets that is now wrong: let it be written again without understanding names
    shift = io.BytesIO()
    with pikepdf.open(io.BytesIO(escaped)) as document:
        document.save(shift)
    return shift.getvalue()


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "empty"),
    "blanks": (lambda: b" \r\n\t \xef\xbb\xbf", "empty"),
    "png cut in its data": (lambda: files.picture("PNG")[:-300], "truncated"),
    "png cut in its last chunk": (lambda: files.picture("PNG")[:-3], "truncated"),
    "png with a changed bit": (lambda: _flip(files.picture("PNG"), 200), "damaged"),
    "png that promises more": (lambda: files.png_claiming(4000, 4000), "truncated"),
    "png with a length that lies": (lambda: b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIHDR" + bytes(50), "truncated"),
    "png of 400 megapixels": (files.pixel_bomb, "too_complex"),
    "png of many megapixels in its header": (lambda: files.png_claiming(60_000, 60_000), "too_complex"),
    "moving png": (lambda: files.moving("PNG"), "animated"),
    "moving webp": (lambda: files.moving("WEBP"), "animated"),
    "jpeg cut": (lambda: files.picture("JPEG")[:-200], "truncated"),
    "jpeg without end": (lambda: files.picture("JPEG")[:-2], "truncated"),
    "jpeg of nothing": (lambda: b"\xff\xd8\xff\xd9", "damaged"),
    "webp cut": (lambda: files.picture("WEBP")[:-50], "truncated"),
    "webp longer than it says": (lambda: files.picture("WEBP") + b"more", "polyglot"),
    "pdf cut": (lambda: files.pdf()[:-60], "truncated"),
    "pdf whose middle is gone": (lambda: files.pdf()[:100] + files.pdf()[-40:], "damaged"),
    "pdf in name only": (lambda: b"%PDF-1.7\nhello\n%%EOF\n", "damaged"),
    "pdf with a password": (lambda: files.pdf(encryption=pikepdf.Encryption(owner="o", user="u")), "encrypted"),
    "pdf with restrictions": (lambda: files.pdf(encryption=pikepdf.Encryption(owner="o", user="")), "encrypted"),
    "pdf with /JavaScript": (_in_root("/OpenAction", files.script), "active_content"),
    "pdf with an escaped /J#61vaScript": (_escaped, "active_content"),
    "pdf with scripts by name": (
        _in_root("/Names", lambda: pikepdf.Dictionary(JavaScript=pikepdf.Dictionary(Names=[]))),
        "active_content",
    ),
    "pdf with a launch action": (lambda: files.pdf(_hidden), "active_content"),
    "pdf with one packed away": (
        lambda: files.pdf(_hidden, object_stream_mode=pikepdf.ObjectStreamMode.generate),
        "active_content",
    ),
    "pdf with an XFA form": (_in_root("/AcroForm", lambda: pikepdf.Dictionary(XFA="x")), "active_content"),
    "pdf with a file inside": (lambda: files.pdf(_attached), "embedded_file"),
    "pdf with a film": (_in_root("/X", lambda: pikepdf.Dictionary(Subtype=pikepdf.Name.RichMedia)), "embedded_file"),
    "pdf that opens an address": (
        _in_root("/OpenAction", lambda: _action("URI", URI="https://example.org")),
        "active_content",
    ),
    "pdf that opens a thread": (_in_root("/OpenAction", lambda: _action("Thread", D=0)), "active_content"),
    "pdf with a thread": (_linked("Thread", F="other.pdf", D=0), "active_content"),
    "pdf that hides something": (_linked("Hide", T="x"), "active_content"),
    "pdf with an action of tomorrow": (_linked("Teleport"), "active_content"),
    "pdf with an action of tomorrow in a quiet place": (
        _in_root("/Quiet", lambda: _action("Teleport", Type=pikepdf.Name.Action)),
        "active_content",
    ),
    "pdf that prints": (_linked("Named", N=pikepdf.Name.Print), "active_content"),
    "pdf with a link to a program": (_linked("URI", URI="javascript:alert(1)"), "active_content"),
    "pdf with a link to a file": (_linked("URI", URI="file:///etc/passwd"), "active_content"),
    "pdf with a second action behind a link": (
        _linked("URI", URI="https://example.org", Next=_action("URI", URI="https://example.org")),
        "active_content",
    ),
    "pdf with an annotation of tomorrow": (_annotated(Subtype=pikepdf.Name("/Hologram")), "active_content"),
    "pdf with an external stream": (
        _stream(F="http://example.org/x", FFilter=pikepdf.Name.FlateDecode),
        "external_content",
    ),
    "pdf with a reference to another": (
        _stream(
            Type=pikepdf.Name.XObject,
            Subtype=pikepdf.Name.Form,
            BBox=[0, 0, 9, 9],
            Ref=pikepdf.Dictionary(F="other.pdf", Page=0),
        ),
        "external_content",
    ),
    "pdf with a proxy for a picture": (
        _stream(Type=pikepdf.Name.XObject, Subtype=pikepdf.Name.Image, OPI=pikepdf.Dictionary()),
        "external_content",
    ),
    "pdf that names a file": (
        _in_root("/X", lambda: pikepdf.Dictionary(Type=pikepdf.Name.Filespec, F="x.exe")),
        "external_content",
    ),
    "pdf with PostScript": (_stream(b"showpage", Type=pikepdf.Name.XObject, Subtype=pikepdf.Name.PS), "embedded_file"),
    "pdf with a filter of tomorrow": (_stream(b"x", Filter=pikepdf.Name("/Brotli")), "active_content"),
    "pdf with pages of the web": (
        _in_root("/Names", lambda: pikepdf.Dictionary(URLS=pikepdf.Dictionary(Names=[]))),
        "active_content",
    ),
    "jpeg with a second one that is no picture": (lambda: files.picture("JPEG") + _payload(), "polyglot"),
    "jpeg with a third one that is no picture": (lambda: files.picture("JPEG") * 2 + bytes(3) + _payload(), "polyglot"),
    "jpeg with very many": (
        lambda: files.picture("JPEG") + files.picture("JPEG", (8, 8)) * detection.JPEG_IMAGES_MAX,
        "too_complex",
    ),
    "svg with script": (lambda: SVG, "svg"),
    "bare svg": (lambda: b"\n  <SVG onload=x()>", "svg"),
    "web page": (lambda: b"<!DOCTYPE html><title>x</title>", "html"),
    "script after words": (lambda: b"hello <script>alert(1)</script>", "html"),
    "xml that unfolds": (lambda: b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "html"),
    "xml": (lambda: b"<?xml version='1.0'?><a/>", "xml"),
    "zip bomb": (files.zip_bomb, "archive"),
    "empty zip": (lambda: b"PK\x05\x06" + bytes(18), "archive"),
    "gzip": (lambda: b"\x1f\x8b\x08" + bytes(20), "archive"),
    "tar": (lambda: b"name".ljust(257, b"\0") + b"ustar\0" + bytes(300), "archive"),
    "rar": (lambda: b"Rar!\x1a\x07\x01\0" + bytes(20), "archive"),
    "docx": (lambda: files.archive(**{"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<w/>"}), "office"),
    "odt": (lambda: b"PK\x03\x04" + bytes(26) + b"mimetypeapplication/vnd.oasis.opendocument.text", "office"),
    "doc": (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "office"),
    "rtf": (lambda: b"{\\rtf1 hello}", "office"),
    "exe": (lambda: b"MZ\x90\0" + bytes(200), "program"),
    "elf": (lambda: b"\x7fELF\x02" + bytes(200), "program"),
    "shell script": (lambda: b"#!/bin/sh\nrm -r /\n", "program"),
    "gif": (lambda: files.picture("GIF"), "other_picture"),
    "tiff": (lambda: files.picture("TIFF"), "other_picture"),
    "bmp": (lambda: files.picture("BMP"), "other_picture"),
    "heic": (lambda: b"\0\0\0\x18ftypheic" + bytes(100), "other_picture"),
    "png and zip": (lambda: files.picture("PNG") + files.archive(x=b"y"), "polyglot"),
    "jpeg and zip": (lambda: files.picture("JPEG") + files.archive(x=b"y"), "polyglot"),
    "jpeg and page": (lambda: files.picture("JPEG", comment=b"<script>alert(1)</script>"), "polyglot"),
    "jpeg and something": (lambda: files.picture("JPEG") + b"something", "polyglot"),
    "jpeg and pdf": (lambda: files.picture("JPEG", comment=b"%PDF-1.4"), "polyglot"),
    "png with a zip in a chunk": (lambda: _with_chunk(files.archive(x=b"y")), "polyglot"),
    "pdf and zip": (lambda: files.pdf() + files.archive(x=b"y"), "polyglot"),
    "pdf and page": (lambda: files.pdf().replace(b"\n", b"\n%<html><script>x</script>\n", 1), "polyglot"),
    "pdf with a tail": (lambda: files.pdf() + b"<p>", "polyglot"),
    "pdf behind something": (lambda: b"GARBAGE\n" + files.pdf(), "polyglot"),
    "latin text": (lambda: "Grüße aus Köln, sagte er, und ging.".encode("latin-1"), "not_utf8"),
    "utf-16 text": (lambda: "hello".encode("utf-16"), "not_utf8"),
    "text cut in a letter": (lambda: "wörtlich ü".encode()[:-1], "truncated"),
    "text with a bell": (lambda: b"ding \x07", "unknown_type"),
    "text with nothing in it": (lambda: b"a\0b", "unknown_type"),
    "any bytes": (lambda: bytes(range(200, 0, -1)) * 20, "unknown_type"),
    "a library of text": (lambda: b"x" * 2_000_001, "too_complex"),
}


def _flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def _with_chunk(data: bytes) -> bytes:
    whole = files.picture("PNG")
    return whole[:-12] + files.png_chunk(b"zzZz", data) + whole[-12:]


def examined(data: bytes) -> str:
    return detection.examine(io.BytesIO(data), len(data)).media


@pytest.mark.parametrize("name", GOOD)
def test_files_as_people_send_them_are_known(name: str) -> None:
    make, media = GOOD[name]
    assert examined(make()) == media


@pytest.mark.parametrize("name", BAD)
def test_forged_files_are_refused_by_their_own_reason(name: str) -> None:
    make, reason = BAD[name]
    with pytest.raises(RefusedFile) as caught:
        examined(make())
    assert caught.value.reason == reason


def test_every_reason_is_shown_and_has_a_cure() -> None:
    assert set(detection.REASONS) == {reason for _, reason in BAD.values()}
    assert all(detail.endswith(".") and cure.endswith(".") for detail, cure in detection.REASONS.values())


WHOLE = {name: GOOD[name][0]() for name in ("png", "jpeg", "webp", "pdf")}


@given(st.sampled_from(sorted(WHOLE)), st.floats(0, 1, exclude_max=True))
def test_no_beginning_of_a_file_passes_for_it(name: str, share: float) -> None:
    whole = WHOLE[name]
    cut = max(5, int(share * len(whole)))  # shorter ones are words, such as RIFF
    if whole[cut:].strip(b" \t\r\n\f\0"):
        with pytest.raises(RefusedFile):
            examined(whole[:cut])


@given(
    st.sampled_from([b"", b"%PDF-1.7\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x10\0\0\0WEBP", b"<"]),
    st.binary(max_size=300),
)
def test_any_bytes_are_judged(start: bytes, rest: bytes) -> None:
    verdict = "text/plain"
    try:
        verdict = examined(start + rest)
    except RefusedFile as bad:
        verdict = bad.reason
    else:
        (start + rest).decode()
    assert verdict in {"text/plain", *detection.REASONS}


# ---- in a process of its own


def judged(data: bytes, *options: str) -> tuple[int, dict[str, str]]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        run = subprocess.run(
            [sys.executable, "-I", str(Path(detection.__file__)), *(options or ("50",))],
            stdin=file,
            capture_output=True,
            env={},
            cwd="/",
            timeout=60,
        )
    return run.returncode, msgspec.json.decode(run.stdout) if run.stdout else {}


def test_the_process_says_what_the_function_says() -> None:
    assert judged(files.picture("PNG")) == (0, {"media": "image/png"})
    assert judged(b"MZ") == (0, {"reason": "program", "note": ""})
    assert judged(files.picture("PNG", (1100, 1000)), "1")[1]["reason"] == "too_complex"


def test_what_unpacks_to_more_than_there_is_room_for_is_refused() -> None:
    """A PDF of 300 kB whose object stream has 300 MB: the process is confined, ours is not touched."""
    bomb = files.stream_bomb()
    assert len(bomb) < 400_000
    code, verdict = judged(bomb)
    assert code <= 0
    assert verdict.get("reason", "killed") in ("damaged", "too_complex", "killed")


def test_the_process_writes_no_file_and_sees_no_secret() -> None:
    source = Path(detection.__file__).read_text()
    assert "import services" not in source
    assert "from services" not in source
    assert "from shared" not in source
    limits = "import sys; sys.path.insert(0, sys.argv[1]); import detection, resource as r; detection.confine();"
    prints = "print(r.getrlimit(r.RLIMIT_FSIZE)[1], r.getrlimit(r.RLIMIT_AS)[1], r.getrlimit(r.RLIMIT_CPU)[1])"
    run = subprocess.run(
        [sys.executable, "-I", "-c", limits + prints, str(Path(detection.__file__).parent)],
        capture_output=True,
        text=True,
    )
    assert run.stdout.split() == ["0", str(detection.MEMORY_BYTES), str(detection.CPU_S)]
