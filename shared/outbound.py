"""URLs that others gave us to call: which ones may be called, and where they really lead.

A request that a party makes us send must not reach what only we can reach (server-side request forgery). So a URL is
parsed strictly, we look its name up, all its addresses must be public, and the connection goes to an address that was
checked: the code that connects must ask ``allowed`` again for the very address it is about to use.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Protocol
from urllib.parse import urlsplit

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver
import idna

from shared.languages import mark
from shared.settings import Settings

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

URL_MOST: Final = 500
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ISATAP: Final = 0x5EFE
_SPECIAL_V4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "168.63.129.16/32",  # Azure's metadata and DNS, although its number is public
            "224.0.0.0/4",
            "240.0.0.0/4",  # multicast, reserved, broadcast
        ),
    )
)
_SPECIAL_V6: Final = tuple(
    map(
        IPv6Network,
        # the first includes Teredo, the third is 6to4
        ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
    )
)
INTERNET: Final[dict[Network, tuple[Network, ...]]] = {
    IPv4Network("0.0.0.0/0"): _SPECIAL_V4,
    IPv6Network("2000::/3"): _SPECIAL_V6,
    # the well-known prefix of NAT64, through which a network without IPv4 reaches the IPv4 Internet
    IPv6Network("64:ff9b::/96"): tuple(
        IPv6Network(f"64:ff9b::{network.network_address}/{96 + network.prefixlen}") for network in _SPECIAL_V4
    ),
}
"""The public networks, each with its special-purpose ranges (IANA), which are not public. Nothing else is called."""


class Unfit(Exception):
    """The URL may not be called.

    Attributes:
        reason: ``url_malformed``, ``url_scheme``, ``url_user``, ``url_port``, ``url_host``, ``url_private`` or ``url_unresolved``.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be called.

    Attributes:
        networks: allowed in addition to public addresses, for tests or an in-house receiver.
        ports: allowed ports; empty: any.
        http: whether unencrypted calls are allowed.
    """

    networks: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset({443, 8443})
    http: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        """The rules in the settings."""
        networks = tuple(ipaddress.ip_network(text) for text in settings.webhook_networks)
        return cls(networks, frozenset(settings.webhook_ports), settings.webhook_http)


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed URL. ``url`` is rebuilt from the parts; ``literal`` is the host if it is an address."""

    url: str
    host: str
    port: int
    literal: Address | None


def allowed(address: Address, rules: Rules) -> bool:
    """Whether an address may be connected to: it is public, or in a network that the rules allow."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        if address.ipv4_mapped is not None:
            return allowed(address.ipv4_mapped, rules)
    if _within(address, rules.networks):
        return True
    # an ISATAP interface identifier embeds an IPv4 address under any prefix; bit 0x02000000 may be set
    if address.version == 6 and int(address) >> 32 & 0xFDFFFFFF == _ISATAP:
        return False
    return any(_within(address, (public,)) and not _within(address, special) for public, special in INTERNET.items())


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def _literal(host: str) -> Address | None:
    """The address, if the host is one in its usual form, which everybody reads alike.

    Raises:
        Unfit: a form that only some read as an address: ``2130706433``, ``0x7f.1``, ``127.1``, ``0177.0.0.1``, a zone.
    """
    if host.startswith("["):
        try:
            return IPv6Address(host[1:-1]) if "%" not in host else _refuse_host()
        except ValueError:
            return _refuse_host()
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            return IPv4Address(host)
        except ValueError:
            return _refuse_host()
    return None


def _refuse_host() -> Address:
    raise Unfit("url_host", mark("The host is neither a name of the Internet nor an address in its usual form."))


def target_of(url: str, rules: Rules) -> Target:
    """Parse a URL. Does not look up names.

    Raises:
        Unfit: it may not be called, whatever its name resolves to.
    """
    if not 1 <= len(url) <= URL_MOST or any(char <= " " or char in '\\\x7f"<>^`{|}' for char in url):
        raise Unfit("url_malformed", mark("This is no URL of at most 500 characters."))
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Unfit("url_malformed", mark("This is no URL.")) from None
    if parts.scheme not in ("https", "http") or (parts.scheme == "http" and not rules.http):
        raise Unfit("url_scheme", mark("Only https is called."))
    if "@" in parts.netloc:
        raise Unfit("url_user", mark("The URL must not name a user."))
    if parts.fragment or "#" in url:
        raise Unfit("url_malformed", mark("The URL must not have a fragment."))
    if not (parts.path + parts.query).isascii():
        raise Unfit("url_malformed", mark("What follows the host must be percent-encoded."))
    host = parts.netloc.rpartition(":")[0] if port is not None else parts.netloc.removesuffix(":")
    host = host.lower()
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True, transitional=False).decode()
        except (idna.IDNAError, UnicodeError):
            _refuse_host()
    port = port if port is not None else (443 if parts.scheme == "https" else 80)
    if rules.ports and port not in rules.ports:
        raise Unfit("url_port", mark("Webhooks have another port (443 or 8443, if nothing else is set)."))
    if port == 0:
        raise Unfit("url_port", mark("There is no port 0."))
    literal = _literal(host)
    if literal is None:
        labels = host.split(".")
        if len(labels) < 2 or len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
            _refuse_host()
    elif not allowed(literal, rules):
        raise Unfit("url_private", mark("The address is not a public one."))
    query = f"?{parts.query}" if parts.query else ""
    shown = "" if port == (443 if parts.scheme == "https" else 80) else f":{port}"
    return Target(f"{parts.scheme}://{host}{shown}{parts.path or '/'}{query}", host.strip("[]"), port, literal)


class Names(Protocol):
    """Looks names up."""

    async def addresses(self, host: str) -> Sequence[str]:
        """All addresses of a name.

        Raises:
            OSError: the name has no address, or the look-up failed.
        """
        ...


class Aliased(Exception):
    """The name is another's alias: what is published there is not its own."""


class Dns:
    """Looks names up by DNS, without threads, so names whose servers do not answer hold up nothing else.

    Args:
        timeout_s: longest look-up, in seconds.
        resolvers: whom to ask, each as `address:port`; none: the system's.

    Raises:
        ValueError: a resolver is not an address and a port.
    """

    def __init__(self, timeout_s: float, resolvers: Sequence[str] = ()) -> None:
        self._timeout_s = timeout_s
        self._resolver: dns.asyncresolver.Resolver | None = None
        if resolvers:
            self._resolver = dns.asyncresolver.Resolver(configure=False)
            self._resolver.nameservers = [_nameserver(text) for text in resolvers]

    async def addresses(self, host: str) -> Sequence[str]:
        """IPv4 and IPv6 addresses of a name, without search domains; cached for as long as DNS allows.

        Raises:
            OSError: see ``Names``.
        """
        try:
            if self._resolver is None:
                self._resolver = dns.asyncresolver.Resolver()
                self._resolver.cache = dns.resolver.LRUCache(10_000)
            answers = await self._resolver.resolve_name(f"{host}.", lifetime=self._timeout_s)
            return list(answers.addresses())
        except (dns.exception.DNSException, ValueError) as error:
            raise OSError(f"{host}: {type(error).__name__}") from None

    async def texts(self, host: str) -> list[bytes]:
        """The TXT records of a name, each in one piece; none, if it has none or does not exist. Never from a cache.

        Raises:
            Aliased: the records are another name's.
            OSError: the look-up failed.
        """
        try:
            resolver = self._resolver or dns.asyncresolver.Resolver()
            answer = await resolver.resolve(f"{host}.", "TXT", lifetime=self._timeout_s)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, ValueError) as error:
            raise OSError(f"{host}: {type(error).__name__}") from None
        if answer.canonical_name != answer.qname:
            raise Aliased
        return [b"".join(record.strings) for record in answer]


def _nameserver(text: str) -> dns.nameserver.Nameserver:
    host, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        return dns.nameserver.Do53Nameserver(str(address), int(port))
    except ValueError:
        raise ValueError(f"{text}: expected the address and port of a resolver, such as 192.0.2.53:53") from None


async def public(target: Target, rules: Rules, names: Names) -> list[Address]:
    """All addresses of a target, each of which may be connected to. One that is not public rules out all of them.

    Raises:
        Unfit: ``url_private``, or ``url_unresolved``.
    """
    if target.literal is not None:
        found: list[Address] = [target.literal]
    else:
        try:
            found = [ipaddress.ip_address(text) for text in await names.addresses(target.host)]
        except (TimeoutError, OSError):
            found = []
    if not found:
        raise Unfit("url_unresolved", mark("The host's name leads to no address."))
    if not all(allowed(address, rules) for address in found):
        raise Unfit("url_private", mark("The host's name leads to an address that is not a public one."))
    return found
