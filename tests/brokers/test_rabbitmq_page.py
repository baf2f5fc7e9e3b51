"""What docs/collectors/rabbitmq.md says works as pasted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from collectors.config import read_config
from collectors.rabbitmq import RabbitFirehose
from collectors.rabbitmq_config import FirehoseConfig
from collectors.registry import factory
from tests.brokers.rabbitmq_vhost import Vhost, decoded, own_vhost, read_to_now, read_until, vouches

pytestmark = pytest.mark.brokers

PAGE = Path("docs/collectors/rabbitmq.md").read_text()


@pytest.fixture
def vhost(rabbitmq_server: Any) -> Iterator[Vhost]:
    """A virtual host of the test's own."""
    with own_vhost(rabbitmq_server) as vhost:
        vhost.channel.exchange_declare("orders", "topic")
        for queue in ("billing", "inventory"):
            vhost.channel.queue_declare(queue)
            vhost.channel.queue_bind(queue, "orders", "order.#")
        yield vhost


@pytest.fixture
def limited(vhost: Vhost, rabbitmq_server: Any) -> Iterator[str]:
    """The URL of a user with the permissions that the page gives it."""
    [command] = re.findall(r"^ +(rabbitmqctl set_permissions .*)$", PAGE, re.MULTILINE)
    configure, write, read = shlex.split(command)[-3:]
    api = httpx.Client(base_url=f"{rabbitmq_server.management_url}/api", timeout=20.0)
    user = f"tracker-{vhost.name}"
    api.put(f"/users/{user}", json={"password": "pw", "tags": ""}).raise_for_status()
    grant = {"configure": configure, "write": write, "read": read}
    api.put(f"/permissions/{vhost.name}/{user}", json=grant).raise_for_status()
    yield f"amqp://{user}:pw@{urlsplit(vhost.url).netloc.rpartition('@')[2]}/{vhost.name}"
    api.delete(f"/users/{user}").raise_for_status()
    api.close()


def test_the_example_runs_with_the_permissions_given(vhost: Vhost, limited: str, tmp_path: Path) -> None:
    """The page's configuration, read as `collectors run` reads it, tracks a message under the page's permissions."""
    [example] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "rabbit.yaml"
    path.write_text(example)
    config = read_config(path, {"TRACKER_TOKEN": "t", "RABBITMQ_URL": limited}).config
    [described] = config.collectors
    collector = factory(described.kind)(described.name, {**described.settings, "hole_for": 0.0})
    assert isinstance(collector, RabbitFirehose)
    read_until(collector, lambda _: vouches(collector))
    vhost.publish("m-1", "order.new")
    vhost.publish("m-2", "order.eu.new")
    events = decoded(collector, read_to_now(collector))
    collector.close()
    assert {(e.message_id, e.hop) for e in events} == {
        (m, h) for m in ("m-1", "m-2") for h in ("rabbit-eu", "inventory")
    }


def test_every_key_is_explained_with_its_default() -> None:
    """A key without a row, or a row with another default, is found here."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S*) ?\|", PAGE, re.MULTILINE))
    for field in msgspec.structs.fields(FirehoseConfig):
        if field.name in ("exchanges", "queues"):
            continue
        assert field.name in rows, field.name
        if isinstance(field.default, bool | int | float):
            assert float(rows[field.name].replace("false", "0")) == float(field.default), field.name
