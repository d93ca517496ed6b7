"""Which addresses that others gave us may be called."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.outbound import Rules, Unfit, allowed, public, target_of

RULES = Rules()
INNER = (
    "0.0.0.1",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "::ffff:0:7f00:1",
    "2606:4700::5efe:7f00:1",
    "2606:4700::200:5efe:a9fe:a9fe",
    "2606:4700::5efe:808:808",
    "2001:0:4136:e378::1",
    "2002:808:808::1",
    "2620:4f:8000::1",
    "192.175.48.1",
    "1::1",
    "4000::1",
    "5f00::1",
    "64:ff9a::808:808",
    "64:ff9b:0:0:0:1::1",
)
OUTER = ("1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808")


class Zone:
    """Names with their addresses, as a DNS server would have them."""

    def __init__(self, **names: Sequence[str]) -> None:
        self._names = names

    async def addresses(self, host: str) -> Sequence[str]:
        if host.replace(".", "_") not in self._names:
            raise OSError("no such name")
        return self._names[host.replace(".", "_")]


@pytest.mark.parametrize("text", INNER)
def test_inner_addresses_are_not_called(text: str) -> None:
    assert not allowed(ipaddress.ip_address(text), RULES)


@pytest.mark.parametrize("text", OUTER)
def test_public_addresses_are_called(text: str) -> None:
    assert allowed(ipaddress.ip_address(text), RULES)


@given(st.ip_addresses(v=4))
def test_an_address_in_another_dress_is_judged_as_itself(address: ipaddress.IPv4Address) -> None:
    plain = allowed(address, RULES)
    assert allowed(ipaddress.IPv6Address(f"::ffff:{address}"), RULES) == plain
    assert allowed(ipaddress.IPv6Address(f"64:ff9b::{address}"), RULES) == plain
    for hidden in (f"::{address}", f"64:ff9b:1::{address}", f"::ffff:0:{address}", f"2606:4700::5efe:{address}"):
        assert not allowed(ipaddress.IPv6Address(hidden), RULES)
    assert not allowed(ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80)), RULES)


@given(st.ip_addresses(v=6))
def test_no_address_outside_the_public_networks_is_called(address: ipaddress.IPv6Address) -> None:
    public = any(
        address in network for network in map(ipaddress.IPv6Network, ("2000::/3", "64:ff9b::/96", "::ffff:0:0/96"))
    )
    assert public or not allowed(address, RULES)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://example.com/", "url_scheme"),
        ("ftp://example.com/", "url_scheme"),
        ("file:///etc/passwd", "url_scheme"),
        ("gopher://example.com/", "url_scheme"),
        ("//example.com/", "url_scheme"),
        ("example.com", "url_scheme"),
        ("https://user@example.com/", "url_user"),
        ("https://user:pass@example.com/", "url_user"),
        ("https://example.com@127.0.0.1/", "url_user"),
        ("https://example.com:22/", "url_port"),
        ("https://example.com:0/", "url_port"),
        ("https://example.com:99999/", "url_malformed"),
        ("https://example.com:x/", "url_malformed"),
        ("https://127.0.0.1/", "url_private"),
        ("https://[::1]/", "url_private"),
        ("https://[::ffff:169.254.169.254]/latest/meta-data/", "url_private"),
        ("https://169.254.169.254/", "url_private"),
        ("https://2130706433/", "url_host"),
        ("https://0x7f000001/", "url_host"),
        ("https://0x7f.1/", "url_host"),
        ("https://127.1/", "url_host"),
        ("https://0177.0.0.1/", "url_host"),
        ("https://127.0.0.1./", "url_host"),
        ("https://１２７.0.0.1/", "url_private"),
        ("https://①②⑦.0.0.1/", "url_private"),
        ("https://[fe80::1%25eth0]/", "url_host"),
        ("https://[::1/", "url_malformed"),
        ("https://localhost/", "url_host"),
        ("https://metadata/", "url_host"),
        ("https:///path", "url_host"),
        ("https://exa mple.com/", "url_malformed"),
        ("https://example.com\\@evil.test/", "url_malformed"),
        ("https://example.com/\r\nHost: x", "url_malformed"),
        ("https://example.com/#x", "url_malformed"),
        ("https://example.com/ü", "url_malformed"),
        ("https://-bad.example/", "url_host"),
        ("https://a..b/", "url_host"),
        ("https://example.com/" + "a" * 500, "url_malformed"),
        ("", "url_malformed"),
        ("https://exa%6dple.com/", "url_host"),
    ],
)
def test_what_may_not_be_called_is_refused_by_its_reason(url: str, reason: str) -> None:
    with pytest.raises(Unfit) as refused:
        target_of(url, RULES)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://Example.COM", "https://example.com/"),
        ("https://example.com:443/a?b=c%20d", "https://example.com/a?b=c%20d"),
        ("https://example.com:8443/a/../b", "https://example.com:8443/a/../b"),
        ("https://bücher.example/x", "https://xn--bcher-kva.example/x"),
        ("https://[2606:4700::1111]/", "https://[2606:4700::1111]/"),
    ],
)
def test_what_is_kept_is_written_again_from_its_parts(url: str, kept: str) -> None:
    assert target_of(url, RULES).url == kept
    assert target_of(kept, RULES).url == kept


@given(st.text(max_size=80) | st.from_regex(r"https?://[\w.:@\[\]%-]{1,40}(:\d{1,6})?/?[ -~]{0,10}", fullmatch=True))
def test_any_text_is_refused_or_has_a_host_that_everybody_reads_alike(text: str) -> None:
    with contextlib.suppress(Unfit):
        target = target_of(text, RULES)
        assert target.url.isascii()
        assert target.url.isprintable()
        assert "@" not in target.url.split("/")[2]
        if target.literal is None:
            assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", target.host)
            with pytest.raises(ValueError, match="not appear to be"):
                ipaddress.ip_address(target.host)
        else:
            assert allowed(target.literal, RULES)


def _public(url: str, rules: Rules = RULES, **names: Sequence[str]) -> list[str]:
    return [str(one) for one in asyncio.run(public(target_of(url, rules), rules, Zone(**names)))]


def test_all_addresses_of_a_name_must_be_public() -> None:
    assert _public("https://a.example/", a_example=["1.1.1.1", "2606:4700::1111"]) == ["1.1.1.1", "2606:4700::1111"]
    for inner in INNER:
        with pytest.raises(Unfit) as refused:
            _public("https://a.example/", a_example=["1.1.1.1", inner])
        assert refused.value.reason == "url_private"


def test_a_name_without_an_address_is_refused() -> None:
    for names in ({}, {"a_example": []}):
        with pytest.raises(Unfit) as refused:
            _public("https://a.example/", **names)
        assert refused.value.reason == "url_unresolved"


def test_the_setting_for_tests_opens_what_it_names_only() -> None:
    rules = Rules((ipaddress.ip_network("127.0.0.0/8"),), frozenset(), http=True)
    assert _public("http://127.0.0.1:8099/x", rules) == ["127.0.0.1"]
    assert _public("http://a.example/", rules, a_example=["::ffff:7f00:1"]) == ["::ffff:7f00:1"]
    with pytest.raises(Unfit):
        target_of("http://169.254.169.254/", rules)
