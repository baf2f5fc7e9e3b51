"""A connection to an MQTT 5.0 broker, as its collector and its publisher open it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import FilePath, field_validator

from collectors.errors import Unavailable
from collectors.logins import apart
from collectors.part import Part

NATIVE = b"mqtt topic "
"""How `native` of a copy begins that was taken here; its topic follows."""
KEEPALIVE = 10
"""Seconds: a connection that is silent for twice as long is given up."""


class Server(Part):
    """`url`: `mqtt://user:password@host:1883`, `mqtts://` for TLS. `ca`: a file of certificates to trust, else the
    system's."""

    url: str
    ca: FilePath | None = None

    @field_validator("url")
    @classmethod
    def _an_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.port == 0:
            raise ValueError("wanted: mqtt://HOST:PORT or mqtts://HOST:PORT")
        return url

    @property
    def shown(self) -> str:
        """For texts: without the login."""
        return apart(self.url).url


def connected(server: Server, client_id: str, **options: Any) -> Client:
    """A client whose CONNECT is on its way; `options` as `Client.connect` takes them. It acknowledges by hand. Raises
    `Unavailable`."""
    url, login = apart(server.url)
    at, secure = urlsplit(url), url.startswith("mqtts:")
    client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTv5, manual_ack=True)
    client.connect_timeout = 5.0
    if login:
        client.username_pw_set(*login)
    try:
        if secure:
            client.tls_set(str(server.ca) if server.ca else None)
        client.connect(at.hostname or "", at.port or (8883 if secure else 1883), KEEPALIVE, **options)
    except OSError as error:
        raise Unavailable(f"{url}: {error}") from error
    return client
