"""The tail against a real Kafka that wants a login, over TLS."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from collectors.errors import CollectorError, ConfigInvalid, Unavailable
from collectors.kafka.tail import tail
from tests.brokers.kafka_topic import ids, read_until, wait_for
from tests.servers.kafka import Kafka

pytestmark = [pytest.mark.brokers, pytest.mark.slow]

LOGIN = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    'username="broker" password="b-secret" user_broker="b-secret" user_tracker="t-secret";'
)


def _certificate(folder: Path, name: str) -> Path:
    """A key and a certificate of its own for 127.0.0.1; the path of the certificate, the key stands beside it."""
    made = folder / f"{name}.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / f"{name}.key", "-out", made],
        check=True, capture_output=True,
    )  # fmt: skip
    return made


def login(certificate: Path, password: str) -> dict[str, str | int | float | bool]:
    """Settings of a client."""
    return {
        "security.protocol": "SASL_SSL", "sasl.mechanisms": "PLAIN", "sasl.username": "tracker",
        "sasl.password": password, "ssl.ca.location": str(certificate),
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the certificates lie."""
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def certificate(folder: Path) -> Path:
    """The broker's."""
    return _certificate(folder, "broker")


@pytest.fixture(scope="module")
def broker(kafka_factory: Callable[..., Kafka], folder: Path, certificate: Path) -> Iterator[Kafka]:
    """It holds one record, `m-1`."""
    both = folder / "both.pem"
    both.write_text((folder / "broker.key").read_text() + certificate.read_text())
    right = login(certificate, "t-secret")
    server = kafka_factory(
        properties={
            "listener.security.protocol.map": "BROKER:SASL_SSL,CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "listener.name.broker.plain.sasl.jaas.config": LOGIN,
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(certificate),
        },
        client=right,
    )
    producer = Producer({"bootstrap.servers": server.bootstrap, **right})
    producer.produce("orders", b"x", headers=[("x-message-id", b"m-1")])
    assert producer.flush(30) == 0
    yield server
    server.kill()


def reading(broker: Kafka, client: dict[str, Any]) -> Any:
    """A tail of it."""
    route = {"topic": "orders", "flow": "orders", "hop": "kafka-eu"}
    return tail("one", {"url": f"kafka://{broker.bootstrap}", "topics": [route], "client": client})


def refusal(broker: Kafka, client: dict[str, Any]) -> CollectorError:
    """What it says instead of reading."""
    collector = reading(broker, client)
    try:
        with pytest.raises(CollectorError) as refused:
            wait_for(lambda: collector.read(10, 0.5), patience=40)
        return refused.value
    finally:
        collector.close()


def test_the_right_password(broker: Kafka, certificate: Path) -> None:
    """It reads."""
    collector = reading(broker, login(certificate, "t-secret"))
    assert ids(collector, read_until(collector, 1, patience=40)) == ["m-1"]
    collector.commit([])
    collector.close()


def test_a_wrong_password_stops_it(broker: Kafka, certificate: Path) -> None:
    """Trying again would lock the account. The text says where to look, and never what the password is."""
    error = refusal(broker, login(certificate, "wrong-secret"))
    assert isinstance(error, ConfigInvalid)
    assert "login under `client`" in str(error)
    assert "secret" not in str(error)


@pytest.mark.long
def test_a_certificate_that_nobody_signed(broker: Kafka, folder: Path) -> None:
    """The broker's is not that of `ssl.ca.location`: it reads nothing."""
    error = refusal(broker, login(_certificate(folder, "other"), "t-secret"))
    assert isinstance(error, ConfigInvalid)
    assert "ssl" in str(error).lower()


@pytest.mark.long
def test_no_tls_where_it_is_wanted(broker: Kafka) -> None:
    """A broker that wants TLS hangs up without a word; the text says what that may be."""
    error = refusal(broker, {"log_level": 0})
    assert isinstance(error, Unavailable)
    assert "security.protocol" in str(error)
