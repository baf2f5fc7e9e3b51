"""What every collector has to keep. Subclass it, give the three hooks, run pytest.

class TestMine(CollectorContract):
    @pytest.fixture(autouse=True)
    def system(self, tmp_path): ...            # start or empty the system
    def put(self, count): ...                  # messages into the system; their ids
    def collector(self, name="one"): ...       # a collector that remembers by `name`
    def others(self): ...                      # what somebody else sees: depth, offsets; compared with ==
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors.base import Collector, Raw, Undecodable
from tracker.model.coverage import SourceRef
from tracker.model.event import Event

HEADERS = st.dictionaries(st.text(max_size=20), st.binary(max_size=40), max_size=4)


class CollectorContract:
    """`patience`: seconds within which the system shows what was put. `fresh_ms`: how little a lag may be to count as
    none, for systems that are polled. `quiet`: seconds without anything new after which a drain is over."""

    patience = 10.0
    quiet = 0.2
    fresh_ms = 2000

    def put(self, count: int) -> list[str]:
        """Put `count` new messages into the system, as its clients do; their message ids."""
        raise NotImplementedError

    def collector(self, name: str = "one") -> Collector:
        """A collector. The same `name` goes on where the last one of this name committed."""
        raise NotImplementedError

    def others(self) -> object:
        """What somebody else sees of the system."""
        raise NotImplementedError

    def kill(self, collector: Collector) -> None:
        """End it without a commit."""
        collector.close()

    @contextmanager
    def running(self, name: str = "one") -> Iterator[Collector]:
        """A collector, killed at the end of the block."""
        found = self.collector(name)
        try:
            yield found
        finally:
            self.kill(found)

    def ids(self, collector: Collector, raws: Sequence[Raw]) -> list[str]:
        """The message ids that raws decode to."""
        return [e.message_id for raw in raws for e in collector.decode(raw) if isinstance(e, Event)]

    def drain(self, collector: Collector, count: int, limit: int = 1000) -> list[Raw]:
        """Read until `count` message ids came and nothing more does, within `patience`."""
        raws: list[Raw] = []
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            got = list(collector.read(limit, self.quiet))
            raws += got
            if not got and len(set(self.ids(collector, raws))) >= count:
                break
        return raws

    def until_named(self, collector: Collector) -> Sequence[SourceRef]:
        """The sources, once it names some: before that it may not know yet, or tell a hole."""
        deadline = time.monotonic() + self.patience
        while not (sources := collector.sources()) and time.monotonic() < deadline:
            collector.read(10, 0.05)
        return sources or ()

    def test_idle_gives_nothing(self) -> None:
        """A system in which nothing happened gives nothing to read."""
        with self.running() as collector:
            for _ in range(3):
                assert self.ids(collector, collector.read(10, 0.05)) == []

    def test_what_was_put_is_read_once(self) -> None:
        """Each message comes exactly once while the collector runs."""
        put = self.put(25)
        with self.running() as collector:
            assert sorted(self.ids(collector, self.drain(collector, 25))) == sorted(put)

    def test_what_comes_while_reading_is_read(self) -> None:
        """Messages put after the collector started are read too."""
        with self.running() as collector:
            collector.read(10, 0.05)
            put = self.put(5)
            assert sorted(self.ids(collector, self.drain(collector, 5))) == sorted(put)

    def test_a_read_gives_at_most_the_limit(self) -> None:
        """`limit` bounds a read, and the rest comes with the next ones."""
        put = self.put(9)
        with self.running() as collector:
            raws: list[Raw] = []
            deadline = time.monotonic() + self.patience
            while len(set(self.ids(collector, raws))) < 9 and time.monotonic() < deadline:
                got = collector.read(4, self.quiet)
                assert len(got) <= 4
                raws += got
            assert sorted(self.ids(collector, raws)) == sorted(put)

    def test_uncommitted_comes_again(self) -> None:
        """What was read and not committed comes again to the next collector of this name."""
        put = self.put(10)
        with self.running() as collector:
            assert len(self.ids(collector, self.drain(collector, 10))) == 10
        with self.running() as collector:
            assert sorted(self.ids(collector, self.drain(collector, 10))) == sorted(put)

    def test_committed_never_comes_again(self) -> None:
        """What was committed does not come again; committing twice is the same as once."""
        self.put(10)
        with self.running() as collector:
            raws = self.drain(collector, 10)
            collector.commit(raws)
            collector.commit(raws)
        new = self.put(3)
        with self.running() as collector:
            assert sorted(self.ids(collector, self.drain(collector, 3))) == sorted(new)

    def test_a_part_is_committed(self) -> None:
        """Of what was read, only what was not committed comes again."""
        put = self.put(10)
        with self.running() as collector:
            raws = self.drain(collector, 10)
            collector.commit(raws[:6])
            kept = self.ids(collector, raws[:6])
        with self.running() as collector:
            again = self.ids(collector, self.drain(collector, 10 - len(kept)))
        assert sorted(again) == sorted(set(put) - set(kept))

    def test_decode_says_undecodable_and_nothing_else(self) -> None:
        """Whatever the bytes, `decode` gives observations or raises `Undecodable`."""
        self.put(1)
        with self.running() as collector:
            position = self.drain(collector, 1)[0].position

            @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
            @given(
                st.binary(max_size=200), HEADERS, st.none() | st.binary(max_size=20), st.sampled_from([position, None])
            )
            def any_bytes(value: bytes, headers: dict[str, bytes], key: bytes | None, at: object) -> None:
                try:
                    list(collector.decode(Raw(value, headers, key, at, 1)))
                except Undecodable:
                    return

            any_bytes()

    def test_decode_is_pure(self) -> None:
        """The same record decodes to the same observations, however often."""
        self.put(3)
        with self.running() as collector:
            for raw in self.drain(collector, 3):
                assert list(collector.decode(raw)) == list(collector.decode(raw))

    def test_two_collectors_see_everything_each(self) -> None:
        """Collectors of different names do not take messages from each other."""
        put = self.put(8)
        with self.running("one") as one, self.running("two") as two:
            raws = self.drain(one, 8)
            one.commit(raws)
            assert sorted(self.ids(one, raws)) == sorted(put)
            assert sorted(self.ids(two, self.drain(two, 8))) == sorted(put)

    def test_seeing_changes_nothing_for_others(self) -> None:
        """Depth, offsets, pending counts: the same with and without the collector."""
        self.put(8)
        before = self.others()
        with self.running() as collector:
            collector.commit(self.drain(collector, 8))
            assert self.others() == before
        assert self.others() == before

    def test_sources_are_named(self) -> None:
        """Everything observed lies on a (flow, hop, stage) of a source that the collector names."""
        self.put(3)
        with self.running() as collector:
            raws = self.drain(collector, 3)
            sources = self.until_named(collector)
            assert sources
            assert all(s.flow and s.hop and s.stage and s.source for s in sources)
            assert len(set(sources)) == len(sources)
            watched = {(s.flow, s.hop, s.stage) for s in sources}
            seen = {(e.flow, e.hop, e.stage.value) for raw in raws for e in collector.decode(raw)}
            assert seen <= watched

    def test_no_lag_when_caught_up(self) -> None:
        """After everything was read there is no backlog and (nearly) no lag."""
        self.put(5)
        with self.running() as collector:
            self.drain(collector, 5)
            deadline = time.monotonic() + self.patience
            while (lag := collector.lag()).ms > self.fresh_ms and time.monotonic() < deadline:
                collector.read(10, 0.1)
            assert lag.backlog == 0
            assert 0 <= lag.ms <= self.fresh_ms

    def test_lag_while_behind(self) -> None:
        """With messages unread the collector does not say that it is up to date."""
        self.put(20)
        with self.running() as collector:
            deadline = time.monotonic() + self.patience
            while not collector.read(2, self.quiet) and time.monotonic() < deadline:
                pass
            lag = collector.lag()
            assert lag.ms > 0 or lag.backlog > 0

    def test_close_twice(self) -> None:
        """Closing again does nothing."""
        collector = self.collector()
        collector.close()
        collector.close()
