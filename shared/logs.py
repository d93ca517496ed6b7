"""Structured logs: one JSON line per entry (or coloured text), with secrets redacted under whatever key."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

from shared.log_limits import seldom
from shared.settings import Settings

# by shape: our bearer tokens, and the user and password in a URL; by name: anything that is called a secret
_SHAPES = re.compile(r"gf_[A-Za-z0-9]{4,}_[A-Za-z0-9_-]{16,}|(?<=://)([^:/\s]+):([^@/\s]+)(?=@)")
_NAMES = re.compile(r"token|secret|password|authorization|contact_key|idempotency", re.IGNORECASE)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _SHAPES.sub("[redacted]", value)
    if isinstance(value, dict):
        return {key: "[redacted]" if _NAMES.search(str(key)) else _clean(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner) for inner in value]
    return value


def redact(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    """structlog processor: redact secrets by the name of their key or by their shape within a text."""
    return {key: "[redacted]" if _NAMES.search(key) else _clean(value) for key, value in entry.items()}


def configure(settings: Settings, process: str) -> None:
    """Set up logging for the whole process, libraries included."""
    level = getattr(logging, settings.log_level.upper())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    tail: list[Any] = (
        [structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [redact, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail]
        )
    )
    if settings.kafka_security != "plaintext":
        from shared import kafka_links  # its imports are heavy, and not every process talks to the broker

        kafka_links.listen(settings, handler)
    else:
        # a client repeats the same line several times a second for as long as a topic is missing
        handler.addFilter(lambda record: not record.name.startswith("kafka") or seldom(f"{record.name} {record.msg}"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("kafka").setLevel(max(level, logging.ERROR))
    for quiet in ("uvicorn.access", "httpx", "httpcore"):
        logging.getLogger(quiet).setLevel(max(level, logging.WARNING))
    structlog.contextvars.bind_contextvars(process=process)
