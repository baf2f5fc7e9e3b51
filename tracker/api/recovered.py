"""Recovery as OpenAPI describes it: how soon what was missing was found, seen to and back, and what is lost."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tracker.api.shapes import Instant, Shape


class Spans(Shape):
    """Seconds; null where there is none."""

    p50_s: float | None
    p90_s: float | None


class Times(Shape):
    """Findings and incidents opened in a span of time, as they stand now. Caused ones are left out.

    `detect`: from when it could be known to opened. `act`: from an incident's opening to its acknowledgement, or the
    approval of the first replay for it. `recover`: from opened to seen again, of those that recovered. `back`: over
    all, what is open with its age so far, what is parked or abandoned as never (null). `lost`: parked, abandoned, or
    open while no hop holds a copy.
    """

    findings: int
    open: int
    recovered: int
    recovered_by_replay: int
    recovered_by_itself: int
    withdrawn: int
    superseded: int
    parked: int
    abandoned: int
    lost: int
    incidents: int
    acted: int
    detect: Spans
    act: Spans
    recover: Spans
    recover_by_replay: Spans
    recover_by_itself: Spans
    back: Spans


class OfKind(Times):
    """Of one kind in one flow."""

    flow: str
    kind: str

    @property
    def spans(self) -> dict[str, Spans]:
        """As metrics name them."""
        return {"detect": self.detect, "act": self.act, "replay": self.recover_by_replay,
                "itself": self.recover_by_itself}  # fmt: skip

    @property
    def outcomes(self) -> dict[str, int]:
        """As metrics name them."""
        return {"open": self.open, "replay": self.recovered_by_replay, "itself": self.recovered_by_itself,
                "parked": self.parked, "abandoned": self.abandoned}  # fmt: skip


class Promised(Shape):
    """A percentile of the flow's recovery objective, held against `back`. `stands_s` null: never."""

    percentile: str
    target_s: float
    stands_s: float | None
    met: bool


class OfFlow(Times):
    """Of one flow, and what its owner promised."""

    flow: str
    objectives: list[Promised]


class Step(Times):
    """Of the findings opened in one step of the trend."""

    start: Instant


class Recovery(Shape):
    """How soon what was missing was found, seen to and back. Steps in which nothing was found are left out."""

    start: Instant = Field(serialization_alias="from")
    end: Instant = Field(serialization_alias="to")
    as_of: Instant
    items: list[OfKind]
    flows: list[OfFlow]
    trend: list[Step]


class LostMessage(Shape):
    """A message that counts as lost for good. `copy`: `none` with any source of the flow, `unknown` where one could not
    be asked; of what was parked or abandoned nobody asks: empty."""

    message_id: str
    hop: str
    kind: str
    status: str
    origin_at: Instant | None
    opened_at: Instant
    copy_held: Literal["", "none", "unknown"] = Field(serialization_alias="copy")
    why: str


class Loss(Shape):
    """What an incident cost for good (its RPO). `lost` = `parked` + `abandoned` + `gone`; `gone`: open, no hop holds a
    copy, and no source of the flow is known to hold one; `unknown` of these because a source could not be asked.
    `retrievable`: open, and a source holds a copy: a replay brings it back, so it is not lost."""

    incident: str
    flow: str
    as_of: Instant
    lost: int
    parked: int
    abandoned: int
    gone: int
    unknown: int
    retrievable: int
    items: list[LostMessage]
    next: str | None = None


class RulingAsked(BaseModel):
    """What is to become of an incident's findings: set aside (`parked`), given up for good (`abandoned`), or `open`
    again. All of them, or those of some messages."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["parked", "abandoned", "open"]
    reason: str = Field(min_length=1, max_length=1000, description="kept in the history and the audit log")
    message_ids: list[str] | None = Field(None, min_length=1, max_length=10_000, description="left out: of all")


class Ruled(Shape):
    """That the next pass makes so many findings `status`, unless they have changed by then."""

    incident: str
    status: str
    findings: int
