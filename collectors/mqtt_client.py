"""A connection to an MQTT 5.0 broker, as its collector and its publisher open it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import FilePath, field_validator

from collectors.errors import ConfigInvalid, Unavailable
from collectors.logins import apart
from collectors.part import Part

CLIENT = TypeVar("CLIENT", bound=Client)
NATIVE = b"mqtt topic "
"""How `native` of a copy begins that was taken here; its topic follows."""
KEEPALIVE = 10
"""Seconds: a connection that is silent for twice as long is given up."""
FOR_GOOD = frozenset({0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x8F, 0x9E, 0xA1, 0xA2})
"""Reasons (2.4) that stay: version, client id, password, rights, banned, method, filter, and kinds of subscriptions."""
_EXPIRY, _IDENTIFIER, _USER = 0x02, 0x0B, 0x26
_SIZES = {0x01: 1, _EXPIRY: 4, 0x23: 2}
_TEXTS = {0x03: 1, 0x08: 1, 0x09: 1}
"""Properties of a PUBLISH (3.3.2.3): those of so many bytes, and those of so many texts."""


class Server(Part):
    """`url`: `mqtt://user:password@host:1883`, `mqtts://` for TLS. `ca`: a file of certificates to trust, else the
    system's."""

    url: str
    ca: FilePath | None = None

    @field_validator("url")
    @classmethod
    def _an_address(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            wrong = parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.port == 0
        except ValueError:
            wrong = True
        if wrong:  # not shown: it may hold a password
            raise ValueError("wanted: mqtt://HOST:PORT or mqtts://HOST:PORT, with its password percent-encoded")
        return url

    @property
    def shown(self) -> str:
        """For texts: without the login."""
        return apart(self.url).url

    def refused(self, what: str, reason: ReasonCode) -> Exception:
        """What to raise where the broker says no."""
        wrong = ConfigInvalid if reason.value in FOR_GOOD else Unavailable
        return wrong(f"{self.shown}: {what}{reason}")


class Publication(NamedTuple):
    """A PUBLISH packet. `mid` is 0 at QoS 0. `headers`: its user properties, of a name given twice the last. `expires`:
    whether the broker forgets it after a while."""

    topic: str
    payload: bytes
    qos: int
    mid: int
    retain: bool
    headers: dict[str, bytes]
    expires: bool


class Reader(Client):
    """Hands over what comes to `given`, and leaves acknowledging to it. The packets are read here: the library takes a
    broker's whole connection down for a text with U+FEFF, which MQTT allows (1.5.4), and that message would come
    again on each new one."""

    given: Callable[[Publication], None]

    def _handle_publish(self) -> MQTTErrorCode:
        try:
            given = publication(self._in_packet["command"], bytes(self._in_packet["packet"]))
        except (IndexError, KeyError) as error:
            raise MalformedPacket(f"a PUBLISH that is none: {error!r}") from None
        self.given(given)
        return MQTTErrorCode.MQTT_ERR_SUCCESS


def publication(command: int, packet: bytes) -> Publication:
    """The packet (3.3). Raises `IndexError` or `KeyError` where it is none."""
    qos, mid, headers, expires = command >> 1 & 3, 0, dict[str, bytes](), False
    topic, at = _text(packet, 0)
    if qos:
        mid, at = int.from_bytes(packet[at : at + 2]), at + 2
    size, at = _varint(packet, at)
    end = at + size
    while at < end:
        kind, at = packet[at], at + 1
        if kind == _USER:
            name, at = _text(packet, at)
            headers[name.decode("utf-8", "replace")], at = _text(packet, at)
        elif kind == _IDENTIFIER:
            _, at = _varint(packet, at)
        elif kind in _TEXTS:
            _, at = _text(packet, at)
        else:
            expires, at = expires or kind == _EXPIRY, at + _SIZES[kind]
    return Publication(topic.decode("utf-8", "replace"), packet[end:], qos, mid, bool(command & 1), headers, expires)


def _text(packet: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + (packet[at] << 8 | packet[at + 1])
    return packet[at + 2 : end], end


def _varint(packet: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (packet[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if packet[at - 1] < 0x80:
            return value, at


def connected(server: Server, client_id: str, kind: type[CLIENT], **options: Any) -> CLIENT:
    """A client whose CONNECT is on its way; `options` as `Client.connect` takes them. It acknowledges by hand. Raises
    `Unavailable`, and `ConfigInvalid` where `ca` holds no certificate."""
    url, login = apart(server.url)
    at, secure = urlsplit(url), url.startswith("mqtts:")
    client = kind(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTv5, manual_ack=True)
    client.connect_timeout = 5.0
    if login:
        client.username_pw_set(*login)
    if secure:
        try:
            client.tls_set(str(server.ca) if server.ca else None)
        except OSError as error:
            raise ConfigInvalid(f"{url}: ca: {error}") from error
    try:
        client.connect(at.hostname or "", at.port or (8883 if secure else 1883), KEEPALIVE, **options)
    except OSError as error:
        raise Unavailable(f"{url}: {error}") from error
    return client
