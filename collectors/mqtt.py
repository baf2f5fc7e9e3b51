"""Watches one topic filter of a Mosquitto, by a subscriber of its own whose session the broker keeps.

It sees that the broker took a message (`persist`), and not what other clients did with it. Facts of MQTT 5.0: a message
of QoS 1 comes again until it is acknowledged (4.4), one of QoS 0 never does (4.3.1). A session keeps what comes while
its client is away, until it expires (3.1.2.11.2) and as far as the broker's queue goes; Mosquitto drops the rest in
silence, and counts that, for all clients together (mosquitto(8): `$SYS/broker/publish/messages/dropped`).

`collectors.pushed` asks questions: an UNSUBSCRIBE of what was never subscribed, which changes nothing. Mosquitto has
one thread and answers in order; of other brokers nobody knows, so they are vouched for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from paho.mqtt import MQTTException
from paho.mqtt.client import ConnectFlags
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions
from pydantic import Field, field_validator

from collectors.base import Content, Lag, Raw, Unavailable, Undecodable
from collectors.carried import carried, digest_of, now_micros, number
from collectors.clock import Clock, steady
from collectors.inbox import Inbox
from collectors.mqtt_client import NATIVE, Publication, Reader, Server, connected
from collectors.part import settings
from collectors.pushed import EVERY, SLACK, Pushed
from tracker.model.carry import MESSAGE_ID
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage

SYSTEM, VERSION, UPTIME = "$SYS/", "$SYS/broker/version", "$SYS/broker/uptime"
COUNTS, DROPPED, SENT = (f"$SYS/broker/publish/messages/{name}" for name in ("+", "dropped", "sent"))
"""The last one always changes: who is told it would be told the other."""
QUESTION = "message-tracker/all-of-it"
"""What is never subscribed."""
RETAINED = 55_000_000
"""Microseconds: before 2.1 a count that did not change for a minute is told no more. It did not change since then."""
PATIENCE = 30_000_000
"""Microseconds until CONNECT and SUBSCRIBE are answered, and a question: before its answer much may lie."""
MOST = 1.0
"""Seconds that a commit waits for the broker's word."""
PROMPT = 1_000_000
"""Microseconds: what came within is dated by the moment at which it was read."""


class Config(Server):
    """The keys beside `name` and `kind`; `docs/collectors/mqtt.md` explains each."""

    topic: str = Field(min_length=1, pattern=r"^(#|(\+|[^+#/]*)(/(\+|[^+#/]*))*(/#)?)$")  # 4.7.1
    flow: str
    hop: str
    client_id: str = ""
    identity_header: str = MESSAGE_ID
    at_least_once: bool = False
    window: Annotated[int, Field(ge=1, le=65_535)] = 5_000
    memory_mb: Annotated[int, Field(ge=1)] = 64
    expiry: Annotated[int, Field(ge=60, le=2**32 - 1)] = 7 * 86_400
    node: str = ""
    region: str = ""

    @field_validator("topic")
    @classmethod
    def _its_own(cls, topic: str) -> str:
        if topic.startswith("$"):
            raise ValueError("a shared subscription takes messages from others, and $SYS holds none")
        return topic


class Place(NamedTuple):
    """Of a message: the connection that it came on; its packet id, the same as long as the session lives (0: QoS 0 has
    none); its topic; since when it may have waited in the broker (epoch µs)."""

    connection: int
    mid: int
    topic: str
    since: int | None


def subscribe(name: str, config: Mapping[str, Any], folder: Path | None = None) -> Subscriber:
    """A collector as the configuration describes it. Raises `ConfigInvalid` that names the key."""
    return Subscriber(name, settings(Config, config, f"collector {name}"), folder)


class Subscriber:
    """One session. `folder`: where what the next process has to know is kept, so that a restart leaves no hole."""

    def __init__(self, name: str, config: Config, folder: Path | None = None, clock: Clock | None = None) -> None:
        self._config, self._clock, self.window = config, clock or steady(), config.window
        self._client_id = config.client_id or f"message-tracker-{name}"
        watched = SourceRef(config.flow, config.hop, Stage.persist.value, f"{self._client_id} {config.topic}")
        self._inbox = Inbox([watched], self._clock)
        kept = folder / "session.json" if folder else None
        self._pushed = Pushed(
            config.topic, self._inbox, self.window, config.at_least_once, config.expiry * 1_000_000, self._clock, kept
        )
        self._client: Reader | None = None
        self._error: Exception | None = None
        self._fresh()

    def read(self, limit: int, wait: float) -> list[Raw]:
        """What the broker gave. Connects when it has to."""
        client = self._connected()
        raws = self._inbox.read(limit, wait, partial(self._pump, client))
        if self._error and not raws:
            self.close()
            raise self._error
        return raws

    def decode(self, raw: Raw) -> list[Event]:
        """One event. Its delivery is the packet id: the same when the broker gives the message again, another one when
        somebody publishes the same id again. A new session begins with the same packet ids, so which replay it is is
        part of it."""
        place = raw.position
        if not isinstance(place, Place) or raw.observed_at is None:
            raise Undecodable("no message of a subscription")
        said = carried(raw.headers, self._config.identity_header)
        if not said.message_id:
            raise Undecodable(f"a message of {place.topic!r} has no user property {self._config.identity_header!r}")
        config, again = self._config, f" {said.replay_id} {said.attempt}" if said.replay_id else ""
        return [
            said.event(
                flow=config.flow,
                hop=config.hop,
                stage=Stage.persist,
                observed_at=raw.observed_at,
                observed_from=place.since,
                delivery=f"{place.mid or raw.observed_at}{again}",
                digest=digest_of(raw.value),
                size=len(raw.value),
                partition=place.topic,
                node=config.node,
                region=config.region,
            )
        ]

    def content(self, raw: Raw, _: Event) -> Content:
        """Payload and user properties; `native` tells a publisher the topic."""
        return Content(None, raw.value, raw.headers, NATIVE + raw.position.topic.encode())

    def commit(self, raws: Sequence[Raw]) -> None:
        """Acknowledge, and wait for an answer behind it: the broker has it then, whatever becomes of us. What came on a
        connection that is gone comes again on the next one, by the same packet id."""
        client, until, room = self._client, time.monotonic() + MOST, self._config.memory_mb << 20
        mids = self._pushed.settled(raw.position[:2] for raw in raws)
        if not client or not mids:
            return
        for mid in mids:
            client.ack(mid, 1)
        self._ask(client)
        while self._pushed.waits is not None and self._inbox.size < room and time.monotonic() < until:
            if not self._pump(client, 0.05):
                break

    def sources(self) -> Sequence[SourceRef] | None:
        """The filter, once all of it was read. After a hole one answer is empty."""
        return self._inbox.sources()

    def lag(self) -> Lag:
        """Since all of it was read. How much waits in the broker it does not say."""
        return self._inbox.lag()

    def close(self) -> None:
        """The session stays."""
        if self._client:
            self._client.disconnect()
            self._client = None

    # -- the connection ---------------------------------------------------------------------------------------------

    def _connected(self) -> Reader:
        waits = self._pushed.waits if self._subscribed else self._clock() - self._pushed.began
        if self._client and (waits or 0) > PATIENCE:
            self.close()
            raise Unavailable(f"{self._config.shown}: no answer")
        if self._client is None:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # as the library has it
            properties.SessionExpiryInterval, properties.ReceiveMaximum = self._config.expiry, self.window
            # What is watched by a session is unknown to MQTT: one that watched something else is left behind.
            client = connected(
                self._config, self._client_id, Reader, clean_start=self._pushed.other, properties=properties
            )
            client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
            client.on_subscribe, client.on_unsubscribe = self._on_subscribe, self._on_answer
            client.given = self._on_publication
            self._client = client
            self._fresh()
        return self._client

    def _fresh(self) -> None:
        """A connection begins."""
        self._pushed.begins()
        self._subscribed = self._in_order = False
        self._error = None
        self._began: int | None = None  # the broker, as its uptime says
        self._counting = False  # it tells its counts
        self._behind: int | None = None  # the question behind them; 0: to be put

    def _pump(self, client: Reader, wait: float) -> bool:
        """Whether there may be more."""
        if self._pushed.due:
            self._ask(client)
        try:
            code = client.loop(min(wait, EVERY / 1e6))
            why = "" if code == MQTTErrorCode.MQTT_ERR_SUCCESS else code.name
        except MQTTException as error:  # what the broker said is no MQTT
            why = str(error)
        if why and not self._error:
            self._error = Unavailable(f"{self._config.shown}: {why}")
        return not self._error

    def _on_connect(self, client: Any, _: Any, flags: ConnectFlags, reason: ReasonCode, __: Any) -> None:
        if reason.is_failure:
            self._error = self._config.refused("", reason)
            return
        self._pushed.goes_on(flags.session_present)
        mine = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        told = SubscribeOptions(qos=0)
        client.subscribe([(self._config.topic, mine), (VERSION, told), (UPTIME, told)])

    def _on_subscribe(self, _: Any, __: Any, ___: int, reasons: list[ReasonCode], ____: Any) -> None:
        if self._subscribed:
            return
        if reasons[0].is_failure:
            self._error = self._config.refused(f"topic {self._config.topic!r}: ", reasons[0])
            return
        self._subscribed = True
        if reasons[0].value == 0:  # less than we asked for
            self._pushed.learned(fleeting=True)

    def _on_disconnect(self, _: Any, __: Any, ___: Any, reason: ReasonCode, ____: Any) -> None:
        self._error = self._error or Unavailable(f"{self._config.shown}: connection ended: {reason}")

    # -- what comes -------------------------------------------------------------------------------------------------

    def _on_publication(self, said: Publication) -> None:
        self._pushed.came(said.mid)
        if said.topic.startswith(SYSTEM):
            self._on_told(said)
            return
        read_at, waited = now_micros(), self._pushed.since(PROMPT)
        self._pushed.learned(True, not said.qos, said.expires)
        place = Place(self._pushed.connection, said.mid, said.topic, None if waited is None else read_at - waited)
        self._inbox.put(Raw(said.payload, said.headers, position=place, observed_at=read_at))

    def _on_told(self, said: Publication) -> None:
        if said.topic == VERSION:
            self._in_order = said.payload.startswith(b"mosquitto")
        elif said.topic == UPTIME and not said.retain:  # a retained one is old
            seconds = number(said.payload.partition(b" ")[0])  # "17 seconds"
            if seconds is not None and seconds * 1_000_000 >= SLACK and self._client:
                self._began = self._clock() - seconds * 1_000_000
                self._pushed.counts()
                self._client.subscribe(COUNTS)  # to have them retained: they are told when they change, and at QoS 0
                self._counting, self._behind = False, 0
        elif said.topic == SENT:
            self._counting = True
        elif said.topic == DROPPED and (dropped := number(said.payload)) is not None:
            self._on_count(dropped)

    def _on_count(self, dropped: int | None, still: int = 0) -> None:
        if self._began is not None and self._pushed.told(self._began, dropped, still):
            self._error = Unavailable(f"{self._config.shown}: too slow: the broker dropped messages")

    def _ask(self, client: Reader) -> None:
        if self._subscribed:
            asked = client.unsubscribe(QUESTION)[1] or 0
            self._pushed.asks(asked)
            self._behind = asked if self._behind == 0 else self._behind

    def _on_answer(self, _: Any, __: Any, mid: int, *___: Any) -> None:
        self._pushed.answered(mid, self._in_order)
        if mid == self._behind and self._counting:
            self._on_count(None, self._clock() - RETAINED)
