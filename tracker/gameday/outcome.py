"""What came of a drill, held against what was expected, id by id. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from tracker.gameday.faults import Expected, Fault
from tracker.model.units import SECOND

FINE = frozenset({"delivered", "late"})


class Finding(msgspec.Struct, frozen=True):
    """What of a finding counts here; times in epoch microseconds."""

    message_id: str
    hop: str
    kind: str
    status: str
    opened_at: int
    known_at: int
    resolved_at: int | None = None
    by: str = ""
    cause: str = ""
    held_by: tuple[str, ...] = ()


class Times(msgspec.Struct):
    """When what happened, epoch microseconds: what the drill did and saw by the clock of its host, the rest by the
    tracker's."""

    fault_began: int | None = None
    shown_blind: int | None = None
    fault_ended: int | None = None
    known: int | None = None
    found_first: int | None = None
    found_last: int | None = None
    replay_asked: int | None = None
    recovered: int | None = None


class Facts(msgspec.Struct, frozen=True):
    """What is known when a drill ends. `confirmed`: ids that the broker confirmed or that were told as produced; `hit`:
    those that the fault was made to; `late`: those that the drill's own consumers acked after their deadline,
    `unacked`: never; `consumed`: the hops of these consumers. `doubted`: those that the broker did not confirm.
    `states`: verdict and flags by id, as of the last pass; `blind`: ids that were blind at some time. `strayed`: which
    flow of business knows one of them, or why nobody could say."""

    confirmed: tuple[str, ...]
    hit: frozenset[str]
    findings: tuple[Finding, ...]
    states: Mapping[str, tuple[str, tuple[str, ...]]]
    blind: frozenset[str] = frozenset()
    late: frozenset[str] = frozenset()
    unacked: frozenset[str] = frozenset()
    doubted: frozenset[str] = frozenset()
    consumed: frozenset[str] = frozenset()
    strayed: str = ""


class Check(msgspec.Struct, frozen=True):
    """One expectation, whether it holds, and what was seen."""

    expected: str
    good: bool
    seen: str


def own(expected: Expected, findings: Sequence[Finding]) -> list[Finding]:
    """The findings that the fault has to lead to; what follows from them names its cause and is not counted twice."""
    if expected.fault is Fault.manual:
        return [one for one in findings if not one.cause]
    return [one for one in findings if one.kind == expected.kind and one.hop == expected.hop]


def checked(expected: Expected, facts: Facts) -> list[Check]:
    """Every expectation of the drill."""
    if expected.fault is Fault.manual:
        return _manual(expected, facts)
    mine = own(expected, facts.findings)
    found = {one.message_id for one in mine}
    others = [one for one in facts.findings if one not in mine and not (one.cause and one.message_id in found)]
    checks = []
    if expected.kind:
        what = f"exactly the canaries that are hit are named: {expected.kind} at {expected.hop}"
        checks += [Check(what, found == facts.hit, _compared(facts.hit, found)), _in_time(expected, mine)]
    checks.append(Check("nothing else is named", not others, _named([f"{o.message_id} {o.kind}" for o in others])))
    if expected.blind:
        checks.append(Check("those that are hit are blind as long as it lasts", facts.blind == facts.hit,
                            _compared(facts.hit, facts.blind)))  # fmt: skip
    if expected.flag:
        flagged = {name for name, (_, flags) in facts.states.items() if expected.flag in flags}
        checks.append(Check(f"exactly those that are hit are {expected.flag}", flagged == facts.hit,
                            _compared(facts.hit, flagged)))  # fmt: skip
    if expected.kind:
        checks.append(_back(expected, mine))
    checks.append(_settled(facts))
    return checks


def _manual(expected: Expected, facts: Facts) -> list[Check]:
    mine = own(expected, facts.findings)
    named = {one.message_id for one in facts.findings if one.hop in facts.consumed}
    told = {one.message_id for one in facts.findings}
    told |= {name for name, (verdict, _) in facts.states.items() if verdict == "blind"}
    allowed = facts.unacked | facts.late | facts.doubted
    silent = facts.unacked - told
    running = [name for name, (verdict, _) in facts.states.items() if verdict == "in_flight"]
    absent = set(facts.confirmed) - facts.states.keys()
    return [
        Check("every canary that was never acked is named, or said to be unknown", not silent, _named(sorted(silent))),
        Check("nothing else is named", named <= allowed, _named(sorted(named - allowed))),
        _in_time(expected, mine),
        Check("every canary that was confirmed has a verdict, and none is in flight", not running and not absent,
              f"{len(running)} in flight, {len(absent)} unknown to the tracker, {len(facts.blind)} blind for a while"),
    ]  # fmt: skip


def _in_time(expected: Expected, mine: Sequence[Finding]) -> Check:
    slow = [one for one in mine if one.opened_at - one.known_at > expected.within * SECOND]
    most = max((one.opened_at - one.known_at for one in mine), default=0) / SECOND
    return Check(
        f"found within {expected.within:g} s of when it could be known", not slow, f"after {most:.2f} s at most"
    )


def _back(expected: Expected, mine: Sequence[Finding]) -> Check:
    by = "replay" if expected.by == "replay" else "itself"
    back = [one for one in mine if one.status == "recovered" and one.by == by]
    who = {"replay": "by a replay", "consumer": "by themselves", "producer": "when the producer sent them again"}
    return Check(f"all of them recover {who[expected.by]}", len(back) == len(mine), f"{len(back)} of {len(mine)}")


def _settled(facts: Facts) -> Check:
    wrong = {name: facts.states.get(name, ("unknown to the tracker", ()))[0] for name in facts.confirmed}
    wrong = {name: verdict for name, verdict in wrong.items() if verdict not in FINE}
    said = _named([f"{name} {verdict}" for name, verdict in wrong.items()])
    counted = f"{len(facts.confirmed) - len(wrong)} of {len(facts.confirmed)}"
    return Check("all canaries are delivered in the end", not wrong, f"{counted}; not: {said}" if wrong else counted)


def _compared(wanted: Collection[str], found: Collection[str]) -> str:
    missed, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    said = f"{len(set(wanted) & set(found))} of {len(wanted)}"
    return said + (f"; missed: {_named(missed)}" if missed else "") + (f"; wrongly: {_named(extra)}" if extra else "")


def _named(names: Sequence[str], most: int = 5) -> str:
    if not names:
        return "none"
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def report(
    expected: Expected, facts: Facts, times: Times, flow: str, run: str, replay: str = "", stopped: str = ""
) -> dict[str, Any]:
    """Everything that a drill has to tell, as JSON; `stopped`: why it ended before its end."""
    mine = own(expected, facts.findings)
    checks = [
        *checked(expected, facts),
        Check("no other flow knows any of them", not facts.strayed, facts.strayed or "none"),
    ]
    if stopped:
        checks.insert(0, Check("the drill comes to its end", False, stopped))
    gone = {one.message_id for one in mine if one.status == "open"}
    return {
        "drill": expected.fault.value,
        "flow": flow,
        "run": run,
        "good": all(check.good for check in checks),
        "fault": expected.done,
        "expected": expected.said,
        "checks": [msgspec.to_builtins(check) for check in checks],
        "canaries": {"sent": len(facts.confirmed), "hit": len(facts.hit), "named": len({o.message_id for o in mine})},
        "times": msgspec.to_builtins(times),
        "seconds": _seconds(mine, times),
        "rpo": {"messages": len(gone), "no_hop_held": len({o.message_id for o in mine if not o.held_by})},
        "replay": replay,
        "hit": sorted(facts.hit),
        "found": sorted({one.message_id for one in mine}),
    }


def timed(times: Times, findings: Sequence[Finding]) -> None:
    """Fill in what the findings tell."""
    if findings:
        times.known = min(one.known_at for one in findings)
        times.found_first = min(one.opened_at for one in findings)
        times.found_last = max(one.opened_at for one in findings)
        back = [one.resolved_at for one in findings if one.status == "recovered" and one.resolved_at]
        times.recovered = max(back, default=None)


def _seconds(mine: Sequence[Finding], times: Times) -> dict[str, float | None]:
    detect = [(one.opened_at - one.known_at) / SECOND for one in mine]
    recover = [
        (one.resolved_at - one.opened_at) / SECOND for one in mine if one.status == "recovered" and one.resolved_at
    ]
    return {
        "detect_p50": share(detect, 0.5),
        "detect_p99": share(detect, 0.99),
        "fault_to_first_found": _between(times.fault_began, times.found_first),
        "recover_p50": share(recover, 0.5),
        "recover_p99": share(recover, 0.99),
        "replay_to_recovered": _between(times.replay_asked, times.recovered),
    }


def share(values: Sequence[float], part: float) -> float | None:
    """The smallest value that at least this part of them does not exceed."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 3) if ordered else None


def _between(start: int | None, end: int | None) -> float | None:
    return None if start is None or end is None else round((end - start) / SECOND, 3)
