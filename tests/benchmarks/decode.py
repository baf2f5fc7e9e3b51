"""What it costs to make rows of a body, and what other readers of JSON cost: `python -m tests.benchmarks.decode`.

One JSON line, processor µs per event, the best of some rounds on the same bodies. `*_decode` ends with columns,
`*_rows` with checked rows as they are inserted, `*_asked` with those of a flow whose schema asks for a digest and
bounds sizes. `polars` and `pyarrow` read the same lines, `msgspec` each by itself.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.json

from tests.benchmarks.watch import cpu_s, load
from tests.benchmarks.wire import bodies, formats
from tests.benchmarks.workload import FLOW, HOPS
from tests.world.installation import T0
from tracker.ingest.asked import KnownFlow
from tracker.ingest.fields import WIRE
from tracker.ingest.formats import decode as by_type
from tracker.ingest.lines.decode import QUICK, Lines, decode, patiently
from tracker.ingest.prepare import Context, prepare
from tracker.model.schema import Needs

STEP = 1_000_000
LIMIT = 1 << 30
_AS_TEXT = dict.fromkeys(WIRE, pl.String)
_SCHEMA = pa.schema([(name, pa.int64() if name in ("observed_at", "origin_at", "size", "offset") else pa.string())
                     for name in WIRE])  # fmt: skip


class Line(msgspec.Struct):
    """A line, as somebody would read it row by row."""

    flow: str
    message_id: str
    hop: str
    stage: str
    observed_at: int
    origin_at: int | None = None
    node: str = ""
    digest: str = ""
    size: int = 0
    partition: str = ""
    offset: int = -1
    trace_id: str = ""
    group: str = ""


def measure(count: int, rounds: int) -> dict[str, Any]:
    """All readers on the second block's bodies: replicated and acked ones are among them."""
    made = [(block, hop) for (block, hop), _ in zip(bodies(count, T0, STEP, 7), range(8), strict=False)][2:6]
    events = sum(len(block) for block, _ in made)
    ndjson, arrow = ([bytes(formats()[f].body(block, hop)) for block, hop in made] for f in ("ndjson", "arrow"))
    arrow_type, context = formats()["arrow"].content_type, Context({FLOW: KnownFlow()}, 7, "benchmark", T0 + 60_000_000)
    needs = dict.fromkeys(HOPS, Needs(digest=True, max_size=1 << 20))
    asking = Context({FLOW: KnownFlow(needs=needs)}, context.salt, context.source, context.now)
    QUICK.wait(120)
    typed = msgspec.json.Decoder(Line)
    ways: dict[str, Callable[[], Any]] = {
        "ndjson_decode": lambda: [decode(body) for body in ndjson],
        "ndjson_rows": lambda: [prepare(decode(body), "", context) for body in ndjson],
        "ndjson_asked": lambda: [prepare(decode(body), "", asking) for body in ndjson],
        "patient_rows": lambda: [prepare([patiently(ls := Lines(b), ls.filled)], "", context) for b in ndjson],
        "arrow_decode": lambda: [by_type(body, arrow_type, LIMIT) for body in arrow],
        "arrow_rows": lambda: [prepare(by_type(body, arrow_type, LIMIT), "", context) for body in arrow],
        "arrow_asked": lambda: [prepare(by_type(body, arrow_type, LIMIT), "", asking) for body in arrow],
        "polars": lambda: [pl.read_ndjson(io.BytesIO(body), schema=_AS_TEXT) for body in ndjson],
        "pyarrow": lambda: [
            pa.json.read_json(io.BytesIO(body), parse_options=pa.json.ParseOptions(explicit_schema=_SCHEMA))
            for body in ndjson
        ],
        "msgspec": lambda: [typed.decode_lines(body) for body in ndjson],
    }
    return {
        "events": events,
        "bytes_per_event": {"ndjson": sum(map(len, ndjson)) // events, "arrow": sum(map(len, arrow)) // events},
        "cpu_us_per_event": {name: round(_best(way, rounds) / events * 1e6, 3) for name, way in ways.items()},
        "load_average": load(),
    }


def _best(way: Callable[[], Any], rounds: int) -> float:
    """Processor seconds of the quickest round; the first, which may compile, does not count."""
    way()
    best = float("inf")
    for _ in range(rounds):
        began = cpu_s()
        way()
        best = min(best, cpu_s() - began)
    return best


def main() -> None:
    """One JSON line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--events", type=int, default=20_000, help="per body")
    options.add_argument("--rounds", type=int, default=7)
    asked = options.parse_args()
    print(json.dumps(measure(asked.events, asked.rounds)))


if __name__ == "__main__":
    main()
