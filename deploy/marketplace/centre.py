"""The message centre: opens messages to sellers, keeps them, and answers each with receipts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from shared import sealing
from shared.events import CentreMessage, CentreReceipt
from shared.marketplace import Letter

Habit = Literal["reads", "refuses", "silent", "twice"]

_HABITS: Final = "select seller, habit from centre_habits where seller = any(%s)"
_KEEP: Final = """
    insert into centre (message, seller, kind, language, subject, body)
    select * from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[]) on conflict do nothing"""


_letter: Final = msgspec.json.Decoder(Letter)


def take(
    told: CentreMessage, *, known: bool, habit: Habit | None, key: X25519PrivateKey | None
) -> tuple[Letter | None, Sequence[CentreReceipt]]:
    """The opened message, if it is kept, and the receipts to answer with. The same message gets the same answer. Pure."""

    def receipt(result: Literal["delivered", "read", "refused"], reason: str | None = None) -> CentreReceipt:
        return CentreReceipt(message=told.message, seller=told.seller, result=result, reason=reason)  # type: ignore[arg-type]

    if not known:
        return None, [receipt("refused", "unknown_seller")]
    if key is None or habit == "refuses":
        return None, [receipt("refused", "unavailable")]
    try:
        plain = sealing.unseal([key], sealing.about_message(told.seller, told.message), told.sealed)
        letter = _letter.decode(plain)
    except (sealing.Unsealable, msgspec.DecodeError):
        return None, [receipt("refused", "unsealable")]
    answers = {
        None: [receipt("delivered")],
        "reads": [receipt("delivered"), receipt("read")],
        "silent": [],
        "twice": [receipt("delivered"), receipt("delivered")],
    }
    return letter, answers[habit]


def habits(connection: sa.Connection, sellers: Iterable[str]) -> Mapping[str, Habit]:
    """What tests ask for, by seller."""
    found = sorted(set(sellers))
    return dict(connection.exec_driver_sql(_HABITS, (found,)).tuples().all()) if found else {}


def keep(connection: sa.Connection, letters: Collection[tuple[CentreMessage, Letter]]) -> None:
    """Keep messages, each once."""
    if letters:
        rows = [
            (told.message, told.seller, told.kind, told.language, letter.subject, letter.body)
            for told, letter in letters
        ]
        connection.exec_driver_sql(_KEEP, tuple(map(list, zip(*rows, strict=True))))
