import threading
import time

from tests.component.replay.scene import ANN, Scene
from tracker.control.errors import Unavailable
from tracker.replay.limits import Limits


def until(condition, seconds: float = 10.0) -> None:
    """Wait for what a thread does, at most so long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


class TestRun:
    def test_it_sends_until_it_is_stopped(self, scene: Scene) -> None:
        """As a thread, on the real clocks; another tracker can take over at once."""
        scene.lose("a")
        replay_id = scene.start()
        stop = threading.Event()
        worker = scene.replays.worker(limits=Limits(look_s=0.01))
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        until(lambda: scene.arrived() == [("a", replay_id, 1)])
        scene.consume("a")
        until(lambda: scene.replays.get(replay_id).replay.status == "done")
        stop.set()
        thread.join(10)
        assert not thread.is_alive()
        assert scene.control.leases.acquire("replay.send/kafka", "another", scene.now, 1) is not None

    def test_trouble_does_not_end_it(self, scene: Scene, monkeypatch) -> None:
        """The control database is away for a while; the work goes on."""
        monkeypatch.setattr("tracker.replay.worker.TROUBLE_WAIT_S", 0.0)
        scene.lose("a")
        scene.start()
        worker = scene.replays.worker()
        step, troubles = worker.step, [Unavailable("the database is away")] * 2

        def stumbles() -> float:
            if troubles:
                raise troubles.pop()
            return step()

        monkeypatch.setattr(worker, "step", stumbles)
        stop = threading.Event()
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        until(lambda: len(scene.arrived()) == 1)
        stop.set()
        thread.join(10)


def test_two_processes_never_have_one_name(scene: Scene) -> None:
    """Claims of a process that was killed must not look like those of the one started after it."""
    assert scene.replays.worker().owner != scene.replays.worker().owner


def test_an_old_replay_that_is_cancelled_is_followed_up(scene: Scene) -> None:
    """However many were cancelled that are newer: what it sent is not forgotten."""
    names = [f"m-{n}" for n in range(101)]
    scene.lose("a", *names)
    old = scene.start("a")
    worker = scene.worker()
    worker.step()
    for name in names:
        scene.wait(0.1)
        scene.replays.cancel(scene.start(name), ANN)
    worker.step()
    scene.replays.cancel(old, ANN)
    scene.consume("a")
    scene.rounds(worker, 2)
    assert scene.states(old) == {"a": "recovered"}


def test_a_cancelled_replay_that_nobody_saw_alive_is_followed_up(scene: Scene) -> None:
    """Its tracker died between two looks of ours."""
    scene.lose("a")
    ours = scene.worker("ours")
    ours.step()
    replay_id = scene.start()
    scene.worker("theirs").step()
    scene.replays.cancel(replay_id, ANN)
    scene.consume("a")
    scene.rounds(ours, 4, 20)
    assert scene.states(replay_id) == {"a": "recovered"}
