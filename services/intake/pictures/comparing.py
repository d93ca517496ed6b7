"""Compares listings' pictures with those of the rights that were claimed: ``python -m services.intake pictures``.

A check that was taken becomes due again after its lease, so a killed process loses nothing, and comparing twice
changes nothing. What cannot be reached is tried again at growing intervals; after too long the check is done with what
there is. Whatever could not be seen is stored with its reason, and counts neither for nor against anybody.
"""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import Final

import structlog

from services.intake.evidence import store as evidence_store
from services.intake.evidence.blobs import Altered, Blobs, BlobsUnavailable
from services.intake.evidence.detection import REASONS
from services.intake.kernel import outbox
from services.intake.kernel.judged import PicturesFound, UnseenPicture
from services.intake.kernel.metrics import PICTURE_CHECKS, PICTURES_OLDEST, PICTURES_UNSEEN, PICTURES_WAITING
from services.intake.kernel.security import Contacts
from services.intake.kernel.store import Row
from services.intake.pictures import store
from services.intake.pictures.fetching import PASSING, Fetcher, Unseen
from services.intake.pictures.seeing import Broken, Eyes
from shared import clock, db
from shared.content import SeenItems, digest
from shared.events import Picture, PicturesCompared
from shared.internal import Client, ServiceUnavailable
from shared.outbound import Names
from shared.refusals import Refused
from shared.runtime.rounds import RoundFailed, run_rounds
from shared.settings import Settings

log = structlog.get_logger(__name__)
NAME: Final = "intake-pictures"
CHECK_S: Final = 300.0
"""Wall seconds for the pictures of one item."""
FINDINGS: Final = 24
"""Findings of an item that are kept, the surest first."""
_IDLE_S: Final = 0.5
_LOOK_EVERY: Final = 20
"""Rounds between two updates of the gauges."""
_PASSING: Final = PASSING | {"store_unavailable"}


class Unanswered(Exception):
    """Something that is needed does not answer; the message says what."""


class Pictures:
    """Takes checks, fetches, compares, and records what was found; ``once`` is one round."""

    def __init__(self, settings: Settings, names: Names | None = None) -> None:
        """Raises:
        ValueError: a setting or a package is missing.
        """
        if not settings.pictures_hosts:
            raise ValueError("pictures_hosts: no host is named; set GOODFAITH_PICTURES_HOSTS")
        if settings.internal_token is None:
            raise ValueError("GOODFAITH_INTERNAL_TOKEN: needed to ask verification what listings show")
        if missing := [name for name in ("numpy", "cv2") if find_spec(name) is None]:
            raise ValueError(
                f"no {' or '.join(missing)} here: install the extra `pictures`, or build the image with PICTURES=1"
            )
        self._fetcher = Fetcher(settings, names)
        self._blobs = Blobs.of(settings)
        self._contacts = Contacts.of(settings)
        self._give_up_s = settings.pictures_give_up_s
        self._most = settings.pictures_max_bytes
        self._verification = Client(
            settings.verification_url,
            settings.internal_token.get_secret_value(),
            timeout_s=settings.internal_timeout_s,
            authorities=settings.internal_ca,
        )
        self._engine = db.connect(settings.present("database"), schema="intake", name=NAME)
        self._loop = asyncio.Runner()
        self._partitions = settings.partitions
        self._shows: str | None = None
        """Digest of what the listing showed that is being compared."""
        self.troubled = False
        """The last round met something that does not answer: wait before the next."""

    def once(self) -> int:
        """Do a check that is due; returns how many were settled."""
        self.troubled = False
        with self._engine.begin() as connection:
            check = store.take(connection, CHECK_S + 30, self._give_up_s)
            references = [] if check is None else store.references(connection, check)
        if check is None:
            return 0
        found: PicturesFound | None = None
        try:
            found = self._loop.run(self._compare(check, references))
        except (Unanswered, TimeoutError) as error:
            self.troubled = True
            log.warning("pictures not compared", item=check.item, why=str(error) or "it took too long")
        retry = found is None or any(one.reason in _PASSING for one in found.unseen)
        with self._engine.begin() as connection:
            if retry and not check.late:
                store.postpone(connection, check.item)
                return 0
            settled = store.settle(connection, check.item, found)
            match = None if found is None or not settled else store.match(found, check.right_type)
            if match is not None and self._shows is not None:
                now, _ = clock.read(connection)
                compared = PicturesCompared(
                    item=check.item,
                    claim=check.claim,
                    listing=check.listing,
                    content=self._shows,
                    match=match,
                    at=now,
                )
                outbox.publish_pictures(connection, compared, self._partitions)
        if settled:
            PICTURE_CHECKS.labels("given_up" if found is None else "compared").inc()
            for one in () if found is None else found.unseen:
                PICTURES_UNSEEN.labels("file" if one.reason in REASONS else one.reason).inc()
        return int(settled)

    async def _compare(self, check: store.Check, references: list[Row]) -> PicturesFound:
        """Raises:
        Unanswered, TimeoutError: there is nothing to compare at present.
        """
        async with asyncio.timeout(CHECK_S):
            images = await self._shown(check.item)
            found = PicturesFound(pictures=len(images), references=len(references))
            kind = store.KINDS[check.right_type][1]
            async with Eyes() as eyes:
                for row in references:
                    try:
                        data = await self._document(row)
                        reason = await eyes.look(row["id"], row["digest"].hex(), data, kind)
                    except Unseen as unseen:
                        reason = unseen.reason
                    if reason is not None:
                        found.unseen.append(UnseenPicture(id=row["id"], of="right", reason=reason))
                for image in images:
                    try:
                        reason = await eyes.look(image.id, image.sha256, await self._fetcher.fetch(image), None)
                    except Unseen as unseen:
                        reason = unseen.reason
                    if reason is not None:
                        found.unseen.append(UnseenPicture(id=image.id, of="listing", reason=reason))
                try:
                    found.findings = (await eyes.find())[:FINDINGS]
                except Broken:
                    raise Unanswered("the comparison broke off") from None
            return found

    async def _shown(self, item: str) -> tuple[Picture, ...]:
        """The pictures that the item's listing showed when it was taken up."""
        try:
            seen = (await self._verification.post("/internal/seen", SeenItems, {"items": [item]})).items.get(item)
        except (ServiceUnavailable, Refused) as error:
            raise Unanswered(f"verification: {error}") from None
        self._shows = None if seen is None or seen.filed is None else digest(seen.filed)
        return () if seen is None or seen.filed is None else seen.filed.images

    async def _document(self, row: Row) -> bytes:
        """Raises:
        Unseen: the document cannot be read.
        """
        if not row["kept"]:
            raise Unseen("document_gone")
        if not row["accepted"]:
            raise Unseen("document_not_accepted")
        if row["size"] > self._most:
            raise Unseen("too_large")
        key = self._contacts.unwrap(row["id"], row["key"]) if row["sealed"] else None
        data = bytearray()
        try:
            async for piece in self._blobs.read(evidence_store.path_of(row), row["size"], row["digest"], key):
                data += piece
        except BlobsUnavailable:
            raise Unseen("store_unavailable") from None
        except Altered:
            raise Unseen("document_gone") from None
        return bytes(data)

    def look(self) -> None:
        """Set the gauges."""
        with self._engine.begin() as connection:
            count, since = store.waiting(connection)
        PICTURES_WAITING.set(count)
        PICTURES_OLDEST.set(0 if since is None else since.timestamp())

    def close(self) -> None:
        """Close all connections."""
        self._loop.run(self._verification.close())
        self._loop.close()
        self._engine.dispose()


class _Rounds:
    """Compares, sets the gauges now and then, and waits longer while something does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._pictures = Pictures(settings)
        self._rounds = 0

    def once(self) -> int:
        done = self._pictures.once()
        if self._rounds % _LOOK_EVERY == 0:
            self._pictures.look()
        self._rounds += 1
        if self._pictures.troubled and not done:
            raise RoundFailed
        return done

    def close(self) -> None:
        self._pictures.close()


def run(settings: Settings) -> None:
    """Compare until SIGTERM or SIGINT; waits while the database is unavailable."""
    run_rounds(settings, NAME, lambda: _Rounds(settings), _IDLE_S)
