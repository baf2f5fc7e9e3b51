"""What simulations found, for people: a table on the terminal, and the published page."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from tracker.api.markdown import Safe, render
from tracker.simulate.scenario import Scenario
from tracker.simulate.score import Score, Tally, quantiles
from tracker.simulate.truth import FLAGS, VERDICTS

FINDINGS = "findings"


def sums(scores: Sequence[Score]) -> dict[str, Tally]:
    """Over all scenarios, by verdict and flag, and last of all open findings."""
    total = {name: Tally() for name in (*VERDICTS, *FLAGS, FINDINGS)}
    for score in scores:
        for name, tally in (*score.tallies.items(), (FINDINGS, score.findings)):
            total[name] += tally
    return total


def rare_cases(scores: Sequence[Score], at_least: int) -> dict[str, int]:
    """Verdicts and flags of which there are fewer true cases than that: nothing is proved of them."""
    return {name: tally.truth for name, tally in sums(scores).items() if tally.truth < at_least}


def table(scores: Sequence[Score], rare: dict[str, int]) -> Table:
    """Precision and recall of everything that occurred, and the first of what was wrong."""
    made = Table("", "true", "found", "precision", "recall", title="what was true, and what was found")
    for name, tally in sums(scores).items():
        if tally != Tally():
            made.add_row(name, str(tally.truth), str(tally.found), f"{tally.precision:.4f}", f"{tally.recall:.4f}")
    balanced = all(score.conserved for score in scores)
    looked = sum(score.observations for score in scores)
    said = [f"books balanced at all of {looked} observations" if balanced else "THE BOOKS DID NOT BALANCE"]
    delays = quantiles([delay for score in scores for delay in score.delays])
    if delays:
        said.append(f"found {delays['p50']} s (p50), {delays['p99']} s (p99), {delays['max']} s (max) "
                    "after it could be known")  # fmt: skip
    said += [f"{s.scenario} (seed {s.seed}): {one['message_id']} is {one['true']}, was found {one['found']}"
             for s in scores for one in s.wrong[:5]]  # fmt: skip
    said += [f"{s.scenario} (seed {s.seed}): {s.withdrawn} findings were withdrawn, and no collector had lied"
             for s in scores if s.withdrawn and not s.lied_to]  # fmt: skip
    said += [f"too few true cases of {name}: {count}" for name, count in rare.items()]
    made.caption = "\n".join(said)
    return made


def page(scenarios: Sequence[Scenario], scores: Sequence[Score]) -> str:
    """The published page, as Markdown: what was simulated, and how right the verdicts were."""
    about = {one.name: Safe(" ".join(one.about.split())) for one in scenarios}
    total = [(name, t, _ratio(t.precision), _ratio(t.recall)) for name, t in sums(scores).items()]
    return render(
        "accuracy.md",
        {"seed": scores[0].seed, "sums": total, "every": [_row(about[s.scenario], s) for s in scores]},
    )


def _row(about: Safe, score: Score) -> dict[str, object]:
    every, delays = sum(score.tallies.values(), score.findings), quantiles(score.delays)
    return {
        "name": Safe(score.scenario),
        "about": about,
        "seed": score.seed,
        "messages": Safe(f"{score.messages:,}"),
        "precision": _ratio(every.precision),
        "recall": _ratio(every.recall),
        "blind": Safe(f"{100 * score.blind_share:.1f} %"),
        "books": score.observations if score.conserved else Safe("NO"),
        "after": Safe(", ".join(map(str, delays.values())) if delays else "-"),
        "withdrawn": score.withdrawn,
    }


def _ratio(value: float) -> Safe:
    return Safe(f"{value:.4f}")
