"""The stand-in's HTTP server, for use inside a process: `start`, look at `taken`, plan `faults`, `stop`."""

from __future__ import annotations

import datetime as dt
import json
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Literal

PATH: Final = "/api/v1/statements"
MAX_BYTES: Final = 4_000_000
Fault = Literal["500", "503", "slow", "drop before", "drop after"]
"""An error without effect; no answer until the caller has given up; the connection cut before or after the effect."""

_VISIBILITY: Final = {
    f"DECISION_VISIBILITY_CONTENT_{what}"
    for what in ("REMOVED", "DISABLED", "DEMOTED", "AGE_RESTRICTED", "INTERACTION_RESTRICTED", "LABELLED")
} | {"DECISION_VISIBILITY_OTHER"}
_ACCOUNT: Final = {"DECISION_ACCOUNT_SUSPENDED", "DECISION_ACCOUNT_TERMINATED"}
_CONTENT: Final = {
    f"CONTENT_TYPE_{what}" for what in ("APP", "AUDIO", "IMAGE", "PRODUCT", "SYNTHETIC_MEDIA", "TEXT", "VIDEO", "OTHER")
}
_KEYWORDS: Final = {
    f"KEYWORD_{what}_INFRINGEMENT"
    for what in ("COPYRIGHT", "DESIGN", "GEOGRAPHIC_INDICATIONS", "PATENT", "TRADE_SECRET", "TRADEMARK")
}
_SOURCES: Final = {
    "SOURCE_ARTICLE_16",
    "SOURCE_TRUSTED_FLAGGER",
    "SOURCE_TYPE_OTHER_NOTIFICATION",
    "SOURCE_VOLUNTARY",
}
_DECISIONS: Final = {f"AUTOMATED_DECISION_{what}" for what in ("FULLY", "PARTIALLY", "NOT_AUTOMATED")}
_COUNTRIES: Final = {
    "AT",
    "BE",
    "BG",
    "CY",
    "CZ",
    "DE",
    "DK",
    "EE",
    "ES",
    "FI",
    "FR",
    "GR",
    "HR",
    "HU",
    "IE",
    "IS",
    "IT",
    "LI",
    "LT",
    "LU",
    "LV",
    "MT",
    "NL",
    "NO",
    "PL",
    "PT",
    "RO",
    "SE",
    "SI",
    "SK",
}


def problems(statement: Any) -> dict[str, list[str]]:
    """What is wrong with a statement, by field; empty if nothing is."""
    if not isinstance(statement, dict):
        return {"statement": ["not an object"]}
    found: dict[str, list[str]] = {}

    def wrong(name: str, why: str) -> None:
        found.setdefault(name, []).append(f"The {name.replace('_', ' ')} field {why}.")

    def text(name: str, most: int, *, pattern: str = "") -> None:
        value = statement.get(name)
        if not isinstance(value, str) or not value.strip():
            wrong(name, "is required")
        elif len(value) > most:
            wrong(name, f"must not be longer than {most} characters")
        elif pattern and not re.fullmatch(pattern, value):
            wrong(name, "has characters that are not allowed")

    def one_of(name: str, allowed: set[str]) -> None:
        if statement.get(name) not in allowed:
            wrong(name, "is invalid")

    def some_of(name: str, allowed: set[str], *, required: bool = True) -> None:
        value = statement.get(name)
        if value is None and not required:
            return
        if not isinstance(value, list) or not value or not all(isinstance(x, str) and x in allowed for x in value):
            wrong(name, "is invalid")
        elif len(set(value)) != len(value):
            wrong(name, "names something twice")

    def date(name: str, earliest: dt.date) -> None:
        try:
            value = dt.date.fromisoformat(str(statement.get(name)))
        except ValueError:
            wrong(name, "is not a date")
            return
        if value < earliest or len(str(statement[name])) != 10:
            wrong(name, "is too early, or not in the form YYYY-MM-DD")

    decisions = ("decision_visibility", "decision_provision", "decision_account")
    if not any(statement.get(name) for name in decisions):
        wrong("decision_visibility", f"is required when there is none of {', '.join(decisions[1:])}")
    some_of("decision_visibility", _VISIBILITY, required=False)
    if "decision_account" in statement:
        one_of("decision_account", _ACCOUNT)
    one_of("decision_ground", {"DECISION_GROUND_ILLEGAL_CONTENT"})
    text("illegal_content_legal_ground", 500)
    text("illegal_content_explanation", 2000)
    some_of("content_type", _CONTENT)
    one_of("category", {"STATEMENT_CATEGORY_INTELLECTUAL_PROPERTY_INFRINGEMENTS"})
    some_of("category_specification", _KEYWORDS, required=False)
    some_of("territorial_scope", _COUNTRIES)
    date("content_date", dt.date(2000, 1, 1))
    date("application_date", dt.date(2020, 1, 1))
    text("decision_facts", 5000)
    one_of("source_type", _SOURCES)
    one_of("automated_detection", {"Yes", "No"})
    one_of("automated_decision", _DECISIONS)
    text("puid", 500, pattern=r"[a-zA-Z0-9_-]+")
    return found


class Database:
    """The stand-in.

    Attributes:
        taken: accepted statements by puid, in order.
        faults: faults of the next requests, one each.
        calls: sizes of the batches that were posted, in order.
        refuse: a further rule: what is wrong with a statement, or None.
        names_errors: whether an answer names the statements that were wrong or known, as the real one's does.
    """

    def __init__(self, token: str, *, file: Path | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        """``file``: stores accepted statements, one per line, and is read at the start."""
        self.taken: dict[str, dict[str, Any]] = {}
        self.faults: deque[Fault] = deque()
        self.calls: list[int] = []
        self.refuse: Callable[[Mapping[str, Any]], str | None] = lambda _: None
        self.names_errors = True
        self.token = token
        self._lock = threading.Lock()
        self._file = None
        if file is not None:
            if file.exists():
                for line in file.read_text(encoding="utf-8").splitlines():
                    statement = json.loads(line)
                    self.taken[statement["puid"]] = statement
            self._file = file.open("a", encoding="utf-8")
        outer = self

        class Handler(_Handler):
            database = outer

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{host}:{self._server.server_address[1]}{PATH}"

    def start(self) -> None:
        """Serve on a thread."""
        threading.Thread(target=self._server.serve_forever, name="transparency", daemon=True).start()

    def serve(self) -> None:
        """Serve on this thread."""
        self._server.serve_forever()

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        if self._file is not None:
            self._file.close()

    def post(self, raw: bytes) -> tuple[int, Any]:
        """Accept a batch or none of it; returns (status, answer)."""
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            return 422, {"message": "The body is not JSON.", "errors": {}}
        statements = body.get("statements") if isinstance(body, dict) else None
        if not isinstance(statements, list) or not 1 <= len(statements) <= 100:
            return 422, {
                "message": "The statements field must have 1 to 100 entries.",
                "errors": {"statements": ["1-100"]},
            }
        with self._lock:
            self.calls.append(len(statements))
            errors: dict[str, Any] = {}
            for place, statement in enumerate(statements):
                wrong: Any = problems(statement)
                if not wrong and (why := self.refuse(statement)):
                    wrong = {"decision_facts": [why]}
                if wrong:
                    errors[f"statement_{place}"] = wrong
            if errors:
                return 422, {"errors": errors} if self.names_errors else {"message": "Something is wrong."}
            puids = [statement["puid"] for statement in statements]
            known = [puid for place, puid in enumerate(puids) if puid in self.taken or puid in puids[:place]]
            if known:
                if not self.names_errors:
                    return 409, {"message": "Not all new."}
                message = "The platform identifier(s) are not all unique within this call."
                return 422, {"message": message, "errors": {"puid": [message], "existing_puids": known}}
            for statement in statements:
                self.taken[statement["puid"]] = statement
                if self._file is not None:
                    self._file.write(json.dumps(statement) + "\n")
            if self._file is not None:
                self._file.flush()
            return 201, {"statements": statements}


class _Handler(BaseHTTPRequestHandler):
    database: Database
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the token must not get into a log."""

    def do_POST(self) -> None:
        """Answer a batch."""
        database = self.database
        size = self.headers.get("content-length", "")
        if not size.isdigit() or int(size) > MAX_BYTES:
            self.close_connection = True
            return self._answer(413, {"message": "Too large."})
        raw = self.rfile.read(int(size))
        if self.path != PATH:
            return self._answer(404, {"message": "Not found."})
        if self.headers.get("authorization") != f"Bearer {database.token}":
            return self._answer(401, {"message": "Unauthenticated."})
        fault = database.faults.popleft() if database.faults else None
        if fault in ("500", "503"):
            return self._answer(int(fault), {"message": "Server error."})
        if fault == "drop before":
            return self._cut()
        if fault == "slow":
            time.sleep(2.0)
            return self._cut()
        status, answer = database.post(raw)
        if fault == "drop after":
            return self._cut()
        return self._answer(status, answer)

    def _answer(self, status: int, answer: Any) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
