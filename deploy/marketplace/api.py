"""Listing pages, sellers' public state, the HTTP adapter's API and bulk seeding."""

from __future__ import annotations

import asyncio
import hashlib
import html
import threading
import time
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
import sqlalchemy as sa
import uvicorn
from litestar import Litestar, MediaType, Request, Response, get, post, put
from litestar.params import FromPath
from msgspec import Meta

from deploy.marketplace import old_signature, store
from deploy.marketplace.domain import Seller
from deploy.marketplace.worker import CHUNK, Seed
from shared import db, marketplace
from shared.callers import Callers
from shared.events import MarketplaceCommand, MarketplaceSeller, SellerCommand
from shared.settings import Settings
from shared.topics import partition_of

WAIT_S: Final = 2.0
"""Seconds that ``POST /commands`` waits for the command to be carried out."""
PICTURES: Final = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}
"""Media types of pictures, by how their files begin."""
_seeds = msgspec.json.Decoder(Annotated[list[Seed], Meta(max_length=10_000)])
_sellers = msgspec.json.Decoder(Annotated[list[MarketplaceSeller], Meta(max_length=10_000)])
_command = msgspec.json.Decoder(MarketplaceCommand)
_seller_command = msgspec.json.Decoder(SellerCommand)


def _problem(status: int, title: str, detail: str) -> Response[bytes]:
    body = msgspec.json.encode({"type": "about:blank", "title": title, "status": status, "detail": detail})
    return Response(body, status_code=status, media_type="application/problem+json")


def _page(title: str, text: str, *, listed: bool = True) -> str:
    robots = "" if listed else '<meta name="robots" content="noindex">'
    return f'<!doctype html><html lang="en"><meta charset="utf-8">{robots}<title>{html.escape(title)}</title><h1>{html.escape(title)}</h1><p>{html.escape(text)}</p></html>'


class Shop:
    """The HTTP application's work, which runs in threads because the database driver blocks."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine = db.connect(
            settings.present("database"), schema="marketplace", name="marketplace-http", pool_size=4
        )

    def page(self, listing: str) -> tuple[int, str]:
        """(status, HTML) of a listing's page: 200, 410 if it is down, 404 if there is none or its seller is frozen."""
        with self.engine.connect() as connection:
            found = store.pages(connection, [listing]).get(listing) if "\0" not in listing else None
            seller = store.sellers(connection, [found.seller]).get(found.seller) if found is not None else None
        if found is None:
            return 404, _page("Not found", "There is no such listing.")
        if not found.visible:
            return 410, _page("Gone", "This listing is not available.")
        if seller is not None and seller.hidden:
            # not the status of a listing that is down: it may be shown again, and nothing was decided about it
            state = "closed" if "closed" in seller.measures else "frozen"
            return 404, _page("Not available", f"The seller of this listing is not here: the account is {state}.")
        listed = seller is None or "listing_restricted" not in seller.measures
        return 200, _page(found.title or found.listing, f"Sold by {found.seller}.", listed=listed)

    def keep(self, data: bytes) -> str | None:
        """Keep a picture; returns its SHA-256. None: it is neither JPEG nor PNG."""
        media = next((media for begins, media in PICTURES.items() if data.startswith(begins)), None)
        if media is None:
            return None
        digest = hashlib.sha256(data).hexdigest()
        with self.engine.begin() as connection:
            store.keep_picture(connection, digest, media, data)
        return digest

    def picture(self, digest: str) -> tuple[str, bytes] | None:
        """Media type and bytes of a picture."""
        with self.engine.connect() as connection:
            return store.picture(connection, digest)

    def seller(self, seller: str) -> Seller | None:
        """A seller and its measures; None if there is no such seller."""
        if "\0" in seller:
            return None
        with self.engine.connect() as connection:
            found = store.sellers(connection, [seller]).get(seller)
            known = found is not None or seller in store.offering(connection, [seller])
        return found or (Seller(seller, 0) if known else None)

    def seed(self, seeds: list[Seed]) -> list[dict[str, str]]:
        """Queue listings for the worker, in chunks by partition; returns those that their sellers may not offer.

        Each comes with the reason.
        """
        with self.engine.connect() as connection:
            barred = {
                name: seller.barred
                for name, seller in store.sellers(connection, {seed.seller for seed in seeds}).items()
                if seller.barred is not None
            }
            suspects = [seed.listing for seed in seeds if seed.seller in barred]
            there = {(page.listing, page.seller) for page in store.pages(connection, suspects).values()}
        refused = [
            {"listing": seed.listing, "seller": seed.seller, "reason": barred[seed.seller]}
            for seed in seeds
            if seed.seller in barred and (seed.listing, seed.seller) not in there
        ]
        not_offered = {(some["listing"], some["seller"]) for some in refused}
        by_partition: dict[int, list[Seed]] = {}
        for seed in seeds:
            if (seed.listing, seed.seller) in not_offered:
                continue
            by_partition.setdefault(partition_of(seed.listing, self.settings.partitions), []).append(seed)
        rows = [
            (partition, msgspec.json.encode(some[start : start + CHUNK]).decode())
            for partition, some in by_partition.items()
            for start in range(0, len(some), CHUNK)
        ]
        with self.engine.begin() as connection:
            store.queue(connection, "seed", rows)
        return refused

    def link(self, sellers: list[MarketplaceSeller]) -> None:
        """Queue sellers' keys for publication. A seller's keys replace its earlier ones."""
        by_partition: dict[int, list[MarketplaceSeller]] = {}
        for told in sellers:
            by_partition.setdefault(partition_of(told.seller, self.settings.partitions), []).append(told)
        rows = [
            (partition, msgspec.json.encode(some[start : start + CHUNK]).decode())
            for partition, some in by_partition.items()
            for start in range(0, len(some), CHUNK)
        ]
        with self.engine.begin() as connection:
            store.queue(connection, "sellers", rows)

    def pending(self) -> int:
        """Number of seed chunks that are not on the site yet."""
        with self.engine.connect() as connection:
            return store.pending(connection)

    def take(self, command: MarketplaceCommand) -> None:
        """Queue a command, once per id."""
        partition = partition_of(command.listing, self.settings.partitions)
        with self.engine.begin() as connection:
            if store.ask(connection, command):
                store.queue(connection, "command", [(partition, msgspec.json.encode(command).decode())])

    def answer(self, command: str) -> marketplace.Receipt | None:
        """The command's receipt; None until it has been carried out."""
        with self.engine.connect() as connection:
            return store.answer(connection, command)

    def take_seller(self, command: SellerCommand) -> None:
        """Queue a command on a seller, once per id."""
        partition = partition_of(command.seller, self.settings.partitions)
        with self.engine.begin() as connection:
            if store.ask_seller(connection, command):
                store.queue(connection, "seller_command", [(partition, msgspec.json.encode(command).decode())])

    def answer_seller(self, command: str) -> marketplace.SellerReceipt | None:
        """The command's receipt; None until it has been carried out."""
        with self.engine.connect() as connection:
            return store.answer_seller(connection, command)


def app(settings: Settings) -> Litestar:
    """The HTTP application."""
    shop = Shop(settings)
    secret = settings.marketplace_secret
    known = settings.internal_callers
    callers = None if known is None else Callers(known, "marketplace")

    @get("/items/{listing:str}", media_type=MediaType.HTML)
    async def item(listing: FromPath[str]) -> Response[str]:
        status, text = await asyncio.to_thread(shop.page, listing)
        return Response(text, status_code=status, media_type=MediaType.HTML)

    def may_seed(request: Request[Any, Any, Any]) -> bool:
        return callers is not None and callers.who(request.headers.get("authorization")) is not None

    @post("/seed")
    async def seed(request: Request[Any, Any, Any]) -> Response[Any]:
        if not may_seed(request):
            return _problem(401, "Unauthorized", "Seeding needs the internal token.")
        try:
            seeds = _seeds.decode(await request.body())
        except msgspec.DecodeError as error:
            return _problem(422, "Unprocessable", str(error))
        refused = await asyncio.to_thread(shop.seed, seeds)
        if refused and len(refused) == len(seeds):
            return _problem(403, "Forbidden", refused[0]["reason"])
        told = {"refused": refused} if refused else {}
        return Response({"accepted": len(seeds) - len(refused), **told}, status_code=202)

    @put("/pictures")
    async def keep(request: Request[Any, Any, Any]) -> Response[Any]:
        if not may_seed(request):
            return _problem(401, "Unauthorized", "Uploading a picture needs the internal token.")
        digest = await asyncio.to_thread(shop.keep, await request.body())
        if digest is None:
            return _problem(415, "Unsupported Media Type", "A picture is JPEG or PNG.")
        return Response({"sha256": digest, "path": f"/pictures/{digest}"}, status_code=201)

    @get("/pictures/{digest:str}")
    async def picture(digest: FromPath[str]) -> Response[Any]:
        found = await asyncio.to_thread(shop.picture, digest) if digest.isalnum() else None
        if found is None:
            return _problem(404, "Not Found", "There is no such picture.")
        headers = {"cache-control": "public, max-age=31536000, immutable", "x-content-type-options": "nosniff"}
        return Response(found[1], media_type=found[0], headers=headers)

    @get("/seed")
    async def seeding(request: Request[Any, Any, Any]) -> Response[Any]:
        if not may_seed(request):
            return _problem(401, "Unauthorized", "Seeding needs the internal token.")
        return Response({"pending": await asyncio.to_thread(shop.pending)})

    @post("/sellers")
    async def sellers(request: Request[Any, Any, Any]) -> Response[Any]:
        if not may_seed(request):
            return _problem(401, "Unauthorized", "Telling of sellers needs the internal token.")
        try:
            told = _sellers.decode(await request.body())
        except msgspec.DecodeError as error:
            return _problem(422, "Unprocessable", str(error))
        await asyncio.to_thread(shop.link, told)
        return Response({"accepted": len(told)}, status_code=202)

    @get("/sellers/{seller:str}")
    async def seller(seller: FromPath[str]) -> Response[Any]:
        found = await asyncio.to_thread(shop.seller, seller)
        if found is None:
            return _problem(404, "Not Found", "There is no such seller.")
        body = {"seller": found.seller, "measures": found.measures, "until": found.until}
        return Response(msgspec.json.encode(body), media_type=MediaType.JSON)

    def unsigned(headers: Any, path: str, body: bytes) -> Response[Any] | None:
        """The error response if the request is not signed with the shared secret; None if it is."""
        try:
            if secret is None:
                raise marketplace.BadSignature("this marketplace has no secret to check signatures with")
            if old_signature.SIGNATURE in headers:
                old_signature.check(secret.get_secret_value(), headers, path, body, time.time())
            else:
                marketplace.check(secret.get_secret_value(), headers, path, body)
        except marketplace.BadSignature as error:
            return _problem(401, "Unauthorized", str(error))
        return None

    async def answered(command: str, answer: Callable[[str], Any]) -> Response[Any]:
        """The receipt of a command; 202 if there is none after `WAIT_S`."""
        until = time.monotonic() + WAIT_S
        while (receipt := await asyncio.to_thread(answer, command)) is None:
            if time.monotonic() > until:
                return Response({"command": command}, status_code=202, headers={"Retry-After": "1"})
            await asyncio.sleep(0.02)
        return Response(msgspec.json.encode(receipt), status_code=200, media_type=MediaType.JSON)

    @post(marketplace.COMMANDS_PATH)
    async def commands(request: Request[Any, Any, Any]) -> Response[Any]:
        body = await request.body()
        if (refused := unsigned(request.headers, marketplace.COMMANDS_PATH, body)) is not None:
            return refused
        try:
            command = _command.decode(body)
        except msgspec.DecodeError as error:
            return _problem(422, "Unprocessable", str(error))
        if command.action == "lookup":
            return _problem(422, "Unprocessable", "A lookup goes by topic.")
        if not 0 < command.seq < 2**31:
            return _problem(422, "Unprocessable", "seq: expected 1 to 2147483647")
        await asyncio.to_thread(shop.take, command)
        return await answered(command.command, shop.answer)

    @post(marketplace.SELLER_COMMANDS_PATH)
    async def seller_commands(request: Request[Any, Any, Any]) -> Response[Any]:
        body = await request.body()
        if (refused := unsigned(request.headers, marketplace.SELLER_COMMANDS_PATH, body)) is not None:
            return refused
        try:
            command = _seller_command.decode(body)
        except msgspec.DecodeError as error:
            return _problem(422, "Unprocessable", str(error))
        if command.seq >= 2**31:
            return _problem(422, "Unprocessable", "seq: expected 1 to 2147483647")
        await asyncio.to_thread(shop.take_seller, command)
        return await answered(command.command, shop.answer_seller)

    handlers: Any = {sa.exc.OperationalError: _away, sa.exc.TimeoutError: _away}
    return Litestar(
        [item, seed, seeding, keep, picture, sellers, seller, commands, seller_commands],
        openapi_config=None,
        logging_config=None,  # shared.logs has configured it
        exception_handlers=handlers,
        request_max_body_size=8_000_000,
    )


def _away(_request: Request[Any, Any, Any], _error: Exception) -> Response[Any]:
    return _problem(503, "Unavailable", "The database is away; try again.")


def serve(settings: Settings) -> uvicorn.Server:
    """Serve in a background thread until the server's ``should_exit`` is set."""
    config = uvicorn.Config(
        app(settings),
        host=settings.http_host,
        port=settings.http_port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=3,
    )
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, name="http", daemon=True).start()
    return server
