"""``python -m tools.supply sbom|licences|audit``: an installation's packages, licences and known vulnerabilities.

All three start from ``requirements.txt``, from which the image is installed. It pins every version, with the hashes of the
archives that may be installed.

``sbom`` writes CycloneDX JSON of those packages that are installed here. ``licences`` writes the page of licences
(docs/reference/licences.md), and fails if one is not allowed. ``audit`` lists known vulnerabilities, by pip-audit; exit
code 1 if there are any, 75 if the source of the data did not answer.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from license_expression import AND, OR, ExpressionError, LicenseSymbol, get_spdx_licensing
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parent.parent
LOCK: Final = ROOT / "requirements.txt"
LICENCES: Final = ROOT / "docs" / "reference" / "licences.md"
NOT_AUDITED: Final = 75
"""Exit code if the audit could not be made (EX_TEMPFAIL)."""

PERMISSIVE: Final = frozenset(
    {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0"}
    | {"Python-2.0", "Zlib", "LicenseRef-Repoze"}
)
WEAK_COPYLEFT: Final = frozenset({"LGPL-2.1-or-later", "LGPL-3.0-or-later", "MPL-2.0"})
"""These bind changes to the library itself. We change none, and each can be replaced."""
ALLOWED: Final = PERMISSIVE | WEAK_COPYLEFT

JUDGED: Final = {
    "ahocorasick-rs": "Apache-2.0",
    "colorama": "BSD-3-Clause",
    "dkimpy": "Zlib",
    "faust-streaming": "BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "mode-streaming": "BSD-3-Clause",
    "protobuf": "BSD-3-Clause",
    "psycopg2-binary": "LGPL-3.0-or-later",
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
    "rich-click": "MIT",
    "uvloop": "MIT OR Apache-2.0",
    "venusian": "LicenseRef-Repoze",
}
"""Licences of packages whose metadata name none clearly, from their licence files. psycopg2 adds exceptions. The Repoze
licence is like the BSD's, and has no SPDX id. colorama is for Windows only."""
_CLASSIFIERS: Final = {
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""Classifiers that name one licence."""


class Unknown(Exception):
    """A package's licence is neither clear from its metadata nor in `JUDGED`."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A version in the lock file.

    Attributes:
        name: normalised.
        applies: whether it is installed on a machine like this one.
        hashes: SHA-256 of the archives that may be installed.
    """

    name: str
    version: str
    applies: bool
    hashes: tuple[str, ...]


def pins(text: str) -> list[Pin]:
    """The versions of a lock file, in its order.

    Raises:
        ValueError: an entry has no hash, or not exactly one version.
    """
    found = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        wanted, *options = re.split(r"\s+--hash=sha256:", line.strip())
        requirement = Requirement(wanted)
        versions = [one.version for one in requirement.specifier if one.operator == "=="]
        if len(versions) != 1 or not options:
            raise ValueError(f"{requirement.name}: not pinned to one version with its hashes")
        applies = requirement.marker is None or requirement.marker.evaluate()
        found.append(Pin(canonicalize_name(requirement.name), versions[0], applies, tuple(options)))
    return found


# ------------------------------------------------------------------------------------------------------------- licences


def licence(name: str, said: metadata.PackageMetadata | None) -> str:
    """The SPDX expression under which a package may be used.

    Args:
        said: its metadata; None if it is not installed.

    Raises:
        Unknown: its licence is not known.
    """
    if name in JUDGED:
        return JUDGED[name]
    if said is not None:
        for field in ("License-Expression", "License"):
            try:
                # only an exact expression counts
                return str(canonicalize_license_expression(said[field] or ""))
            except (InvalidLicenseExpression, KeyError):
                continue
        prefix = "License :: OSI Approved :: "
        classifiers = {one.removeprefix(prefix) for one in said.get_all("Classifier") or () if one.startswith(prefix)}
        if len(classifiers) == 1 and (known := _CLASSIFIERS.get(classifiers.pop())) is not None:
            return known
    raise Unknown(
        f"{name}: its metadata name no licence clearly; read its licence file, and enter it in JUDGED of {__name__}"
    )


def permitted(expression: str) -> bool:
    """Whether an expression allows use: every part of an AND, one part of an OR.

    Raises:
        ExpressionError: it is not a licence expression.
    """

    def holds(node: Any) -> bool:
        if isinstance(node, AND):
            return all(map(holds, node.args))
        if isinstance(node, OR):
            return any(map(holds, node.args))
        return isinstance(node, LicenseSymbol) and node.key in ALLOWED

    return holds(_spdx().parse(expression))


@cache
def _spdx() -> Any:
    return get_spdx_licensing()


def licences(locked: Iterable[Pin]) -> dict[tuple[str, str], str]:
    """(name, version) -> licence, for the whole lock file.

    Raises:
        Unknown: a package's licence is not known.
    """
    found = {}
    for pin in locked:
        try:
            said = metadata.metadata(pin.name)
        except metadata.PackageNotFoundError:
            said = None
        found[pin.name, pin.version] = licence(pin.name, said)
    return found


def refused(found: dict[tuple[str, str], str]) -> list[str]:
    """Packages whose licence is not allowed."""
    wrong = []
    for (name, version), expression in found.items():
        try:
            right = permitted(expression)
        except ExpressionError:
            right = False
        if not right:
            wrong.append(f"{name} {version}: {expression}")
    return wrong


def document(found: dict[tuple[str, str], str]) -> str:
    """The text of docs/reference/licences.md."""
    weak = sorted(
        {name for (name, _), expression in found.items() if any(one in expression for one in WEAK_COPYLEFT)},
    )
    about = (
        "Generated by `python -m tools.supply licences` from `requirements.txt` and the packages' metadata. A test fails if"
        f" the page is stale, or if a package has a licence other than these: {', '.join(f'`{one}`' for one in sorted(ALLOWED))}.",
        "Goodfaith itself is under Apache-2.0. The packages below are installed with it, unchanged. Some bind changes to"
        f" themselves (weak copyleft): {', '.join(weak)}. None is changed, and each can be replaced by another build. Kafka,"
        " PostgreSQL, Prometheus, Alertmanager and Grafana are separate programs that an installation provides.",
    )
    texts = "\n\n".join(textwrap.fill(one, 118, break_long_words=False, break_on_hyphens=False) for one in about)
    rows = "\n".join(f"| {name} | {version} | {expression} |" for (name, version), expression in sorted(found.items()))
    return f"""# Licences

The licences of the packages that Goodfaith uses, for those who distribute or audit it.

{texts}

| package | version | licence |
|---|---|---|
{rows}
"""


# ----------------------------------------------------------------------------------------------------------------- sbom


def complete(bom: dict[str, Any], locked: Sequence[Pin]) -> dict[str, Any]:
    """Reduce the bill of an environment with development tools to the locked run-time packages, and add their hashes.

    Raises:
        ValueError: the environment does not match the lock file.
    """
    wanted = {pin.name: pin for pin in locked if pin.applies}
    components = {}
    for component in bom["components"]:
        name = canonicalize_name(component["name"])
        pin = wanted.pop(name, None)
        if pin is None:
            continue
        if component["version"] != pin.version:
            raise ValueError(f"{name} is {component['version']} here, {pin.version} in the lock file: `make setup`")
        archives = {
            "type": "distribution",
            "url": component["purl"],
            "comment": "archives that the lock file allows",
            "hashes": [{"alg": "SHA-256", "content": one} for one in pin.hashes],
        }
        references = [*component.get("externalReferences", ()), archives]
        components[component["bom-ref"]] = {**component, "externalReferences": references}
    if wanted:
        raise ValueError(f"not installed here: {', '.join(sorted(wanted))}; `make setup`")
    root = bom["metadata"]["component"]["bom-ref"]
    graph = {one["ref"]: one.get("dependsOn", []) for one in bom.get("dependencies", ())}
    needed = {ref: [one for one in graph.get(ref, ()) if one in components] for ref in components}
    # a package that no other needs is a direct dependency of ours
    direct = sorted(set(components) - {one for ones in needed.values() for one in ones})
    dependencies = [
        {"ref": ref, **({"dependsOn": ones} if ones else {})} for ref, ones in {root: direct, **needed}.items()
    ]
    return {**bom, "components": list(components.values()), "dependencies": dependencies}


def sbom(python: str = sys.executable) -> dict[str, Any]:
    """Bill of materials (CycloneDX 1.6) of the run-time packages installed for an interpreter.

    Raises:
        subprocess.CalledProcessError: cyclonedx-py failed; its output says why.
        ValueError: the installed packages are not the locked ones.
    """
    made = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "cyclonedx_py",
            "environment",
            "--pyproject",
            str(ROOT / "pyproject.toml"),
            "--spec-version",
            "1.6",
            "--output-reproducible",
            "--no-validate",
            "--output-file",
            "-",
            python,
        ],
        stdout=subprocess.PIPE,
        check=True,
    )
    return complete(json.loads(made.stdout), pins(LOCK.read_text()))


def valid(bom: dict[str, Any]) -> list[str]:
    """Errors of a bill by CycloneDX's schema; empty if it is valid."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bom))
    return [] if error is None else [str(error)]


# ---------------------------------------------------------------------------------------------------------------- audit


class NotAudited(Exception):
    """Some package could not be audited. The message says why."""


def findings(report: dict[str, Any]) -> list[str]:
    """Known vulnerabilities in pip-audit's report.

    Raises:
        NotAudited: it skipped a package, which pip-audit itself counts as success.
    """
    packages = report["dependencies"]
    skipped = [one for one in packages if "skip_reason" in one]
    found = [
        f"{one['name']} {one['version']}: {bug['id']} ({', '.join(bug['aliases']) or 'no alias'}),"
        f" fixed in {', '.join(bug['fix_versions']) or 'no version yet'}"
        for one in packages
        for bug in one.get("vulns", ())
    ]
    if skipped or not packages:
        reason = skipped[0]["skip_reason"] if skipped else "no package was audited"
        raise NotAudited(f"{len(skipped)} of {len(packages)} packages: {reason}" + "".join(f"\n{one}" for one in found))
    return found


def ask(lock: str) -> dict[str, Any]:
    """Run pip-audit on a lock file and return its report. Installs nothing.

    Raises:
        NotAudited: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text(lock)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pip_audit",
                "--requirement",
                str(file),
                "--require-hashes",
                "--disable-pip",
                "--format",
                "json",
                "--progress-spinner",
                "off",
                "--timeout",
                "15",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise NotAudited(f"pip-audit: {(done.stderr.strip().splitlines() or ['no answer'])[-1]}") from None
    return report


def audit(text: str) -> list[str]:
    """Known vulnerabilities of the locked packages.

    Raises:
        NotAudited: the source of the data does not answer, or does not know the packages.
    """
    first = pins(text)[0]
    # one package first: if the source does not answer, the others need not be tried
    findings(ask(f"{first.name}=={first.version} {' '.join(f'--hash=sha256:{one}' for one in first.hashes)}\n"))
    return findings(ask(text))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.supply")
    commands = parser.add_subparsers(dest="command", required=True)
    bill = commands.add_parser("sbom", help="write a bill of materials as CycloneDX JSON")
    bill.add_argument("--python", default=sys.executable, help="interpreter of the environment (default: this one)")
    bill.add_argument("--output", type=Path, help="file to write (default: standard output)")
    commands.add_parser("licences", help="write docs/reference/licences.md; exit 1 if a licence is not allowed")
    commands.add_parser(
        "audit", help=f"list known vulnerabilities; exit 1 if there are any, {NOT_AUDITED} if the source did not answer"
    )
    given = parser.parse_args(argv)
    if given.command == "sbom":
        made = sbom(given.python)
        if wrong := valid(made):
            sys.stderr.write("\n".join(wrong) + "\n")
            return 1
        text = json.dumps(made, indent=2) + "\n"
        if given.output is None:
            sys.stdout.write(text)
        else:
            given.output.parent.mkdir(parents=True, exist_ok=True)
            given.output.write_text(text)
            sys.stdout.write(f"{given.output}: {len(made['components'])} packages\n")
        return 0
    if given.command == "licences":
        found = licences(pins(LOCK.read_text()))
        LICENCES.write_text(document(found))
        for line in (wrong := refused(found)):
            sys.stderr.write(f"not allowed: {line}\n")
        return 1 if wrong else 0
    try:
        known = audit(LOCK.read_text())
    except NotAudited as error:
        sys.stderr.write(f"NOT AUDITED: {error}\n")
        return NOT_AUDITED
    sys.stdout.write("".join(f"{line}\n" for line in known) or "no known vulnerability\n")
    return 1 if known else 0


if __name__ == "__main__":
    sys.exit(main())
