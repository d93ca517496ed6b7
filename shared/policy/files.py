"""Reading policies: versioned TOML files in `shared/policies/`, each on top of its base."""

from __future__ import annotations

import tomllib
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec

from shared import calendars
from shared.policy.checks import problems
from shared.policy.schema import Policy, Reason
from shared.policy.values import PolicyError, Rate, Span

FOLDER: Final = Path(__file__).parent.parent / "policies"


def parse(text: str, file: str) -> Policy:
    """Parse and validate a policy's TOML document; ``file`` is its file name, which must be that of the version.

    Raises:
        PolicyError: naming file and key.
    """
    policy, found = examine(text, file)
    if policy is None or found:
        raise PolicyError(found[0])
    return policy


def examine(text: str, file: str) -> tuple[Policy | None, list[str]]:
    """Parse a policy's TOML document: the policy, or None, and everything wrong with it, as "file: key: problem".

    Raises:
        PolicyError: it is not TOML, or its base is wrong.
    """
    document = _document(text, file)
    try:
        policy = msgspec.convert(document, Policy, dec_hook=_hook)
    except msgspec.ValidationError as error:
        return None, [f"{file}: {_located(document, str(error))}"]
    return policy, [f"{file}: {key}: {problem}" for key, problem in problems(policy, file)]


WHOLE: Final = ("reasons",)
"""Tables that a file replaces as a whole."""


def _document(text: str, file: str) -> dict[str, Any]:
    """A file's settings on top of its base's."""
    own = _toml(text, file)
    base = own.get("base")
    if base is None:
        return own
    if base not in versions():
        raise PolicyError(f"{file}: base: there is no policy {base!r}")
    path = FOLDER / f"{base}.toml"
    under = _toml(path.read_text(encoding="utf-8"), path.name)
    if "base" in under:
        raise PolicyError(f"{file}: base: a base stands on no other, and {base!r} does")
    return _over(under, own)


def _toml(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{file}: {error}") from None


def _over(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in own.items():
        under = base.get(key)
        if isinstance(value, dict) and isinstance(under, dict) and key not in WHOLE:
            value = _over(under, value)
        result[key] = value
    return result


def _hook(kind: type, value: object) -> object:
    if kind is Span or kind is Rate:
        return kind(value)
    raise NotImplementedError(kind)


def _located(document: dict[str, Any], message: str) -> str:
    """``message`` as "key: problem". msgspec does not say which key of a table of tables is wrong, so try each."""
    problem, _, path = message.partition(" - at `")
    path = path.rstrip("`")
    if path.startswith("$.reasons[...]"):
        for name, value in document["reasons"].items():
            try:
                msgspec.convert(value, Reason, dec_hook=_hook)
            except msgspec.ValidationError:
                path = path.replace("[...]", f".{name}")
                break
    return f"{path.removeprefix('$').lstrip('.') or 'document'}: {problem}"


@lru_cache(maxsize=256)
def load(version: str) -> Policy:
    """The policy of that version.

    Raises:
        PolicyError: there is no such version, or its file is invalid (naming file and key).
    """
    path = FOLDER / f"{version}.toml"
    # only files found in the folder are opened: a version may come from outside
    if version not in versions():
        raise PolicyError(f"{path.name}: no such policy; there are {', '.join(versions())}")
    return parse(path.read_text(encoding="utf-8"), path.name)


@cache
def versions() -> tuple[str, ...]:
    """All versions, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml") if path != calendars.FILE))


@cache
def _newest() -> dict[str, Policy]:
    # versions end in year and month, so they sort by time
    return {policy.profile: policy for policy in map(load, versions())}


def profiles() -> tuple[str, ...]:
    """Profiles that a claim may choose, sorted."""
    return tuple(sorted(_newest()))


def current(profile: str) -> Policy:
    """The newest policy of a profile, which applies to claims filed now.

    Raises:
        PolicyError: there is no such profile.
    """
    found = _newest().get(profile)
    if found is None:
        raise PolicyError(f"no profile {profile!r}; there are {', '.join(profiles())}")
    return found
