"""`tracker canary`: canaries at a steady rate, until stopped, and what became of each."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tracker.cli.answers import console
from tracker.cli.client import api
from tracker.cli.errors import FINDINGS, CommandError
from tracker.cli.gameday.ledger import Ledger, hops_file, lane, new_run, rate_of, seconds
from tracker.cli.gameday.road import Road
from tracker.gameday.lane import Lane
from tracker.gameday.outcome import FINE, share

LOOK_S = 2.0
SAMPLE = 5
"""Canaries whose latency is asked for, of those that one look finds delivered."""
KEPT = 1000
"""Latencies that percentiles are taken of: the newest."""
READY_S = 15.0
"""How long collectors get to vouch for the lane before canaries go all the same."""
FIRST_S = 10.0
"""How long the first canary is waited for, before others follow all the same."""
PATIENCE_S = 10.0
"""Beyond the last deadline, for what was on its way when it was stopped."""
OPEN = frozenset({"in_flight", "blind", "unknown"})
"""`unknown`: no pass of the tracker has seen it."""
MOST_ASIDE = 10_000
"""Those that are remembered by name; more are counted."""


class Canaries:
    """Sends, looks, counts. What is settled is forgotten. What is missing, or not known when its last deadline has
    passed, is set aside by name; a few of these are asked about at a time until they are back, however long it runs."""

    def __init__(self, road: Road, ledger: Ledger, run: str) -> None:
        self._road, self._ledger, self._run = road, ledger, run
        self._sent = self._back = self._beyond = 0
        self._settled = Counter[str]()
        self._open: dict[str, float] = {}
        self._aside: dict[str, str] = {}
        self._latencies = deque[float](maxlen=KEPT)
        self._unwatched: list[str] = []

    @property
    def open(self) -> int:
        """Sent, and not settled yet."""
        return len(self._open)

    @property
    def good(self) -> bool:
        """Everything was sent and is delivered; nothing is missing, nothing is unknown."""
        return not (self._aside or self._open or self._beyond or self._road.refused)

    @property
    def watched(self) -> bool:
        """Whether somebody vouches for each checkpoint: a canary that goes before that is blind."""
        self._unwatched = self._ledger.unwatched()
        return not self._unwatched

    def strayed(self) -> str:
        """What is wrong where some went where the business is; else nothing."""
        return self._ledger.strayed()

    def send(self) -> None:
        """One more."""
        name = f"{self._run}{self._sent + self._road.refused.total():08d}"
        if not self._road.send(name):
            self._sent += 1
            self._open[name] = time.monotonic()

    def look(self) -> None:
        """Ask what became of those that are open, and of some that were set aside."""
        old = time.monotonic() - self._road.lane.longest - PATIENCE_S
        states = self._ledger.states(_before(next(iter(self._open)))) if self._open else {}
        fresh = []
        for name, sent in list(self._open.items()):
            verdict = states.get(name, ("unknown", ()))[0]
            if verdict in FINE:
                self._settle(name, verdict)
                fresh.append(name)
            elif verdict not in OPEN or sent < old:
                self._set_aside(name, verdict)
        self._latencies.extend(self._ledger.judged(name)[1] for name in fresh[:SAMPLE])
        for name in list(self._aside)[:SAMPLE]:
            del self._aside[name]
            verdict, _ = self._ledger.judged(name)
            if verdict in FINE:
                self._settle(name, verdict)
                self._back += 1
            else:
                self._aside[name] = verdict  # behind the others

    def _settle(self, name: str, verdict: str) -> None:
        self._open.pop(name, None)
        self._settled[verdict] += 1

    def _set_aside(self, name: str, verdict: str) -> None:
        del self._open[name]
        if len(self._aside) < MOST_ASIDE:
            self._aside[name] = verdict
        else:
            self._beyond += 1

    def told(self) -> dict[str, Any]:
        """How it goes."""
        with suppress(CommandError):  # a tracker that is away: what was known last
            _ = self.watched
        missing = {name: verdict for name, verdict in sorted(self._aside.items()) if verdict not in OPEN}
        return {
            "flow": self._road.lane.flow,
            "run": self._run,
            "sent": self._sent,
            "delivered": self._settled["delivered"],
            "late": self._settled["late"],
            "in_flight": len(self._open),
            "not_known": len(self._aside) - len(missing),
            "missing": missing,
            "missing_beyond": self._beyond,
            "came_back": self._back,
            "not_sent": dict(self._road.refused),
            "latency_p50_s": share(self._latencies, 0.5),
            "latency_p99_s": share(self._latencies, 0.99),
            "unwatched": self._unwatched,
            "consumers": {hop: one.error or "consuming" for hop, one in self._road.consumers.items()},
        }


def _before(name: str) -> str:
    """The id before this one."""
    return f"{name[:-8]}{int(name[-8:]) - 1:08d}" if int(name[-8:]) else name[:-8]


def run(
    flow: str, rate: str, lasting: str, consume: list[str], to: str, hops: Path | None, spool: Path | None,
    every: str, as_json: bool,
) -> None:  # fmt: skip
    """As the command. Raises CommandError, and typer.Exit with 1."""
    import typer

    a_second, pause = rate_of(rate), seconds("--every", every)
    until = seconds("--for", lasting) if lasting else float("inf")
    service = api()
    found = lane(service, flow, to)
    name = new_run("canary")
    say = _Said(as_json, found)
    with _stoppable() as stop, Road(
        found, "canary", hops_file(hops), consume, spool or Path("var") / "canary" / flow
    ) as road:  # fmt: skip
        canaries = Canaries(road, Ledger(service, found.spec, name), name)
        _begin(canaries, stop)
        _flow(canaries, 1 / a_second, until, pause, stop, say)
        say(canaries, f"no more are sent; {canaries.open} are still on their way" if canaries.open else "")
        _drain(canaries, stop, found, say)
        say(canaries, "", ended=True)
    if not canaries.good:
        raise typer.Exit(FINDINGS)


def _begin(canaries: Canaries, stop: threading.Event) -> None:
    """Wait for those who watch; then for one canary, which shows whether they end where they should. Raises
    CommandError."""
    until = time.monotonic() + READY_S
    while not canaries.watched and not stop.is_set() and time.monotonic() < until:
        stop.wait(LOOK_S)
    canaries.send()
    until = time.monotonic() + FIRST_S
    while canaries.open and not stop.is_set() and time.monotonic() < until:
        canaries.look()
        stop.wait(LOOK_S / 4)
    if wrong := canaries.strayed():
        raise CommandError(wrong)


def _flow(canaries: Canaries, step: float, until: float, pause: float, stop: threading.Event, say: _Said) -> None:
    began = time.monotonic()
    send, look, tell = began, began + LOOK_S, began + pause
    while not stop.is_set() and (now := time.monotonic()) < began + until:
        if now >= send:
            canaries.send()
            send = max(send + step, now)  # what a slow broker held up is not made up for
        if now >= look:
            _looked(canaries, say)
            look = time.monotonic() + LOOK_S
        if now >= tell:
            say(canaries, "")
            tell += pause
        stop.wait(max(0.0, min(send, look, tell, began + until) - time.monotonic()))


def _drain(canaries: Canaries, stop: threading.Event, lane: Lane, say: _Said) -> None:
    """Until all are settled; a second signal ends it."""
    stop.clear()
    until = time.monotonic() + lane.longest + PATIENCE_S
    while canaries.open and not stop.is_set() and time.monotonic() < until:
        _looked(canaries, say)
        stop.wait(LOOK_S / 2)


def _looked(canaries: Canaries, say: _Said) -> None:
    """A tracker that is away for a while does not stop the canaries: the emitters keep what they observe."""
    try:
        canaries.look()
    except CommandError as error:
        say.warn(str(error))


class _Said:
    """Lines for people, or one object a line for programs."""

    def __init__(self, as_json: bool, lane: Lane) -> None:
        self._json, self._console = as_json, console()
        if not as_json:
            self._console.print(f"{lane.flow}: canaries go from {lane.producer} to {lane.first}; Ctrl-C stops")

    def __call__(self, canaries: Canaries, more: str, ended: bool = False) -> None:
        got = canaries.told()
        if self._json:
            sys.stdout.write(json.dumps(got | {"ended": ended}) + "\n")
            sys.stdout.flush()
            return
        self._console.print(_line(got) + (f"; {more}" if more else ""), markup=False)
        for name, verdict in list(got["missing"].items())[:20]:
            self._console.print(f"  missing: {name} ({verdict})", markup=False)
        for why, count in got["not_sent"].items():
            self._console.print(f"  not sent: {count}, {why}", markup=False)
        for hop, how in got["consumers"].items():
            if how != "consuming":
                self._console.print(f"  consumer {hop}: {how}", markup=False)

    def warn(self, text: str) -> None:
        """Something that passes."""
        sys.stderr.write(f"tracker: {text}\n")


def _line(got: dict[str, Any]) -> str:
    spread = "" if got["latency_p50_s"] is None else (
        f", end to end p50 {got['latency_p50_s']:.3f} s, p99 {got['latency_p99_s']:.3f} s")  # fmt: skip
    watched = f"; nobody vouches for {', '.join(got['unwatched'])}" if got["unwatched"] else "; all watched"
    kinds = [name for name in ("delivered", "late", "in_flight", "not_known") if got[name] or name == "delivered"]
    counts = ", ".join(f"{got[name]} {name.replace('_', ' ')}" for name in kinds)
    return f"{time.strftime('%H:%M:%S')} {got['sent']} sent, {counts}, {len(got['missing'])} missing{spread}{watched}"


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """Set by SIGINT and SIGTERM."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
