"""The stand-in's HTTP server, for use inside a process: `start`, `add` marks, plan `faults`, `stop`.

The answers have the fields of the public formats that matter here, and some that do not: a reader must ignore them.
"""

from __future__ import annotations

import json
import re
import secrets
import socket
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal
from urllib.parse import parse_qs, unquote

Fault = Literal["500", "503", "429", "slow", "drop", "html", "huge", "redirect"] | bytes
"""An error; no answer in time; the connection cut; not JSON; too much; elsewhere; or these bytes as the answer."""
_EU: Final = re.compile(r"/trademark-search/trademarks/([^/?]+)")
_US: Final = re.compile(r"/ts/cd/casestatus/rn([^/?]+)/info\.json")
_TM5: Final = {
    "REGISTERED": "LIVE/REGISTRATION/Issued and Active",
    "CANCELLED": "DEAD/REGISTRATION/Cancelled/Invalidated",
    "EXPIRED": "DEAD/REGISTRATION/Cancelled/Invalidated",
    "APPLICATION_PUBLISHED": "LIVE/APPLICATION/Published for Opposition",
}


def euipo(number: str, mark: str | None, owners: list[str], status: str, ends: str | None) -> dict[str, Any]:
    """A mark as the EUIPO's trade mark search shows it."""
    return {
        "applicationNumber": number,
        "applicationDate": "2015-03-02",
        "registrationDate": "2015-08-20",
        "markKind": "INDIVIDUAL",
        "markFeature": "FIGURATIVE" if mark is None else "WORD",
        "markBasis": "EU_TRADEMARK",
        "niceClasses": [9, 25],
        **({} if mark is None else {"wordMarkSpecification": {"verbalElement": mark}}),
        "applicants": [
            {"office": "EM", "identifier": str(place), "name": owner} for place, owner in enumerate(owners, 1)
        ],
        "status": status,
        "statusDate": "2015-08-20",
        **({} if ends is None else {"expiryDate": ends}),
    }


def uspto(number: str, mark: str | None, owners: list[str], status: str) -> dict[str, Any]:
    """A mark as the USPTO's TSDR shows it: its owners of before come first."""
    party = {"serialNumber": 75554461, "partyTypeDescription": "ORIGINAL REGISTRANT", "entityNum": 1}
    case = {
        "status": {
            "staff": {"examiner": None},
            "serialNumber": 75554461,
            "markElement": mark,
            "usRegistrationNumber": number,
            "usRegistrationDate": "2001-05-08",
            "tm5StatusDesc": _TM5.get(status, "DEAD/APPLICATION/Withdrawn/Abandoned"),
            "status": 800,
        },
        "parties": {
            "ownerGroups": {
                "20": [{**party, "name": owner} for owner in owners],
                "10": [{**party, "name": "Who Applied Inc."}],
            }
        },
        "gsList": [{"primeClassCode": "025", "internationalClasses": [{"code": "025", "description": "Clothing"}]}],
    }
    return {"trademarks": [case]}


class Registers:
    """The stand-in.

    Attributes:
        answers: what is answered, by (register, number).
        faults: faults of the next requests for a mark, one each.
        calls: marks that were asked for, in order.
        tokens: tokens of the EUIPO that are valid.
    """

    def __init__(self, client: str, key: str, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.answers: dict[tuple[str, str], Any] = {}
        self.faults: deque[Fault] = deque()
        self.calls: list[tuple[str, str]] = []
        self.tokens: set[str] = set()
        self.client, self.key = client, key
        outer = self

        class Handler(_Handler):
            registers = outer

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{host}:{self._server.server_address[1]}"

    def add(
        self,
        register: Literal["eu", "us"],
        number: str,
        mark: str | None,
        owner: str | list[str],
        status: str = "REGISTERED",
        ends: str | None = None,
    ) -> None:
        """Have a mark in the register from now on. The status is one of the EUIPO's, for both."""
        owners = [owner] if isinstance(owner, str) else owner
        made = euipo(number, mark, owners, status, ends) if register == "eu" else uspto(number, mark, owners, status)
        self.answers[register, number] = made

    def start(self) -> None:
        """Serve on a thread."""
        threading.Thread(target=self._server.serve_forever, name="registers", daemon=True).start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    registers: Registers
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: no credential must get into a log."""

    def do_POST(self) -> None:
        """Issue a token."""
        size = self.headers.get("content-length", "")
        if not size.isdigit() or int(size) > 10_000:
            self.close_connection = True
            return self._answer(413, {"error": "invalid_request"})
        form = parse_qs(self.rfile.read(int(size)).decode(errors="replace"))
        if self.path != "/oidc/accessToken":
            return self._answer(404, {"error": "not_found"})
        given = ":".join(form.get(name, [""])[0] for name in ("client_id", "client_secret"))
        if given != self.registers.client or form.get("grant_type") != ["client_credentials"]:
            return self._answer(401, {"error": "invalid_client"})
        token = secrets.token_urlsafe(24)
        self.registers.tokens.add(token)
        return self._answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": 28_800})

    def do_GET(self) -> None:
        """Answer for a mark."""
        registers = self.registers
        if match := _EU.fullmatch(self.path):
            register = "eu"
            scheme, _, token = self.headers.get("authorization", "").partition(" ")
            known = scheme == "Bearer" and token in registers.tokens
            known &= self.headers.get("x-ibm-client-id") == registers.client.partition(":")[0]
        elif match := _US.fullmatch(self.path):
            register = "us"
            known = self.headers.get("uspto-api-key") == registers.key
        else:
            return self._answer(404, {"message": "Not found."})
        if not known:
            return self._answer(401, {"message": "Unauthorized"})
        number = unquote(match[1])
        registers.calls.append((register, number))
        fault = registers.faults.popleft() if registers.faults else None
        if isinstance(fault, bytes):
            return self._send(200, fault, "application/json")
        if fault in ("500", "503", "429"):
            return self._answer(int(fault), {"message": "Server error."})
        if fault == "html":
            return self._send(200, b"<html>Maintenance</html>", "text/html")
        if fault == "huge":
            return self._send(200, b'{"applicationNumber": "' + b"0" * 3_000_000 + b'"}', "application/json")
        if fault == "redirect":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:9/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        if fault in ("drop", "slow"):
            if fault == "slow":
                time.sleep(2.0)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return None
        found = registers.answers.get((register, number))
        return self._answer(404, {"message": "Not found."}) if found is None else self._answer(200, found)

    def _answer(self, status: int, answer: Any) -> None:
        self._send(status, json.dumps(answer).encode(), "application/json")

    def _send(self, status: int, body: bytes, media: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
