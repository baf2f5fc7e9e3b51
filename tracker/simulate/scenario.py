"""Scenarios: YAML that says which flow there is, how it is watched, and what goes wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tracker.model.errors import Invalid

UNITS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


def microseconds(value: Any) -> int:
    """`250ms`, `5s`, `2m`, `1h`, `7d`, or a number of seconds, in µs. Raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value * 1_000_000)
    found = re.fullmatch(r"(-?\d+(?:\.\d+)?)(ms|s|m|h|d)", str(value))
    if not found:
        raise ValueError(f"{value!r} is no duration: write 250ms, 5s, 2m, 1h or 7d")
    return int(float(found[1]) * UNITS[found[2]])


Duration = Annotated[int, BeforeValidator(microseconds)]
Share = Annotated[float, Field(gt=0, le=1)]
Kind = Literal[
    "drop", "discard", "dead_letter", "duplicate", "delay", "outage", "loss", "corrupt", "reorder", "reuse", "swallow",
    "lost_copy", "replay", "collector_crash", "collector_silence", "collector_lag", "collector_resend",
    "restart", "clock",
]  # fmt: skip


class Fault(BaseModel):
    """One thing that goes wrong. `place`: `hop` or `hop:stage`; `share`: of the messages that come by from `start` for
    `lasts`; `by`: how much later, or how far off a clock; `reason`: of a drop or dead letter; `drift_ppm`, `measured`:
    of a clock; `node`: of a collector or clock, all of the hop where it is absent; `times`: how often."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    place: str = ""
    share: Share = 1.0
    start: Duration = 0
    lasts: Duration | None = None
    by: Duration = 0
    reason: str = ""
    times: int = Field(1, ge=1, le=20)
    node: int | None = None
    drift_ppm: float = 0.0
    measured: bool = False


class Scenario(BaseModel):
    """A flow (as its spec says), `messages` produced over `over`, in `bursts` if more than one, watched by collectors
    that report every `report_every` and judged by passes every `pass_every`, until everything has settled at `until`.

    `nodes`: processes per hop, each with a collector of its own. `pace`: the least and most time each hop takes.
    `partitions`: of the log that messages are produced into, where order matters.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"[a-z0-9-]{1,60}")
    about: str
    flow: dict[str, Any]
    messages: int = Field(ge=1, le=2_000_000)
    over: Duration
    until: Duration
    report_every: Duration = 2_000_000
    pass_every: Duration = 10_000_000
    bursts: int = Field(1, ge=1, le=100)
    nodes: dict[str, Annotated[int, Field(ge=1, le=50)]] = {}
    pace: dict[str, tuple[Duration, Duration]] = {}
    partitions: int = Field(0, ge=0, le=1000)
    unwatched: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()


def load(path: Path) -> Scenario:
    """Read one file. Raises Invalid naming the file and the field."""
    try:
        return Scenario.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise Invalid(f"there is no scenario {path}; examples are in tests/scenarios") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is no YAML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise Invalid(f"{path}: {where}: {first['msg']}") from None
