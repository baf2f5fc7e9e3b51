"""Alerts about what is not as usual: nobody promised anything, but somebody should look."""

from __future__ import annotations

from collections.abc import Sequence

from tracker.alerting.alert import ANOMALIES as BOARD
from tracker.alerting.alert import Alert
from tracker.alerting.trackers import seen

ANOMALIES: Sequence[Alert] = (
    Alert(
        "Anomaly",
        seen("tracker_anomalies", "flow, hop, signal") + " > 0",
        "0s",
        "ticket",
        "anomaly",
        "{{ $labels.flow }}: {{ $labels.signal }} is not as usual{{ if $labels.hop }} at {{ $labels.hop }}{{ end }}",
        "Volume, latency, loss, duplicates or coverage of this flow is far from what it usually is at this time. "
        "`tracker anomalies` says what was expected and what came.",
        of_flow=True,
        of_hop=True,
        board=BOARD,
    ),
)
