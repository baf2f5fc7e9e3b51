"""The report of a drill as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracker.model.units import rfc3339

TIMES = {
    "fault_began": "the fault began",
    "shown_blind": "all that were hit were shown as blind",
    "fault_ended": "the fault ended",
    "known": "it could be known",
    "found_first": "the first was found",
    "found_last": "the last was found",
    "replay_asked": "a replay was asked for",
    "recovered": "the last was back",
}
SECONDS = {
    "detect_p50": "found after it could be known (half of them)",
    "detect_p99": "found after it could be known (99 %)",
    "fault_to_first_found": "from the fault to the first that was found",
    "recover_p50": "from found to back (half of them)",
    "recover_p99": "from found to back (99 %)",
    "replay_to_recovered": "from asking for the replay to the last that was back",
}
LISTED = 50


def page(report: Mapping[str, Any]) -> str:
    """One page: the verdict first, then what was expected and seen, then times and ids."""
    count, rpo = report["canaries"], report["rpo"]
    lines = [
        f"# Drill `{report['drill']}` of {report['flow']}: {'as expected' if report['good'] else 'NOT as expected'}",
        "",
        f"{count['sent']} canaries, {count['hit']} of them hit: {report['fault']}. {count['named']} were named.",
        f"Lost for good (RPO): {rpo['messages']}. Held by no hop when they were found: {rpo['no_hop_held']}.",
        "",
        "| expected | holds | seen |",
        "|---|---|---|",
        *(
            f"| {check['expected']} | {'yes' if check['good'] else '**no**'} | {check['seen']} |"
            for check in report["checks"]
        ),
        "",
        "| | at (UTC) |",
        "|---|---|",
        *(
            f"| {said} | {rfc3339(report['times'][name])[11:23]} |"
            for name, said in TIMES.items()
            if report["times"][name]
        ),
        "",
        "| | seconds |",
        "|---|---|",
        *(
            f"| {said} | {value:.2f} |"
            for name, said in SECONDS.items()
            if (value := report["seconds"][name]) is not None
        ),
        "",
        f"Run {report['run']}." + (f" Replay {report['replay']}." if report["replay"] else ""),
    ]
    for title in ("hit", "found"):
        names = report[title]
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        lines += ["", f"{title.capitalize()}: {', '.join(names[:LISTED]) or 'none'}{more}"]
    return "\n".join(lines) + "\n"
