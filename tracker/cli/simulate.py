"""`tracker simulate`: scenarios against the service itself, in this process and by a clock of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tracker.cli import logs
from tracker.cli.answers import Json, emit
from tracker.cli.errors import FINDINGS, CommandError, server_side

if TYPE_CHECKING:
    from tracker.simulate.score import Score

AT_LEAST = 50
"""Over a folder of scenarios, true cases of every verdict and flag."""


def simulate(
    scenario: Annotated[Path, typer.Option(help="a scenario, or a folder of them (.yaml)")],
    seed: Annotated[int, typer.Option(help="another seed is another world of the same kind")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="so many seeds, one after another")] = 1,
    keep: Annotated[Path | None, typer.Option(help="leave each world's ledger in this folder, as NAME-SEED")] = None,
    at_least: Annotated[
        int, typer.Option(min=0, help="of a folder: true cases that every verdict and flag must have")
    ] = AT_LEAST,
    most: Annotated[int, typer.Option(help="leave out scenarios with more messages than this")] = 2_000_000,
    markdown: Annotated[Path | None, typer.Option(help="write the table of all scenarios to this page")] = None,
    url: Annotated[
        str, typer.Option(help="a running service instead of one in this process: in real time, with TRACKER_TOKEN")
    ] = "",
    as_json: Json = False,
) -> None:
    """Run a made-up world against the service in this process, and hold what it finds to the truth.

    Exit code 1 when a verdict or flag is wrong, a missing message was not found, or the books did not balance.
    """
    # The whole service: other commands do without it, and start the faster.
    from tracker.cli.accuracy import page, rare_cases, table
    from tracker.cli.trial import run_here, run_there
    from tracker.simulate.scenario import load

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
                scores.append(run_there(one, n, url) if url else run_here(one, n, keep))
                console.print(_line(scores[-1]))
    rare = rare_cases(scores, at_least) if scenario.is_dir() else {}
    if markdown:
        markdown.write_text(page(every, scores), encoding="utf-8")
    total = {
        "scenarios": [score.shown() for score in scores],
        "rare": rare,
        "perfect": all(score.perfect for score in scores) and not rare,
    }
    emit(as_json, total, table(scores, rare))
    if not total["perfect"]:
        raise typer.Exit(FINDINGS)


def _line(score: Score) -> str:
    word = "[green]right[/]" if score.perfect else "[red]WRONG[/]"
    return f"{word} {score.scenario} (seed {score.seed}): {score.messages} messages in {score.seconds} s"
