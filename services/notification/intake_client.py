"""Client of intake's internal API, for what is never stored here: contacts, codes, addresses and secrets of webhooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import msgspec

from services.notification.render import Contact
from shared.callers import trust


class IntakeDown(Exception):
    """Intake gave no usable answer."""


class Hook(msgspec.Struct, frozen=True):
    """A webhook as intake returns it for sending. Its address and secrets are never stored."""

    id: str
    url: str
    secrets: tuple[str, ...]


class Challenge(msgspec.Struct, frozen=True):
    """A webhook that its owner has yet to confirm, as intake returns it. Never stored."""

    id: str
    ask: int
    url: str
    secrets: tuple[str, ...]
    code: str
    expires_at: datetime


class ChallengeEnded(msgspec.Struct, frozen=True):
    """The result of a call with a challenge."""

    id: str
    ask: int
    result: str
    over: bool


class Reach(NamedTuple):
    """How accounts can be reached.

    Attributes:
        contacts: contact data by account id; None for accounts that intake does not (or no longer) know.
        unowned: those whose inbox nobody owns.
    """

    contacts: dict[str, Contact | None]
    unowned: set[str]


class IntakeClient:
    """Client of intake's internal API. Its answers are kept for one round only."""

    CHUNK: Final = 500

    def __init__(self, url: str, token: str, authorities: Path | None = None) -> None:
        self._client = httpx.Client(
            base_url=url,
            headers={"authorization": f"Bearer {token}"},
            timeout=10.0,
            trust_env=False,
            verify=trust(url, authorities),
        )

    def contacts(self, ids: Iterable[str]) -> dict[str, Contact | None]:
        """Contact data by account id; None for accounts that intake does not (or no longer) know.

        Raises:
            IntakeDown: no usable answer; nothing may be sent.
        """
        return self.reach(ids).contacts

    def reach(self, ids: Iterable[str]) -> Reach:
        """The same, and which of the accounts have an inbox that nobody owns.

        Raises:
            IntakeDown: no usable answer; nothing may be sent.
        """
        unowned: set[str] = set()
        found = self._ask("contacts", ids, lambda body: unowned.update(body.get("unowned", ())))
        return Reach({id_: Contact.of(raw) for id_, raw in found.items()}, unowned & found.keys())

    def right_numbers(self, ids: Iterable[str]) -> dict[str, str | None]:
        """Number of the claim's right, by claim id.

        Raises:
            IntakeDown: no usable answer.
        """
        found = self._ask("claims", ids)
        return {id_: None if raw is None else raw.get("right_number") for id_, raw in found.items()}

    def webhooks(self, ids: Iterable[str]) -> dict[str, dict[str, Hook]]:
        """Webhooks in use by account, each by id.

        Raises:
            IntakeDown: no usable answer.
        """
        found = self._ask("webhooks", ids)
        try:
            known = {id_: msgspec.convert(raw["webhooks"], list[Hook]) for id_, raw in found.items() if raw is not None}
        except (msgspec.ValidationError, KeyError) as error:
            raise IntakeDown("webhooks: not understood") from error
        return {id_: {hook.id: hook for hook in hooks} for id_, hooks in known.items()}

    def challenges(self, ended: Sequence[ChallengeEnded], most: int) -> list[Challenge]:
        """Report the results of challenges, and fetch up to ``most`` new ones.

        Raises:
            IntakeDown: no usable answer. Intake may have recorded the results; report them again.
        """
        try:
            response = self._client.post(
                "/internal/challenges", json={"ended": msgspec.to_builtins(ended), "most": most}
            )
            response.raise_for_status()
            return msgspec.convert(response.json()["challenges"], list[Challenge])
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise IntakeDown(f"challenges: {_cause(error)}") from error

    def codes(self, ids: Iterable[str]) -> dict[str, str | None]:
        """Code to send, by notice; None if there is nothing left to confirm. Each answer voids the previous one.

        Raises:
            IntakeDown: no usable answer.
        """
        found = self._ask("codes", ids)
        return {id_: None if raw is None else raw.get("code") for id_, raw in found.items()}

    def _ask(
        self, what: str, ids: Iterable[str], also: Callable[[dict[str, Any]], None] = lambda _body: None
    ) -> dict[str, Any]:
        """What intake says by id. ``also`` is called with each whole answer; one of the version before may say less."""
        wanted = sorted(set(ids))
        found: dict[str, Any] = {}
        for start in range(0, len(wanted), self.CHUNK):
            chunk = wanted[start : start + self.CHUNK]
            try:
                response = self._client.post(f"/internal/{what}", json={"ids": chunk})
                response.raise_for_status()
                body = response.json()
                answer = body[what]
                found.update((id_, answer.get(id_)) for id_ in chunk)
                also(body)
            except (httpx.HTTPError, ValueError, KeyError, AttributeError, TypeError) as error:
                raise IntakeDown(f"{what}: {_cause(error)}") from error
        if not all(raw is None or isinstance(raw, dict) for raw in found.values()):
            raise IntakeDown(f"{what}: not understood")
        return found

    def close(self) -> None:
        """Close connections."""
        self._client.close()


def _cause(error: Exception) -> int | str:
    """The HTTP status, or else the kind of error."""
    return error.response.status_code if isinstance(error, httpx.HTTPStatusError) else type(error).__name__
