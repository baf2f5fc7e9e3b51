"""Where links lead: other dashboards, with the variables kept, and pages of the tracker."""

from __future__ import annotations

from tracker.dashboards.panel import Link

OVERVIEW, FLOW, MESSAGE, RECOVERY, ANOMALIES, COVERAGE, ITSELF = (
    f"tracker-{name}" for name in ("overview", "flow", "message", "recovery", "anomalies", "coverage", "itself")
)
"""Uids of the dashboards."""
_KEPT = "${database:queryparam}&${tracker:queryparam}&${__url_time_range}"
_FLOW = "${__data.fields.flow:percentencode}"
_MESSAGE = "${__data.fields.message_id:percentencode}"
_HOP = "${__data.fields.hop:percentencode}"


def to_flow(column: str = "flow") -> Link:
    """From a column beside the flow to its dashboard."""
    return Link(column, "flow, hop by hop", f"/d/{FLOW}?var-flow={_FLOW}&{_KEPT}")


def to_hop() -> Link:
    """From a hop to its flow's dashboard, of this hop only."""
    return Link("hop", "this hop", f"/d/{FLOW}?var-flow={_FLOW}&var-hop={_HOP}&{_KEPT}")


def to_message() -> Link:
    """From a message's id to its dashboard."""
    return Link("message_id", "message", f"/d/{MESSAGE}?var-flow={_FLOW}&var-message={_MESSAGE}&{_KEPT}")


def to_timeline() -> Link:
    """From a message's id to the console."""
    return Link("message_id", "timeline", f"${{tracker}}/find?flow={_FLOW}&id={_MESSAGE}")


def to_incident() -> Link:
    """From an incident's id to the console."""
    return Link("incident", "incident", "${tracker}/incidents/${__data.fields.incident:percentencode}")


def to_runbook() -> Link:
    """From a kind of finding to what to do."""
    return Link("kind", "runbook", "${tracker}/runbooks/${__data.fields.kind:percentencode}")


def to_anomaly() -> Link:
    """From a signal that is off to what to do."""
    return Link("signal", "runbook", "${tracker}/runbooks/anomaly")
