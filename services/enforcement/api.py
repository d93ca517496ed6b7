"""The internal API: what the tables say of sellers. Intake's front asks it, and decides what a person may see."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from litestar import Request, get

from services.enforcement import reading
from shared import clock, internal
from shared.internal import GivenId, Parts, parts_of
from shared.settings import Settings

NAME: Final = "enforcement-api"


@get("/internal/standing")
async def standing(request: Request[Any, Any, Any], seller: GivenId) -> reading.Standing:
    """A seller's standing; one that never had a violation stands at nothing."""
    return await parts_of(request).run(
        lambda connection: reading.standing(connection, seller, clock.read(connection)[0])
    )


ROUTES: Final = [standing]


def run(settings: Settings) -> None:
    """Serve until SIGTERM."""
    internal.run(settings, NAME, ROUTES, partial(Parts, settings, schema="enforcement", name=NAME))
