"""Tries faults in SQL, one after the other, in one process with one engine: names as JSON on standard input, a line of
JSON for each on standard output."""

from __future__ import annotations

import functools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

from tests.mutation import quick
from tests.mutation.tokens import Mutant, mutants
from tests.mutation.tree import ROOT
from tests.world import stories
from tests.world.installation import Installation
from tracker.store import delivered, folding, handful, reach, shape, sql

Check = Callable[[Installation], None]


def main() -> None:
    """Nothing is kept between mutants but the engine."""
    quick.profile()
    reach.FEW = 0  # the engine judges what it can
    names = json.load(sys.stdin)
    every = {m.name: m for file in {name.partition(":")[0] for name in names} for m in mutants(ROOT, file)}
    with tempfile.TemporaryDirectory() as folder:
        world = Installation(Path(folder))
        for check in {c.__name__: c for m in every.values() for c in checks(m.file)}.values():
            check(world)  # passes where nothing is wrong; and leaves something that belongs to nobody
        print("begun", flush=True)
        for name in names:
            by = killer(world, every[name])
            print(json.dumps({"killed": bool(by), "by": by}), flush=True)
        world.close()


def killer(world: Installation, mutant: Mutant) -> str:
    """The first check that fails; empty when none does."""
    with applied(mutant):
        for check in checks(mutant.file):
            try:
                check(world)
            except Exception:  # noqa: BLE001 - whatever goes wrong, it was noticed
                tidy(world)
                return check.__name__
    return ""


def checks(file: str) -> list[Check]:
    """The tests that can notice a fault in this file, the likeliest first."""
    from tests.properties import test_delivered
    from tests.store import test_folding

    def test_what_is_kept(world: Installation) -> None:
        test_folding.test_what_is_kept_of_a_message(world, stories.RICH, stories.rich())
        test_folding.test_what_is_kept_of_a_message(world, stories.SAFE, stories.safe())

    def test_equal_to_the_columns(world: Installation) -> None:
        for text in (stories.RICH, stories.PLAIN.replace("{within}", "10")):
            test_delivered.test_every_oddity(world, text, stories.rich())
        test_delivered.test_equal_to_the_columns(installation=world)

    def test_what_is_kept_of_some(world: Installation) -> None:
        test_folding.test_what_is_kept_of_a_message(world, stories.SAFE, stories.safe())

    few: list[Check] = [_at_once(test) for test in (test_what_is_kept, test_folding.test_who_waits)]
    waits, away, ranges, cut = (_in_portions(test) for test in (
        test_folding.test_who_waits, test_folding.test_who_was_away, test_folding.test_ranges,
        test_what_is_kept_of_some))  # fmt: skip
    over_ranges: list[Check] = [
        test_folding.test_what_is_kept_of_ranges,
        ranges,
        test_folding.test_ranges_over_ranges,
        test_folding.test_ranges_far_apart,
        test_folding.test_places_of_two_logs_are_not_the_same,
        test_folding.test_what_came_later_is_not_in_a_pass,
    ]
    whole: list[Check] = [test_what_is_kept, test_folding.test_on_so_many_nodes]
    first: dict[str, list[Check]] = {
        "delivered.py": [
            test_equal_to_the_columns,
            test_folding.test_very_many_deliveries,
            test_folding.test_versions,
            test_folding.test_folded_before_a_version_asked_for_more,
            test_folding.test_nobody_made_it,
            test_folding.test_found_and_then_delivered,
            test_folding.test_moved_past_in_the_middle,
        ],
        "handful.py": few,
        "fold_new.sql": [test_what_is_kept, waits, cut],
        "range_spans.sql": [test_folding.test_what_ranges_span, *over_ranges],
        "fold_ranges.sql": over_ranges,
        "keep_positions.sql": [test_folding.test_positions_are_kept_of_flows_with_ranges],
        "due.sql": [waits],
        "blind.sql": [waits, *few],
        "unclear.sql": [test_folding.test_who_is_unclear],
        "strays.sql": [test_folding.test_hops_that_a_version_adds],
        "waiting.sql": [away],
        "merging.sql": [*whole, test_folding.test_what_is_kept_of_ranges, ranges],
        "known.sql": [test_what_is_kept, waits],
        "any_known.sql": [test_folding.test_known_to_one_flow_alone, test_what_is_kept, waits],
        "folded.sql": [*whole, test_folding.test_versions, ranges],
        "rest.sql": whole,
        "delivered.sql": [*whole, test_folding.test_versions],
    }
    return first.get(Path(file).name, [test_what_is_kept])


def _in_portions(test: Check) -> Check:
    return _with(folding, "PORTION", 5, test)


def _at_once(test: Check) -> Check:
    return _with(reach, "FEW", 1_000_000, test)


def _with(module: ModuleType, name: str, value: int, test: Check) -> Check:
    @functools.wraps(test)
    def changed(world: Installation) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, value)
            test(world)

    return changed


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """The fault is there meanwhile."""
    if mutant.file.endswith(".sql"):
        asked, original, text = Path(mutant.file).stem, sql.question, mutant.text.partition("\n")[2]
        sql.question = lambda name: text if name == asked else original(name)  # type: ignore[assignment]
        try:
            yield
        finally:
            sql.question = original
        return
    module: ModuleType = {"delivered": delivered, "handful": handful, "shape": shape}[Path(mutant.file).stem]
    other: dict[str, Any] = {"__name__": module.__name__}
    sys.modules["mutated"] = module  # where dataclasses look themselves up
    exec(compile(mutant.text, mutant.file, "exec"), other)
    mine, faulty = dict(_functions(vars(module))), dict(_functions(other))
    before = {name: function.__code__ for name, function in mine.items()}
    for name, function in mine.items():
        function.__code__ = faulty[name].__code__
    try:
        yield
    finally:
        for name, function in mine.items():
            function.__code__ = before[name]


def _functions(names: dict[str, Any]) -> Iterator[tuple[str, FunctionType]]:
    """The functions, methods and properties that a module defines."""
    for name, value in names.items():
        if getattr(value, "__module__", None) != names["__name__"]:
            continue
        if isinstance(value, FunctionType):
            yield name, value
        elif isinstance(value, type):
            for inner, held in vars(value).items():
                found = (
                    held.fget
                    if isinstance(held, property)
                    else held.func
                    if isinstance(held, cached_property)
                    else held
                )
                if isinstance(found, FunctionType) and found.__code__.co_filename.endswith(f"{_stem(names)}.py"):
                    yield f"{name}.{inner}", found


def _stem(names: dict[str, Any]) -> str:
    return str(names["__name__"]).rpartition(".")[2]


def tidy(world: Installation) -> None:
    """Nothing of a test that was cut short goes on."""
    world.restarted()
    for version in world.control.flows.all():
        world.control.flows.delete(version.flow, world.now)
    left = world.control.passes.unfinished()
    if left:
        world.control.passes.finish(left.number, world.now)


if __name__ == "__main__":
    main()
