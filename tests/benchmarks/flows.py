"""What a pass costs where traffic spreads over many flows, each with a little of it.

    python -m tests.benchmarks.flows --flows 100 --messages 20 --json

Each of `passes` passes takes in that many new messages of every flow (produced and persisted) and ends those of the
pass before. `pass_cpu_s` is the processor time of the median pass, `pass_s` how long it took; `apart_cpu_s` the same
where every flow is asked about by itself, as one with many messages is (with `--apart`, for it takes long).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from tests.benchmarks.workload import SPEC, Traffic
from tests.world.installation import T0, Installation
from tracker.store import reach
from tracker.store.columns import EVENTS


def measure(flows: int, messages: int, passes: int, folder: Path) -> dict[str, float]:
    """The numbers of one run."""
    world = Installation(folder)
    traffic = {f"orders-{n}": Traffic(messages, "uuid7", T0, seed=n) for n in range(flows)}
    for flow in traffic:
        world.put(SPEC.replace("flow: orders", f"flow: {flow}"))
    took, processor = [], []
    for _ in range(passes):
        world.store.insert_events(pa.concat_tables(_of(flow, one.next()) for flow, one in traffic.items()))
        world.now = max(one.now for one in traffic.values())
        began, used = time.monotonic(), time.process_time()
        world.run_pass()
        took.append(time.monotonic() - began)
        processor.append(time.process_time() - used)
    world.close()
    return {"pass_s": round(statistics.median(took), 2), "pass_cpu_s": round(statistics.median(processor), 2)}


def _of(flow: str, events: pa.Table) -> pa.Table:
    named = pa.repeat(pa.scalar(flow), events.num_rows).cast(EVENTS.field("flow").type)
    return events.set_column(EVENTS.get_field_index("flow"), EVENTS.field("flow"), named)


def main() -> None:
    """One line, as JSON or for people."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", type=int, default=100)
    parser.add_argument("--messages", type=int, default=20, help="new ones of each flow, for each pass")
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--apart", action="store_true", help="also ask about each flow by itself")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: dict[str, float] = {"flows": given.flows, "messages": given.messages, "passes": given.passes}
    with tempfile.TemporaryDirectory() as folder:
        found |= measure(given.flows, given.messages, given.passes, Path(folder))
    if given.apart:
        reach.FEW = 0
        with tempfile.TemporaryDirectory() as folder:
            found["apart_cpu_s"] = measure(given.flows, given.messages, given.passes, Path(folder))["pass_cpu_s"]
    print(json.dumps(found) if given.json else "\n".join(f"{name:>12}  {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
