"""The services that simulated worlds are held against: one in this process, by a clock of its own; a running one."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tracker.api.app import create_app
from tracker.api.service import Limits, Service
from tracker.api.specs import Specs
from tracker.cli.errors import UNAVAILABLE, CommandError
from tracker.cli.settings import client_settings
from tracker.control import Control
from tracker.ingest.commit import Bounds, Committer
from tracker.ingest.intake import Intake
from tracker.reconcile import Reconciler
from tracker.simulate.run import run
from tracker.simulate.scenario import Scenario
from tracker.simulate.score import Score
from tracker.simulate.world import T0
from tracker.slo.metrics import Metrics
from tracker.store import Store

BODY = 256 << 20
"""The most that one simulated batch may hold, bytes."""


class Here:
    """The service in this process, on an embedded ledger, with a clock that is moved."""

    punctual = True

    def __init__(self, folder: Path) -> None:
        self._folder, self._now = folder, 0
        self._open = ExitStack()
        self._start()

    def _start(self) -> None:
        with ExitStack() as stack:
            control = stack.enter_context(Control.open(f"sqlite:///{self._folder}/control.db"))
            store = Store.open(f"chdb://{self._folder}/store", durability="process")
            stack.callback(store.close)
            store.migrate()
            committer = Committer(store, Bounds(wait=0))
            stack.callback(committer.close)
            specs = Specs(control)
            service = Service(
                store, control, Intake(committer, specs.at_ingest, salt=7, inflated=BODY), specs, Metrics(),
                lambda: self._now, insecure=True, limits=Limits(body=BODY),
            )  # fmt: skip
            self._reconciler = Reconciler(store, control, lambda: self._now)
            self._portal: BlockingPortal = stack.enter_context(start_blocking_portal())
            transport = httpx.ASGITransport(create_app(service))
            self._http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", timeout=600)
            self._open = stack.pop_all()

    def at(self, now: int) -> None:
        """It is `now` (µs)."""
        self._now = now

    def judge(self) -> None:
        """One pass."""
        self._reconciler.run_pass()

    def restart(self) -> None:
        """All that was only in memory is gone."""
        self.close()
        self._start()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request through the whole application, without a socket."""
        return self._portal.call(partial(self._http.request, method, path, **options))

    def close(self) -> None:
        """Let go of the folder."""
        self._open.close()


class There:
    """A running service elsewhere, in real time: its passes run by themselves."""

    punctual = False

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=60)

    def at(self, now: int) -> None:
        """Wait until it is `now` (µs)."""
        time.sleep(max(now / 1e6 - time.time(), 0))

    def judge(self) -> None:
        """Give it the time of two passes."""
        time.sleep(1)

    def restart(self) -> None:
        """Nothing of ours to restart."""
        raise CommandError("this scenario restarts the tracker, which --url cannot: leave that fault out")

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request. Raises CommandError when nobody answers."""
        try:
            return self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise CommandError(f"no tracker answers at {self._http.base_url} ({error})", UNAVAILABLE) from None


@contextmanager
def here(keep: Path | None) -> Iterator[Here]:
    """A service on a new ledger; it is thrown away unless `keep` says where it is to stay."""
    folder = Path(tempfile.mkdtemp(prefix="tracker-simulate-")) if keep is None else _new(keep.resolve())
    service = Here(folder)
    try:
        yield service
    finally:
        service.close()
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _new(folder: Path) -> Path:
    """Two worlds on one ledger would each be held against what the other left."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise CommandError(f"{folder} exists; --keep needs a folder in which this world was not kept before") from None
    return folder


def run_here(scenario: Scenario, seed: int, keep: Path | None) -> Score:
    """As fast as it goes. `keep`: the folder under which the ledger stays."""
    with here(keep and keep / f"{scenario.name}-{seed}") as service:
        return run(service, scenario, seed, T0)


def run_there(scenario: Scenario, seed: int, url: str) -> Score:
    """In real time, as a flow of its own that is deleted afterwards."""
    there = There(url, client_settings().token.get_secret_value())
    begin = time.time_ns() // 1000
    flow = f"simulated-{scenario.name}-{begin // 1_000_000}"
    own = scenario.model_copy(update={"flow": {**scenario.flow, "flow": flow}})
    try:
        return run(there, own, seed, begin)
    finally:
        there.request("DELETE", f"/v1/flows/{flow}")
