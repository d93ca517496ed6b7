"""Detects what a file is from its content, and whether it is whole and harmless. Never runs or renders any of it.

Decoders are large programs in C that process strangers' files. So the API runs this module as a process of its own
(``python -I detection.py <megapixels>``, the file on standard input, the verdict as JSON on standard output), without
secrets or other files and with hard limits (``confine``). It imports nothing of ours, so that it starts in a tenth of
a second.

Accepted: PDF, PNG, JPEG, WebP, plain text in UTF-8. A file that is *also* of another type (a polyglot) is refused.

One file, long as it is: ``-I`` leaves no folder of ours on the path of that process.
"""

from __future__ import annotations

import binascii
import contextlib
import io
import itertools
import json
import os
import re
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

MEMORY_BYTES: Final = 1 << 30
"""Address space of the process."""
CPU_S: Final = 20
"""Processor seconds of the process."""
PDF_OBJECTS_MAX: Final = 200_000
PDF_NODES_MAX: Final = 2_000_000
PDF_PAGES_MAX: Final = 5_000
PDF_STREAM_MAX: Final = 1 << 28
"""Bytes that one compressed stream of a PDF may unpack to: four times an A3 page in colour at 300 dpi."""
PDF_UNPACKED_MAX: Final = 1 << 29
"""Bytes that all compressed streams of a PDF may unpack to."""
PNG_CHUNKS_MAX: Final = 100_000
TEXT_MAX: Final = 2_000_000
"""Bytes of a text. Anything longer is an archive, not proof."""
PIXELS_MAX: Final = 50_000_000
"""Pixels of a picture (width x height), unless the caller says otherwise."""
JPEG_IMAGES_MAX: Final = 16
"""Whole JPEGs in one file, as cameras append them."""
SIDE_MAX: Final = 30_000
"""Pixels per side."""

MEDIA: Final = {
    "application/pdf": "pdf",
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "text/plain": "txt",
}
"""Accepted media types, each with the file name extension for downloads."""

_SAVE: Final = "Save it as PDF, PNG, JPEG, WebP or plain text and send that."
REASONS: Final[dict[str, tuple[str, str]]] = {
    "empty": ("The file is empty.", "Send the file itself."),
    "truncated": (
        "The file ends before its content does.",
        "Send it again. If that does not help, save it again and send the new file.",
    ),
    "damaged": ("The file is damaged.", "Open it in the program that made it, save it again, and send the new file."),
    "polyglot": (
        "The file is of more than one type at once, or contains something after its end.",
        "Save it again as PDF or PNG and send that.",
    ),
    "svg": ("SVG files are not accepted: they can contain programs.", "Save the picture as PNG and send that."),
    "html": ("Web pages are not accepted.", "Print the page to a PDF file and send that."),
    "xml": ("XML is not accepted.", _SAVE),
    "archive": ("Archives and compressed files are not accepted.", "Unpack it and send each document by itself."),
    "office": ("Office documents are not accepted: they may contain programs.", "Export it as PDF and send that."),
    "program": ("Programs are not accepted.", _SAVE),
    "other_picture": ("Pictures of this type are not accepted.", "Save it as PNG or JPEG and send that."),
    "encrypted": ("The PDF is protected by a password or restricted.", "Save it without protection and send that."),
    "active_content": (
        "The PDF contains a program, a form that sends data, or an action that starts something.",
        "Print it to a new PDF file and send that.",
    ),
    "embedded_file": ("The PDF has files attached to it.", "Remove the attachments, or send each by itself."),
    "external_content": ("The PDF refers to content outside itself.", "Print it to a new PDF file and send that."),
    "too_complex": (
        "The file is too large or too complex when it is opened.",
        "Send it in fewer pages, or with fewer pixels.",
    ),
    "animated": ("The picture is animated.", "Send single pictures, or a PDF."),
    "not_utf8": ("The text is not in UTF-8.", "Save the text as UTF-8, or as PDF."),
    "unknown_type": ("The type of the file is not known.", _SAVE),
}
"""Why a file is refused: what is wrong, and how to cure it."""


class RefusedFile(Exception):
    """A file that is refused.

    Args:
        reason: a key of ``REASONS``.
        note: what was found, in our own words (never the file's).
    """

    def __init__(self, reason: str, note: str = "") -> None:
        assert reason in REASONS
        super().__init__(reason)
        self.reason = reason
        self.note = note


@dataclass(frozen=True, slots=True)
class AcceptedFile:
    """A file that is accepted."""

    media: str


def examine(file: BinaryIO, size: int, pixels_max: int = PIXELS_MAX) -> AcceptedFile:
    """Detect what a file is.

    Args:
        file: seekable.
        size: in bytes.

    Raises:
        RefusedFile: the file is refused.
    """
    if size == 0:
        raise RefusedFile("empty")
    file.seek(0)
    head = file.read(4096)
    if head.startswith(b"%PDF-"):
        _no_second_type(file, head, pdf=True)
        _pdf(file, size)
        return AcceptedFile("application/pdf")
    for magic, check, media in (
        (b"\x89PNG\r\n\x1a\n", _png, "image/png"),
        (b"\xff\xd8\xff", _jpeg, "image/jpeg"),
        (b"RIFF", _webp, "image/webp"),
    ):
        if head.startswith(magic) and (magic != b"RIFF" or head[8:12] == b"WEBP"):
            _no_second_type(file, head)
            check(file, size)
            pixels = _picture(file, media, pixels_max)
            if media == "image/jpeg":
                _further(file, pixels_max - pixels)
            return AcceptedFile(media)
    _named(head)
    _text(file, head, size)
    _no_second_type(file, head)
    return AcceptedFile("text/plain")


# ------------------------------------------------------------------------------------------------------- what it is not

_ARCHIVES: Final = (
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"PK\x07\x08",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"\x28\xb5\x2f\xfd",
    b"MSCF",
    b"\x04\x22\x4d\x18",
    b"\x1f\x9d",
    b"\x1f\xa0",
    b"LZIP",
    b"xar!",
    b"!<arch>\n",
    b"\x60\xea",
)
_PROGRAMS: Final = (
    b"MZ",
    b"\x7fELF",
    b"\xcf\xfa\xed\xfe",
    b"\xce\xfa\xed\xfe",
    b"\xfe\xed\xfa",
    b"\xca\xfe\xba\xbe",
    b"#!",
    b"\x00asm",
    b"dex\n",
    b"L\x00\x00\x00\x01\x14\x02\x00",
)
_PICTURES: Final = (
    b"GIF87a",
    b"GIF89a",
    b"II*\x00",
    b"MM\x00*",
    b"II+\x00",
    b"MM\x00+",
    b"\x00\x00\x01\x00",
    b"8BPS",
    b"\x00\x00\x00\x0cJXL ",
    b"\xff\x0a",
    b"qoif",
)
_ACTIVE: Final = re.compile(
    rb"<\s*(?:!doctype\s+html|html|head|body|script|iframe|svg|object|embed|meta|style|!entity)\b", re.I
)
_WIDE: Final = (b"\xff\xfe", b"\xfe\xff")


def _named(head: bytes) -> None:
    """Refuse well-known types, each for its own reason."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1024]
    low = start.lower()
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") or low.startswith(b"{\\rtf"):
        raise RefusedFile("office")
    if head.startswith(b"PK\x03\x04") and (b"[Content_Types].xml" in head or b"mimetypeapplication/vnd" in head):
        raise RefusedFile("office")
    if head.startswith(_ARCHIVES) or head[257:262] == b"ustar":
        raise RefusedFile("archive")
    if head.startswith(_PROGRAMS):
        raise RefusedFile("program")
    if head.startswith(_PICTURES) or head[4:8] == b"ftyp" or (head[:2] == b"BM" and b"\0" in head[:32]):
        raise RefusedFile("other_picture")
    if b"%PDF-" in head[:1024]:
        raise RefusedFile("polyglot", "a PDF that begins with something else")
    if re.search(rb"<\s*svg\b", low):
        raise RefusedFile("svg")
    if _ACTIVE.search(low):
        raise RefusedFile("html")
    if low.startswith((b"<?", b"<!")):
        raise RefusedFile("xml")
    if head.startswith(_WIDE):
        raise RefusedFile("not_utf8", "UTF-16")


def _no_second_type(file: BinaryIO, head: bytes, *, pdf: bool = False) -> None:
    """Refuse what other programs would read as another type.

    They read a ZIP from its end, and look for a PDF or a web page in the first kilobyte.
    """
    if b"%PDF-" in head[1 if pdf else 0 : 1024]:
        raise RefusedFile("polyglot", "a PDF inside")
    if _ACTIVE.search(head[:1024]):
        raise RefusedFile("polyglot", "a web page inside")
    if zipfile.is_zipfile(file):
        raise RefusedFile("polyglot", "a ZIP archive inside")


# ------------------------------------------------------------------------------------------------------------- pictures


def _png(file: BinaryIO, size: int) -> None:
    """Walk the chunks: all must be there, with correct check sums and nothing after the last one."""
    offset = 8
    for number in range(PNG_CHUNKS_MAX):
        file.seek(offset)
        start = file.read(8)
        if len(start) < 8:
            raise RefusedFile("truncated")
        length, kind = struct.unpack(">I4s", start)
        if length > size - offset - 12:
            raise RefusedFile("truncated")
        if (number == 0) != (kind == b"IHDR"):
            raise RefusedFile("damaged", "chunks out of order")
        if kind == b"acTL":
            raise RefusedFile("animated")
        total = binascii.crc32(kind)
        left = length
        while left:
            part = file.read(min(left, 1 << 20))
            total = binascii.crc32(part, total)
            left -= len(part)
        if file.read(4) != struct.pack(">I", total):
            raise RefusedFile("damaged", "a check sum is wrong")
        offset += 12 + length
        if kind == b"IEND":
            if offset != size:
                raise RefusedFile("polyglot", "bytes after the picture's end")
            return
    raise RefusedFile("too_complex")


def _jpeg(file: BinaryIO, size: int) -> None:
    """Walk the segments to the end marker. Only zeros, or the small pictures that cameras append, may follow it."""
    file.seek(0)
    for number, _ in enumerate(_jpegs(file.read())):
        if number == JPEG_IMAGES_MAX:
            raise RefusedFile("too_complex", f"more than {JPEG_IMAGES_MAX} pictures")


def _jpegs(data: bytes) -> Iterator[bytes]:
    """The JPEGs that a file consists of (MPF), with zeros between them.

    Raises:
        RefusedFile: there is something else.
    """
    start = 0
    while True:
        end = _jpeg_end(data, start)
        yield data[start:end]
        start = end + len(data[end:]) - len(data[end:].lstrip(b"\0"))
        if start == len(data):
            return
        if data[start : start + 3] != b"\xff\xd8\xff":
            raise RefusedFile("polyglot", "bytes after the picture's end")


def _further(file: BinaryIO, pixels_left: int) -> None:
    """Decode every JPEG after the first: one that is not a picture carries something else."""
    file.seek(0)
    for data in itertools.islice(_jpegs(file.read()), 1, None):
        try:
            pixels_left -= _picture(io.BytesIO(data), "image/jpeg", pixels_left)
        except RefusedFile as bad:
            raise bad if bad.reason == "too_complex" else RefusedFile("polyglot", "a further picture is none") from None


_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})


def _jpeg_end(data: bytes, offset: int) -> int:
    """Where the JPEG that begins at ``offset`` ends."""
    offset += 2
    while True:
        if offset + 2 > len(data):
            raise RefusedFile("truncated")
        if data[offset] != 0xFF:
            raise RefusedFile("damaged", "segments out of order")
        marker = data[offset + 1]
        if marker == 0xFF:  # fill byte
            offset += 1
            continue
        offset += 2
        if marker == 0xD9:
            return offset
        if marker in _STANDALONE:
            continue
        if offset + 2 > len(data):
            raise RefusedFile("truncated")
        length = int.from_bytes(data[offset : offset + 2], "big")
        if length < 2:
            raise RefusedFile("damaged", "a segment without length")
        if offset + length > len(data):
            raise RefusedFile("truncated")
        offset += length
        if marker == 0xDA:  # compressed data follows, up to the next marker that is not part of it
            while True:
                offset = data.find(b"\xff", offset)
                if offset < 0 or offset + 1 >= len(data):
                    raise RefusedFile("truncated")
                if data[offset + 1] == 0 or 0xD0 <= data[offset + 1] <= 0xD7:
                    offset += 2
                elif data[offset + 1] == 0xFF:
                    offset += 1
                else:
                    break


def _webp(file: BinaryIO, size: int) -> None:
    """Check that the container is as long as the file."""
    file.seek(4)
    length = struct.unpack("<I", file.read(4))[0] + 8
    if length > size:
        raise RefusedFile("truncated")
    if length != size:
        raise RefusedFile("polyglot", "bytes after the picture's end")


def _picture(file: BinaryIO, media: str, pixels_max: int) -> int:
    """Count the picture's pixels, then decode it once. Returns the number of pixels."""
    from PIL import Image, ImageFile

    ImageFile.LOAD_TRUNCATED_IMAGES = False
    Image.MAX_IMAGE_PIXELS = max(pixels_max, 1)  # above: a warning, which is an error here
    wanted = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}[media]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            file.seek(0)
            with Image.open(file, formats=[wanted]) as picture:
                width, height = picture.size
                if width * height > pixels_max or max(width, height) > SIDE_MAX:
                    raise RefusedFile("too_complex", f"{width} x {height} pixels")
                if getattr(picture, "n_frames", 1) > 1 and media != "image/jpeg":
                    raise RefusedFile("animated")
                picture.load()
                return width * height
        except (Image.DecompressionBombWarning, Image.DecompressionBombError, MemoryError):
            raise RefusedFile("too_complex") from None
        except RefusedFile:
            raise
        except Exception as error:
            reason = "truncated" if "truncated" in str(error).lower() else "damaged"
            raise RefusedFile(reason) from None


# ------------------------------------------------------------------------------------------------------------------ PDF

_GOES: Final = frozenset({"/GoTo", "/URI", "/Named"})
"""Actions that a link or an outline may have: within the document, or to an address that its reader chooses to open."""
_NAMED: Final = frozenset({"/NextPage", "/PrevPage", "/FirstPage", "/LastPage"})
_ADDRESS: Final = re.compile(r"(https?://|mailto:)[^\x00-\x20]+", re.I)
_ACTIONS: Final = frozenset(
    {
        "/GoTo3DView",
        "/GoToDp",
        "/GoToE",
        "/GoToR",
        "/Hide",
        "/ImportData",
        "/JavaScript",
        "/Launch",
        "/Movie",
        "/Rendition",
        "/ResetForm",
        "/RichMediaExecute",
        "/SetOCGState",
        "/Sound",
        "/SubmitForm",
        "/Thread",
        "/Trans",
    }
)
"""The other actions of ISO 32000-2, refused everywhere, because one could hide where no action is expected."""
_ANNOTATIONS: Final = frozenset(
    {
        "/Caret",
        "/Circle",
        "/FreeText",
        "/Highlight",
        "/Ink",
        "/Line",
        "/Link",
        "/PolyLine",
        "/Polygon",
        "/Popup",
        "/PrinterMark",
        "/Redact",
        "/Square",
        "/Squiggly",
        "/Stamp",
        "/StrikeOut",
        "/Text",
        "/Underline",
        "/Watermark",
        "/Widget",
    }
)
_HOLDS_SOMETHING: Final = frozenset(
    {"/FileAttachment", "/RichMedia", "/3D", "/Screen", "/Movie", "/Sound", "/Projection", "/PS"}
)
_NAME_TREES: Final = frozenset({"/Dests", "/AP", "/Pages", "/Templates"})
_FILTERS: Final = frozenset(
    {
        "/ASCII85Decode",
        "/A85",
        "/ASCIIHexDecode",
        "/AHx",
        "/CCITTFaxDecode",
        "/CCF",
        "/DCTDecode",
        "/DCT",
        "/FlateDecode",
        "/Fl",
        "/JBIG2Decode",
        "/JPXDecode",
        "/LZWDecode",
        "/LZW",
        "/RunLengthDecode",
        "/RL",
    }
)
_FLATE: Final = frozenset({"/FlateDecode", "/Fl"})
_COMPRESSION: Final = _FLATE | {"/LZWDecode", "/LZW", "/RunLengthDecode", "/RL"}
_PICTURE_FILTERS: Final = frozenset({"/CCITTFaxDecode", "/CCF", "/DCTDecode", "/DCT", "/JBIG2Decode", "/JPXDecode"})


def _pdf(file: BinaryIO, size: int) -> None:
    """Open the document without repairing it, and check every object."""
    import pikepdf

    file.seek(max(0, size - 2048))
    tail = file.read()
    end = tail.rfind(b"%%EOF")
    if end < 0:
        raise RefusedFile("truncated")
    if tail[end + 5 :].strip(b" \t\r\n\f\0"):
        raise RefusedFile("polyglot", "bytes after the document's end")
    try:
        file.seek(0)
        with pikepdf.open(file, attempt_recovery=False, suppress_warnings=True) as pdf:
            if pdf.is_encrypted:
                raise RefusedFile("encrypted")
            if len(pdf.objects) > PDF_OBJECTS_MAX:
                raise RefusedFile("too_complex")
            pages = len(pdf.pages)
            if not 1 <= pages <= PDF_PAGES_MAX:
                raise RefusedFile("too_complex" if pages else "damaged", "" if pages else "no page")
            _annotations(pikepdf, pdf)
            _look(pikepdf, pdf)
    except pikepdf.PasswordError:
        raise RefusedFile("encrypted") from None
    except RefusedFile:
        raise
    except (MemoryError, RecursionError):
        raise RefusedFile("too_complex") from None
    except Exception:
        raise RefusedFile("damaged") from None


def _look(pikepdf: Any, pdf: Any) -> None:
    """Check every dictionary of the document, however nested. Names are compared as a PDF reader understands them."""
    nodes = 0
    left = PDF_UNPACKED_MAX
    stack: list[Any] = [pdf.trailer]
    objects = iter(pdf.objects)
    while True:
        if not stack:
            found = next(objects, None)
            if found is None:
                return
            stack.append(found)
        node = stack.pop()
        nodes += 1
        if nodes > PDF_NODES_MAX:
            raise RefusedFile("too_complex")
        if isinstance(node, pikepdf.Stream | pikepdf.Dictionary):
            stream = isinstance(node, pikepdf.Stream)
            values = dict(node.stream_dict.items() if stream else node.items())
            _judge(pikepdf, values)
            if stream:
                left -= _unpacked(node, _judge_stream(pikepdf, values), min(left, PDF_STREAM_MAX))
        elif isinstance(node, pikepdf.Array):
            values = dict(enumerate(node))
        else:
            continue
        # indirect objects are visited on their own
        stack += [value for value in values.values() if isinstance(value, pikepdf.Object) and not value.is_indirect]


def _annotations(pikepdf: Any, pdf: Any) -> None:
    """Check that every annotation of a page is of a known kind, whether or not it declares itself an annotation."""
    for page in pdf.pages:
        for note in page.obj.get("/Annots", ()):
            if note is None:
                continue
            if not isinstance(note, pikepdf.Dictionary) or str(note.get("/Subtype", "")) not in _ANNOTATIONS:
                raise RefusedFile("active_content", "an annotation that is not known")


def _judge(pikepdf: Any, values: dict[str, Any]) -> None:
    """Check what one dictionary starts, holds or fetches."""
    keys = values.keys()
    kind, subtype, does = (str(values.get(key, "")) for key in ("/Type", "/Subtype", "/S"))
    if keys & {"/JS", "/JavaScript", "/XFA", "/Launch", "/AA", "/NeedsRendering", "/SpiderInfo"}:
        raise RefusedFile("active_content")
    if keys & {"/EmbeddedFiles", "/EF", "/RF", "/Collection"} or kind == "/EmbeddedFile" or subtype in _HOLDS_SOMETHING:
        raise RefusedFile("embedded_file")
    # structure elements have an array as /Ref
    if isinstance(values.get("/Ref"), pikepdf.Dictionary) or "/OPI" in keys or kind in ("/Filespec", "/F"):
        raise RefusedFile("external_content")
    if does in _ACTIONS:
        raise RefusedFile("active_content")
    if kind == "/Action":
        _judge_action(values)
    for key in ("/A", "/PA", "/Next"):
        value = values.get(key)
        # structure attributes also have /A, and outlines /Next, but neither has /S
        if isinstance(value, pikepdf.Dictionary) and "/S" in value:
            _judge_action(dict(value.items()))
    opens = values.get("/OpenAction")
    if isinstance(opens, pikepdf.Dictionary):
        _judge_action(dict(opens.items()), opening=True)
    names = values.get("/Names")
    if isinstance(names, pikepdf.Dictionary) and (other := set(names.keys()) - _NAME_TREES):
        raise RefusedFile("embedded_file" if "/EmbeddedFiles" in other else "active_content")


def _judge_action(values: dict[str, Any], *, opening: bool = False) -> None:
    """Allow only actions that go to one target on the reader's click or, when the document opens, within it."""
    does = str(values.get("/S", ""))
    if does not in ({"/GoTo"} if opening else _GOES) or "/Next" in values:
        raise RefusedFile("active_content")
    if does == "/URI" and not _ADDRESS.fullmatch(str(values.get("/URI", ""))):
        raise RefusedFile("active_content", "a link that is no web or mail address")
    if does == "/Named" and str(values.get("/N", "")) not in _NAMED:
        raise RefusedFile("active_content")


def _judge_stream(pikepdf: Any, values: dict[str, Any]) -> list[str]:
    """Check that a stream is in the document, and compressed at most once, in a known way. Returns its filters."""
    if values.keys() & {"/F", "/FFilter", "/FDecodeParms"}:
        raise RefusedFile("external_content")
    found = values.get("/Filter", ())
    filters = [str(one) for one in (found if isinstance(found, pikepdf.Array) else [found] if found != () else [])]
    if not _FILTERS.issuperset(filters):
        raise RefusedFile("active_content", "a filter that is not known")
    if sum(one in _COMPRESSION for one in filters) > 1:
        raise RefusedFile("too_complex", "a stream that is compressed twice")
    if str(values.get("/Type", "")) == "/XObject" and str(values.get("/Subtype", "")) not in ("/Image", "/Form"):
        raise RefusedFile("active_content")
    return filters


def _unpacked(stream: Any, filters: list[str], most: int) -> int:
    """Count the bytes that a stream unpacks to without keeping them. Picture filters are not decoded.

    Raises:
        RefusedFile: more than `most`.
    """
    if not _COMPRESSION.intersection(filters):
        return 0
    data = stream.read_raw_bytes()
    if filters[0] not in _FLATE:
        # rare and old: a text encoding around it, LZW, run lengths. The process's own memory limit bounds these
        return len(stream.read_bytes()) if not _PICTURE_FILTERS.intersection(filters) else 0
    inflate = zlib.decompressobj()
    size = 0
    try:
        while data and not inflate.eof:
            size += len(inflate.decompress(data, 1 << 20))
            data = inflate.unconsumed_tail
            if size > most:
                raise RefusedFile("too_complex", "a stream that unpacks to too much")
    except zlib.error:
        raise RefusedFile("damaged", "a stream that does not unpack") from None
    return size


# ----------------------------------------------------------------------------------------------------------------- text

# all of C0 but tab, line feed, form feed, carriage return
_NO_TEXT: Final = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")


def _text(file: BinaryIO, head: bytes, size: int) -> None:
    if b"\0" in head:
        raise RefusedFile("unknown_type")
    if size > TEXT_MAX:
        raise RefusedFile("too_complex", "more than 2 MB of text")
    file.seek(0)
    data = file.read(TEXT_MAX + 1)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start > 0 and error.end == len(data) and error.reason == "unexpected end of data":
            raise RefusedFile("truncated") from None
        letters = sum(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head)
        raise RefusedFile("not_utf8" if letters > len(head) * 0.7 else "unknown_type") from None
    if not text.strip("\ufeff \t\r\n\f"):
        raise RefusedFile("empty")
    if _NO_TEXT.search(text):
        raise RefusedFile("unknown_type")


# -------------------------------------------------------------------------------------------------------------- process


def confine() -> None:
    """Set hard limits for this process, where the system has them: memory, processor time, and no files written."""
    import resource

    for name, value in (
        ("RLIMIT_AS", MEMORY_BYTES),
        ("RLIMIT_CPU", CPU_S),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_NOFILE", 64),
    ):
        with contextlib.suppress(ValueError, OSError, AttributeError):
            resource.setrlimit(getattr(resource, name), (value, value))


def main() -> None:
    """Judge standard input."""
    verdict: dict[str, str]
    try:
        confine()
        with os.fdopen(os.dup(0), "rb") as file:
            size = file.seek(0, io.SEEK_END)
            good = examine(file, size, int(sys.argv[1]) * 1_000_000)
        verdict = {"media": good.media}
    except RefusedFile as bad:
        verdict = {"reason": bad.reason, "note": bad.note}
    except MemoryError:
        verdict = {"reason": "too_complex", "note": ""}
    sys.stdout.write(json.dumps(verdict))


if __name__ == "__main__":
    main()
