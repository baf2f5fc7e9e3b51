"""The real path, from our side: canaries are sent by a hop's publisher and told as produced; where asked, consumed and
told as acked. Both by the collectors' own emitters."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Self

from collectors.base import Lag
from collectors.carried import digest_of
from collectors.clock import now_micros
from collectors.emitter import Emitter
from collectors.errors import CollectorError, Unavailable
from collectors.instrument.observe import Observer
from tracker.cli import hops
from tracker.cli.errors import UNAVAILABLE, CommandError
from tracker.cli.settings import client_settings
from tracker.gameday.lane import Lane
from tracker.model.carry import CANARY, ORIGIN_AT, Copy, Locator, Publisher, Received, Receiver
from tracker.model.coverage import SourceRef
from tracker.model.event import Stage

WAIT_S = 0.2
RECEIVERS = {"kafka": "collectors.kafka.receiver:receiver", "rabbitmq": "collectors.rabbitmq.receiver:receiver"}
"""By the kind of a hop."""
PLACE = ("kind", "url", "topic", "queue", "exchange", "routing_key")
"""What tells two places apart that a hop may be."""
Act = Literal["skip", "hold"]


class Consumer:
    """Takes canaries at one hop, acks each and tells it; those that are marked are skipped or held instead. All calls
    to the broker are made by its own thread. `acked`: when each was acked for the first time (epoch microseconds)."""

    def __init__(self, lane: Lane, hop: str, receiver: Receiver, emitter: Emitter, source: str) -> None:
        self.hop, self.error = hop, ""
        self.acked: dict[str, int] = {}
        self._receiver, self._emitter = receiver, emitter
        self._stages = lane.stages(hop)
        self._observer = Observer(emitter, lane.flow, hop, identity_header=lane.spec.identity.header)
        self._sources = [SourceRef(lane.flow, hop, stage.value, source) for stage in self._stages]
        self._marked: dict[str, Act] = {}
        self._held: list[Received] = []
        self._untold: list[tuple[Received, int]] = []
        self._release, self._muted, self._stopping = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"canary consumer {hop}", daemon=True)
        self._thread.start()

    def mark(self, ids: Iterable[str], act: Act) -> None:
        """Do this with each of them when it comes for the first time."""
        self._marked |= dict.fromkeys(ids, act)

    def release(self) -> None:
        """Ack what is held."""
        self._release.set()

    def mute(self) -> None:
        """Go on consuming, and tell the tracker nothing."""
        self._muted.set()

    def unmute(self) -> None:
        """Tell what was not told, and go on."""
        self._muted.clear()

    def close(self) -> None:
        """Ack what is held, tell everything, sign off."""
        self.release()
        self.unmute()
        self._stopping.set()
        self._thread.join(30)
        self._emitter.sign_off(self._sources)
        self._emitter.close()
        with suppress(CollectorError):
            self._receiver.close()

    def _run(self) -> None:
        last = False
        while not last:
            last = self._stopping.is_set()  # one round more, for what is held
            try:
                self._take(self._receiver.receive(WAIT_S))
                self.error = ""
            except CollectorError as error:  # the broker may be what is being drilled
                self.error = str(error)
                self._stopping.wait(WAIT_S)
            except Exception as error:
                self.error = f"a defect has ended it: {error!r}"
                raise
            if not self._muted.is_set():
                self._tell()

    def _take(self, taken: Sequence[Received]) -> None:
        done: list[Received] = []
        for one in taken:
            act = self._marked.pop(one.message_id, None)
            if act == "hold":
                self._held.append(one)
            else:
                if act is None:
                    self._ack(one)
                done.append(one)
        if self._release.is_set() and self._held:
            for one in self._held:
                self._ack(one)
            done, self._held = done + self._held, []
        if not self._muted.is_set():
            self._tell()  # before the broker is told, as every instrumented client does
        if done:
            self._receiver.settle(done)

    def _ack(self, one: Received) -> None:
        now = now_micros()
        self.acked.setdefault(one.message_id, now)
        self._untold.append((one, now))

    def _tell(self) -> None:
        """Everything that was acked until now, and that this is all."""
        at = self._emitter.clock()
        told, self._untold = self._untold, []
        for one, when in told:
            for stage in self._stages:
                self._observer.observe(stage, one.headers, one.value, observed_at=when, **one.where)
        self._emitter.vouch(self._sources, Lag(), at)


class Road:
    """Sends canaries and, at the hops of `consume`, takes them. `kind` is how their ids begin: `canary` or `drill`.
    `refused`: what brokers said of those that they did not confirm."""

    def __init__(
        self, lane: Lane, kind: str, file: Path, consume: Sequence[str], spool: Path, also: Iterable[str] = ()
    ) -> None:
        """`also`: further hops to send to. Raises CommandError."""
        self.lane, self.refused = lane, Counter[str]()
        known = _checked(lane, file, consume, also)
        settings = client_settings()
        where = settings.url, settings.token.get_secret_value()
        name = f"{kind}.{lane.flow}.{socket.gethostname()}"
        self._identity = lane.spec.identity.header
        self.consumers: dict[str, Consumer] = {}
        with ExitStack() as stack, _ours():
            self._publishers = _publishers(stack, known, {lane.first, *also})
            for hop in consume:
                receiver = _receiver(known[lane.consumers[hop]], f"tracker.canary.{lane.flow}.{hop}", self._identity)
                emitter = Emitter(*where, collector=f"{name}.{hop}", spool=spool / hop, reader=True, own_clock=True)
                self.consumers[hop] = Consumer(lane, hop, receiver, emitter, name)
                stack.callback(self.consumers[hop].close)
            emitter = Emitter(*where, collector=name, spool=spool / "produce")
            stack.callback(emitter.close)
            self._observer = Observer(
                emitter, lane.flow, lane.producer, stages=[Stage.produce], identity_header=self._identity, source=name
            )
            self.collectors = frozenset({name, *(f"{name}.{hop}" for hop in consume)})
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        """Itself; `close` at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def send(
        self, name: str, *, at: int = 0, told: bool = True, sent: bool = True, other: str = "", hop: str = ""
    ) -> str:
        """One canary, produced `at` (epoch microseconds, 0: now), to the first hop, or to `hop`. `told`: as produced,
        when the broker has confirmed it; not `sent`: only told. `other`: makes another payload of it. Gives what the
        broker says where it did not confirm, else nothing."""
        at = at or now_micros()
        value = f'{{"canary":"{name}{other}"}}'.encode()
        headers = {self._identity: name.encode(), ORIGIN_AT: str(at).encode(), CANARY: self.lane.flow.encode()}
        if sent:
            place = Locator(name, hop or self.lane.first, "", 0)
            [got] = self._publishers[place.hop].publish([Copy(place, name.encode(), value, headers, digest_of(value))])
            if got.error:
                self.refused[got.error] += 1
                return got.error
        if told:
            self._observer.produce(headers, value, observed_at=at, message_id=name)
        return ""

    def close(self) -> None:
        """Everything is told, every connection closed."""
        self._observer.close()
        self._open.close()


@contextmanager
def _ours() -> Iterator[None]:
    try:
        yield
    except Unavailable as error:
        raise CommandError(str(error), UNAVAILABLE) from None
    except CollectorError as error:
        raise CommandError(str(error)) from None


def _checked(lane: Lane, file: Path, consume: Sequence[str], also: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What the file says of the hops. One of the lane that is the place of another hop would put canaries where others
    read: CommandError."""
    known = hops.read(file)
    for hop in consume:
        if hop not in lane.consumers:
            raise CommandError(f"--consume {hop}: {lane.flow} has acks at {', '.join(lane.consumers) or 'no hop'}")
    for hop in sorted({lane.first, *also, *(lane.consumers[hop] for hop in consume)}):
        if "kind" not in known.get(hop, {}):
            raise CommandError(f"{file}: hop {hop!r} is not there: say how to reach the topic or queue of the canaries")
        for other, config in known.items():
            if other not in lane.spec.hops and "kind" in config and _place(config) == _place(known[hop]):
                raise CommandError(
                    f"{file}: {hop!r} is the same place as {other!r}: canaries need a topic or queue of their own"
                )
    return known


def _place(config: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(config.get(key, "")).removeprefix("kafka://") for key in PLACE)


def _publishers(stack: ExitStack, known: Mapping[str, Any], needed: Iterable[str]) -> Mapping[str, Publisher]:
    own = {hop: {key: value for key, value in known[hop].items() if key not in hops.BESIDE} for hop in needed}
    ends = hops.build(own)
    stack.callback(ends.close)
    for hop in own:
        if hop not in ends.publishers:
            raise CommandError(f"hop {hop!r} is only read from: name its topic or queue, too")
    return ends.publishers


def _receiver(config: Mapping[str, Any], group: str, identity: str) -> Receiver:
    kind, place = config["kind"], config.get("topic") or config.get("queue")
    if kind not in RECEIVERS or not place:
        raise CommandError(f"a {kind} hop without topic or queue is not consumed here: let a consumer of yours do it")
    module, _, function = RECEIVERS[kind].partition(":")
    about = {"topic": place, "group": group} if kind == "kafka" else {"queue": place}
    more = {key: config[key] for key in ("client", "tls") if key in config}
    made: Receiver = getattr(import_module(module), function)(
        {"url": config["url"], "identity_header": identity, **about, **more}
    )
    return made
