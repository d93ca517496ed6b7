"""Refusals that several parts of intake give, and the strict reading of what comes from outside."""

from __future__ import annotations

from typing import Any

import msgspec

from services.intake.kernel import requests
from shared.refusals import Refused


def not_found() -> Refused:
    """404, the same for what does not exist and for what is somebody else's."""
    return Refused(
        404, "not_found", "There is no such resource.", cure="Check the id; you see only what you are party to."
    )


def busy(detail: str) -> Refused:
    """503: nothing is known to have been accepted."""
    return Refused(503, "unavailable", detail, cure="Try again shortly, with the same Idempotency-Key.")


def account_closed(status: int = 401) -> Refused:
    """The account is closed, and nothing that it asks for is done."""
    return Refused(status, "account_closed", "The account is closed.", cure="Write to the operator of the programme.")


def decoded(value: bytes, kind: type[requests.In]) -> Any:
    """Decode input from HTTP or a topic.

    Raises:
        Refused: 400 if it is not JSON, 422 naming the field.
    """
    try:
        return requests.decode(value, kind)
    except msgspec.ValidationError as error:
        field, detail = located(str(error))
        raise Refused(422, "invalid", detail, field=field, cure="Correct the field; see /openapi.json.") from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        detail = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise Refused(400, "malformed", f"The body is not JSON: {detail}.", cure="Send one JSON object.") from None


def located(message: str) -> tuple[str | None, str]:
    """(field, problem) of a msgspec error message."""
    problem, _, path = message.partition(" - at `")
    field = path.rstrip("`").removeprefix("$").lstrip(".")
    for start in ("Object missing required field `", "Object contains unknown field `"):
        if problem.startswith(start):
            name = problem[len(start) :].rstrip("`")
            field = f"{field}.{name}" if field else name
    return field[:200] or None, problem[:300]
