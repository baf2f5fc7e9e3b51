from collections.abc import Sequence

import pytest

from tests.component.replay.scene import ANN, BOB, SECOND, Killed, Scene
from tracker.control.errors import Unavailable
from tracker.model.carry import MESSAGE_ID, REPLAY_ATTEMPT, REPLAY_ID, REPLAY_OF, Copy, Sent
from tracker.replay import Keeper, Selection, Worker
from tracker.replay.breaker import COOLDOWN_S, State
from tracker.replay.limits import Limits
from tracker.replay.ports import Ports


def killed(*_: object) -> None:
    """What a kill looks like from inside."""
    raise Killed


class TestSend:
    def test_what_arrives_is_the_message_with_three_headers_more(self, scene: Scene) -> None:
        """Same id, key and payload; in the log that it came from."""
        scene.lose("a")
        replay_id = scene.start()
        scene.worker().step()
        first, again = scene.records()
        assert (again.value, again.key, again.headers[MESSAGE_ID]) == (first.value, first.key, b"a")
        assert (again.headers[REPLAY_ID], again.headers[REPLAY_ATTEMPT]) == (replay_id.encode(), b"1")
        assert again.headers[REPLAY_OF] == b"kafka/orders/0/0"
        assert scene.states(replay_id) == {"a": "sent"}

    def test_nothing_is_sent_before_it_is_approved(self, guarded: Scene) -> None:
        """However often the worker comes round; and at once afterwards."""
        guarded.lose("a")
        replay_id = guarded.start()
        worker = guarded.worker()
        for _ in range(5):
            guarded.wait(60)
            worker.step()
        assert guarded.arrived() == []
        guarded.replays.approve(replay_id, BOB)
        worker.step()
        assert guarded.arrived() == [("a", replay_id, 1)]

    def test_the_rate_holds(self, scene: Scene) -> None:
        """20 a second for 4 seconds, whatever the rhythm of the rounds: 80, give or take one."""
        scene.lose(*[f"m-{n:03}" for n in range(100)])
        scene.replays.create(Selection(flow="orders"), ANN, rate=20)
        worker, began = scene.worker(), scene.now
        while scene.now - began < 4_000_000:
            scene.wait(max(0.2, worker.step()))
        assert 76 <= len(scene.arrived()) <= 82

    def test_two_replays_to_one_target_share_the_lower_rate(self, scene: Scene) -> None:
        """A rate protects the target, not the replay."""
        ids = [f"m-{n:03}" for n in range(60)]
        scene.lose(*ids)
        scene.replays.create(Selection(flow="orders", message_ids=tuple(ids[:30])), ANN, rate=10)
        scene.replays.create(Selection(flow="orders", message_ids=tuple(ids[30:])), ANN)
        worker, began = scene.worker(), scene.now
        while scene.now - began < 3_000_000:
            scene.wait(max(0.3, worker.step()))
        assert 26 <= len(scene.arrived()) <= 31
        assert len({replay for _, replay, _ in scene.arrived()}) == 2

    def test_two_trackers_take_turns_at_a_target(self, scene: Scene) -> None:
        """One sends, the other stands by until the first is gone."""
        scene.lose("a", "b")
        scene.start("a")
        one, two = scene.worker("one"), scene.worker("two")
        one.step()
        scene.start("b")
        two.step()
        assert [message for message, _, _ in scene.arrived()] == ["a"]
        scene.wait(11)
        two.step()
        assert [message for message, _, _ in scene.arrived()] == ["a", "b"]

    def test_pause_resume_and_cancel(self, scene: Scene) -> None:
        """Between batches; a cancelled one never goes on."""
        scene.lose("a", "b", "c")
        replay_id = scene.replays.create(Selection(flow="orders"), ANN, rate=1).replay.id
        worker = scene.worker()
        worker.step()
        scene.replays.pause(replay_id, BOB, "let us see")
        scene.wait(10)
        worker.step()
        assert len(scene.arrived()) == 1
        scene.replays.resume(replay_id, BOB)
        worker.step()
        scene.replays.cancel(replay_id, BOB)
        scene.wait(10)
        worker.step()
        assert len(scene.arrived()) == 2
        assert scene.replays.get(replay_id).replay.status == "cancelled"

    def test_every_step_is_in_the_audit_log(self, guarded: Scene) -> None:
        """Who asked, who approved, what was started, sent, followed up and finished; and the chain is sound."""
        guarded.lose("a")
        replay_id = guarded.start()
        guarded.replays.approve(replay_id, BOB)
        worker = guarded.worker()
        worker.step()
        guarded.consume("a")
        guarded.wait(1)
        worker.step()
        assert guarded.audited(replay_id) == [
            ("ann", "request"), ("bob", "approve"), ("w", "start"), ("w", "send"), ("w", "follow_up"), ("w", "finish"),
        ]  # fmt: skip
        assert guarded.control.audit.verify() is None


class TestScreen:
    def test_what_recovered_meanwhile_is_not_sent(self, guarded: Scene) -> None:
        """It may have waited an hour for its approval."""
        guarded.lose("a", "b")
        replay_id = guarded.start()
        guarded.consume("a")
        guarded.replays.approve(replay_id, BOB)
        guarded.rounds(guarded.worker())
        assert guarded.arrived() == [("b", replay_id, 1)]
        assert guarded.states(replay_id) == {"a": "recovered", "b": "sent"}

    @pytest.mark.parametrize("status", ["withdrawn", "abandoned"])
    def test_what_needs_nothing_any_more_is_refused(self, guarded: Scene, status: str) -> None:
        """With the reason."""
        guarded.lose("a")
        replay_id = guarded.start()
        guarded.find("a", status)
        guarded.replays.approve(replay_id, BOB)
        guarded.worker().step()
        assert guarded.states(replay_id) == {"a": "refused"}
        assert status in guarded.errors(replay_id)["a"]

    def test_a_wrong_copy_is_refused_and_the_others_go(self, scene: Scene) -> None:
        """The log holds something else at that place than what was observed there."""
        scene.lose("a", "b")
        log = scene.broker._logs[scene.broker.slots(["orders"])[0]]
        log.records[0] = type(log.records[0])(
            **{name: getattr(log.records[0], name) for name in log.records[0].__struct_fields__} | {"value": b"changed"}
        )
        replay_id = scene.start()
        scene.rounds(scene.worker())
        assert scene.states(replay_id) == {"a": "refused", "b": "sent"}
        assert "digest" in scene.errors(replay_id)["a"]
        assert scene.arrived() == [("b", replay_id, 1)]

    def test_what_retention_took_is_refused(self, scene: Scene) -> None:
        """With the source's own reason."""
        scene.lose("a", "b")
        log = scene.broker._logs[scene.broker.slots(["orders"])[0]]
        log.records.popleft()
        replay_id = scene.start()
        scene.worker().step()
        assert "retention" in scene.errors(replay_id)["a"]

    def test_a_loop_is_parked(self, scene: Scene) -> None:
        """The copy itself says that it was sent again as often as is allowed, whatever our books say."""
        headers = {MESSAGE_ID: b"a", REPLAY_ID: b"of-another-tracker", REPLAY_ATTEMPT: b"3"}
        scene.broker.append("orders", b"x", None, headers)
        scene.observe()
        scene.find("a")
        replay_id = scene.start()
        scene.worker().step()
        assert scene.states(replay_id) == {"a": "parked"}
        assert scene.arrived() == [("a", "of-another-tracker", 3)]

    def test_attempt_numbers_of_another_tracker_are_passed_over(self, scene: Scene) -> None:
        """The copy is of attempt 1 already: ours goes out as number 2."""
        headers = {MESSAGE_ID: b"a", REPLAY_ID: b"of-another-tracker", REPLAY_ATTEMPT: b"1"}
        scene.broker.append("orders", b"x", None, headers)
        scene.observe()
        scene.find("a")
        replay_id = scene.start()
        worker = scene.worker()
        for _ in range(3):
            scene.wait(1)
            worker.step()
        assert scene.arrived()[1:] == [("a", replay_id, 2)]

    def test_one_message_in_two_replays_is_sent_once(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two requests at the same moment, neither of which could see the other."""
        scene.lose("a")
        monkeypatch.setattr("tracker.replay.service.ask.pasts", lambda *_: {})
        first = scene.start()
        scene.wait(1)
        second = scene.start()
        worker = scene.worker()
        for _ in range(3):
            worker.step()
            scene.wait(1)
        assert [message for message, _, _ in scene.arrived()] == ["a"]
        assert sorted([scene.states(first)["a"], scene.states(second)["a"]]) == ["refused", "sent"]

    def test_a_source_that_does_not_answer_uses_up_no_attempt(self, scene: Scene) -> None:
        """The messages are given back, the target rests, and later they go out as attempt 1."""
        scene.lose(*"abcdef")
        replay_id = scene.start()
        worker = scene.worker()
        scene.wait(1)
        worker.step()
        scene.port.unreadable = True
        scene.rounds(worker, 10, 2)
        scene.port.unreadable = False
        assert set(scene.states(replay_id).values()) <= {"planned", "sent"}
        scene.rounds(worker, 10, 6)
        assert {attempt for _, _, attempt in scene.arrived()} == {1}
        assert len(scene.arrived()) == 6

    def test_a_store_that_does_not_answer_gives_the_batch_back(self, scene: Scene, monkeypatch) -> None:
        """Nothing was sent, no attempt is used up, and the worker hears of it."""
        scene.lose("a")
        replay_id = scene.start()
        worker = scene.worker()
        answers = scene.events_of

        def down(*_: object) -> None:
            raise Unavailable("the store is down")

        monkeypatch.setattr(scene, "events_of", down)
        with pytest.raises(Unavailable):
            worker.step()
        assert scene.states(replay_id) == {"a": "planned"}
        monkeypatch.setattr(scene, "events_of", answers)
        worker.step()
        assert scene.arrived() == [("a", replay_id, 1)]


class TestTrouble:
    def test_a_refusing_target_opens_the_circuit(self, scene: Scene) -> None:
        """One batch of attempts, then single ones; no storm. Nothing is lost, and all of it arrives afterwards."""
        ids = [f"m-{n:03}" for n in range(12)]
        scene.lose(*ids)
        replay_id = scene.replays.create(Selection(flow="orders"), ANN, rate=50).replay.id
        worker = scene.worker()
        scene.port.refuses = True
        scene.rounds(worker, 30, 1)
        assert worker.sender.targets["kafka"].circuit is not State.closed
        assert len(scene.port.batches) <= 3 + 30 / COOLDOWN_S
        scene.port.refuses = False
        for _ in range(30):
            scene.observe()
            scene.consume(*[message for message, _, _ in scene.arrived()])
            scene.rounds(worker, 1, 4)
        assert sorted(message for message, _, _ in scene.arrived()) == ids
        assert set(scene.states(replay_id).values()) == {"recovered"}

    def test_a_publisher_that_raises_leaves_doubt(self, scene: Scene) -> None:
        """Some of the batch may have arrived: only the ledger says which."""
        scene.lose("a", "b")

        def breaks(_: object) -> None:
            raise ConnectionResetError("connection reset")

        scene.port.after = breaks
        replay_id = scene.start()
        worker = scene.worker()
        scene.rounds(worker)
        assert set(scene.states(replay_id).values()) == {"in_doubt"}
        assert "connection reset" in scene.errors(replay_id)["a"]
        scene.observe()
        worker.step()
        assert set(scene.states(replay_id).values()) == {"sent"}
        assert len(scene.arrived()) == 2

    def test_a_claim_that_has_nearly_run_out_is_not_begun(self, scene: Scene) -> None:
        """Fetching took long; what is begun now might be settled by another tracker while it is on its way."""
        scene.lose("a")
        replay_id = scene.start()
        scene.port.reading = lambda: scene.wait(20)
        scene.worker().step()
        assert (scene.arrived(), scene.states(replay_id)) == ([], {"a": "planned"})

    def test_a_claim_settled_meanwhile_is_told(self, scene: Scene) -> None:
        """The tracker stood still while publishing, another one took over: the message went out twice, and the audit
        log says so."""
        scene.lose("a")
        replay_id = scene.start()

        def stands_still(_: object) -> None:
            scene.port.before = lambda copies: None
            scene.wait(60)
            scene.observe()
            other = scene.worker("other")
            for _ in range(4):
                other.step()
                scene.wait(10)

        scene.port.before = stands_still
        scene.worker("slow").step()
        assert [message for message, _, _ in scene.arrived()] == ["a", "a"]
        told = [e.detail for e in scene.control.audit.entries(subject=f"replay/{replay_id}").items if e.who == "slow"]
        assert told[-1]["perhaps_sent_twice"] == ["a"]

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_a_kill_leaves_claims_that_nobody_takes_in_time(self, scene: Scene, moment: str) -> None:
        """Until they expire they are the dead one's; then they are in doubt, not free."""
        scene.lose("a")
        replay_id = scene.start()
        setattr(scene.port, moment, killed)
        with pytest.raises(Killed):
            scene.worker("first").step()
        setattr(scene.port, moment, lambda copies: None)
        second = scene.worker("second")
        scene.wait(30)
        second.step()
        assert scene.states(replay_id) == {"a": "claimed"}
        scene.wait(20)
        second.step()
        assert scene.states(replay_id) == {"a": "in_doubt"}


class TestUntried:
    def test_what_the_publisher_did_not_come_to_is_given_back(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A slow target: the time of the batch was over. It uses up no attempt, and goes with one of the next batches;
        the target took some, so nothing is wrong with it."""
        scene.lose("a", "b", "c", "d", "e", "f", "g", "h")
        replay_id = scene.start()
        publish = scene.port.publish

        def slowly(copies: Sequence[Copy]) -> list[Sent]:
            left = [Sent(copy.locator, "not sent: the time is over", untried=True) for copy in copies[1:]]
            return [*publish(copies[:1]), *left]

        monkeypatch.setattr(scene.port, "publish", slowly)
        worker = scene.worker()
        scene.rounds(worker, 2)
        states = scene.states(replay_id)
        assert sorted(states.values()) == ["planned"] * 6 + ["sent"] * 2
        assert "the time is over" in scene.errors(replay_id)["h"]
        assert worker.sender.targets["kafka"].circuit is State.closed
        scene.rounds(worker, 6)
        assert {attempt for _, _, attempt in scene.arrived()} == {1}
        assert set(scene.states(replay_id).values()) == {"sent"}

    def test_a_target_without_a_connection_is_left_alone(self, scene: Scene) -> None:
        """However long it is away: nothing was sent, so no attempt is used up; its circuit is open, and says why."""
        scene.lose("a", "b", "c", "d", "e", "f")
        replay_id = scene.start()
        worker = scene.worker()
        scene.port.away = True
        scene.rounds(worker, 60, 5)
        shown = scene.replays.get(replay_id)
        assert shown.messages["planned"] == 6
        assert "no connection" in shown.replay.detail
        assert sum(scene.port.batches) < 40
        scene.port.away = False
        scene.observe()
        scene.rounds(worker, 20, 5)
        assert sorted(scene.arrived()) == [(one, replay_id, 1) for one in "abcdef"]


class TestConnected:
    def alone(self, scene: Scene, *hops: str, sources: bool = True) -> Worker:
        """A worker of a tracker that is connected to these targets only."""
        known = {Keeper("log", "kafka"): scene.port} if sources else {}
        ports = Ports(known, dict.fromkeys(hops, scene.port))
        steady = lambda: scene.now / SECOND  # noqa: E731 - a clock
        return Worker(scene, scene.control, ports, lambda: scene.now, steady, f"to {hops}", Limits(), lambda _, b: b)

    def test_a_tracker_without_the_target_leaves_it_to_others(self, scene: Scene) -> None:
        """It takes neither messages nor the lease, uses up no attempt, and says what to do while nobody else sends."""
        scene.lose("a", "b")
        replay_id = scene.start()
        lonely = self.alone(scene, "elsewhere")
        scene.rounds(lonely, 30, 20)
        assert scene.states(replay_id) == {"a": "planned", "b": "planned"}
        assert "this tracker cannot send to kafka: add it to the file" in scene.replays.get(replay_id).replay.detail
        able = scene.worker()
        for _ in range(6):
            able.step()
            lonely.step()
            scene.wait(1)
        assert sorted(scene.arrived()) == [("a", replay_id, 1), ("b", replay_id, 1)]
        assert scene.replays.get(replay_id).replay.detail == ""

    def test_a_tracker_without_the_source_says_so(self, scene: Scene) -> None:
        """In words, not as the name of a key."""
        scene.lose("a")
        replay_id = scene.start()
        scene.rounds(self.alone(scene, "kafka", sources=False), 5, 1)
        assert scene.states(replay_id) == {"a": "planned"}
        assert scene.errors(replay_id)["a"] == (
            "log kafka cannot be read: this tracker is not connected to it: add it to the file that TRACKER_HOPS names"
        )
