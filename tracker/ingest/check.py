"""What makes a line an event or a range, as expressions over columns; each broken rule names its field and says why.

`frame` is what `decode` gave; every column is text. A line is judged by the first rule it breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import polars as pl

from tracker.ingest.fields import ATTRIBUTES, INTEGERS, NAMES, TEXTS, TIMES
from tracker.ingest.times import EARLIEST, LATEST, micros
from tracker.model.event import DROP_REASONS, Stage
from tracker.model.spec import NAME

STAGES = [str(stage) for stage in Stage]
_NAME = f"^(?:{NAME.pattern})$"
_SHOWN = 60

PROBLEM = {"line": pl.UInt32, "field": pl.String, "reason": pl.String, "flow": pl.String}
"""What is told of a bad line."""


Reason = Callable[[], pl.Expr]
"""Made only when something is wrong: most batches are clean, and making expressions costs more than a few rows."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`bad` is true where the rule is broken; null counts as not broken."""

    field: str
    bad: pl.Expr
    reason: Reason


def present(frame: pl.DataFrame) -> frozenset[str]:
    """The fields that any line has; the others need no look."""
    return frozenset(name for name in frame.columns if frame[name].null_count() < frame.height)


def typed(frame: pl.DataFrame, correction: int = 0) -> pl.DataFrame:
    """The same rows with times and whole numbers beside their text: `observed_at_` (µs), `offset_`; null where the
    text is none. `is_range` tells ranges from events. `correction` (µs) is added to observed times, never to the origin
    time: another clock may have stamped that, and everybody who carries it has to say the same."""
    given = present(frame)
    absent = pl.lit(None, pl.Int64)
    return frame.with_columns(
        *((_corrected(name, correction) if name in given else absent).alias(f"{name}_") for name in TIMES),
        *((pl.col(n).cast(pl.Int64, strict=False) if n in given else absent).alias(f"{n}_") for n in INTEGERS),
        is_range=(pl.col("evidence") == "range").fill_null(False) if "evidence" in given else pl.lit(False),
    )


def _corrected(name: str, correction: int) -> pl.Expr:
    return micros(name) + correction if correction and name != "origin_at" else micros(name)


def rules(frame: pl.DataFrame, known_flows: Collection[str], now: int) -> list[Rule]:
    """The rules that `frame` may break, in the order in which they are told. `now` is the tracker's clock, µs."""
    given = present(frame)
    required = [
        *(_name(field) for field in NAMES),
        _one_of("stage", STAGES, required=True),
        _missing("message_id", ~pl.col("is_range")),
        _missing("observed_at", pl.lit(True)),
        _reasoned(),
    ]
    optional = [rule for rule in _optional(given, now) if rule.field in given]
    ranged = [_missing(f, pl.col("is_range")) for f in ("log", "partition", "offset", "offset_to", "observed_from")]
    unknown = Rule("flow", ~pl.col("flow").is_in(sorted(known_flows)), _unknown_flow)
    return [*required, *(ranged if "evidence" in given else []), *optional, unknown]


def _optional(given: Collection[str], now: int) -> Iterator[Rule]:
    yield _one_of("evidence", ["message", "range"], required=False)
    yield from (_time(field, now) for field in TIMES if field in given)
    yield Rule("observed_from", pl.col("observed_from_") > pl.col("observed_at_"), _must("not lie after observed_at"))
    yield from (_whole(field, most) for field, most in INTEGERS.items() if field in given)
    after = pl.col("is_range") & (pl.col("offset_to_") <= pl.col("offset_"))
    yield Rule("offset_to", after, _must("lie after offset"))
    yield from (_bounded(field, most) for field, most in TEXTS.items() if field in given)
    odd = _is("drop") & ~pl.col("reason").is_in(sorted(DROP_REASONS))
    yield Rule("reason", odd, lambda: _choice("reason", DROP_REASONS))
    digits = ~pl.col("digest").str.contains("^[0-9a-fA-F]{16}$")
    yield Rule("digest", _given("digest") & digits, _must("be xxh3-64 of the payload as 16 hex digits"))
    no_object = ~pl.col("attributes").str.starts_with("{")
    yield Rule("attributes", _given("attributes") & no_object, _must("be an object of texts"))
    size = pl.col("attributes").str.len_bytes()
    yield Rule("attributes", size > ATTRIBUTES, _must(f"have at most {ATTRIBUTES} bytes"))
    yield _one_of("backfill", ["true", "false"], required=False)


def problems(frame: pl.DataFrame, checks: list[Rule]) -> pl.DataFrame:
    """`line`, `field`, `reason` and `flow` of every bad line, in order; empty when all are good. `frame` is `typed`."""
    flags = frame.select([check.bad.fill_null(False).alias(str(i)) for i, check in enumerate(checks)])
    broken = [i for i, flag in enumerate(flags) if flag.any()]
    if not broken:
        return pl.DataFrame(schema=PROBLEM)
    field, reason = pl.lit(""), pl.lit("")
    for i in reversed(broken):
        field = pl.when(flags[str(i)]).then(pl.lit(checks[i].field)).otherwise(field)
        reason = pl.when(flags[str(i)]).then(checks[i].reason()).otherwise(reason)
    bad = flags.select(pl.any_horizontal(pl.all())).to_series()
    told = frame.select("line", field.alias("field"), reason.alias("reason"), "flow")
    return told.filter(bad)


def _given(field: str) -> pl.Expr:
    return pl.col(field).is_not_null() & (pl.col(field) != "")


def _is(stage: str) -> pl.Expr:
    return pl.col("stage") == stage


def _shown(field: str) -> pl.Expr:
    """The value as a reason quotes it: short, in one line."""
    return pl.col(field).fill_null("").str.slice(0, _SHOWN).str.replace_all(r"[\x00-\x1f]", "?")


def _must(rule: str) -> Reason:
    return lambda: pl.lit(f"must {rule}")


def _choice(field: str, words: Collection[str]) -> pl.Expr:
    return pl.format("'{}' is not known; one of " + ", ".join(sorted(words)), _shown(field))


def _absent() -> pl.Expr:
    return pl.lit("is required and missing")


def _missing(field: str, where: pl.Expr) -> Rule:
    return Rule(field, where & ~_given(field), _absent)


def _name(field: str) -> Rule:
    told = "'{}' is no name; use letters, digits, '.', '_' and '-' (at most 100)"
    bad = ~_given(field) | ~pl.col(field).str.contains(_NAME)
    return Rule(field, bad, lambda: pl.when(_given(field)).then(pl.format(told, _shown(field))).otherwise(_absent()))


def _one_of(field: str, words: list[str], required: bool) -> Rule:
    unknown = _given(field) & ~pl.col(field).is_in(words)
    bad = (unknown | ~_given(field)) if required else unknown
    return Rule(field, bad, lambda: pl.when(_given(field)).then(_choice(field, words)).otherwise(_absent()))


def _time(field: str, now: int) -> Rule:
    value = pl.col(f"{field}_")

    def reason() -> pl.Expr:
        shown = _shown(field)
        moment = pl.from_epoch(value, time_unit="us").dt.to_string("%Y-%m-%dT%H:%M:%SZ")
        unread = pl.format("'{}' is no time; write RFC 3339 with a zone, or epoch s, ms, µs or ns", shown)
        early = pl.format("'{}' reads as {}, before 2000: is the unit right, is the clock set?", shown, moment)
        late = pl.format("'{}' reads as {}, more than a day ahead of the tracker's clock", shown, moment)
        return pl.when(value.is_null()).then(unread).when(value < EARLIEST).then(early).otherwise(late)

    return Rule(field, _given(field) & (value.is_null() | (value < EARLIEST) | (value > now + LATEST)), reason)


def _whole(field: str, most: int) -> Rule:
    value = pl.col(f"{field}_")
    bad = _given(field) & (value.is_null() | (value < 0) | (value > most))
    return Rule(field, bad, lambda: pl.format("'{}' must be a whole number from 0 to " + str(most), _shown(field)))


def _bounded(field: str, most: int) -> Rule:
    size = pl.col(field).str.len_bytes()
    bad = (size > most) | pl.col(field).str.contains("\x00", literal=True)
    long = "has {} bytes, at most " + str(most) + " are kept"
    half = "holds a NUL or half of a surrogate pair, which no store keeps"
    return Rule(field, bad, lambda: pl.when(size > most).then(pl.format(long, size)).otherwise(pl.lit(half)))


def _reasoned() -> Rule:
    needs = (_is("drop") | _is("dead_letter")) & ~_given("reason")
    return Rule("reason", needs, lambda: pl.format("is required with stage {}", pl.col("stage")))


def _unknown_flow() -> pl.Expr:
    told = "no flow {} is known: tracker flows put {}.yaml, then send these events again (they are kept in quarantine)"
    return pl.format(told, pl.col("flow"), pl.col("flow"))
