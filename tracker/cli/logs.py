"""Log lines on stderr: readable on a terminal, one JSON object a line elsewhere. Ours and those of libraries alike."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

SECRET = ("token", "password", "authorization", "secret", "cookie")
"""Values under names that contain one of these are never written."""

CHATTY = ("httpx", "uvicorn.access", "clickhouse_connect", "alembic")
"""Libraries of which only warnings are written."""


def configure(kind: str, level: str) -> None:
    """`kind` auto, console or json; `level` debug, info, warning or error."""
    number = getattr(logging, level.upper())
    console = kind == "console" or (kind == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        with_trace,
        without_secrets,
    ]
    final: list[Any] = (
        # Its own choice of a traceback, rich, shows what variables hold: payloads, logins.
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    removed = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[removed, *final], foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(max(number, logging.WARNING))


def without_secrets(_logger: Any, _method: str, line: dict[str, Any]) -> dict[str, Any]:
    """The same line, values under secret names hidden."""
    return {k: "***" if any(word in k.lower() for word in SECRET) and v else v for k, v in line.items()}


def with_trace(_logger: Any, _method: str, line: dict[str, Any]) -> dict[str, Any]:
    """The same line; one that is written within a span that is kept says which."""
    from opentelemetry.trace import format_span_id, format_trace_id, get_current_span  # what a client has not

    within = get_current_span().get_span_context()
    if not within.trace_flags.sampled:
        return line
    return line | {"trace_id": format_trace_id(within.trace_id), "span_id": format_span_id(within.span_id)}
