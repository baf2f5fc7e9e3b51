"""What a question may cost, and which settings a client may send with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tracker.store.readonly.errors import Refused


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one question may cost: seconds, bytes of memory, rows and bytes of its answer, threads, characters; and how
    many questions run at once."""

    seconds: float = 30.0
    memory: int = 1 << 30
    rows: int = 1_000_000
    answer: int = 64 << 20
    threads: int = 2
    questions: int = 4
    statement: int = 100_000


LOWERED = {"max_execution_time": "seconds", "max_result_rows": "rows", "max_threads": "threads"}
"""Settings that a client may only make smaller: by the bound that holds for all."""
TAKEN = (
    *LOWERED,
    "cancel_http_readonly_queries_on_client_close",
    "cast_string_to_dynamic_use_inference",
    "date_time_input_format",
    "date_time_output_format",
    "enable_http_compression",
    "extremes",
    "http_headers_progress_interval_ms",
    "http_zlib_compression_level",
    "join_use_nulls",
    "limit",
    "offset",
    "output_format_arrow_string_as_string",
    "output_format_json_named_tuples_as_objects",
    "output_format_json_quote_64bit_floats",
    "output_format_json_quote_64bit_integers",
    "output_format_json_quote_decimals",
    "output_format_json_quote_denormals",
    "output_format_native_encode_types_in_binary_format",
    "output_format_parquet_string_as_string",
    "prefer_column_name_to_alias",
    "send_progress_in_http_headers",
    "session_timezone",
    "wait_end_of_query",
)
"""Settings that a client may send; `system.settings` shows it these alone. What is not of the answer's form is read
here, or means nothing here, and is not handed on."""
_OURS = frozenset(
    {"enable_http_compression", "http_headers_progress_interval_ms", "http_zlib_compression_level"}
    | {"send_progress_in_http_headers", "wait_end_of_query", "cancel_http_readonly_queries_on_client_close"}
)
_VALUE = re.compile(r"[\w./:+ -]{0,64}")


def settings(sent: Mapping[str, str], bounds: Bounds) -> dict[str, str]:
    """The settings that a question is run with; `readonly` comes last, since it forbids all others. Raises Refused."""
    made = {
        "max_execution_time": f"{bounds.seconds:g}",
        "timeout_overflow_mode": "throw",
        "max_memory_usage": str(bounds.memory),
        "max_result_rows": str(bounds.rows),
        "max_result_bytes": str(bounds.answer),
        "result_overflow_mode": "throw",
        "max_threads": str(bounds.threads),
        "max_query_size": str(4 * bounds.statement),
        "allow_introspection_functions": "0",
        "session_timezone": "UTC",
    }
    for name, value in sent.items():
        if name not in TAKEN:
            raise Refused(164, f"the setting {name} cannot be changed here")
        if not _VALUE.fullmatch(value):
            raise Refused(472, f"the value of the setting {name} is not taken here")
        if name in LOWERED:
            value = _lower(name, value, getattr(bounds, LOWERED[name]))
        if name not in _OURS:
            made[name] = value
    return {**made, "readonly": "1"}


def _lower(name: str, value: str, most: float) -> str:
    """The smaller of the two; 0 asks for no limit and gets ours."""
    try:
        asked = float(value)
    except ValueError:
        raise Refused(472, f"the value of the setting {name} is no number") from None
    return f"{min(asked, most) if asked > 0 else most:.12g}"
