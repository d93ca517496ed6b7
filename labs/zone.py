"""A small DNS server on loopback, which also answers what no honest server would."""

from __future__ import annotations

import contextlib
import socketserver
import struct
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, Final, Self

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdata
import dns.rrset

TTL: Final = 60
Hostile = Callable[[dns.message.Message], bytes | None]
"""Makes the bytes of an answer; None: no answer."""


def record(name: str, kind: str, *values: str) -> dns.rrset.RRset:
    """Records of a name."""
    return dns.rrset.from_text(name, TTL, "IN", kind, *values)


def answer(query: dns.message.Message, *records: dns.rrset.RRset, rcode: dns.rcode.Rcode = dns.rcode.NOERROR) -> bytes:
    """An answer with these records, of any length."""
    made = dns.message.make_response(query, recursion_available=True)
    made.set_rcode(rcode)
    made.answer.extend(records)
    return made.to_wire(max_size=65_535)


@cache
def _many() -> list[dns.rdata.Rdata]:
    return list(record("evil.example.", "TXT", *(f'"{n}"' for n in range(2000))))


def hostile(text: str) -> list[tuple[str, Hostile]]:
    """Answers by which none may pass as the owner of a text, although many contain it; each with what it counts as."""

    def own(query: dns.message.Message) -> str:
        return query.question[0].name.to_text()

    def alias(query: dns.message.Message) -> bytes:
        return answer(query, record(own(query), "CNAME", "evil.example."), record("evil.example.", "TXT", f'"{text}"'))

    def loop(query: dns.message.Message) -> bytes:
        there, back = record(own(query), "CNAME", "evil.example."), record("evil.example.", "CNAME", own(query))
        return answer(query, there, back)

    def of_another(query: dns.message.Message) -> bytes:
        return answer(query, record("evil.example.", "TXT", f'"{text}"'))

    def wrong_id(query: dns.message.Message) -> bytes:
        wire = answer(query, record(own(query), "TXT", f'"{text}"'))
        return bytes([wire[0] ^ 1]) + wire[1:]

    def nearly(query: dns.message.Message) -> bytes:
        return answer(query, record(own(query), "TXT", f'"{text}x"', f'"{text}\\000"', f'"{text} {text}"'))

    def thousands(query: dns.message.Message) -> bytes:
        found = dns.rrset.from_rdata_list(own(query), TTL, [*record(own(query), "TXT", f'"{text}"'), *_many()])
        return answer(query, found)

    def endless(query: dns.message.Message) -> bytes:
        return answer(query, record(own(query), "TXT", " ".join(['"' + "x" * 255 + '"'] * 200)))

    return [
        ("alias", alias),
        ("no_answer", loop),
        ("no_record", of_another),
        ("no_answer", wrong_id),
        ("other_record", nearly),
        ("too_long", thousands),
        ("other_record", endless),
        ("no_answer", lambda query: None),
        ("no_answer", lambda query: b"\xff" * 40),
        ("no_answer", lambda query: answer(query, rcode=dns.rcode.SERVFAIL)),
    ]


class Zone:
    """Answers questions for TXT records, by UDP and TCP.

    Attributes:
        texts: by name, without a final point.
        hostile: by name, what makes the answer in place of ``texts``.
        asked: every name that was asked for.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.texts: dict[str, list[str]] = {}
        self.hostile: dict[str, Hostile] = {}
        self.asked: list[str] = []
        zone = self

        class Stream(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                head = self.rfile.read(2)
                if len(head) == 2:
                    wire = zone._answer(self.rfile.read(*struct.unpack("!H", head)))
                    if wire is not None:
                        self.wfile.write(struct.pack("!H", len(wire)) + wire)

        class Datagram(socketserver.DatagramRequestHandler):
            def handle(self) -> None:
                content = self.rfile.read()
                wire = zone._answer(content)
                if wire is not None:
                    self.wfile.write(wire if len(wire) <= 1232 else zone._truncated(content))

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self._servers: list[Any] = [socketserver.ThreadingTCPServer((host, port), Stream)]
        bound = self._servers[0].server_address[1]
        self._servers.append(socketserver.ThreadingUDPServer((host, bound), Datagram))
        for server in self._servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, name="zone", daemon=True).start()
        self.address = f"{host}:{bound}"

    def _answer(self, content: bytes) -> bytes | None:
        with contextlib.suppress(dns.exception.DNSException):
            query = dns.message.from_wire(content)
            name = query.question[0].name.to_text(omit_final_dot=True)
            self.asked.append(name)
            if name in self.hostile:
                return self.hostile[name](query)
            if name in self.texts:
                return answer(query, record(f"{name}.", "TXT", *(f'"{text}"' for text in self.texts[name])))
            return answer(query, rcode=dns.rcode.NXDOMAIN)
        return None

    @staticmethod
    def _truncated(content: bytes) -> bytes:
        made = dns.message.make_response(dns.message.from_wire(content))
        made.flags |= dns.flags.TC
        return made.to_wire()

    def close(self) -> None:
        """Answer no more."""
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
