"""Several trackers on one store show the same gauges. One that cannot read the store goes on showing what it read last:
it must neither set an alert off nor hide what another one sees."""

from __future__ import annotations

STORE_UP, READ = "tracker_store_up", "tracker_read_timestamp_seconds"
OLD_S = 90
"""A tracker reads whenever it is scraped: one that has not for so long is blind, even if its store answers a ping. More
than a minute, which lies between two scrapes by default; less than what HopSilent waits for."""
BLIND = f"({STORE_UP} == 0 or time() - {READ} > {OLD_S})"
SEEING = f"({STORE_UP} unless on (instance) {BLIND})"
BLIND_THEN = f"({STORE_UP} offset 1h == 0 or time() - 3600 - {READ} offset 1h > {OLD_S})"
SEEING_THEN = f"({STORE_UP} offset 1h unless on (instance) {BLIND_THEN})"
"""`THEN`: an hour ago."""


def seen(gauge: str, by: str) -> str:
    """A gauge of the ledger, once for each `by`, from the trackers that can read it; while none can, what each read
    last."""
    return f"max by ({by}) ({gauge} unless on (instance) ({BLIND} and on () {SEEING}))"
