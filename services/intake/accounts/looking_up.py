"""Looks up the domains that are due, and records what was found.

The names come from outside, and so do the answers. Only the installation's resolver is asked, each question for a few
seconds, some at a time; no answer makes us ask about another name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from services.intake.accounts import domains, domains_store
from services.intake.accounts.domains import Answer
from services.intake.accounts.domains_store import LookUp
from services.intake.kernel.metrics import DOMAIN_LOOKUPS
from shared.outbound import Aliased, Dns
from shared.settings import Settings

AT_ONCE: Final = 8
LOOKUP_S: Final = 5.0
_LEASE_S: Final = 60.0


class LookUps:
    """Takes domains, asks, and records; ``once`` is one round.

    Args:
        engine: of intake's database.

    Raises:
        ValueError: a resolver in the settings is not an address and a port.
    """

    def __init__(self, engine: sa.Engine, settings: Settings) -> None:
        self._engine = engine
        self._dns = Dns(LOOKUP_S, settings.domains_resolvers)

    def once(self) -> int:
        """Look up what is due; returns how many domains that were."""
        with self._engine.begin() as connection:
            due = domains_store.take(connection, AT_ONCE, _LEASE_S)
        if due:
            for one, answer in zip(due, asyncio.run(self._answers(due)), strict=True):
                with self._engine.begin() as connection:
                    counts = domains_store.record(connection, one, answer)
                if counts:
                    DOMAIN_LOOKUPS.labels(answer).inc()
        return len(due)

    async def _answers(self, due: Sequence[LookUp]) -> list[Answer]:
        return await asyncio.gather(*map(self._answer, due))

    async def _answer(self, one: LookUp) -> Answer:
        try:
            return domains.read(await self._dns.texts(domains.NAME + one.domain), one.token)
        except Aliased:
            return "alias"
        except OSError:
            return "no_answer"
