"""What is answered, as OpenAPI describes it. Times are µs inside and RFC 3339 UTC on the way out."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from tracker.model.units import rfc3339

Instant = Annotated[int, PlainSerializer(rfc3339, return_type=str)]
Item = TypeVar("Item")


class Shape(BaseModel):
    """Every answer is read from a value of ours, field by field."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class Page(Shape, Generic[Item]):
    """A part of a list. `next` asks for the part after it (`cursor=`); null on the last one."""

    items: list[Item]
    next: str | None = None


class LineError(Shape):
    """A line that went to quarantine; line 0 is the coverage header."""

    line: int
    field: str
    reason: str


class Taken(Shape):
    """What became of a batch: every good line is durable, every bad one is in quarantine and listed (1,000 at most)."""

    accepted: int
    quarantined: int
    errors: list[LineError]


class SpoolState(Shape):
    """What waits on disk because the store is down or slow; `oldest_s` is 0 when nothing does. `set_aside` batches
    could be neither read nor stored since the start."""

    bytes: int
    limit: int
    oldest_s: float
    drained_rows: int
    set_aside: int


class Health(Shape):
    """That it works. `spool` is left out where there is none."""

    status: str
    spool: SpoolState | None = None


class Missing(Shape):
    """A required checkpoint that was neither seen nor implied, or is short. `covered`: somebody vouches that it did
    not happen; false: it may have happened unseen, `blind` says why."""

    hop: str
    stage: str
    status: str
    deadline: Instant | None
    covered: bool
    blind: str | None = None


class Observation(Shape):
    """One event of a message. `latency_ms` counts from the message's origin; `known`: the spec knows this hop.

    `observed_at` holds `clock_offset_ms` already: what was added because the node's clock was measured to be wrong. It
    may still be off by `clock_error_ms`; null: nobody measured that clock.
    """

    hop: str
    stage: str
    observed_at: Instant
    observed_from: Instant | None
    received_at: Instant | None
    clock_offset_ms: float
    clock_error_ms: float | None
    latency_ms: float
    reason: str
    delivery: str
    digest: str
    size: int | None
    node: str
    region: str
    partition: str
    offset: int | None
    group: str
    attempt: int | None
    trace_id: str
    span_id: str
    correlation_id: str
    causation_id: str
    replay_id: str
    attributes: dict[str, str]
    known: bool


class Finding(Shape):
    """What needs somebody: one per message, hop and kind."""

    finding_id: str
    flow: str
    message_id: str
    hop: str
    stage: str
    kind: str
    status: str
    incident: str
    opened_at: Instant
    known_at: Instant
    resolved_at: Instant | None
    deadline: Instant | None
    origin_at: Instant | None
    by: str
    cause: str
    held_by: list[str]
    why: str


class Overtaken(Shape):
    """Where the message was overtaken, and by which one of its key or partition that was produced after it."""

    hop: str
    stage: str
    passed_by: str


class Message(Shape):
    """One message, judged now; its order as the last pass left it. `verdict` is null when it was only seen at hops that
    the flow does not know."""

    flow: str
    message_id: str
    verdict: str | None
    flags: list[str]
    held_by: list[str]
    missing: list[Missing]
    timeline: list[Observation]
    why: str
    origin_at: Instant | None
    as_of: Instant
    findings: list[Finding]
    overtaken: list[Overtaken] = []


class MessageState(Shape):
    """A message as the last pass left it."""

    message_id: str
    verdict: str
    flags: list[str]
    origin_at: Instant


class Window(Shape):
    """Counts of the messages created in one slice of time."""

    start: Instant
    produced: int
    orphans: int
    verdicts: dict[str, int]


class BlindSpot(Shape):
    """A span in which nobody vouches for (hop, stage), and why."""

    hop: str
    stage: str
    start: Instant
    end: Instant
    cause: str
    source: str


class Reconciliation(Shape):
    """The books of a flow held against each other, as the last pass left them."""

    flow: str
    produced: int
    orphans: int
    verdicts: dict[str, int]
    conserved: bool
    as_of: Instant | None
    blind_spots: list[BlindSpot]
    windows: list[Window]
    spots_left: int = 0


class Entry(Shape):
    """A line of an incident's timeline."""

    at: Instant
    who: str
    what: str


class Incident(Shape):
    """Findings of one flow, hop and kind that belong together. Spans in seconds; `act_s`: from opened to acknowledged,
    or to the approval of the first replay for it (`acted_at`)."""

    id: str
    flow: str
    hop: str
    stage: str
    kind: str
    status: str
    owner: str
    note: str
    opened_at: Instant
    first_finding_at: Instant
    last_finding_at: Instant
    open: int
    recovered: int
    recovered_by_itself: int
    withdrawn: int
    superseded: int
    parked: int
    abandoned: int
    total: int
    detect_p50_s: float | None
    detect_p90_s: float | None
    recover_p50_s: float | None
    recover_p90_s: float | None
    acknowledged_at: Instant | None
    acknowledged_by: str
    resolved_at: Instant | None
    acted_at: Instant | None
    act_s: float | None
    runbook: str


class IncidentShown(Incident):
    """An incident with its history, oldest first. `lost`: parked, abandoned, or open while no hop holds a copy;
    `/loss` asks the sources, too, and names them."""

    lost: int
    recovered_by_replay_p50_s: float | None
    recovered_by_replay_p90_s: float | None
    recovered_by_itself_p50_s: float | None
    recovered_by_itself_p90_s: float | None
    timeline: list[Entry]


class IncidentChange(BaseModel):
    """What a person says about an incident; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    acknowledge: bool = False
    owner: str | None = Field(None, max_length=200)
    note: str | None = Field(None, max_length=10_000)


class Flow(Shape):
    """A flow as it is now: `spec` in its canonical form (durations in µs), `text` as it was put."""

    flow: str
    version: int
    owner: str
    in_force_from: Instant
    created_at: Instant
    created_by: str
    spec: dict[str, Any]
    text: str


class Discovered(Shape):
    """Spans about messages that became no event, by what they say. `reason`: `no_flow` (no checkpoint matches them),
    `no_id` (nothing names their message; `flow` matches), `no_stage` (their operation says nothing of a message),
    `failed` (of a send or receive that failed). Counts are of this tracker's receipt, and may miss its last seconds
    before a crash."""

    service: str
    system: str
    destination: str
    operation: str
    reason: str
    flow: str
    count: int
    first_seen: Instant
    last_seen: Instant
    samples: list[str]


class Discoveries(Shape):
    """What was seen, most frequent first, and a draft of flow specs for what no flow takes: YAML, one document a flow,
    to be read and corrected by somebody who knows."""

    items: list[Discovered]
    drafts: list[str]


class CoverageRow(Shape):
    """A stretch that a collector vouches for, from `start` to `end`. `closed`: it signed off."""

    flow: str
    hop: str
    stage: str
    source: str
    evidence: str
    collector: str
    start: Instant
    end: Instant
    closed: bool


class Quarantined(Shape):
    """A line that could not be used. `raw` is cut at 4 kB."""

    received_at: Instant
    source: str
    line: int
    field: str
    reason: str
    flow: str
    raw: str


class Selection(BaseModel):
    """Which open findings a replay is for. With `dry_run` nothing is stored or sent."""

    model_config = ConfigDict(extra="forbid")

    flow: str
    hop: str | None = None
    kind: str | None = None
    incident: str | None = None
    message_ids: list[str] | None = Field(None, min_length=1, max_length=100_000, description="left out: of all")
    since: str | None = Field(None, description="origin not before this: RFC 3339, epoch, or -1h")
    until: str | None = Field(None, description="origin before this")
    key: str | None = Field(None, max_length=4096, description="only messages with this key; it is compared hashed")
    dropped_as: str | None = Field(None, max_length=256, description="the reason of a drop or dead letter")
    attributes: dict[str, str] = Field(default_factory=dict, max_length=16, description="each carried by some event")
    source: str = Field("", max_length=256, description="`kind:hop` instead of the flow's sources, as log:kafka-eu")
    to: str = Field("", max_length=128, description="a hop to send to, instead of the one that follows from the source")
    rate: float | None = Field(None, gt=0, description="messages per second, at most the flow's own rate")
    reason: str = Field("", max_length=1000)
    dry_run: bool = False


class Why(BaseModel):
    """Why somebody decides; kept in the audit log."""

    model_config = ConfigDict(extra="forbid")

    why: str = Field("", max_length=1000)


class Replay(Shape):
    """A replay and how far it came. `messages` counts its messages by state; `rate` is per second."""

    id: str
    flow: str
    status: str
    detail: str
    mode: str
    rate: float
    incident_id: str
    requested_by: str
    approved_by: str
    reason: str
    selection: dict[str, Any]
    plan: dict[str, Any]
    created_at: Instant
    approved_at: Instant | None
    started_at: Instant | None
    finished_at: Instant | None
    messages: dict[str, int] | None = None


class ReplayMessage(Shape):
    """One message of a replay."""

    message_id: str
    state: str
    attempt: int
    sent_at: Instant | None
    error: str


class Slo(Shape):
    """An objective and how it stands. `target` and `value` are in `unit`: a share of 1, seconds, or per second.

    Of `delivery` only, else null: a message counts once, when it is first settled: delivered is good; late, lost,
    unacknowledged, dead_lettered, under_replicated and divergent are bad; blind and explained are neither;
    `turned_good` and `turned_bad` turned out otherwise later. `burn_rates` by window: 1 uses up the budget in just the
    objective's window; what is infinite is 1e308. `since`: when what is wrong began, where that is known."""

    flow: str
    owner: str
    objective: str
    unit: str
    target: float
    value: float | None
    window: str
    met: bool | None
    status: str
    since: Instant | None
    good: int | None
    bad: int | None
    blind: int | None
    explained: int | None
    turned_good: int | None
    turned_bad: int | None
    ratio: float | None
    budget_left: float | None
    burn_rates: dict[str, float]
    as_of: Instant


class SloTook(Shape):
    """Latencies in seconds: from origin to end where `hop` is empty, else from the hop before."""

    hop: str
    stage: str
    p50: float
    p95: float
    p99: float


class SloDay(Shape):
    """A day, UTC."""

    start: Instant
    good: int
    bad: int
    ratio: float | None


class SloFlow(Shape):
    """One flow in a report. `counts`: messages by what they were counted as; `coverage`: the share of the time that
    collectors vouched for; `throughput`: new messages per second; `incidents`: those opened, 100 at most."""

    flow: str
    owner: str
    target: float | None
    ratio: float | None
    met: bool | None
    budget_left: float | None
    good: int
    bad: int
    counts: dict[str, int]
    duplication: float | None
    divergence: float | None
    throughput: float
    coverage: float | None
    latency: list[SloTook]
    incidents: list[str]
    days: list[SloDay]


class SloReport(Shape):
    """How the objectives of some flows were kept from `start` to `end`."""

    owner: str
    start: Instant
    end: Instant
    as_of: Instant
    flows: list[SloFlow]
