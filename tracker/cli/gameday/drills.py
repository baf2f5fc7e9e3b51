"""`tracker drill`: what is expected is said first, then it is done, then it is told."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracker.cli.answers import console
from tracker.cli.client import api
from tracker.cli.errors import FINDINGS, CommandError
from tracker.cli.files import write
from tracker.cli.gameday.drilling import Drill
from tracker.cli.gameday.ledger import Ledger, hops_file, lane, new_run, rate_of, seconds
from tracker.cli.gameday.road import Road
from tracker.gameday.faults import Expected, Fault, expected
from tracker.gameday.lane import Lane
from tracker.gameday.page import page
from tracker.model.errors import Invalid


def run(
    flow: str, fault: str, messages: int, rate: str, consume: list[str], at: str, to: str, within: str, longest: str,
    hops: Path | None, spool: Path | None, where: Path | None, dry_run: bool, yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """As the command. Raises CommandError, and typer.Exit with 1."""
    import typer

    a_second, found_within, limit = rate_of(rate), seconds("--within", within), seconds("--longest", longest)
    service = api()
    found = lane(service, flow, to)
    file = hops_file(hops)
    wanted = _expected(found, fault, consume, found_within, at)
    plan = _plan(found, wanted, messages, a_second, limit)
    if as_json and dry_run:
        sys.stdout.write(json.dumps(plan, indent=2) + "\n")
    if not as_json:
        console().print(_said(plan), markup=False)
    if dry_run:
        return
    if not yes:
        if not sys.stdin.isatty():
            raise CommandError("a drill makes a fault: look at it with --dry-run, and say --yes")
        typer.confirm("Go on?", abort=True, err=True)
    run = new_run("drill")
    also = [wanted.hop] if wanted.fault is Fault.corrupt else []
    with _interruptible(), Road(found, "drill", file, consume, spool or Path("var") / "drill" / flow, also) as road:
        drill = Drill(road, Ledger(service, found.spec, run), run, wanted, messages, a_second,
                      time.monotonic() + limit, _say)  # fmt: skip
        told = drill.run()
    if where:
        write(where.with_suffix(".md"), page(told))
        write(where.with_suffix(".json"), json.dumps(told, indent=2) + "\n")
    sys.stdout.write(json.dumps(told, indent=2) + "\n" if as_json else "\n" + page(told))
    if not told["good"]:
        raise typer.Exit(FINDINGS)


def _expected(found: Lane, fault: str, consume: list[str], within: float, at: str) -> Expected:
    try:
        return expected(found, Fault(fault), consume, within, at)
    except ValueError:
        raise CommandError(f"--fault {fault!r}: one of {', '.join(Fault)}") from None
    except Invalid as error:
        raise CommandError(str(error)) from None


def _plan(found: Lane, wanted: Expected, messages: int, rate: float, limit: float) -> dict[str, Any]:
    """What is going to be done. Raises CommandError where it cannot be done in time."""
    about = 3 * (messages // 3) / rate + 2 * found.longest + 15
    if about > limit:
        raise CommandError(f"this takes about {about:.0f} s, and --longest is {limit:.0f} s")
    return {
        "flow": found.flow,
        "drill": wanted.fault.value,
        "sent_to": found.first,
        "canaries": messages,
        "rate": rate,
        "about_s": round(about),
        "at_most_s": limit,
        "fault": wanted.done,
        "expected": wanted.said,
    }


def _said(plan: dict[str, Any]) -> str:
    lines = [
        f"drill {plan['drill']} in {plan['flow']}: {plan['canaries']} canaries to {plan['sent_to']}, "
        f"{plan['rate']:g} a second, about {plan['about_s']} s",
        f"the fault: {plan['fault']}",
        *(f"expected: {one}" for one in plan["expected"]),
    ]
    return "\n".join(lines)


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM as SIGINT: what is held is let go, and the report says that it was stopped."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
