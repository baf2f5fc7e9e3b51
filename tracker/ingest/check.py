"""What makes a line an event or a range, as expressions over columns; each broken rule names its field and says why.

`frame` is what `decode` gave; every column is text. A line is judged by the first rule it breaks.
"""

from __future__ import annotations

from collections.abc import Collection
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


@dataclass(frozen=True, slots=True)
class Rule:
    """`bad` is true where the rule is broken; null counts as not broken."""

    field: str
    bad: pl.Expr
    reason: pl.Expr


def typed(frame: pl.DataFrame) -> pl.DataFrame:
    """The same rows with times and whole numbers beside their text: `observed_at_` (µs), `offset_`; null where the
    text is none. `is_range` tells ranges from events."""
    return frame.with_columns(
        *(micros(name).alias(f"{name}_") for name in TIMES),
        *(pl.col(name).cast(pl.Int64, strict=False).alias(f"{name}_") for name in INTEGERS),
        is_range=pl.col("evidence").fill_null("message") == "range",
    )


def rules(known_flows: Collection[str], now: int) -> list[Rule]:
    """Every rule, in the order in which they are told. `now` is the tracker's clock, µs."""
    return [
        *(_name(field) for field in NAMES),
        _one_of("stage", STAGES, required=True),
        _one_of("evidence", ["message", "range"], required=False),
        _missing("message_id", ~pl.col("is_range")),
        _missing("observed_at", pl.lit(True)),
        *(_missing(f, pl.col("is_range")) for f in ("log", "partition", "offset", "offset_to", "observed_from")),
        *(_time(field, now) for field in TIMES),
        Rule("observed_from", pl.col("observed_from_") > pl.col("observed_at_"), pl.lit("lies after observed_at")),
        *(_whole(field, most) for field, most in INTEGERS.items()),
        Rule("offset_to", pl.col("is_range") & (pl.col("offset_to_") <= pl.col("offset_")), _must("lie after offset")),
        *(_bounded(field, most) for field, most in TEXTS.items()),
        _reasoned(),
        Rule("reason", _is("drop") & ~pl.col("reason").is_in(sorted(DROP_REASONS)), _choice("reason", DROP_REASONS)),
        Rule("digest", _given("digest") & ~pl.col("digest").str.contains("^[0-9a-fA-F]{16}$"),
             _must("be xxh3-64 of the payload as 16 hex digits")),
        Rule("attributes", _given("attributes") & ~pl.col("attributes").str.starts_with("{"),
             _must("be an object of texts")),
        Rule("attributes", pl.col("attributes").str.len_bytes() > ATTRIBUTES,
             _must(f"have at most {ATTRIBUTES} bytes")),
        _one_of("backfill", ["true", "false"], required=False),
        Rule("flow", ~pl.col("flow").is_in(sorted(known_flows)), _unknown_flow()),
    ]  # fmt: skip


def problems(frame: pl.DataFrame, checks: list[Rule]) -> pl.DataFrame:
    """`line`, `field`, `reason` and `flow` of every bad line, in order; empty when all are good. `frame` is `typed`."""
    flags = frame.select([check.bad.fill_null(False).alias(str(i)) for i, check in enumerate(checks)])
    bad = flags.select(pl.any_horizontal(pl.all())).to_series()
    if not bad.any():
        return pl.DataFrame(schema=PROBLEM)
    field, reason = pl.lit(""), pl.lit("")
    for check in reversed(checks):
        field = pl.when(check.bad.fill_null(False)).then(pl.lit(check.field)).otherwise(field)
        reason = pl.when(check.bad.fill_null(False)).then(check.reason).otherwise(reason)
    return frame.filter(bad).select("line", field.alias("field"), reason.alias("reason"), "flow")


def _given(field: str) -> pl.Expr:
    return pl.col(field).is_not_null() & (pl.col(field) != "")


def _is(stage: str) -> pl.Expr:
    return pl.col("stage") == stage


def _shown(field: str) -> pl.Expr:
    """The value as a reason quotes it: short, in one line."""
    return pl.col(field).fill_null("").str.slice(0, _SHOWN).str.replace_all(r"[\x00-\x1f]", "?")


def _must(rule: str) -> pl.Expr:
    return pl.lit(f"must {rule}")


def _choice(field: str, words: Collection[str]) -> pl.Expr:
    return pl.format("'{}' is not known; one of " + ", ".join(sorted(words)), _shown(field))


def _missing(field: str, where: pl.Expr) -> Rule:
    return Rule(field, where & ~_given(field), pl.lit("is required and missing"))


def _name(field: str) -> Rule:
    told = pl.format("'{}' is no name; use letters, digits, '.', '_' and '-' (at most 100)", _shown(field))
    reason = pl.when(_given(field)).then(told).otherwise(pl.lit("is required and missing"))
    return Rule(field, ~_given(field) | ~pl.col(field).str.contains(_NAME), reason)


def _one_of(field: str, words: list[str], required: bool) -> Rule:
    reason = pl.when(_given(field)).then(_choice(field, words)).otherwise(pl.lit("is required and missing"))
    unknown = _given(field) & ~pl.col(field).is_in(words)
    return Rule(field, (unknown | ~_given(field)) if required else unknown, reason)


def _time(field: str, now: int) -> Rule:
    value = pl.col(f"{field}_")
    unread = pl.format("'{}' is no time; write RFC 3339 with a zone, or epoch s, ms, µs or ns", _shown(field))
    moment = pl.from_epoch(value, time_unit="us").dt.to_string("%Y-%m-%dT%H:%M:%SZ")
    early = pl.format("'{}' reads as {}, before 2000: is the unit right, is the clock set?", _shown(field), moment)
    late = pl.format("'{}' reads as {}, more than a day ahead of the tracker's clock", _shown(field), moment)
    reason = pl.when(value.is_null()).then(unread).when(value < EARLIEST).then(early).otherwise(late)
    return Rule(field, _given(field) & (value.is_null() | (value < EARLIEST) | (value > now + LATEST)), reason)


def _whole(field: str, most: int) -> Rule:
    value = pl.col(f"{field}_")
    bad = _given(field) & (value.is_null() | (value < 0) | (value > most))
    return Rule(field, bad, pl.format("'{}' must be a whole number from 0 to " + str(most), _shown(field)))


def _bounded(field: str, most: int) -> Rule:
    size = pl.col(field).str.len_bytes()
    reason = pl.when(size > most).then(pl.format("has {} bytes, at most " + str(most) + " are kept", size))
    bad = (size > most) | pl.col(field).str.contains("\x00", literal=True)
    return Rule(field, bad, reason.otherwise(pl.lit("holds a NUL or half of a surrogate pair, which no store keeps")))


def _reasoned() -> Rule:
    needs = (_is("drop") | _is("dead_letter")) & ~_given("reason")
    return Rule("reason", needs, pl.format("is required with stage {}", pl.col("stage")))


def _unknown_flow() -> pl.Expr:
    told = "no flow {} is known: tracker flows put {}.yaml, then send these events again (they are kept in quarantine)"
    return pl.format(told, pl.col("flow"), pl.col("flow"))
