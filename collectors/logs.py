"""Log lines of the collectors go to the standard `logging` tree under `collectors.*`, where the host application
decides what becomes of them; structlog only gives them their `event key=value` shape."""

from __future__ import annotations

import logging
from typing import Any

import structlog


def logger(name: str) -> Any:
    """A structlog logger that writes `event key=value ...` to `logging.getLogger(name)`."""
    return structlog.wrap_logger(
        logging.getLogger(name),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"], drop_missing=True),
        ],
    )
