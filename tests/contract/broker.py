"""What a collector of a real broker keeps besides, whatever happens to the broker, to the way there and to itself.

Each case is here once; a system gives the hooks. What a collector tells is looked at where it arrives: at a tracker
that takes everything, with the one runner and emitter in between. One promise is behind all of them: **nothing that
lies in a span that was vouched for comes later than the report that vouched for it**.

class TestMine(BrokerContract):
    ...                                        # the hooks of CollectorContract, and
    def described(self, name="one", at=""): ...  # as a configuration has it; `at`: host:port of a proxy
    def between(self): ...                     # a proxy before the server
    def remake(self): ...                      # delete what messages lie in, and make it again
    def large(self, size): ...                 # one message of so many bytes; its id
    def refused(self): ...                     # described, with a wrong password that holds the word SECRET
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collectors.base import Collector, Raw
from collectors.emitter import Emitter
from collectors.errors import ConfigInvalid, Unavailable
from collectors.registry import factory
from collectors.runner import Bounds, Runner
from collectors.sender import Pace
from tests.contract.http_tracker import HttpTracker, Request
from tests.contract.suite import CollectorContract
from tests.servers.proxy import Proxy
from tracker.model.event import Event, natural_key

PATIENCE = 60.0
"""Seconds within which a busy machine gets there."""
SECRET = "not-the-password"
LARGE = 10_000_000
PACE = Pace(linger=0.02, heartbeat=0.2, backoff=(0.05, 0.5))
BOUNDS = Bounds(wait=0.1, backoff=(0.1, 0.5))


def now() -> int:
    """Epoch microseconds."""
    return time.time_ns() // 1000


def wait_for(met: Callable[[], Any], what: Callable[[], object] | str) -> None:
    """Until it holds; fails with `what`."""
    until = time.monotonic() + PATIENCE
    while not met():
        assert time.monotonic() < until, what if isinstance(what, str) else what()
        time.sleep(0.02)


def listed(request: Request, stage: str) -> int:
    """How many sources of the stage its report vouches for."""
    return sum(source["stage"] == stage for source in request.report.get("sources", []))


def late(requests: list[Request], put: Mapping[str, tuple[int, int]], stage: str, sources: int = 1) -> set[str]:
    """Ids that were put (began, ended; epoch µs) within a span that so many sources were vouched for, and came after it
    was. None is allowed."""
    seen: set[str] = set()
    found: set[str] = set()
    before: int | None = None
    for request in requests:
        seen |= {line["message_id"] for line in request.lines}
        if not request.report:
            continue  # its report comes alone, behind it
        vouching = listed(request, stage) == sources
        if vouching and before is not None:
            found |= {one for one, (began, ended) in put.items() if before < began and ended <= request.reached} - seen
        before = request.reached if vouching else None
    return found


class BrokerContract(CollectorContract):
    """`stage`: what the collector sees of each message that is put; `sources`: how many it has of that."""

    patience = 40.0
    stage = "persist"
    sources = 1

    def described(self, name: str = "one", at: str = "") -> dict[str, Any]:
        """The collector as a configuration has it: `name`, `kind` and its settings. `at` is where it reaches the
        server; the server itself when left out."""
        raise NotImplementedError

    def between(self) -> Proxy:
        """A proxy before the server."""
        raise NotImplementedError

    def remake(self) -> None:
        """Delete the topic, queue or table that messages are put into, and make it again, empty."""
        raise NotImplementedError

    def large(self, size: int) -> str:
        """One message with a payload of so many bytes; its id."""
        raise NotImplementedError

    def refused(self) -> dict[str, Any]:
        """As `described`, with a password that is wrong: SECRET."""
        raise NotImplementedError

    # -- what the cases do -----------------------------------------------------------------------------------------

    @pytest.fixture(autouse=True)
    def books(self) -> None:
        """When each message was put."""
        self.when: dict[str, tuple[int, int]] = {}

    def more(self, count: int) -> set[str]:
        """Put messages, and note when."""
        began = now()
        ids = self.put(count)
        self.when |= dict.fromkeys(ids, (began, now()))
        return set(ids)

    @contextmanager
    def told(self, tracker: HttpTracker, folder: Path, at: str = "") -> Iterator[Runner]:
        """The collector in its runner, telling `tracker`."""
        described = self.described(at=at)
        emitter = Emitter(tracker.url, collector=described["name"], spool=folder, reader=True, pace=PACE)
        runner = Runner("one", _made(described), emitter, folder / "rejects.ndjson", bounds=BOUNDS)
        thread = threading.Thread(target=runner.run)
        thread.start()
        try:
            yield runner
        finally:
            runner.stop()
            thread.join(PATIENCE)

    def covered(self, tracker: HttpTracker) -> None:
        """Wait until it vouches for this moment."""
        since = now()

        def vouches() -> bool:
            last = tracker.stored[-1] if tracker.stored else None
            return last is not None and listed(last, self.stage) == self.sources and last.reached >= since

        wait_for(vouches, lambda: f"no coverage: {tracker.stored[-1].report if tracker.stored else 'no report'}")

    def arrived(self, *trackers: HttpTracker) -> None:
        """Wait until all that was put has come to one of these."""

        def missing() -> set[str]:
            return self.when.keys() - {one for tracker in trackers for one in tracker.ids}

        wait_for(
            lambda: not missing(), lambda: f"{len(missing())} of {len(self.when)} missing: {sorted(missing())[:9]}"
        )

    def honest(self, tracker: HttpTracker) -> None:
        """Nothing came later than it was vouched for, and nothing was given up."""
        assert late(tracker.stored, self.when, self.stage, self.sources) == set()
        assert {request.report.get("dropped", 0) for request in tracker.stored if request.report} <= {0}

    # -- the cases -------------------------------------------------------------------------------------------------

    def test_a_sigkill_between_read_and_commit(self) -> None:
        """What was read and not committed comes again to the next process; what was committed does not."""
        put = set(self.put(10))
        command = [sys.executable, "-m", "tests.contract.victim", json.dumps(self.described()), "10", "6"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            committed = set(json.loads(process.stdout.readline()))
            process.kill()
        assert len(committed) == 6
        with self.running() as collector:
            assert self._forgiving(collector, put - committed) == put - committed

    def _forgiving(self, collector: Collector, wanted: set[str]) -> set[str]:
        """The ids that come until `wanted` did, and for a moment longer; a server that still holds the place for the
        dead is asked again."""
        raws: list[Raw] = []
        until = time.monotonic() + self.patience
        while time.monotonic() < until:
            got: list[Raw] = []
            with suppress(Unavailable):
                got = list(collector.read(100, self.quiet))
            raws += got
            if not got and wanted <= set(self.ids(collector, raws)):
                break
        return set(self.ids(collector, raws))

    def test_a_connection_that_is_cut_again_and_again(self, tracker: HttpTracker, tmp_path: Path) -> None:
        """In mid-stream: it connects again by itself, everything comes, and it vouches for the present again."""
        with self.between() as proxy, self.told(tracker, tmp_path, proxy.at):
            self.covered(tracker)
            for _ in range(4):
                self.more(20)
                proxy.cut()
            self.arrived(tracker)
            self.covered(tracker)
        self.honest(tracker)

    def test_a_broker_that_is_gone_for_a_while(self, tracker: HttpTracker, tmp_path: Path) -> None:
        """It is said, and the runner tries again. Coverage stands still meanwhile; what was put then comes after."""
        with self.between() as proxy, self.told(tracker, tmp_path, proxy.at) as runner:
            self.covered(tracker)
            proxy.gone()
            self.more(10)
            wait_for(lambda: runner.health.state == "unavailable", "the outage in the health")
            told = len(tracker.stored)
            wait_for(lambda: len(tracker.stored) > told + 3, "reports meanwhile")
            assert not self.when.keys() & set(tracker.ids)
            proxy.back()
            self.arrived(tracker)
            self.covered(tracker)
        self.honest(tracker)

    def test_a_slow_broker_that_hangs(self, tracker: HttpTracker, tmp_path: Path) -> None:
        """Twenty kilobytes a second, then nothing at all with the connection open, then as it was: nothing is
        missing, and nothing is vouched for that has not come."""
        with self.between() as proxy, self.told(tracker, tmp_path, proxy.at):
            self.covered(tracker)
            proxy.rate, proxy.delay = 20_000, 0.05
            self.more(60)
            proxy.hold()
            told = len(tracker.stored)
            self.more(10)
            wait_for(lambda: len(tracker.stored) > told + 6, "reports meanwhile")
            proxy.rate, proxy.delay = 0, 0.0
            proxy.go_on()
            self.arrived(tracker)
            self.covered(tracker)
        self.honest(tracker)

    def test_two_instances_of_one_collector(self, tracker: HttpTracker, tmp_path: Path) -> None:
        """Whether they share the work, stand by or both read: everything comes, what comes twice is one event to the
        tracker, and when one is gone the other has it all."""
        with HttpTracker() as second:
            with self.told(second, tmp_path / "second"):
                with self.told(tracker, tmp_path / "first"):
                    self.more(20)
                    self.arrived(tracker, second)
                self.more(20)
                self.arrived(tracker, second)
            sent = [line for each in (tracker, second) for request in each.stored for line in request.lines]
        events = [msgspec.convert(line, Event) for line in sent if line["stage"] == self.stage]
        assert len({natural_key(event) for event in events}) == len(self.when)

    def test_wrong_credentials(self) -> None:
        """Trying again locks accounts: it is the operator's to mend, and the text does not tell the password."""
        collector = _made(self.refused())
        with pytest.raises(ConfigInvalid) as raised:
            wait_for(lambda: collector.read(10, 0.5), "a refusal")
        collector.close()
        assert SECRET not in str(raised.value)

    def test_deleted_and_made_again(self, tracker: HttpTracker, tmp_path: Path) -> None:
        """What is put after that is seen, as soon as it is vouched for."""
        with self.told(tracker, tmp_path):
            self.covered(tracker)
            self.more(10)
            self.arrived(tracker)
            self.remake()
            self.covered(tracker)
            self.more(10)
            self.arrived(tracker)
            self.covered(tracker)
        self.honest(tracker)

    def test_a_message_of_ten_megabytes(self) -> None:
        """Is read like one of ten bytes."""
        put = self.large(LARGE)
        with self.running() as collector:
            events = [event for raw in self.drain(collector, 1) for event in collector.decode(raw)]
        assert [(e.message_id, e.size) for e in events if isinstance(e, Event)] == [(put, LARGE)]


def _made(described: Mapping[str, Any]) -> Collector:
    own = dict(described)
    return factory(own.pop("kind"))(own.pop("name"), own)
