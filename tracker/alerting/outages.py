"""Alerts about a hop as a whole: what many flows suffer from at one place is one page to whoever runs that place, and
not one to each owner. They fire for each flow, so that only the alerts of flows that are hit are silenced by them."""

from __future__ import annotations

from collections.abc import Sequence

from tracker.alerting.alert import Alert
from tracker.alerting.itself import FRESHEST, STALLED
from tracker.alerting.trackers import SEEING_THEN, seen

KIND = "hop-outage"
SILENT_FLOWS, FAILING_FLOWS = 2, 3
"""From so many flows on, the hop is to blame. A flow that stalls alone has an alert of its own."""


def _flows(of: str) -> str:
    """At how many flows this is so, by hop."""
    return f"count by (hop) (count by (flow, hop) ({of}))"


MISSING = 'tracker_findings{kind=~"lost|unacknowledged|under_replicated", status="open"}'
OPEN = f"sum by (flow, hop) ({seen(MISSING, 'flow, hop, kind')})"
THEN = f"sum by (flow, hop) (max by (flow, hop, kind) ({MISSING} offset 1h and on (instance) {SEEING_THEN}))"
MORE = f"((({OPEN} > 0) unless {THEN} >= {OPEN}) and on () {SEEING_THEN})"
"""More are open than an hour ago. What has been open for long, since nobody gave it up, is no outage. A flow that had
none has no sample of then, so what says that samples are there is that a tracker read its store."""

OUTAGES: Sequence[Alert] = (
    Alert(
        "HopSilent",
        f"max by (flow, hop) ({STALLED}) and on (hop) "
        f"({_flows(STALLED)} >= {SILENT_FLOWS} and {_flows(STALLED)} == {_flows(FRESHEST)})",
        "45s",  # shorter than that of CoverageStalled, which it silences: it has to be there first
        "page",
        KIND,
        "{{ $labels.hop }}: no flow is vouched for any more, {{ $labels.flow }} for {{ $value | humanizeDuration }}",
        "All collectors of this hop stopped reporting: it, its collectors or the network there is gone. Messages are "
        "not lost by that, but a loss there would go unnoticed.",
        of_flow=True,
        of_hop=True,
        ours=True,
    ),
    Alert(
        "HopFailing",
        f"{MORE} and on (hop) ({_flows(MORE)} >= {FAILING_FLOWS} unless 2 * {_flows(MORE)} < {_flows(FRESHEST)})",
        "15s",  # likewise, of the alerts about findings
        "page",
        KIND,
        "{{ $labels.hop }}: messages of at least half of its flows are missing, {{ $value }} of {{ $labels.flow }}",
        "It is the hop, or the way to it, not one application: at least half of the flows there, and no fewer than "
        "three, have more open findings than an hour ago.",
        of_flow=True,
        of_hop=True,
        ours=True,
    ),
)
