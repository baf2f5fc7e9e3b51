"""Alerts about messages: one per kind of finding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tracker.alerting.alert import Alert
from tracker.alerting.trackers import seen
from tracker.model.verdict import Verdict


def _of_kind(
    kind: Verdict, name: str, lasting: str, severity: Literal["page", "ticket"], what: str, text: str
) -> Alert:
    open_ = seen(f'tracker_findings{{kind="{kind}", status="open"}}', "flow, hop")
    summary = f"{{{{ $value }}}} of {{{{ $labels.flow }}}} {what} {{{{ $labels.hop }}}}"
    return Alert(name, f"{open_} > 0", lasting, severity, kind.value, summary, text, of_flow=True, of_hop=True)


FINDINGS: Sequence[Alert] = (
    _of_kind(
        Verdict.lost,
        "MessagesLost",
        "30s",
        "page",
        "lost at",
        "Messages never reached this hop, nobody before it holds them, and its collector saw the whole span.",
    ),
    _of_kind(
        Verdict.unacknowledged,
        "MessagesUnacknowledged",
        "30s",
        "page",
        "not acknowledged by",
        "Messages are past their deadline at this hop. The hop before it may still hold them.",
    ),
    _of_kind(
        Verdict.divergent,
        "MessagesDivergent",
        "30s",
        "page",
        "changed on the way to",
        "Copies that should be equal carry different payloads: one of them is wrong.",
    ),
    _of_kind(
        Verdict.under_replicated,
        "MessagesUnderReplicated",
        "5m",
        "ticket",
        "not copied to",
        "Messages arrived, but a copy is missing: one more failure and they may be gone.",
    ),
    _of_kind(
        Verdict.dead_lettered,
        "MessagesDeadLettered",
        "5m",
        "ticket",
        "dead-lettered by",
        "A consumer gave up on messages and put them aside.",
    ),
)
