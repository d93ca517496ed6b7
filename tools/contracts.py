"""``python -m tools.contracts``: writes the contracts to docs/reference: OpenAPI 3.1, AsyncAPI 3.0, and JSON Schemas.

They are generated from intake's routes, from ``shared.events`` and ``shared.topics``, and from intake's types for
upstreams. They are committed, and a test fails if they are stale. Nothing that runs imports this module, so it may
import a service.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, Final

import msgspec
from litestar.serialization import default_serializer, encode_json

from services.intake.app import create
from services.intake.filing.inbound import REFUSED, InboundRefused
from services.intake.kernel.requests import BY_TOPIC
from shared import topics
from shared.events import TYPES
from shared.runtime.types import DeadLetter
from shared.settings import Settings

FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "reference"

_ITEM = tuple(name for name in TYPES if name.startswith("goodfaith.item.") and name != "goodfaith.item.submitted.v1")
_COMMAND = tuple(
    name for name in TYPES if name.startswith("goodfaith.command.") and name != "goodfaith.command.refused.v1"
)

INBOUND: Final = topics.inbound("{upstream}")

CARRIES: Final[dict[str, tuple[str, ...]]] = {
    topics.INTAKE.name: (
        "goodfaith.item.submitted.v1",
        *_COMMAND,
        "goodfaith.pictures.compared.v1",
        "goodfaith.watermark.v1",
    ),
    topics.ACCOUNTS.name: (
        "goodfaith.account.notice.v1",
        "goodfaith.account.channels.v1",
        "goodfaith.message.read.v1",
        "goodfaith.account.erased.v1",
        "goodfaith.sanction.lift.v1",
    ),
    topics.FILINGS.name: ("goodfaith.claim.filed.v1",),
    topics.VERIFICATION.name: (*_ITEM, "goodfaith.recurrence.found.v1", "goodfaith.command.refused.v1"),
    topics.ENFORCEMENT.name: ("goodfaith.hold.changed.v1",),
    topics.VIOLATIONS.name: ("goodfaith.violation.changed.v1",),
    topics.LEDGER.name: (
        "goodfaith.penalty.entered.v1",
        "goodfaith.standing.changed.v1",
        "goodfaith.sanction.changed.v1",
    ),
    topics.NOTIFICATION.name: (
        "goodfaith.notice.sent.v1",
        "goodfaith.notice.unreached.v1",
        "goodfaith.message.sent.v1",
        "goodfaith.account.told.v1",
        "goodfaith.webhook.disabled.v1",
        "goodfaith.delivery.changed.v1",
    ),
    topics.MARKETPLACE_COMMANDS.name: ("goodfaith.marketplace.command.v1",),
    topics.MARKETPLACE_RECEIPTS.name: ("goodfaith.marketplace.receipt.v1",),
    topics.MARKETPLACE_LISTINGS.name: ("goodfaith.marketplace.listing.v1",),
    topics.SELLER_COMMANDS.name: ("goodfaith.marketplace.seller_command.v1",),
    topics.SELLER_RECEIPTS.name: ("goodfaith.marketplace.seller_receipt.v1",),
    topics.MARKETPLACE_SELLERS.name: ("goodfaith.marketplace.seller.v1",),
    topics.MARKETPLACE_CONTACTS.name: ("goodfaith.marketplace.contact.v1",),
    topics.CENTRE_MESSAGES.name: ("goodfaith.marketplace.message.v1",),
    topics.CENTRE_RECEIPTS.name: ("goodfaith.marketplace.message_receipt.v1",),
    topics.DEAD_LETTERS.name: ("goodfaith.dead_letter.v1",),
    topics.REFUSALS.name: (REFUSED,),
    INBOUND.name: tuple(BY_TOPIC),
}
"""Topic -> types of the events that it carries."""

TRACED: Final = {
    "headers": {
        "type": "object",
        "properties": {"traceparent": {"type": "string", "description": "W3C Trace Context, if the event is traced."}},
    }
}


def all_types() -> dict[str, type[msgspec.Struct]]:
    """CloudEvents type -> data type, including those of the runtime and of upstreams."""
    return {**TYPES, "goodfaith.dead_letter.v1": DeadLetter, REFUSED: InboundRefused, **BY_TOPIC}


def _summary(kind: type[msgspec.Struct]) -> str:
    return (inspect.getdoc(kind) or kind.__name__).split("\n\n")[0].replace("\n", " ")


def _channel(name: str) -> str:
    """Id of a topic's channel, without braces, which a reference must not have."""
    return name.removesuffix(".{upstream}")


def schemas() -> dict[str, Any]:
    """JSON Schema (2020-12) of each data type, by name."""
    kinds = sorted(set(all_types().values()), key=lambda kind: kind.__name__)
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return components


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document."""
    types = all_types()
    messages = {
        name: {
            "name": name,
            "title": types[name].__name__,
            "summary": _summary(types[name]),
            "contentType": "application/cloudevents+json; charset=UTF-8",
            "traits": [{"$ref": "#/components/messageTraits/traced"}],
            "payload": {
                "type": "object",
                # we write all of these; upstreams need only those that CloudEvents requires
                "required": ["specversion", "id", "source", "type", "data"]
                if name in BY_TOPIC
                else ["specversion", "id", "source", "type", "time", "datacontenttype", "data"],
                "properties": {
                    "specversion": {"const": "1.0"},
                    "id": {
                        "type": "string",
                        "description": "The idempotency key: accepted at most once, and refused with another body."
                        if name in BY_TOPIC
                        else "Applied at most once by every reader: <writer>.<partition>.<sequence>.",
                    },
                    "source": {"type": "string", "format": "uri-reference"},
                    "type": {"const": name},
                    "subject": {"type": "string"},
                    "time": {"type": "string", "format": "date-time", "description": "Business time of the event."},
                    "datacontenttype": {"const": "application/json"},
                    "partitionkey": {"type": "string"},
                    "correlationid": {"type": "string", "description": "The claim."},
                    "causationid": {"type": "string", "description": "Id of the event that caused this one."},
                    **(
                        {}
                        if name in BY_TOPIC
                        else {
                            "traceparent": {"type": "string", "description": "The header's value, kept in the event."},
                            "previous": {
                                "type": "integer",
                                "minimum": 0,
                                "description": "For an event in a log: sequence of the previous event that the log"
                                " published to the same topic and partition; 0: this is the first.",
                            },
                        }
                    ),
                    "data": {"$ref": f"#/components/schemas/{types[name].__name__}"},
                },
            },
        }
        for name in sorted(types)
    }
    declared = {topic.name: topic for topic in (*topics.TOPICS, INBOUND)}
    channels = {
        _channel(name): {
            "address": name,
            "description": f"Written by {declared[name].writer}; keyed by {declared[name].key}."
            + (
                " Compacted."
                if declared[name].compacted
                else f" Kept {declared[name].retention_ms // topics.DAY_MS} days."
            ),
            "messages": {kind: {"$ref": f"#/components/messages/{kind}"} for kind in carried},
            **({"parameters": {"upstream": {"description": "Name of the upstream."}}} if name == INBOUND.name else {}),
        }
        for name, carried in CARRIES.items()
    }
    operations = {
        f"{action}.{_channel(name)}": {"action": action, "channel": {"$ref": f"#/channels/{_channel(name)}"}}
        for name in CARRIES
        for action in ("receive" if declared[name].writer in ("marketplace", "upstream") else "send",)
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Goodfaith",
            "version": "1.0.0",
            "description": "Events and commands on Kafka: CloudEvents 1.0, structured JSON. Fields are added, never renamed or removed.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "messageTraits": {"traced": TRACED}, "schemas": schemas()},
    }


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document of intake's public API, as `/openapi.json` serves it."""
    schema = create(Settings()).openapi_schema.to_schema()
    document: dict[str, Any] = msgspec.json.decode(encode_json(schema, default_serializer))
    return document


def documents() -> dict[Path, str]:
    """Every generated file, and its text."""
    texts = {FOLDER / "asyncapi.json": asyncapi(), FOLDER / "openapi.json": openapi()}
    for name, schema in schemas().items():
        document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
        used = {key: value for key, value in schemas().items() if f'/schemas/{key}"' in json.dumps(schema)}
        if used:
            document["$defs"] = used
        texts[FOLDER / "schemas" / f"{name}.json"] = json.loads(
            json.dumps(document).replace("#/components/schemas/", "#/$defs/")
        )
    return {path: json.dumps(document, indent=2, sort_keys=False) + "\n" for path, document in texts.items()}


if __name__ == "__main__":
    for path, text in documents().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
