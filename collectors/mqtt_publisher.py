"""MQTT: sending copies of messages again. Implements `Publisher` of `tracker.model.carry`."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

from paho.mqtt import MQTTException
from paho.mqtt.client import Client, ConnectFlags, MQTTMessageInfo
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import Field

from collectors.batches import Tried, in_batches
from collectors.errors import CollectorError, Unavailable
from collectors.mqtt_client import NATIVE, Server, connected
from collectors.part import settings
from tracker.model.carry import MESSAGE_ID, PUBLISH_S, Copy, Sent

BATCH = 20
"""Copies that are on their way at once, if the broker takes as many; the client library holds back more."""
MOST, ROUND = 268_435_455, 9
"""Bytes of a packet where the broker sets no other limit, and what else is in one: its head, and two lengths."""
NOBODY = 0x10
"""Of a PUBACK (3.4.2.1): no matching subscribers."""


class PublisherConfig(Server):
    """`topic`: where all copies go; left out: to the topic that each had, which an archive of MQTT knows. `timeout`:
    seconds for the broker's answers to one call, 15 at most."""

    topic: str = ""
    timeout: Annotated[float, Field(gt=0)] = PUBLISH_S / 2


def publisher(config: Mapping[str, Any]) -> MqttPublisher:
    """A publisher as configured. Raises `ConfigInvalid` that names the key."""
    return MqttPublisher(settings(PublisherConfig, config, "MQTT publisher"))


class MqttPublisher:
    """Publishes at QoS 1, not retained, over one connection for each call. One thread at a time."""

    def __init__(self, config: PublisherConfig) -> None:
        self._config = config
        self._what = f"MQTT {config.shown}"
        self._batch, self._most = BATCH, MOST  # or what the broker says

    def publish(self, copies: Sequence[Copy]) -> list[Sent]:
        """One answer per copy, in order; never raises. An `error` begins with `not sent`, `refused` (by the broker) or
        `in doubt` (sent, and nobody answered). When the broker does not answer, or the time is over, the others are not
        tried. Where nobody has subscribed, no session either, the broker forgets it at once, and that is `refused`."""
        within = min(self._config.timeout, PUBLISH_S / 2)
        try:
            client = self._connected(time.monotonic() + within)
        except CollectorError as error:
            return [Sent(copy.locator, f"not sent: {error}", untried=True) for copy in copies]
        answers = in_batches(copies, self._batch, within, self._what, partial(self._attempt, client))
        client.disconnect()
        return answers

    def _attempt(self, client: Client, copies: Sequence[Copy], until: float) -> Tried:
        said: dict[int, ReasonCode] = {}
        errors: dict[int, str] = {}
        sent: dict[int, int] = {}
        client.on_publish = lambda _, __, mid, reason, ___: said.update({mid: reason})
        for number, copy in enumerate(copies):
            try:
                sent[number] = self._send(client, copy).mid
            except (ValueError, MQTTException) as error:
                errors[number] = f"not sent: {self._what}: {error}"
        while len(said) < len(sent) and client.is_connected() and time.monotonic() < until:
            client.loop(0.1)
        errors |= {number: self._said(said.get(mid)) for number, mid in sent.items()}
        lost = f"not sent: {self._what}: the broker is away, or the time for this batch is over"
        return [errors[number] for number in range(len(copies))], lost if len(said) < len(sent) else ""

    def close(self) -> None:
        """Nothing is held open."""

    def _connected(self, until: float) -> Client:
        refused: list[ReasonCode] = []
        client = connected(self._config, "", Client)

        def answered(_: Client, __: Any, ___: ConnectFlags, reason: ReasonCode, broker: Properties | None) -> None:
            refused.extend([reason] if reason.is_failure else [])
            self._batch = min(BATCH, getattr(broker, "ReceiveMaximum", BATCH))
            self._most = getattr(broker, "MaximumPacketSize", MOST)

        client.on_connect = answered
        while not client.is_connected():
            if client.loop(0.1) or refused or time.monotonic() > until:
                raise Unavailable(f"{self._what}: {refused[0] if refused else 'no answer to CONNECT'}")
        return client

    def _send(self, client: Client, copy: Copy) -> MQTTMessageInfo:
        native = copy.native if isinstance(copy.native, bytes) else b""
        topic = self._config.topic or (native.removeprefix(NATIVE).decode() if native.startswith(NATIVE) else "")
        if not topic:
            raise ValueError("the copy does not know its topic; give the publisher a `topic`")
        headers = {MESSAGE_ID: copy.locator.message_id.encode(), **copy.headers}
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # as the library has it
        properties.UserProperty = [(_text(name.encode()), _text(value)) for name, value in headers.items()]
        size = len(topic.encode()) + len(properties.pack()) + len(copy.value) + ROUND  # type: ignore[no-untyped-call]
        if size > self._most:
            raise ValueError(f"of {len(copy.value)} bytes, which with its headers is more than the broker takes")
        return client.publish(topic, copy.value, 1, False, properties)

    def _said(self, answer: ReasonCode | None) -> str:
        if answer is None:
            return f"in doubt: {self._what}: no answer"
        return f"refused: {self._what}: {answer}" if answer.is_failure or answer.value == NOBODY else ""


def _text(value: bytes) -> str:
    """As MQTT carries it (1.5.4): it forbids NUL and lets a broker refuse control characters and noncharacters, which
    ends the connection, with all that is on its way. Raises `ValueError`."""
    text = value.decode()
    if len(value) > 65_535 or any(unicodedata.category(one) == "Cc" or _is_none(ord(one)) for one in text):
        raise ValueError("a header is longer than 65,535 bytes, or holds a control character, which MQTT cannot carry")
    return text


def _is_none(code: int) -> bool:
    return 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
