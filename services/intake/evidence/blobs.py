"""Stores the bytes of evidence in a folder or any S3 (``GOODFAITH_EVIDENCE_URL``).

Objects are written whole or not at all. The database says which objects exist (``store.py``); the object store is
never listed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import unquote, urlsplit

import obstore
from cryptography.exceptions import InvalidTag
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from services.intake.evidence import sealing
from shared.settings import Settings

CHUNK: Final = sealing.PIECE
"""Bytes read at a time."""
PART: Final = 8 << 20
"""Bytes per part of an upload to S3. Two parts are uploaded at a time."""


class BlobsUnavailable(Exception):
    """The store cannot be reached or refuses the request. A later try may succeed."""


class Altered(Exception):
    """The stored bytes are not those that were put there."""


class Blobs:
    """An object store."""

    def __init__(self, url: str) -> None:
        """
        Args:
            url: ``file:///folder``, or ``s3://bucket/prefix`` with the usual ``AWS_*`` variables.

        Raises:
            ValueError: another scheme, or a folder that cannot be created.
        """
        parts = urlsplit(url)
        self._folder: Path | None = None
        self._store: Any
        if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
            self._folder = Path(unquote(parts.path))
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ValueError(f"evidence_url: {error}") from None
            self._store = LocalStore(self._folder, automatic_cleanup=True)
        elif parts.scheme == "s3" and parts.netloc:
            # no client_options: they would replace what the environment says (AWS_ALLOW_HTTP)
            self._store = S3Store(
                parts.netloc,
                prefix=parts.path.strip("/") or None,
                disable_bulk_delete=True,  # objects are deleted one by one, which every S3 can do
                retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
            )
        else:
            raise ValueError("evidence_url: expected file:///folder or s3://bucket/prefix")

    @classmethod
    def of(cls, settings: Settings) -> Blobs:
        """The installation's store: by default, a folder in its state directory."""
        return cls(settings.evidence_url or (settings.state_dir.resolve() / "evidence").as_uri())

    async def put(self, path: str, file: IO[bytes], size: int, key: bytes) -> None:
        """Store a file of ``size`` bytes, from its beginning, sealed under a key that seals nothing else.

        Raises:
            BlobsUnavailable: the file may not have been stored.
        """
        try:
            with tempfile.TemporaryFile() as sealed:
                await asyncio.to_thread(sealing.seal, key, file, size, sealed)
                sealed.seek(0)
                await obstore.put_async(self._store, path, sealed, chunk_size=PART, max_concurrency=2)
        except (BaseError, OSError) as error:
            raise BlobsUnavailable(_said(error)) from error

    async def read(self, path: str, size: int, digest: bytes, key: bytes | None) -> AsyncIterator[bytes]:
        """Yield the file in pieces. The last one comes only if the digest of all of them is right.

        Args:
            size, digest: of the file before it was sealed.
            key: None: it was stored before files were sealed.

        Raises:
            BlobsUnavailable: before the first piece or later.
            Altered: these are not the bytes that were stored.
        """
        # one request per piece, so that a slow reader keeps no connection open
        total = hashlib.sha256()
        for number, plain in enumerate(range(0, size, CHUNK)):
            left = min(CHUNK, size - plain)
            start, end = (plain, plain + left) if key is None else sealing.extent(number, size)
            try:
                piece = bytes(await obstore.get_range_async(self._store, path, start=start, end=end))
                if key is not None:
                    piece = sealing.open_piece(key, number, size, piece)
            except InvalidTag:
                raise Altered(path) from None
            except FileNotFoundError:
                raise Altered(path) from None
            except (BaseError, OSError) as error:
                raise BlobsUnavailable(_said(error)) from error
            total.update(piece)
            if len(piece) != left:
                raise Altered(path)
            if plain + CHUNK >= size and total.digest() != digest:
                raise Altered(path)
            yield piece

    def delete(self, path: str) -> None:
        """Delete an object and what a killed writer left of it. An object that does not exist counts as deleted.

        Raises:
            BlobsUnavailable: it may still be there.
        """
        try:
            with contextlib.suppress(FileNotFoundError):
                obstore.delete(self._store, path)
            if self._folder is not None:
                self._tidy(self._folder / path)
        except (BaseError, OSError) as error:
            raise BlobsUnavailable(_said(error)) from error

    def _tidy(self, path: Path) -> None:
        """Remove empty folders, and files that the store wrote as the name, "#" and a number before renaming them."""
        for left in path.parent.glob(f"{path.name}#*"):
            left.unlink(missing_ok=True)
        for folder in (path.parent, path.parent.parent):
            try:
                folder.rmdir()
            except OSError:  # not empty, or gone
                return


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"
