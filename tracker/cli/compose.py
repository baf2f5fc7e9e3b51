"""The composition root: builds a service out of settings, starts its threads, takes it apart again in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import structlog

from tracker.anomalies.running import Watching
from tracker.api.service import Limits, Service
from tracker.api.specs import Specs
from tracker.cli.settings import ServiceSettings
from tracker.cli.together import together
from tracker.control import Control
from tracker.control.signing import Signer
from tracker.ingest import reports
from tracker.ingest.batch import Accepted, Batch
from tracker.ingest.commit import Bounds, Committer
from tracker.ingest.intake import Intake
from tracker.ingest.lines.decode import QUICK
from tracker.ingest.spool import FILES, Spool
from tracker.model.carry import Publisher, Source
from tracker.model.coverage import Report
from tracker.model.errors import Invalid
from tracker.reconcile import Reconciler, now_us
from tracker.reconcile.arrears import Arrears
from tracker.reconcile.judged import until
from tracker.reconcile.listening import Listening
from tracker.replay.automatic import Automatic, Left, Room
from tracker.replay.routes import Keeper
from tracker.replay.service import Replays
from tracker.slo.metrics import (
    ANOMALIES,
    COMMIT_ROWS,
    COMMIT_SECONDS,
    POLICY_BUDGET,
    POLICY_LEFT,
    SPOOL_DRAINED,
    WORKER_RESTARTS,
    Metrics,
)
from tracker.store import Store, readonly

log = structlog.get_logger()

MB = 1 << 20
AGAIN = 2.0
"""Seconds before a worker that failed for a reason nobody foresaw is started again."""
PATIENCE = 30.0
"""Seconds that a worker thread gets to finish what it is doing."""


class Worker:
    """A loop in a thread of its own that outlives errors: they are logged and counted, and the loop starts again."""

    def __init__(self, name: str, loop: Callable[[threading.Event], None], metrics: Metrics) -> None:
        self.name, self._loop, self._metrics = name, loop, metrics
        metrics.count(WORKER_RESTARTS, 0, name)  # a counter that begins at 1 has not grown
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def alive(self) -> bool:
        """False once the thread has ended."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Ask the loop to end and wait for it, bounded."""
        self._stop.set()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            log.error("worker_did_not_stop", thread=self.name, waited_s=PATIENCE)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._loop(self._stop)
            except Exception:  # the top of a thread: a worker that is gone would be noticed by nobody
                log.exception("worker_failed", thread=self.name, again_in_s=AGAIN)
                self._metrics.count(WORKER_RESTARTS, 1, self.name)
                self._stop.wait(AGAIN)


@dataclass(frozen=True)
class Ports:
    """Where replays read, by who keeps what, and send, by hop."""

    sources: Mapping[Keeper, Source]
    publishers: Mapping[str, Publisher]


@contextmanager
def opened(settings: ServiceSettings, adopt: bool = False) -> Iterator[tuple[Store, Control, list[str]]]:
    """Store and control database, migrated, and known to belong together (see `together` for `adopt`); and what the
    store's migration did. Raises TrackerError, ControlError."""
    with ExitStack() as stack:
        control = stack.enter_context(Control.open(settings.control_url))
        store = Store.open(settings.store_url, settings.durability)
        stack.callback(store.close)
        done = store.migrate()
        together(store, control, control.where, adopt)
        yield store, control, done


@contextmanager
def composed(settings: ServiceSettings, insecure: bool, ports: Ports) -> Iterator[Service]:
    """A running service without its HTTP server: takes events, reconciles, replays. Raises as `opened` does.

    It ends from the outside in: first nothing new is taken and all that was taken is written, then the workers finish
    what they are doing, then the databases close.
    """
    with opened(settings) as (store, control, _), ExitStack() as stack:
        metrics, specs = Metrics(), Specs(control)
        spool = _spool(settings, control)
        if spool:
            stack.callback(spool.close)
        committer = Committer(
            store,
            _bounds(settings),
            lambda rows, seconds: _written(metrics, rows, seconds),
            spool,
            lambda rows: metrics.count(SPOOL_DRAINED, rows),
        )
        arrears = Arrears(control, str(settings.spool_path), committer.behind, now_us, shared=not store.engine.embedded)
        listening = Listening(control, now_us, committer.refused, lambda report: _told(committer, report))
        judged, unhurried = store.yielding(), store.yielding()
        stack.callback(judged.close)
        stack.callback(unhurried.close)
        reconciler = Reconciler(judged, control, now_us, lambda: listening.hold() or arrears.hold(), committer.pressed)
        replays = Replays(store, control, ports.sources, ports.publishers, now_us, insecure=insecure)
        watching = Watching(
            unhurried,
            control,
            lambda: {flow: known.spec for flow, known in specs.known().items()},
            lambda found: metrics.replace(ANOMALIES, found),
            now_us,
            lambda: until(control),
        )
        runs = {
            "reconcile": lambda stop: reconciler.run(stop, settings.pass_interval_s),
            "replay": replays.worker().run,
            "policy": Automatic(store, control, replays, _policy_shown(metrics), now_us).run,
            "anomalies": watching.run,
            "arrears": arrears.run,
            "listening": listening.run,
        }
        threads = {"commit": committer.alive}
        for name, run in runs.items():
            worker = Worker(name, run, metrics)
            stack.callback(worker.close)
            threads[name] = worker.alive
        stack.callback(committer.close)
        QUICK.begin()
        yield Service(
            store=store,
            control=control,
            intake=Intake(committer, specs.at_ingest, control.settings.key_salt(), int(settings.inflated_mb * MB)),
            specs=specs,
            metrics=metrics,
            clock=now_us,
            replays=replays,
            reader=_reader(settings, store),
            signer=Signer(settings.statement_key_path),
            insecure=insecure,
            limits=_limits(settings),
            threads=threads,
        )


def _policy_shown(metrics: Metrics) -> Callable[[Left, Room], None]:
    """Where the replay policy shows what it leaves, and what its budgets have left."""

    def show(left: Left, room: Room) -> None:
        metrics.replace(POLICY_LEFT, left)
        metrics.replace(POLICY_BUDGET, room)

    return show


def _bounds(settings: ServiceSettings) -> Bounds:
    memory = settings.commit_memory_mb * MB
    return Bounds(settings.commit_rows, settings.commit_wait_ms / 1000, memory, settings.spool_after_s)


def _reader(settings: ServiceSettings, store: Store) -> readonly.Reader | None:
    if not settings.clickhouse_queries:
        return None
    bounds = readonly.Bounds(
        seconds=settings.clickhouse_s,
        memory=settings.clickhouse_memory_mb * MB,
        rows=settings.clickhouse_rows,
        answer=settings.clickhouse_answer_mb * MB,
        questions=settings.clickhouse_queries,
    )
    return readonly.Reader(store.engine, bounds)


def _spool(settings: ServiceSettings, control: Control) -> Spool | None:
    if not settings.spool_mb:
        left = sorted(settings.spool_path.glob(FILES))
        if left:
            raise Invalid(f"TRACKER_SPOOL_MB is 0, but events wait in {left[0].parent}: start with it once, until "
                          "`spool` in /healthz has 0 bytes")  # fmt: skip
        return None
    ledger, fsync = control.settings.installation(), settings.durability == "fsync"
    return Spool.open(settings.spool_path, settings.spool_mb * MB, fsync, ledger, now_us)


def _told(committer: Committer, report: Report) -> None:
    """Stored as those of collectors are."""
    batch = Batch(Accepted(0, 0), reports=reports.rows([report], now_us()))
    committer.submit(batch).result()


def _limits(settings: ServiceSettings) -> Limits:
    return Limits(
        body=int(settings.body_mb * MB),
        read_seconds=settings.read_s,
        ingest_slots=settings.ingest_slots,
        rate_events=settings.rate_events,
        rate_bytes=settings.rate_mb * MB,
    )


def _written(metrics: Metrics, rows: int, seconds: float) -> None:
    metrics.observe(COMMIT_ROWS, rows)
    metrics.observe(COMMIT_SECONDS, seconds)
