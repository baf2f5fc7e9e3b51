"""How to reach a Kafka cluster, and what the driver's errors mean to a caller. Shared by the Kafka modules only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from pydantic import Field, field_validator

from collectors.errors import CollectorError, ConfigInvalid, Unavailable
from collectors.part import Part

REQUEST_TIMEOUT = 5.0
"""Seconds that one request to a cluster may take before it counts as unavailable."""

PERMANENT = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError._INVALID_ARG,
        KafkaError._SSL,
        KafkaError._UNSUPPORTED_FEATURE,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.ILLEGAL_SASL_STATE,
        KafkaError.SECURITY_DISABLED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.INVALID_GROUP_ID,
    }
)
"""Codes that trying again does not cure: somebody has to change the configuration or the cluster's ACLs."""

GONE = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
"""Codes that say that a topic or partition is not there (any more)."""

PASSING = GONE | {KafkaError._TRANSPORT, KafkaError._RESOLVE}
"""Errors that mend themselves, or show in the next look at the cluster: one broker of several, a deleted topic."""

UNREACHED = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError.REQUEST_TIMED_OUT,
    }
)
"""Codes that say that no broker was reached, or none answered."""
ADVICE = (
    "does the broker run, is `url` its host and port, and can this machine resolve and reach what the broker itself "
    "names (its advertised.listeners)? One that wants TLS or a login hangs up: set security.protocol under `client`"
)
"""What to try then."""


class Cluster(Part):
    """Which cluster, and as whom. `url` is `kafka://host:port[,host:port...]`; `client` holds librdkafka settings,
    passed on as they are (`security.protocol`, `sasl.*`, `ssl.*`, `socket.timeout.ms`, ...)."""

    url: str
    client: dict[str, str | int | float | bool] = Field(default_factory=dict)

    @field_validator("url")
    @classmethod
    def _kafka(cls, value: str) -> str:
        servers = value.removeprefix("kafka://").rstrip("/")
        if not servers or "://" in servers or "/" in servers or "@" in servers:
            said = value.rpartition("@")[2]  # what stands before it is a login, and no text for a log
            raise ValueError(
                f"{said!r} is no Kafka address; write kafka://host:9092,host2:9092 (logins go under client)"
            )
        return value

    @property
    def servers(self) -> str:
        """The bootstrap servers as librdkafka wants them."""
        return self.url.removeprefix("kafka://").rstrip("/")

    def driver(self, **ours: str | int | float | bool) -> dict[str, Any]:
        """Settings for a librdkafka client: our defaults (`socket_timeout_ms=...`), over which `client` wins.

        Its own log lines are off: they go to stderr, several a second while a broker is away, and what they say comes
        as an error as well. `client: {log_level: 6}` shows them.
        """
        named = {key.replace("_", "."): value for key, value in ours.items()}
        return {
            "bootstrap.servers": self.servers,
            "client.id": "message-tracker",
            "log_level": 0,
            **named,
            **self.client,
        }

    def member(self, group: str, **ours: str | int | float | bool) -> dict[str, Any]:
        """Settings for a consumer that reads or keeps offsets of `group` and never joins it."""
        return self.driver(
            group_id=group,
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            session_timeout_ms=int(REQUEST_TIMEOUT * 1000),  # without a coordinator a commit waits that long
            **ours,
        )


def translated(error: KafkaError | KafkaException, what: str) -> CollectorError:
    """The driver's error as ours: `ConfigInvalid` where trying again is no use, else `Unavailable`."""
    inner = error.args[0] if isinstance(error, KafkaException) else error
    if not isinstance(inner, KafkaError):
        return Unavailable(f"{what}: {inner}")
    if inner.code() in PERMANENT:
        return ConfigInvalid(f"{what}: {inner.str()} ({inner.name()}); check the login under `client` and the ACLs")
    advice = f"; {ADVICE}" if inner.code() in UNREACHED else ""
    return Unavailable(f"{what}: {inner.str()} ({inner.name()}){advice}")


@contextmanager
def driver_errors(what: str) -> Iterator[None]:
    """No exception of the driver leaves this block: what was refused comes out as an error of ours naming `what`."""
    try:
        yield
    except KafkaException as error:
        raise translated(error, what) from error
    except (ValueError, TypeError) as error:  # librdkafka's word for settings that it does not know
        raise ConfigInvalid(f"{what}: {error}") from error
