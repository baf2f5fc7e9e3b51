"""What the pages about RabbitMQ in docs/collectors say works as pasted."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from collectors.base import Collector
from collectors.config import read_config
from collectors.rabbitmq.config import DeadLetterConfig, FirehoseConfig, StreamConfig
from collectors.registry import factory
from tests.brokers.rabbitmq_vhost import Vhost, decoded, own_vhost, read_to_now, read_until, vouches

pytestmark = pytest.mark.brokers

PAGES = Path("docs/collectors")
Limited = Callable[[str], AbstractContextManager[str]]


def page(name: str) -> str:
    """A page's text."""
    return (PAGES / f"{name}.md").read_text("utf-8")


@pytest.fixture
def vhost(rabbitmq_server: Any) -> Iterator[Vhost]:
    """A virtual host of the test's own."""
    with own_vhost(rabbitmq_server) as vhost:
        yield vhost


@pytest.fixture
def limited(vhost: Vhost, rabbitmq_server: Any) -> Iterator[Limited]:
    """Gives the URL of a user with the permissions that a page gives it, and the page's policies to the vhost."""
    api = httpx.Client(base_url=f"{rabbitmq_server.management_url}/api", timeout=20.0)
    user = f"tracker-{vhost.name}"

    @contextmanager
    def made(name: str) -> Iterator[str]:
        [command] = re.findall(r"^ +(rabbitmqctl set_permissions .*)$", page(name), re.MULTILINE)
        configure, write, read = shlex.split(command)[-3:]
        api.put(f"/users/{user}", json={"password": "pw", "tags": ""}).raise_for_status()
        grant = {"configure": configure, "write": write, "read": read}
        api.put(f"/permissions/{vhost.name}/{user}", json=grant).raise_for_status()
        for command in re.findall(r"^ +(rabbitmqctl set_policy .*)$", page(name), re.MULTILINE):
            policy, pattern, definition, _, applied = shlex.split(command)[4:]
            asked = {"pattern": pattern, "definition": json.loads(definition), "apply-to": applied}
            api.put(f"/policies/{vhost.name}/{policy}", json=asked).raise_for_status()
        yield f"amqp://{user}:pw@{urlsplit(vhost.url).netloc.rpartition('@')[2]}/{vhost.name}"
        api.delete(f"/users/{user}").raise_for_status()

    yield made
    api.close()


@contextmanager
def example(name: str, url: str, folder: Path, stage: str = "persist") -> Iterator[Collector]:
    """The collector of a page's configuration, read as `collectors run` reads it, once it vouches."""
    blocks = re.findall(r"```yaml\n(.*?)```", page(name), re.DOTALL)
    [text] = [block for block in blocks if "collectors:" in block]
    path = folder / "rabbit.yaml"
    path.write_text(text)
    config = read_config(path, {"TRACKER_TOKEN": "t", "RABBITMQ_URL": url}).config
    [described] = config.collectors
    collector = factory(described.kind)(described.name, {**described.settings, "hole_for": 0.0})
    try:
        read_until(collector, lambda _: vouches(collector, stage))
        yield collector
    finally:
        collector.close()


def test_the_example_of_the_firehose(vhost: Vhost, limited: Limited, tmp_path: Path) -> None:
    """Tracks a message under the page's permissions."""
    vhost.channel.exchange_declare("orders", "topic")
    for queue in ("billing", "inventory"):
        vhost.channel.queue_declare(queue)
        vhost.channel.queue_bind(queue, "orders", "order.#")
    with limited("rabbitmq") as url, example("rabbitmq", url, tmp_path) as collector:
        vhost.publish("m-1", "order.new")
        vhost.publish("m-2", "order.eu.new")
        events = decoded(collector, read_to_now(collector))
    assert {(e.message_id, e.hop) for e in events} == {
        (m, h) for m in ("m-1", "m-2") for h in ("rabbit-eu", "inventory")
    }


def test_the_example_of_dead_letters(vhost: Vhost, limited: Limited, tmp_path: Path) -> None:
    """Sees what is parked, what is tried again and, by the page's policy, what nobody keeps."""
    for exchange, kind in (("orders.dead", "fanout"), ("orders.retry", "direct"), ("orders.gone", "topic")):
        vhost.channel.exchange_declare(exchange, kind)
    by = {"x-message-ttl": 0, "x-dead-letter-exchange": "orders.dead"}
    with (
        limited("rabbitmq-dead-letters") as url,
        example("rabbitmq-dead-letters", url, tmp_path, "dead_letter") as collector,
    ):
        for exchange in ("orders.dead", "orders.retry"):
            vhost.channel.queue_declare("billing", arguments={**by, "x-dead-letter-exchange": exchange})
            vhost.publish(exchange, "billing", "")
            [event] = decoded(collector, read_until(collector, lambda raws: bool(raws)))
            assert (event.message_id, event.hop, event.stage) == (exchange, "rabbit-eu", "dead_letter")
            assert event.reason == ("retry" if exchange == "orders.retry" else "expired")
            vhost.channel.queue_delete("billing")
        vhost.channel.queue_declare("inventory", arguments={"x-message-ttl": 0})
        vhost.publish("m-1", "inventory", "")
        [event] = decoded(collector, read_until(collector, lambda raws: bool(raws)))
        assert (event.hop, event.stage, event.reason) == ("inventory", "drop", "expired")


def test_the_example_of_streams(vhost: Vhost, limited: Limited, tmp_path: Path) -> None:
    """Reads the stream under the page's permissions."""
    vhost.channel.queue_declare("orders.log", durable=True, arguments={"x-queue-type": "stream"})
    with limited("rabbitmq-streams") as url, example("rabbitmq-streams", url, tmp_path) as collector:
        vhost.publish("m-1", "orders.log", "")
        raws = read_until(collector, lambda raws: bool(raws))
        [event] = decoded(collector, raws)
        assert (event.message_id, event.hop, event.offset) == ("m-1", "rabbit-eu-log", 0)
        collector.commit(raws)


@pytest.mark.parametrize(
    ("name", "model"),
    [("rabbitmq", FirehoseConfig), ("rabbitmq-dead-letters", DeadLetterConfig), ("rabbitmq-streams", StreamConfig)],
)
def test_every_key_is_explained_with_its_default(name: str, model: type[msgspec.Struct]) -> None:
    """A key without a row, or a row with another default, is found here."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S*) ?\|", page(name), re.MULTILINE))
    for field in msgspec.structs.fields(model):
        key = field.encode_name
        if key in ("exchanges", "queues"):
            continue
        assert key in rows, key
        if isinstance(field.default, bool | int | float):
            assert float(rows[key].replace("false", "0")) == float(field.default), key
        elif isinstance(field.default, str):
            assert rows[key] == field.default, key
