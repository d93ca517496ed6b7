"""How a message looks: the building blocks of templates, as plain text and as HTML. Pure.

A template is written once and run twice, over ``Text`` and over ``Html``, so the two cannot say different things. In
a template both are called ``ui``, and ``_`` is their ``say``: a text of the catalogue with its placeholders filled.

Text from others (names, addresses, numbers) cannot become markup: HTML escapes every text that is not its own. Nor
can it reverse the text around it: text with right-to-left letters is isolated (Unicode UAX 9; ``<bdi>``). Nothing is
loaded from elsewhere, and everything is readable without style sheets.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

from babel.messages.pofile import read_po
from markupsafe import Markup, escape

from shared import languages

DOMAIN: Final = "messages"
"""Name of the catalogues with the translations of templates."""
WIDTH: Final = 76
"""Columns of plain text; a wide character takes two."""
_FSI, _PDI = "\u2068", "\u2069"
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL", "AN"})
_PLACE: Final = re.compile(r"\{(\w+)\}")
_WIDE: Final = r"[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6]"
_CLOSING: Final = "[，。；：、）」』？！”’]*"
# isolated text is never split; no line begins with a closing mark
_TOKEN: Final = re.compile(rf"(?:\u2068[^\u2069]*\u2069|{_WIDE}|[^\s\u2068{_WIDE[1:-1]}]+){_CLOSING}|\s+")
_SHELL: Final = (
    '<!DOCTYPE html>\n<html lang="{locale}" dir="{direction}">\n<head>\n<meta charset="utf-8">\n<title>{subject}</title>\n</head>\n'
    '<body style="margin:0 auto;max-width:42em;padding:1em;font-family:sans-serif;line-height:1.45;overflow-wrap:anywhere">\n'
    "{body}</body>\n</html>\n"
)
_NAME: Final = 'style="text-align:left;vertical-align:top;padding:0.1em 1em 0.1em 0"'
_VALUE: Final = 'style="vertical-align:top"'
_COLONS: Final = {"zh": "："}
DIRECTIONS: Final[dict[str, str]] = {"en": "ltr", "zh": "ltr", "de": "ltr"}


# ------------------------------------------------------------------------------------------------------------ wording


@cache
def catalogue(locale: str) -> Mapping[tuple[str, str], str]:
    """(context, English) -> translation, for a language other than English; empty if it has no catalogue."""
    path = languages.file(locale, DOMAIN)
    if locale == languages.SOURCE or locale not in languages.LANGUAGES or not path.exists():
        return {}
    with path.open("rb") as stream:
        return {
            (message.context or "", str(message.id)): str(message.string)
            for message in read_po(stream, locale=locale, abort_invalid=True)
            if message.id and message.string and not message.fuzzy
        }


@cache
def parts(locale: str, english: str, context: str = "") -> tuple[str, ...]:
    """The text in that language, else in English, split at its placeholders: words, name, words, ..., words."""
    return tuple(_PLACE.split(catalogue(locale).get((context, english), english)))


# --------------------------------------------------------------------------------------------------------------- text


def isolated(text: str) -> str:
    """``text``, isolated so that it cannot change the order of the text around it."""
    if text.isascii() or not any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in text):
        return text
    return f"{_FSI}{text}{_PDI}"


def columns(text: str) -> int:
    """Columns that the text takes in a monospaced font."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if char in (_FSI, _PDI) or unicodedata.combining(char)
        else 2
        if unicodedata.east_asian_width(char) in "WF"
        else 1
        for char in text
    )


def fill(text: str, first: str = "", rest: str = "") -> str:
    """``text`` in lines of at most ``WIDTH`` columns or one word, prefixed with ``first`` and then ``rest``."""
    if len(text) + len(first) <= WIDTH and text.isascii():
        return first + text
    tokens = text.split(" ") if text.isascii() else _TOKEN.findall(text)
    gap = " " if text.isascii() else ""
    lines: list[str] = []
    line, room = [first], WIDTH - columns(first)
    empty = True
    for token in tokens:
        need = columns(token) + (0 if empty else len(gap))
        if need > room and not empty:
            lines.append("".join(line).rstrip())
            line, room, empty = [rest], WIDTH - columns(rest), True
            need = columns(token)
        if empty and token.isspace():
            continue
        line.append(token if empty else gap + token)
        room -= need
        empty = False
    lines.append("".join(line).rstrip())
    return "\n".join(lines)


class Layout:
    """What a template calls. ``Text`` and ``Html`` implement the abstract methods."""

    def __init__(self, locale: str) -> None:
        self.locale = locale

    def say(self, english: str, /, *, context: str = "", **values: Any) -> Any:
        """A text of the catalogue with its placeholders filled."""
        raise NotImplementedError

    def value(self, text: object) -> Any:
        """A text that comes from others."""
        raise NotImplementedError

    def subject(self, text: Any) -> Any:
        """The message's subject; first in a template."""
        raise NotImplementedError

    def p(self, text: Any) -> Any:
        """A paragraph."""
        raise NotImplementedError

    def h(self, text: Any) -> Any:
        """A heading."""
        raise NotImplementedError

    def facts(self, pairs: Iterable[tuple[Any, Any]], title: Any = None) -> Any:
        """Names and values, without those that have no value. A list as a value takes one line per element."""
        raise NotImplementedError

    def bullets(self, texts: Iterable[Any]) -> Any:
        """A list."""
        raise NotImplementedError

    def code(self, text: str) -> Any:
        """A code for the reader to copy."""
        raise NotImplementedError

    def _entries(self, entries: Sequence[tuple[str, list[Any]]]) -> Any:
        raise NotImplementedError

    def _together(self, *blocks: Any) -> Any:
        raise NotImplementedError

    def _foot(self, lines: Sequence[Any]) -> Any:
        raise NotImplementedError

    # ---- composed of these, for both media

    def greeting(self, party: Any) -> Any:
        """The salutation."""
        _ = self.say
        return self.p(_("Dear {name},", name=party.name) if party and party.name else _("Hello,"))

    def contact(self, title: Any, party: Any) -> Any:
        """Contact data of one party; says which parts are not on file."""
        _ = self.say
        if not party:
            gone = _("no longer on file; write to us and we will put you in touch")
            return self.facts([(title, gone)])
        nothing = _("not on file")
        return self.facts(
            [
                (_("Name"), self.value(party.name) if party.name else nothing),
                (_("Address"), [self.value(line) for line in party.lines] or nothing),
                (_("E-mail"), self.value(party.email) if party.email else nothing),
            ],
            title,
        )

    def right(self, m: Mapping[str, Any]) -> Any:
        """The right and reason of a claim, and what the reason means."""
        _ = self.say
        number = (
            _("{right}, number {number}", right=m["right_label"], number=m["right_number"])
            if m["right_number"]
            else _("{right}, on file under {id}", right=m["right_label"], id=m["right"])
        )
        return self._together(
            self.facts([(_("Right"), number), (_("Reason"), self.value(m["reason_title"]))]),
            self.p(m["reason_means"]) if m["reason_means"] else "",
        )

    def holder(self, m: Mapping[str, Any]) -> Any:
        """Contact data of the right's owner, and of its agent if the agent filed."""
        _ = self.say
        owner = self.contact(_("Right holder"), m["principal"])
        if not m["agent_files"]:
            return owner
        return self._together(
            owner, self.contact(_("The claim was filed for the right holder by its agent"), m["complainant"])
        )

    def items(self, m: Mapping[str, Any], *show: str) -> Any:
        """The listings in a message. ``show``: ``state``, ``code``, ``original``, ``missing``, ``due``."""
        _ = self.say
        entries = []
        for told in m["listed"]:
            lines = [
                _("item {item}: {state}", item=told["id"], state=told["becomes"])
                if "state" in show
                else _("item {item}", item=told["id"])
            ]
            if "code" in show and told["code"]:
                lines.append(
                    _("reason code: {code}. {cure}", code=told["code"], cure=told["cure_said"])
                    if told["cure_said"]
                    else _("reason code: {code}", code=told["code"])
                )
            if "original" in show and told["original"]:
                lines.append(_("already handled as item {item}", item=told["original"]))
            if "missing" in show:
                lines += (
                    [_("missing: {element}", element=element) for element in told["lacks"]]
                    if told["lacks"]
                    else []
                    if "state" in show
                    else [_("missing: see your account")]
                )
            if "due" in show and told["due"]:
                lines.append(_("next date: {date}", date=told["due"]))
            entries.append((told["link"], lines))
        more: Any = ""
        if m["unlisted"]:
            number = f"{m['unlisted']}"
            more = self.p(
                _("And {number} more, which your account and the API show (GET /v1/items).", number=number)
                if m["kind"] == "digest"
                else _(
                    "And {number} more, which your account and the API show: claim {claim}.",
                    number=number,
                    claim=m["claim"],
                )
            )
        return self._together(self._entries(entries), more)

    def texts(self, m: Mapping[str, Any]) -> Any:
        """Texts that the profile's law requires (table ``texts`` of the policy)."""
        return self._together(*map(self.p, m["texts"]))

    def statement(self, m: Mapping[str, Any]) -> Any:
        """How it was found and decided; with statements of reasons, also the law and the territory."""
        _ = self.say
        return self.facts(
            [
                (
                    _("Found"),
                    _("by the marketplace, which looks by automated means for near copies of what was upheld")
                    if m["recurs"]
                    else _("by a notice of the right holder; no automated means were used to find it"),
                ),
                (
                    _("Decided"),
                    {
                        True: _("by rule, without a person (by automated means)"),
                        False: _("by a person"),
                        None: None,
                    }[m["automated"]],
                ),
                (_("Law"), m["law"]),
                (_("Explanation"), m["law_means"]),
                (_("Applies in"), ", ".join(m["territory"])),
                (_("For how long"), _("until the claim against the listing ends") if m["territory"] else None),
            ]
        )

    def end(self, m: Mapping[str, Any]) -> Any:
        """The footer."""
        _ = self.say
        return self._foot(
            [
                _("Intellectual property protection programme"),
                _("Message {id}, {date}", id=m["id"], date=m["now"]),
            ]
        )


BLOCKS: Final = frozenset(name for name in vars(Layout) if not name.startswith("_"))
"""What a template may call."""


class Text(Layout):
    """Plain text. A block ends with an empty line."""

    def __init__(self, locale: str) -> None:
        super().__init__(locale)
        self.colon = _COLONS.get(locale, ":")

    def say(self, english: str, /, *, context: str = "", **values: Any) -> str:
        pieces = parts(self.locale, english, context)
        if len(pieces) == 1:
            return pieces[0]
        out = list(pieces)
        for index in range(1, len(out), 2):
            out[index] = isolated(str(values[out[index]]))
        return "".join(out)

    def value(self, text: object) -> str:
        return isolated(str(text))

    def subject(self, text: str) -> str:
        return text + "\n"

    def p(self, text: str) -> str:
        return fill(text) + "\n\n"

    def h(self, text: str) -> str:
        return fill(text + self.colon) + "\n\n"

    def facts(self, pairs: Iterable[tuple[str, Any]], title: str | None = None) -> str:
        there = [(name, value) for name, value in pairs if value]
        if not there:
            return ""
        indent = "    " if title else ""
        wide = min(24, max(columns(name) for name, _ in there) + columns(self.colon) + 1)
        lines = [f"{title}{self.colon}"] if title else []
        rest = indent + " " * wide
        for name, value in there:
            label = f"{indent}{name}{self.colon}"
            label += " " * max(1, len(rest) - columns(label))
            for part in value if isinstance(value, list) else [value]:
                lines.append(fill(part, label, rest))
                label = rest
        return "\n".join(lines) + "\n\n"

    def bullets(self, texts: Iterable[str]) -> str:
        lines = [fill(text, "- ", "  ") for text in texts]
        return "\n".join(lines) + "\n\n" if lines else ""

    def code(self, text: str) -> str:
        return f"    {text}\n\n"

    def _entries(self, entries: Sequence[tuple[str, list[str]]]) -> str:
        lines = []
        for number, (link, said) in enumerate(entries, 1):
            lines.append(f"{number:3d}. {link}")
            lines += [fill(text, "     ", "       ") for text in said]
        return "\n".join(lines) + "\n\n" if lines else ""

    def _together(self, *blocks: str) -> str:
        return "".join(blocks)

    def _foot(self, lines: Sequence[str]) -> str:
        return "\n".join(("--", *lines)) + "\n"


def _made(text: str) -> Markup:
    """Our own HTML: everything in it has been escaped."""
    return Markup(text)  # noqa: S704


class Html(Layout):
    """HTML. Every text that is not Markup is escaped."""

    def say(self, english: str, /, *, context: str = "", **values: Any) -> Markup:
        pieces = _escaped(self.locale, english, context)
        if len(pieces) == 1:
            return pieces[0]
        out = list(pieces)
        for index in range(1, len(out), 2):
            out[index] = self.value(values[out[index]])
        return _made("".join(out))

    def value(self, text: object) -> Markup:
        if isinstance(text, Markup):
            return text
        said = str(text)
        return escape(said) if said.isascii() else _made(f"<bdi>{escape(said)}</bdi>")

    def subject(self, text: object) -> Markup:
        return _made("")

    def p(self, text: object) -> Markup:
        return _made(f"<p>{escape(text)}</p>\n")

    def h(self, text: object) -> Markup:
        return _made(f'<h2 style="font-size:1.1em">{escape(text)}</h2>\n')

    def facts(self, pairs: Iterable[tuple[Any, Any]], title: Any = None) -> Markup:
        rows = []
        for name, value in pairs:
            if value:
                said = "<br>".join(map(escape, value)) if isinstance(value, list) else escape(value)
                rows.append(f'<tr><th scope="row" {_NAME}>{escape(name)}</th><td {_VALUE}>{said}</td></tr>\n')
        if not rows:
            return _made("")
        return _made(f"{self.h(title) if title else ''}<table>\n{''.join(rows)}</table>\n")

    def bullets(self, texts: Iterable[Any]) -> Markup:
        rows = [f"<li>{escape(text)}</li>\n" for text in texts]
        return _made(f"<ul>\n{''.join(rows)}</ul>\n" if rows else "")

    def code(self, text: object) -> Markup:
        return _made(f'<p style="font-family:monospace;font-size:1.3em">{escape(text)}</p>\n')

    def _entries(self, entries: Sequence[tuple[str, list[Any]]]) -> Markup:
        rows = []
        for link, said in entries:
            there = escape(link)
            lines = "".join([f"<br>\n{escape(text)}" for text in said])
            rows.append(f'<li><a href="{there}">{there}</a>{lines}</li>\n')
        return _made(f"<ol>\n{''.join(rows)}</ol>\n" if rows else "")

    def _together(self, *blocks: Any) -> Markup:
        return _made("".join(map(escape, blocks)))

    def _foot(self, lines: Sequence[Any]) -> Markup:
        said = "<br>\n".join(map(escape, lines))
        return _made(f"<hr>\n<p><small>{said}</small></p>\n")

    def page(self, subject: str, body: str) -> str:
        """The whole document around a body that the template made."""
        return _SHELL.format(locale=self.locale, direction=DIRECTIONS[self.locale], subject=escape(subject), body=body)


@cache
def _escaped(locale: str, english: str, context: str) -> tuple[Markup, ...]:
    return tuple(
        escape(part) if index % 2 == 0 else _made(part) for index, part in enumerate(parts(locale, english, context))
    )
