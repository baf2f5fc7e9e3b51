"""What the faces stand on. Built by the composition root (`tracker.cli.serve`), used by every route."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from tracker.api.discovered import Discovered
from tracker.api.evidence import Evidence
from tracker.api.specs import Specs
from tracker.control import Control
from tracker.control.signing import Signer
from tracker.ingest.intake import Intake
from tracker.replay.service import Replays
from tracker.slo.metrics import Metrics
from tracker.store import Store
from tracker.store.readonly import Reader


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cost, and how many may be taken in at once. Sizes in bytes, times in seconds."""

    body: int = 16 << 20
    headers: int = 256 << 10
    read_seconds: float = 30.0
    ingest_slots: int = 32
    rate_events: float = 0
    """Of one token, per second, as `rate_bytes`; 0: no limit."""
    rate_bytes: float = 0


@dataclass(frozen=True)
class Service:
    """Everything a request may need. `insecure`: no tokens, loopback only. `threads`: is each worker thread alive?"""

    store: Store
    control: Control
    intake: Intake
    specs: Specs
    metrics: Metrics
    clock: Callable[[], int]
    replays: Replays | None = None
    reader: Reader | None = None
    signer: Signer = field(default_factory=lambda: Signer(None))
    insecure: bool = False
    limits: Limits = Limits()
    threads: Mapping[str, Callable[[], bool]] = field(default_factory=dict)

    @cached_property
    def discovered(self) -> Discovered:
        """What spans told of messages that no flow took."""
        return Discovered(self.control, self.clock)

    @cached_property
    def evidence(self) -> Evidence:
        """What is vouched for, flow by flow."""
        return Evidence(self.store, self.control)
