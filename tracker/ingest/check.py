"""What makes a line an event or a range, as expressions over columns; each broken rule names its field and says why.

A column is text or typed (`tracker.ingest.decoded`); a rule about text that has few different values looks at these
alone. A line is judged by the first rule it breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import polars as pl

from tracker.ingest.asked import DIGEST, PROBLEM, SIZE, asked_by
from tracker.ingest.decoded import Words, text
from tracker.ingest.fields import ATTRIBUTES, INTEGERS, NAMES, TEXTS, TIMES
from tracker.ingest.times import EARLIEST, LATEST, micros
from tracker.model.event import DROP_REASONS, Stage
from tracker.model.spec import NAME

STAGES = [str(stage) for stage in Stage]
_NAME = f"^(?:{NAME.pattern})$"
_SHOWN = 60
_NO_DIGEST = "0" * 16
"""As the store keeps it when there is none."""

Reason = Callable[[], pl.Expr]
"""Made only when something is wrong: most batches are clean, and making expressions costs more than a few rows."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`bad` is true where the rule is broken; null counts as not broken."""

    field: str
    bad: pl.Expr
    reason: Reason
    roots: frozenset[str] = frozenset()
    """The columns that `bad` looks at."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A rule about a time, which depends on the tracker's clock."""

    field: str
    said: pl.Expr

    def at(self, now: int) -> Rule:
        """The rule at this time, µs."""
        return _time(self.field, self.said, now)


def present(frame: pl.DataFrame) -> frozenset[str]:
    """The fields that any line has; the others need no look."""
    return frozenset(name for name in frame.columns if frame[name].null_count() < frame.height)


def typed(frame: pl.DataFrame, correction: int = 0) -> pl.DataFrame:
    """The same rows with times and whole numbers beside what was sent: `observed_at_` (µs), `offset_`; null where a
    text is none. `is_range` tells ranges from events. `correction` (µs) is added to observed times, never to the origin
    time: another clock may have stamped that, and everybody who carries it has to say the same."""
    given = present(frame)
    return frame.with_columns(
        *(_moment(frame, name, correction).alias(f"{name}_") for name in TIMES if name in given),
        *(pl.col(n).cast(pl.Int64, strict=False).alias(f"{n}_") for n in INTEGERS if n in given),
        is_range=(pl.col("evidence") == "range").fill_null(False) if "evidence" in given else pl.lit(False),
    )


def _moment(frame: pl.DataFrame, name: str, correction: int) -> pl.Expr:
    moment = micros(name) if frame.schema[name] == pl.String else pl.col(name).cast(pl.Int64, strict=False)
    return moment + correction if correction and name != "origin_at" else moment


class Given:
    """The fields that a frame has, and as what; makes the rules about them."""

    def __init__(self, kinds: Mapping[str, pl.DataType]) -> None:
        self.kinds = kinds

    def __contains__(self, field: str) -> bool:
        return field in self.kinds

    def said(self, field: str) -> pl.Expr:
        """This line has it."""
        if field not in self.kinds:
            return pl.lit(False)
        there = pl.col(field).is_not_null()
        return there & (pl.col(field) != "") if self.kinds[field] == pl.String else there


def rules(frame: pl.DataFrame, words: Words, known_flows: Collection[str], now: int) -> list[Rule]:
    """The rules that `frame` (`typed`, and marked with what is asked) may break, in the order in which they are told.
    `now` is the tracker's clock, µs."""
    schema = frame.schema
    kinds = frozenset((name, pl.String() if name in words else schema[name]) for name in present(frame))
    made = _rules(kinds, frozenset(known_flows), DIGEST in schema, SIZE in schema)
    return [rule if isinstance(rule, Rule) else rule.at(now) for rule in made]


@lru_cache(maxsize=64)
def _rules(
    kinds: frozenset[tuple[str, pl.DataType]], known_flows: frozenset[str], digest: bool, size: bool
) -> Sequence[Rule | Moment]:
    """Kept, because bodies of one sender have the same columns, and making them costs as much as a thousand rows."""
    given = Given(dict(kinds))
    required: list[Rule | Moment] = [
        *(_name(given, field) for field in NAMES),
        _one_of(given, "stage", STAGES, required=True),
        _missing(given, "message_id", ~pl.col("is_range")),
        _missing(given, "observed_at", pl.lit(True)),
        _reasoned(given),
    ]
    optional = [rule for field, make in _OPTIONAL if field in given for rule in make(given, field)]
    whole = ("log", "partition", "offset", "offset_to", "observed_from")
    ranged = [_missing(given, f, pl.col("is_range")) for f in whole] if "evidence" in given else []
    unknown = Rule("flow", ~pl.col("flow").is_in(sorted(known_flows)), _unknown_flow)
    schema = [*(_with_digest(given) if digest else ()), *(_not_larger(given) if size else ())]
    every = [*required, *ranged, *optional, *([unknown] if "flow" in given else []), *schema]
    return [replace(rule, roots=frozenset(rule.bad.meta.root_names())) if isinstance(rule, Rule) else rule
            for rule in every]  # fmt: skip


def problems(frame: pl.DataFrame, words: Words, checks: list[Rule]) -> pl.DataFrame:
    """`line`, `field`, `reason` and `flow` of every bad line, in order; empty when all are good. `frame` is `typed`."""
    broken = _broken(frame, words, checks)
    if not broken:
        return pl.DataFrame(schema=PROBLEM)
    told = text(frame, words)
    flags = told.select("line", *(check.bad.fill_null(False).alias(str(i)) for i, check in enumerate(broken)))
    bad = flags.select(pl.any_horizontal(pl.exclude("line"))).to_series()
    told, flags = told.filter(bad), flags.filter(bad)
    field, reason = pl.lit(""), pl.lit("")
    for i, check in reversed([*enumerate(broken)]):
        field = pl.when(flags[str(i)]).then(pl.lit(check.field)).otherwise(field)
        reason = pl.when(flags[str(i)]).then(check.reason()).otherwise(reason)
    flow = pl.col("flow") if "flow" in frame.columns else pl.lit(None, pl.String)
    return told.select("line", field.alias("field"), reason.alias("reason"), flow.alias("flow"))


def _broken(frame: pl.DataFrame, words: Words, checks: list[Rule]) -> list[Rule]:
    """Those of the rules that some line breaks."""
    if not frame.height:
        return []
    roots = [check.roots or frozenset(check.bad.meta.root_names()) for check in checks]
    few = [i for i, names in enumerate(roots) if len(names) == 1 and names <= words.keys()]
    many = [i for i in range(len(checks)) if i not in few]
    values = _values(frame, words, {name for i in few for name in roots[i]})
    told = text(frame, words, {name for i in many for name in roots[i]})
    found: dict[str, bool] = {}
    for asked, rows in ((few, values), (many, told)):
        flags = rows.select(checks[i].bad.fill_null(False).any().alias(str(i)) for i in asked)
        found |= flags.row(0, named=True) if asked else {}
    return [check for i, check in enumerate(checks) if found[str(i)]]


def _values(frame: pl.DataFrame, words: Words, names: Iterable[str]) -> pl.DataFrame:
    """The words of each column, and null where some row has none; the shorter columns repeat a word."""
    nothing = pl.Series([None], dtype=pl.String)
    made = {n: words[n].clone().append(nothing) if frame[n].null_count() else words[n] for n in names}
    longest = max(map(len, made.values()), default=0)
    padded = {n: each.clone().append(each.new_from_index(0, longest - len(each))) for n, each in made.items()}
    return pl.DataFrame(padded)


def _is(stage: str) -> pl.Expr:
    return pl.col("stage") == stage


def _shown(field: str) -> pl.Expr:
    """The value as a reason quotes it: short, in one line."""
    return (
        pl.col(field)
        .cast(pl.String, strict=False)
        .fill_null("")
        .str.slice(0, _SHOWN)
        .str.replace_all(r"[\x00-\x1f]", "?")
    )


def _must(rule: str) -> Reason:
    return lambda: pl.lit(f"must {rule}")


def _choice(field: str, words: Collection[str]) -> pl.Expr:
    return pl.format("'{}' is not known; one of " + ", ".join(sorted(words)), _shown(field))


def _absent() -> pl.Expr:
    return pl.lit("is required and missing")


def _missing(given: Given, field: str, where: pl.Expr) -> Rule:
    return Rule(field, where & ~given.said(field), _absent)


def _name(given: Given, field: str) -> Rule:
    told = "'{}' is no name; use letters, digits, '.', '_' and '-' (at most 100)"
    if field not in given:
        return Rule(field, pl.lit(True), _absent)
    said = given.said(field)
    bad = ~said | ~pl.col(field).str.contains(_NAME)
    return Rule(field, bad, lambda: pl.when(said).then(pl.format(told, _shown(field))).otherwise(_absent()))


def _one_of(given: Given, field: str, words: list[str], required: bool) -> Rule:
    if field not in given:
        return Rule(field, pl.lit(required), _absent)
    said = given.said(field)
    unknown = said & ~pl.col(field).is_in(words)
    bad = (unknown | ~said) if required else unknown
    return Rule(field, bad, lambda: pl.when(said).then(_choice(field, words)).otherwise(_absent()))


def _evidence(given: Given, field: str) -> Iterator[Rule]:
    yield _one_of(given, field, ["message", "range"], required=False)


def _moments(given: Given, field: str) -> Iterator[Moment]:
    yield Moment(field, given.said(field))


def _time(field: str, said: pl.Expr, now: int) -> Rule:
    value = pl.col(f"{field}_")

    def reason() -> pl.Expr:
        shown = _shown(field)
        moment = pl.from_epoch(value, time_unit="us").dt.to_string("%Y-%m-%dT%H:%M:%SZ")
        unread = pl.format("'{}' is no time; write RFC 3339 with a zone, or epoch s, ms, µs or ns", shown)
        early = pl.format("'{}' reads as {}, before 2000: is the unit right, is the clock set?", shown, moment)
        late = pl.format("'{}' reads as {}, more than a day ahead of the tracker's clock", shown, moment)
        return pl.when(value.is_null()).then(unread).when(value < EARLIEST).then(early).otherwise(late)

    bad = value.is_null() | (value < EARLIEST) | (value > now + LATEST)
    return Rule(field, said & bad, reason, frozenset({field, f"{field}_"}))


def _from(given: Given, field: str) -> Iterator[Rule]:
    if "observed_at" in given:
        after = pl.col("observed_from_") > pl.col("observed_at_")
        yield Rule(field, after, _must("not lie after observed_at"))


def _whole(given: Given, field: str) -> Iterator[Rule]:
    value, most = pl.col(f"{field}_"), INTEGERS[field]
    bad = given.said(field) & (value.is_null() | (value < 0) | (value > most))
    yield Rule(field, bad, lambda: pl.format("'{}' must be a whole number from 0 to " + str(most), _shown(field)))


def _end(given: Given, field: str) -> Iterator[Rule]:
    if "offset" in given:
        after = pl.col("is_range") & (pl.col("offset_to_") <= pl.col("offset_"))
        yield Rule(field, after, _must("lie after offset"))


def _bounded(given: Given, field: str) -> Iterator[Rule]:
    size, most = pl.col(field).str.len_bytes(), TEXTS[field]
    bad = (size > most) | pl.col(field).str.contains("\x00", literal=True)
    long = "has {} bytes, at most " + str(most) + " are kept"
    half = "holds a NUL or half of a surrogate pair, which no store keeps"
    yield Rule(field, bad, lambda: pl.when(size > most).then(pl.format(long, size)).otherwise(pl.lit(half)))


def _dropped(given: Given, field: str) -> Iterator[Rule]:
    if "stage" in given:
        moved = pl.col("is_range") & given.said(field) & ~_is("drop")
        yield Rule(field, moved, _must("be left out of a range, but with stage drop"))
        odd = _is("drop") & ~pl.col("reason").is_in(sorted(DROP_REASONS))
        yield Rule(field, odd, lambda: _choice("reason", DROP_REASONS))


def _digest(given: Given, field: str) -> Iterator[Rule]:
    if given.kinds[field] == pl.String:
        digits = ~pl.col("digest").str.contains("^[0-9a-fA-F]{16}$")
        yield Rule(field, given.said(field) & digits, _must("be xxh3-64 of the payload as 16 hex digits"))


def _attributes(given: Given, field: str) -> Iterator[Rule]:
    if given.kinds[field] == pl.String:
        no_object = ~pl.col("attributes").str.starts_with("{")
        yield Rule(field, given.said(field) & no_object, _must("be an object of texts"))
        size = pl.col("attributes").str.len_bytes()
    else:
        each = pl.element().struct.field("key").str.len_bytes() + pl.element().struct.field("value").str.len_bytes()
        size = pl.col("attributes").list.eval(each).list.sum()
    yield Rule(field, size > ATTRIBUTES, _must(f"have at most {ATTRIBUTES} bytes"))


def _backfill(given: Given, field: str) -> Iterator[Rule]:
    if given.kinds[field] == pl.String:
        yield _one_of(given, field, ["true", "false"], required=False)


_OPTIONAL: list[tuple[str, Callable[[Given, str], Iterator[Rule | Moment]]]] = [
    ("evidence", _evidence),
    *((field, _moments) for field in TIMES),
    ("observed_from", _from),
    *((field, _whole) for field in INTEGERS),
    ("offset_to", _end),
    *((field, _bounded) for field in TEXTS),
    ("reason", _dropped),
    ("digest", _digest),
    ("attributes", _attributes),
    ("backfill", _backfill),
]
"""What is asked of a field where there is any, in the order in which it is told."""


def _reasoned(given: Given) -> Rule:
    if "stage" not in given:
        return Rule("reason", pl.lit(False), _absent)
    needs = (_is("drop") | _is("dead_letter")) & ~given.said("reason")
    return Rule("reason", needs, lambda: pl.format("is required with stage {}", pl.col("stage")))


def _with_digest(given: Given) -> Iterator[Rule]:
    none = pl.lit(True)
    if "digest" in given:
        nothing = _NO_DIGEST if given.kinds["digest"] == pl.String else 0
        none = ~given.said("digest") | (pl.col("digest") == nothing)
    told = pl.lit("xxh3-64 of the payload must be there")
    yield Rule("digest", pl.col(DIGEST) & none, lambda: asked_by(told))


def _not_larger(given: Given) -> Iterator[Rule]:
    if "size" in given:
        told = pl.format("{} bytes are too many, at most {} are allowed", pl.col("size_"), pl.col(SIZE))
        yield Rule("size", pl.col("size_") > pl.col(SIZE), lambda: asked_by(told))


def _unknown_flow() -> pl.Expr:
    told = "no flow {} is known: tracker flows put {}.yaml, then send these events again (they are kept in quarantine)"
    return pl.format(told, pl.col("flow"), pl.col("flow"))
