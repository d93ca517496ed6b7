"""Fetches pictures of listings: from hosts that the installation names, and never from elsewhere.

A listing's pictures have addresses that others wrote. So the host must be named in a setting, all addresses that its
name leads to must be public (``shared.outbound``), the connection goes to one of these, redirects are not followed,
and bytes and time are bounded. What came is only hashed here: ``seeing`` has it opened in another process.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import ssl
from typing import Final

import httpx

from shared import outbound
from shared.events import Picture
from shared.outbound import Address, Names, Rules, Target, Unfit
from shared.settings import Settings

PASSING: Final = frozenset({"unreachable", "too_slow"})
"""Reasons that may be over at the next try."""
_LIMITS: Final = httpx.Limits(max_connections=4, max_keepalive_connections=0)
"""No connection is kept: one to an address may have been made for another name."""


class Unseen(Exception):
    """The picture cannot be had; the argument is the code of why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Fetcher:
    """Fetches pictures by their rules. ``names``: tests pass a zone of their own."""

    def __init__(self, settings: Settings, names: Names | None = None) -> None:
        networks = tuple(ipaddress.ip_network(text) for text in settings.pictures_networks)
        self._rules = Rules(networks, frozenset(), settings.pictures_http)
        self._hosts = frozenset(host.lower() for host in settings.pictures_hosts)
        self._most = settings.pictures_max_bytes
        self._timeout_s = settings.pictures_timeout_s
        self._trusted = ssl.create_default_context(cafile=settings.pictures_ca)
        self._names = names or outbound.Dns(settings.pictures_timeout_s / 3)

    async def fetch(self, picture: Picture) -> bytes:
        """The picture's file, which has the hash that the marketplace published.

        Raises:
            Unseen: it cannot be had.
        """
        if picture.url is None:
            raise Unseen("no_url")
        try:
            async with asyncio.timeout(self._timeout_s):
                data = await self._get(self._target(picture.url))
        except TimeoutError:
            raise Unseen("too_slow") from None
        except Unfit as unfit:
            raise Unseen("unreachable" if unfit.reason == "url_unresolved" else unfit.reason) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
            raise Unseen("unreachable") from None
        if hashlib.sha256(data).hexdigest() != picture.sha256:
            raise Unseen("another_file")
        return data

    def _target(self, url: str) -> Target:
        target = outbound.target_of(url, self._rules)
        usual = 443 if target.url.startswith("https:") else 80
        named = f"{target.host}:{target.port}"
        if named not in self._hosts and (target.host not in self._hosts or target.port != usual):
            raise Unseen("host_not_named")
        return target

    async def _get(self, target: Target) -> bytes:
        # a host without IPv6 learns of such addresses, too
        *others, last = sorted(await outbound.public(target, self._rules, self._names), key=lambda one: one.version)[:3]
        for address in others:
            try:
                return await self._get_from(target, address)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._get_from(target, last)

    async def _get_from(self, target: Target, address: Address) -> bytes:
        url = httpx.URL(target.url)
        headers = {"Host": url.netloc.decode("ascii"), "Accept": "image/*", "Accept-Encoding": "identity"}
        async with (
            httpx.AsyncClient(
                trust_env=False,
                follow_redirects=False,
                timeout=httpx.Timeout(self._timeout_s, connect=self._timeout_s / 4),
                limits=_LIMITS,
                verify=self._trusted,
            ) as client,
            client.stream(
                "GET", url.copy_with(host=str(address)), headers=headers, extensions={"sni_hostname": target.host}
            ) as response,
        ):
            if response.status_code >= 500 or response.status_code == 429:
                raise Unseen("unreachable")
            if response.status_code != 200:
                raise Unseen("not_answered")
            data = bytearray()
            # as it came: nothing is unpacked here
            async for part in response.aiter_raw():
                data += part
                if len(data) > self._most:
                    raise Unseen("too_large")
            return bytes(data)
