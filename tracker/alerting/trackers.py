"""Several trackers on one store show the same gauges. One that has lost its store goes on showing what it read last: it
must neither set an alert off nor hide what another one sees."""

from __future__ import annotations

STORE_UP = "tracker_store_up"


def seen(gauge: str, by: str, before: str = "") -> str:
    """A gauge of the ledger, once for each `by`, from the trackers that have their store; while none has, what each
    read last. `before`: an `offset`."""
    lost = f"{STORE_UP}{before} == 0 and on () {STORE_UP}{before} == 1"
    return f"max by ({by}) ({gauge}{before} unless on (instance) ({lost}))"
