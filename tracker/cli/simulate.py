"""`tracker simulate`: scenarios against the service itself, in this process and by a clock of their own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from anyio.from_thread import BlockingPortal, start_blocking_portal
from rich.console import Console
from rich.table import Table

from tracker.api.app import create_app
from tracker.api.service import Limits, Service
from tracker.api.specs import Specs
from tracker.cli import logs
from tracker.cli.answers import Json, emit
from tracker.cli.errors import FINDINGS, CommandError, server_side
from tracker.control import Control
from tracker.ingest.commit import Bounds, Committer
from tracker.ingest.intake import Intake
from tracker.reconcile import Reconciler
from tracker.simulate.run import run
from tracker.simulate.scenario import Scenario, load
from tracker.simulate.score import Score, Tally, quantiles
from tracker.simulate.truth import FLAGS, VERDICTS
from tracker.slo.metrics import Metrics
from tracker.store import Store

BODY = 256 << 20
"""The most that one simulated batch may hold, bytes."""
PAGE = """# How right the verdicts are

Measured, not claimed: a [simulator](simulate.md) makes worlds of which it knows the truth by what it did, lets collectors
report them to the service, and holds every verdict and flag of every message against that truth, by id. This page is
written by

    tracker simulate --scenario tests/scenarios --markdown docs/accuracy.md

`found after` is the time from the moment a missing message could first be known (its deadline has passed, and everybody who
watches the place vouches beyond it) to its finding; it includes the distance between two passes, which is longer here than
the half second of a running service. `books`: at how many moments produced + orphans was the sum over all verdicts.

## All scenarios together
"""
AT_LEAST = 50
"""Over a folder of scenarios, true cases of every verdict and flag."""


class Here:
    """The service in this process, on an embedded ledger, with a clock that is moved."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._now = folder, 0
        self._open = ExitStack()
        self._start()

    def _start(self) -> None:
        with ExitStack() as stack:
            control = stack.enter_context(Control.open(f"sqlite:///{self._folder}/control.db"))
            store = Store.open(f"chdb://{self._folder}/store", durability="process")
            stack.callback(store.close)
            store.migrate()
            committer = Committer(store, Bounds(wait=0))
            stack.callback(committer.close)
            specs = Specs(control)
            service = Service(
                store, control, Intake(committer, specs.plain, salt=7, inflated=BODY), specs, Metrics(),
                lambda: self._now, insecure=True, limits=Limits(body=BODY),
            )  # fmt: skip
            self._reconciler = Reconciler(store, control, lambda: self._now)
            self._portal: BlockingPortal = stack.enter_context(start_blocking_portal())
            transport = httpx.ASGITransport(create_app(service))
            self._http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", timeout=600)
            self._open = stack.pop_all()

    def at(self, now: int) -> None:
        """It is `now` (µs)."""
        self._now = now

    def judge(self) -> None:
        """One pass."""
        self._reconciler.run_pass()

    def restart(self) -> None:
        """All that was only in memory is gone."""
        self.close()
        self._start()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request through the whole application, without a socket."""
        return self._portal.call(partial(self._http.request, method, path, **options))

    def close(self) -> None:
        """Let go of the folder."""
        self._open.close()


@contextmanager
def here(keep: Path | None) -> Iterator[Here]:
    """A service on a new ledger; it is thrown away unless `keep` says where it is to stay."""
    folder = Path(tempfile.mkdtemp(prefix="tracker-simulate-")) if keep is None else keep
    folder.mkdir(parents=True, exist_ok=True)
    service = Here(folder)
    try:
        yield service
    finally:
        service.close()
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def simulate(
    scenario: Annotated[Path, typer.Option(help="a scenario, or a folder of them (.yaml)")],
    seed: Annotated[int, typer.Option(help="another seed is another world of the same kind")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="so many seeds, one after another")] = 1,
    keep: Annotated[Path | None, typer.Option(help="leave the ledger in this folder, to look at")] = None,
    at_least: Annotated[
        int, typer.Option(min=0, help="of a folder: true cases that every verdict and flag must have")
    ] = AT_LEAST,
    most: Annotated[int, typer.Option(help="leave out scenarios with more messages than this")] = 2_000_000,
    markdown: Annotated[Path | None, typer.Option(help="write the table of all scenarios to this page")] = None,
    as_json: Json = False,
) -> None:
    """Run a made-up world against the service in this process, and hold what it finds to the truth.

    Exit code 1 when a verdict or flag is wrong, a missing message was not found, or the books did not balance.
    """
    files = sorted(scenario.glob("*.yaml")) if scenario.is_dir() else [scenario]
    if not files:
        raise CommandError(f"{scenario} holds no scenario (*.yaml)")
    console = Console(stderr=True, highlight=False)
    logs.configure("text", "warning")
    with server_side():
        every = [one for file in files if (one := load(file)).messages <= most]
        scores = []
        for one in every:
            for n in range(seed, seed + seeds):
                scores.append(_run(one, n, keep))
                console.print(_line(scores[-1]))
    rare = rare_cases(scores, at_least) if scenario.is_dir() else {}
    if markdown:
        markdown.write_text(page(every, scores), encoding="utf-8")
    total = {
        "scenarios": [score.shown() for score in scores],
        "rare": rare,
        "perfect": all(score.perfect for score in scores) and not rare,
    }
    emit(as_json, total, _table(scores, rare))
    if not total["perfect"]:
        raise typer.Exit(FINDINGS)


def _run(scenario: Scenario, seed: int, keep: Path | None) -> Score:
    with here(keep) as service:
        return run(service, scenario, seed)


def sums(scores: list[Score]) -> dict[str, Tally]:
    """Over all scenarios, by verdict and flag."""
    total = {name: Tally() for name in (*VERDICTS, *FLAGS)}
    for score in scores:
        for name, tally in score.tallies.items():
            total[name] += tally
    return total


def rare_cases(scores: list[Score], at_least: int) -> dict[str, int]:
    """Verdicts and flags of which there are fewer true cases than that: nothing is proved of them."""
    return {name: tally.truth for name, tally in sums(scores).items() if tally.truth < at_least}


def _line(score: Score) -> str:
    word = "[green]right[/]" if score.perfect else "[red]WRONG[/]"
    return f"{word} {score.scenario} (seed {score.seed}): {score.messages} messages in {score.seconds} s"


def _table(scores: list[Score], rare: dict[str, int]) -> Table:
    table = Table("", "true", "found", "precision", "recall", title="what was true, and what was found")
    for name, tally in sums(scores).items():
        if tally != Tally():
            ratios = (f"{tally.precision:.4f}", f"{tally.recall:.4f}")
            table.add_row(name, str(tally.truth), str(tally.found), *ratios)
    delays = quantiles([delay for score in scores for delay in score.delays])
    said = [f"books balanced at all of {sum(s.observations for s in scores)} observations"
            if all(s.conserved for s in scores) else "THE BOOKS DID NOT BALANCE"]  # fmt: skip
    if delays:
        said.append(
            f"found {delays['p50']} s (p50), {delays['p99']} s (p99), {delays['max']} s (max) after it could be known"
        )
    said += [f"{s.scenario} (seed {s.seed}): {one['message_id']} is {one['true']}, was found {one['found']}"
             for s in scores for one in s.wrong[:5]]  # fmt: skip
    said += [f"too few true cases of {name}: {count}" for name, count in rare.items()]
    table.caption = "\n".join(said)
    return table


def page(scenarios: list[Scenario], scores: list[Score]) -> str:
    """The published table, as Markdown: what was simulated, and how right the verdicts were."""
    rows = [f"| {name} | {t.truth} | {t.found} | {t.precision:.4f} | {t.recall:.4f} |"
            for name, t in sums(scores).items()]  # fmt: skip
    about = {one.name: one.about for one in scenarios}
    lines = [_row(about[s.scenario], s) for s in scores]
    head = "| | true | found | precision | recall |\n|---|---|---|---|---|"
    return (
        f"{PAGE}\n{head}\n" + "\n".join(rows) + "\n\n## By scenario\n\n"
        "| scenario | seed | messages | precision | recall | blind | books | found after, s: p50 / p99 / max | withdrawn |\n"
        "|---|---|---|---|---|---|---|---|---|\n" + "\n".join(lines) + "\n"
    )


def _row(about: str, score: Score) -> str:
    total = sum(score.tallies.values(), Tally())
    delays = quantiles(score.delays)
    after = f"{delays['p50']} / {delays['p99']} / {delays['max']}" if delays else ""
    books = f"{score.observations} of {score.observations}" if score.conserved else "NO"
    return (
        f"| **{score.scenario}**: {about} | {score.seed} | {score.messages:,} | {total.precision:.4f} | {total.recall:.4f} "
        f"| {score.blind_share:.1%} | {books} | {after} | {score.withdrawn} |"
    )
