"""What keeps a replay from harming its target: few messages in flight, consumers that follow, few retries."""

from __future__ import annotations

import pytest

from tests.component.replay.scene import ANN, BOB, SPEC, Scene
from tests.component.replay.test_throttle import Hand
from tracker.model.spec import load_spec
from tracker.replay import Selection
from tracker.replay.backoff import FLOOR, SHARE, SPAN_S, Budget
from tracker.replay.breaker import COOLDOWN_S, Breaker, State
from tracker.replay.kept import Terms
from tracker.replay.progress import MOST, SLACK, Progress
from tracker.replay.routes import Missing, due

ACK = Missing("billing", "ack", "unacknowledged")
SECOND = 1_000_000
BEHIND_S = 10 + SLACK / SECOND
"""After so many seconds without a message at billing it is behind: the ten that the flow allows, and the slack."""


def ids(count: int) -> list[str]:
    """So many messages."""
    return [f"m-{n:03}" for n in range(count)]


@pytest.mark.parametrize(("size", "messages"), [(None, 128), (300, 5000), (1_000_000, 134), (500_000_000, 1)])
def test_a_batch_is_what_memory_holds(size: int | None, messages: int) -> None:
    """Fewer messages where they are large, one at least; where nobody could look at any, as many as large ones."""
    said = None if size is None else size * 20_000
    assert Terms(["eu"], 3, 45.0, "x-message-id", messages=20_000, bytes=said).batch(5000) == messages


class TestInFlight:
    @pytest.fixture
    def narrow(self, scene: Scene) -> Scene:
        """A flow of which at most five are in flight, and twelve that are missing."""
        scene.put(SPEC.replace("MODE", "auto").replace("max_attempts: 3", "max_attempts: 3, in_flight: 5"))
        scene.lose(*ids(12))
        return scene

    def test_no_more_are_sent_than_may_be_in_flight(self, narrow: Scene) -> None:
        """The plan says how many that is, the replay why it waits; each that recovers makes room for another."""
        assert narrow.replays.plan(Selection(flow="orders")).summary()["in_flight"] == 5
        replay_id = narrow.start()
        worker = narrow.worker()
        narrow.rounds(worker, 5)
        assert len(narrow.arrived()) == 5
        told = narrow.replays.get(replay_id).replay.detail
        assert told == "kafka: 5 messages are in flight, as many as may be: it waits until some are settled"
        narrow.consume(*ids(2))
        narrow.rounds(worker, 2)
        assert len(narrow.arrived()) == 7
        for _ in range(5):
            narrow.consume(*[one for one, _, _ in narrow.arrived()])
            narrow.rounds(worker, 2)
        assert (len(narrow.arrived()), narrow.replays.get(replay_id).replay.status) == (12, "done")
        assert narrow.replays.get(replay_id).replay.detail == ""

    def test_who_asks_sees_what_each_target_is_at(self, narrow: Scene) -> None:
        """As the metrics show it."""
        narrow.start()
        worker = narrow.replays.worker(lambda: narrow.now / SECOND, "w")
        assert narrow.replays.targets() == {}
        narrow.rounds(worker, 4)
        assert {hop: (to.circuit, to.in_flight) for hop, to in narrow.replays.targets().items()} == {
            "kafka": (State.closed, 5)
        }

    def test_those_of_another_replay_count(self, narrow: Scene) -> None:
        """Also of one that was cancelled: what it sent is on its way all the same."""
        first = narrow.start(*ids(5))
        narrow.rounds(narrow.worker(), 3)
        narrow.replays.cancel(first, BOB)
        narrow.start(*ids(12)[5:])
        narrow.rounds(narrow.worker("next"), 12)
        assert len(narrow.arrived()) == 5

    def test_another_tracker_counts_before_it_sends(self, narrow: Scene) -> None:
        """It has looked when nothing was in flight; then the first one sent, and was gone."""
        one, two = narrow.worker("one"), narrow.worker("two")
        narrow.start(*ids(5))
        narrow.wait(1)
        one.step()
        two.step()
        narrow.start(*ids(12)[5:])
        one.sender.rest()
        two.step()
        narrow.rounds(two, 3, 0.1)
        assert len(narrow.arrived()) == 5

    def test_what_the_flow_gave_up_waiting_for_is_in_flight_no_more(self, narrow: Scene) -> None:
        """In the dark nothing is ever settled: after the flow's own time five more go out, not none for ever."""
        narrow.start()
        worker = narrow.worker()
        narrow.rounds(worker, 5)
        narrow.rounds(worker, 1, 50)
        narrow.rounds(worker, 5)
        assert len(narrow.arrived()) == 10


class TestProgress:
    def test_one_that_recovered_speaks_for_all_before_it(self) -> None:
        """A log is taken in order; one that does not help is poison, not lag."""
        spec = load_spec(SPEC.replace("MODE", "auto"))
        progress = Progress()
        for second in range(5):
            progress.sent(second * SECOND, spec, "kafka", "r", {f"m-{second}": [ACK]})
        progress.seen({("r", f"m-{n}"): "recovered" if n == 2 else "sent" for n in range(5)})
        assert [probe.at for probe in progress.probes] == [3 * SECOND, 4 * SECOND]
        assert progress.overdue(round((3 + BEHIND_S) * SECOND)) == []
        assert [p.at for p in progress.overdue(round((3 + BEHIND_S) * SECOND) + 1)] == [3 * SECOND]

    def test_what_was_never_to_be_sent_says_nothing(self) -> None:
        """Refused by another tracker, or of a replay that is gone."""
        progress = Progress()
        progress.sent(0, load_spec(SPEC.replace("MODE", "auto")), "kafka", "r", {"m": [ACK]})
        progress.seen({("r", "m"): "refused"})
        assert progress.probes == []

    def test_few_are_remembered_and_the_oldest_of_them_stays(self) -> None:
        """However long nobody follows."""
        spec, progress = load_spec(SPEC.replace("MODE", "auto")), Progress()
        for second in range(1000):
            progress.sent(second * SECOND, spec, "kafka", "r", {"m": [ACK]})
        assert len(progress.probes) <= MOST
        assert (progress.probes[0].at, progress.probes[-1].at) == (0, 999 * SECOND)
        assert not progress.wants(999 * SECOND + 1)

    def test_a_deadline_counts_from_the_target(self) -> None:
        """Billing has ten seconds from the log on, fifteen from the producer on."""
        spec = load_spec(SPEC.replace("MODE", "auto"))
        assert due(spec, "kafka", [ACK]) == 10 * SECOND
        assert due(spec, "checkout", [ACK]) == 15 * SECOND
        assert due(spec, "kafka", [Missing("kafka", "persist", "lost")]) == 0


class TestLag:
    @pytest.fixture
    def slow(self, scene: Scene) -> Scene:
        """A hundred that are missing, sent ten a second to a consumer that stands still."""
        scene.lose(*ids(100))
        scene.replays.create(Selection(flow="orders"), ANN, rate=1)
        return scene

    def test_consumers_that_do_not_follow_open_the_circuit(self, slow: Scene) -> None:
        """After what the flow allows and not before; status, audit log and the reason say why."""
        worker = slow.worker()
        for _ in range(int(BEHIND_S)):
            slow.rounds(worker, 1)
            slow.observe()
        target = worker.sender.targets["kafka"]
        assert {target.circuit} == {State.closed}
        before = len(slow.arrived())
        for _ in range(3):
            slow.rounds(worker, 1)
            slow.observe()
        assert worker.sender.targets["kafka"].circuit is State.open
        assert len(slow.arrived()) <= before + 1
        [replay] = slow.replays.list().items
        assert replay.detail.startswith("kafka: circuit open, tried again within a minute: what was sent since 2027-")
        assert replay.detail.endswith("is not seen at billing, which is watched: it does not follow")
        entries = slow.control.audit.entries(subject=f"replay/{replay.id}").items
        told = [entry for entry in entries if entry.what == "circuit"]
        assert [entry.detail for entry in told] == [{"target": "kafka", "state": "open"}]
        assert "billing" in told[0].why

    def test_one_goes_at_a_time_until_they_follow_again(self, slow: Scene) -> None:
        """That the broker confirms it closes nothing; that billing has got past it does."""
        worker = slow.worker()
        for _ in range(int(BEHIND_S) + 3):
            slow.rounds(worker, 1)
            slow.observe()
        before = len(slow.arrived())
        for _ in range(60):
            slow.rounds(worker, 1)
            slow.observe()
        assert 1 <= len(slow.arrived()) - before <= 60 / COOLDOWN_S
        slow.consume(slow.arrived()[-1][0])
        slow.rounds(worker, 2)
        assert worker.sender.targets["kafka"].circuit is State.closed
        [replay] = slow.replays.list().items
        entries = slow.control.audit.entries(subject=f"replay/{replay.id}").items
        assert [entry.detail["state"] for entry in entries if entry.what == "circuit"] == ["open", "closed"]

    def test_in_the_dark_nobody_is_called_behind(self, slow: Scene) -> None:
        """Billing's collector is silent: it may have taken all of them."""
        slow.rounds(slow.worker(), 60)
        assert len(slow.arrived()) >= 59

    def test_poison_among_those_that_recover_is_no_lag(self, slow: Scene) -> None:
        """Half of them never help."""
        worker = slow.worker()
        for _ in range(70):
            slow.rounds(worker, 1)
            slow.observe()
            slow.consume(*[one for one, _, _ in slow.arrived() if int(one[2:]) % 2])
        assert worker.sender.targets["kafka"].circuit is State.closed
        assert len({one for one, _, _ in slow.arrived()}) >= 60

    def test_what_was_withdrawn_is_no_lag(self, slow: Scene) -> None:
        """Late events showed that nothing had been missing."""
        worker = slow.worker()
        for _ in range(40):
            slow.rounds(worker, 1)
            slow.observe()
            for one, _, _ in slow.arrived():
                slow.find(one, "withdrawn")
        assert worker.sender.targets["kafka"].circuit is State.closed


class TestBreaker:
    def test_a_confirmed_message_does_not_close_what_lag_opened(self) -> None:
        """Twice the pause each time, until the lag is gone."""
        clock = Hand()
        breaker = Breaker(clock, lambda low, high: high)
        breaker.followed("behind")
        assert (breaker.state, breaker.room(10), breaker.reason) == (State.open, 0, "behind")
        for pause in (COOLDOWN_S, 2 * COOLDOWN_S, 4 * COOLDOWN_S):
            assert breaker.wait() == pause
            clock.now += pause
            assert breaker.room(10) == 1
            breaker.record(1, 0)
            breaker.followed("behind still")
        breaker.followed("")
        assert (breaker.state, breaker.reason) == (State.closed, "")

    def test_a_dead_target_stays_open_though_nobody_is_behind(self) -> None:
        """Two causes, each ends by itself."""
        breaker = Breaker(Hand(), lambda low, high: high)
        breaker.record(0, 10, "refused")
        breaker.followed("behind")
        breaker.followed("")
        assert breaker.state is State.open


class TestBudget:
    def test_a_tenth_of_what_was_sent_first_and_a_floor(self) -> None:
        """Over a span that slides."""
        clock = Hand()
        budget = Budget(clock)
        assert budget.room(1000) == FLOOR * SPAN_S
        budget.take(5000, 0)
        assert budget.room(1000) == SHARE * 5000 + FLOOR * SPAN_S
        budget.take(0, 600)
        assert budget.room(1000) == 0
        clock.now += SPAN_S
        assert budget.room(1000) == FLOOR * SPAN_S

    def test_the_floor_is_a_tenth_of_a_low_rate(self) -> None:
        """But one retry always goes, or it would never end."""
        budget = Budget(Hand())
        assert (budget.room(5), budget.room(0.01)) == (5, 1)
        budget.take(0, 1)
        assert budget.room(0.01) == 0

    def test_retries_of_a_target_that_refuses_stay_in_their_budget(self, scene: Scene) -> None:
        """Three hundred messages that never arrive, though every circuit is held closed: whatever is tried again within
        ten seconds is a tenth of the first attempts in that time, and the floor."""
        scene.lose(*ids(300))
        scene.replays.create(Selection(flow="orders"), ANN, rate=20)
        worker, tried, tries = scene.worker(), set[str](), list[tuple[int, bool]]()

        def note(copies) -> None:
            for copy in copies:
                tries.append((scene.now, copy.locator.message_id in tried))
                tried.add(copy.locator.message_id)

        scene.port.before, scene.port.refuses = note, True
        for _ in range(120):
            worker.step()
            if target := worker.sender.targets.get("kafka"):
                target.breaker.record(1, 0)
            scene.wait(0.5)
            scene.observe()
        assert sum(again for _, again in tries) > 20
        for at, _ in tries:
            recent = [again for when, again in tries if at - SPAN_S * SECOND < when <= at]
            assert sum(recent) <= SHARE * recent.count(False) + 2 * SPAN_S
