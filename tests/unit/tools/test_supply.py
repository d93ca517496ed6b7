"""Packages are pinned by hash, have allowed licences, and never count as audited if they were not."""

from __future__ import annotations

from email.message import Message
from typing import Any

import pytest

from tools import supply
from tools.supply import Pin

HASH = "a" * 64
LOCK = f"""# made by a machine
one==1.0 \\
    --hash=sha256:{HASH} \\
    --hash=sha256:{"b" * 64}
    # via two
Two_Three==2.0.post1 ; python_full_version >= '3.11' \\
    --hash=sha256:{HASH}
elsewhere==3 ; sys_platform == 'nowhere' \\
    --hash=sha256:{HASH}
"""


def test_pins_are_read_with_their_hashes() -> None:
    assert supply.pins(LOCK) == [
        Pin("one", "1.0", True, (HASH, "b" * 64)),
        Pin("two-three", "2.0.post1", True, (HASH,)),
        Pin("elsewhere", "3", False, (HASH,)),
    ]


@pytest.mark.parametrize("line", ["one==1.0", f"one>=1.0 --hash=sha256:{HASH}", f"one --hash=sha256:{HASH}"])
def test_what_is_not_pinned_by_hash_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="one: not pinned"):
        supply.pins(line)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-local.txt", "requirements-dev.txt"])
def test_all_that_is_installed_is_pinned_by_hash(name: str) -> None:
    text = (supply.ROOT / name).read_text()
    assert len(supply.pins(text)) > 50
    assert "://" not in text


def test_every_run_time_package_comes_under_terms_that_are_allowed() -> None:
    found = supply.licences(supply.pins(supply.LOCK.read_text()))
    assert supply.refused(found) == []
    assert supply.LICENCES.read_text() == supply.document(found), "stale: run python -m tools.supply licences"
    unused = supply.JUDGED.keys() - {name for name, _ in found}
    assert not unused, "judged, and no longer there"


@pytest.mark.parametrize(
    ("expression", "right"),
    [
        ("MIT", True),
        ("MIT AND Apache-2.0", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("GPL-3.0-only", False),
        ("AGPL-3.0-or-later", False),
        ("LicenseRef-Proprietary", False),
        ("MIT AND (BSD-3-Clause OR GPL-2.0-only)", True),
    ],
)
def test_licences_are_weighed_as_expressions(expression: str, right: bool) -> None:
    assert supply.permitted(expression) is right
    assert supply.refused({("one", "1"): expression}) == ([] if right else [f"one 1: {expression}"])


def said(**fields: str) -> Any:
    message = Message()
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    return message


def test_a_licence_is_what_the_package_says_of_itself() -> None:
    assert supply.licence("one", said(License_Expression="Apache-2.0 AND MIT")) == "Apache-2.0 AND MIT"
    assert supply.licence("one", said(License="BSD-3-Clause")) == "BSD-3-Clause"
    mit = "License :: OSI Approved :: MIT License"
    assert supply.licence("one", said(License="the usual", Classifier=mit)) == "MIT"
    for vague in (said(License="BSD"), said(Classifier="License :: OSI Approved :: BSD License"), None):
        with pytest.raises(supply.Unknown, match=r"one: .* JUDGED"):
            supply.licence("one", vague)


def bill(**versions: str) -> dict[str, Any]:
    """A bill of an environment, as cyclonedx-py writes it: `root` needs nothing that it knows of."""
    components = [
        {
            "bom-ref": f"{name}=={version}",
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version}",
        }
        for name, version in versions.items()
    ]
    refs = [component["bom-ref"] for component in components]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"bom-ref": "root", "type": "application", "name": "goodfaith"}},
        "components": components,
        "dependencies": [{"ref": "root"}, {"ref": refs[0], "dependsOn": refs[1:]}],
    }


def test_a_bill_has_what_runs_and_nothing_else() -> None:
    made = supply.complete(bill(one="1.0", Two_Three="2.0.post1", pytest="9"), supply.pins(LOCK))
    assert [component["name"] for component in made["components"]] == ["one", "Two_Three"]
    assert made["components"][0]["externalReferences"][-1]["hashes"][0] == {"alg": "SHA-256", "content": HASH}
    assert made["dependencies"] == [
        {"ref": "root", "dependsOn": ["one==1.0"]},
        {"ref": "one==1.0", "dependsOn": ["Two_Three==2.0.post1"]},
        {"ref": "Two_Three==2.0.post1"},
    ]


def test_a_bill_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one is 1\.1 here, 1\.0 in the lock file"):
        supply.complete(bill(one="1.1", Two_Three="2.0.post1"), supply.pins(LOCK))
    with pytest.raises(ValueError, match="not installed here: two-three"):
        supply.complete(bill(one="1.0"), supply.pins(LOCK))


CLEAN: dict[str, Any] = {"dependencies": [{"name": "one", "version": "1.0", "vulns": []}]}
BUG: dict[str, Any] = {"id": "PYSEC-1", "fix_versions": ["1.1"], "aliases": ["CVE-1"], "description": "bad"}
BAD: dict[str, Any] = {"dependencies": [{"name": "one", "version": "1.0", "vulns": [BUG]}]}
SKIPPED: dict[str, Any] = {"dependencies": [*CLEAN["dependencies"], {"name": "two", "skip_reason": "not found"}]}


def test_a_vulnerability_is_named() -> None:
    assert supply.findings(CLEAN) == []
    assert supply.findings(BAD) == ["one 1.0: PYSEC-1 (CVE-1), fixed in 1.1"]


@pytest.mark.parametrize("report", [SKIPPED, {"dependencies": []}])
def test_what_was_left_out_was_not_audited(report: dict[str, Any]) -> None:
    with pytest.raises(supply.NotAudited):
        supply.findings(report)


@pytest.mark.parametrize(("report", "status"), [(CLEAN, 0), (BAD, 1), (SKIPPED, supply.NOT_AUDITED)])
def test_an_audit_is_never_silently_green(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], report: dict[str, Any], status: int
) -> None:
    monkeypatch.setattr(supply, "ask", lambda lock: report)
    assert supply.main(["audit"]) == status
    out, err = capsys.readouterr()
    assert (out == "no known vulnerability\n") is (status == 0)
    assert ("NOT AUDITED" in err) is (status == supply.NOT_AUDITED)


def test_where_nobody_answers_only_one_package_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(lock: str) -> dict[str, Any]:
        asked.append(lock)
        return SKIPPED

    monkeypatch.setattr(supply, "ask", ask)
    with pytest.raises(supply.NotAudited):
        supply.audit(LOCK)
    assert [len(supply.pins(lock)) for lock in asked] == [1]
