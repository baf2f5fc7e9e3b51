"""The last resort: the same servers from Docker images, by testcontainers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers.external import ExternalRabbitMQ

RABBITMQ_IMAGE = "rabbitmq:4-management"


def works() -> bool:
    """Whether a Docker daemon answers."""
    command = shutil.which("docker")
    if command is None:
        return False
    try:
        done = subprocess.run([command, "version"], capture_output=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


@contextmanager
def kafka() -> Iterator[str]:
    """A Kafka broker's bootstrap address."""
    from testcontainers.community.kafka import KafkaContainer

    with KafkaContainer().with_kraft() as container:
        yield container.get_bootstrap_server()


@contextmanager
def rabbitmq() -> Iterator[ExternalRabbitMQ]:
    """A RabbitMQ node with its management API."""
    from testcontainers.community.rabbitmq import RabbitMqContainer

    with RabbitMqContainer(RABBITMQ_IMAGE).with_exposed_ports(5672, 15672) as container:
        host = container.get_container_host_ip()
        amqp, management = container.get_exposed_port(5672), container.get_exposed_port(15672)
        yield ExternalRabbitMQ(f"amqp://guest:guest@{host}:{amqp}/%2F", f"http://guest:guest@{host}:{management}")
