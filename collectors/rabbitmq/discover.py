"""What a RabbitMQ vhost holds, asked of its management API by GET alone: nothing is declared, consumed or published.

Messages are not looked into, for whoever takes one from a queue to look at it changes what others see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import msgspec
import pika

from collectors.draft import PRODUCER, Asked, Entry, Flow, Found, named
from collectors.errors import ConfigInvalid, Unavailable
from collectors.rabbitmq.connect import parameters, shown

TIMEOUT = 10.0
MANAGEMENT_PORT = {False: ("http", 15672), True: ("https", 15671)}
"""By whether the URL is `amqps://`."""
DEAD_LETTERS = ("x-dead-letter-exchange", "dead-letter-exchange")
"""As an argument of a queue, and in a policy."""


class Queue(msgspec.Struct):
    """`dead_letters`: the exchange that they go to, None: nowhere; `consumers`: names of the connections."""

    queue: str
    type: str
    durable: bool
    dead_letters: str | None
    consumers: list[str]


class Exchange(msgspec.Struct):
    """`keys`: queue -> binding keys by which it gets messages from here, other exchanges in between followed."""

    exchange: str
    type: str
    keys: dict[str, list[str]]


class Seen(NamedTuple):
    """A vhost."""

    exchanges: list[Exchange]
    queues: dict[str, Queue]
    tracing: bool


def discover(url: str, given: str, asked: Asked) -> Found:
    """Look at the vhost of `url`, and draft with the address as it was `given`. Raises `Unavailable`,
    `ConfigInvalid`."""
    at = parameters(url, "discover")
    scheme, port = MANAGEMENT_PORT[url.startswith("amqps:")]
    base = (asked.management or f"{scheme}://{at.host}:{port}").rstrip("/")
    seen = _seen(base, at)
    what = f"RabbitMQ {shown(at)}"
    items = [*map(msgspec.to_builtins, seen.exchanges), *map(msgspec.to_builtins, seen.queues.values())]
    return Found(what, list(_notes(seen, at.virtual_host)), items, *_drafted(seen, given))


def _seen(base: str, at: pika.URLParameters) -> Seen:
    login = at.credentials
    auth = (login.username, login.password) if isinstance(login, pika.PlainCredentials) else None
    vhost = quote(at.virtual_host, safe="")
    with httpx.Client(base_url=f"{base}/api/", auth=auth, timeout=TIMEOUT) as api:
        tracing = _asked(api, f"vhosts/{vhost}").get("tracing", False)
        bindings = _asked(api, f"bindings/{vhost}")
        exchanges = _asked(api, f"exchanges/{vhost}")
        queues = _asked(api, f"queues/{vhost}")
        consumers = _asked(api, f"consumers/{vhost}")
    found = {
        q["name"]: Queue(q["name"], q.get("type", "classic"), q["durable"], _dead_letters(q), _takers(q, consumers))
        for q in queues
        if not q["name"].startswith("tracker.") and not q.get("exclusive")
    }
    made = [
        Exchange(e["name"], e["type"], {q: k for q, k in _reached(e["name"], bindings, set()).items() if q in found})
        for e in exchanges
        if e["name"] and not e["name"].startswith("tracker.")
    ]
    return Seen([exchange for exchange in made if exchange.keys], found, tracing)


def _asked(api: httpx.Client, path: str) -> Any:
    try:
        answer = api.get(path)
    except httpx.HTTPError as error:
        raise Unavailable(
            f"RabbitMQ management API {api.base_url}: {error!r}; is the plugin "
            "rabbitmq_management on, and is this its address (--management)?"
        ) from None
    if answer.status_code in (401, 403):
        raise ConfigInvalid(f"RabbitMQ management API {api.base_url}: the user needs the tag `monitoring`")
    if answer.is_error:
        raise Unavailable(f"RabbitMQ management API {answer.url}: {answer.status_code} {answer.text[:200]}")
    return answer.json()


def _dead_letters(queue: Mapping[str, Any]) -> str | None:
    said = {**(queue.get("effective_policy_definition") or {}), **queue.get("arguments", {})}
    return next((said[key] for key in DEAD_LETTERS if key in said), None)


def _takers(queue: Mapping[str, Any], consumers: Sequence[Mapping[str, Any]]) -> list[str]:
    mine = [c for c in consumers if c["queue"]["name"] == queue["name"]]
    return sorted({str(c["channel_details"].get("connection_name", "")) or c["consumer_tag"] for c in mine})


def _reached(exchange: str, bindings: Sequence[Mapping[str, Any]], passed: set[str]) -> dict[str, list[str]]:
    """Queues that get messages of an exchange, with the binding keys of the last step."""
    found: dict[str, list[str]] = {}
    for binding in (b for b in bindings if b["source"] == exchange and exchange not in passed):
        if binding["destination_type"] == "queue":
            found.setdefault(binding["destination"], []).append(binding["routing_key"])
        else:
            for queue, keys in _reached(binding["destination"], bindings, passed | {exchange}).items():
                found.setdefault(queue, []).extend(keys)
    return {queue: sorted(set(keys)) for queue, keys in found.items()}


def _notes(seen: Seen, vhost: str) -> Iterator[str]:
    if not seen.tracing:
        yield f"TODO the firehose of vhost {vhost!r} is off, so nothing is seen: rabbitmqctl trace_on -p {vhost}"
        yield "  on each node, and again after each restart of one."


def _drafted(seen: Seen, given: str) -> tuple[list[Entry], list[Flow]]:
    dead = {queue.dead_letters for queue in seen.queues.values() if queue.dead_letters}
    sources = [exchange for exchange in seen.exchanges if exchange.exchange not in dead]
    routed = {queue for exchange in seen.exchanges for queue in exchange.keys}
    alone = [queue for queue in seen.queues.values() if queue.queue not in routed and queue.queue not in dead]
    flows = [(named(e.exchange), [seen.queues[q] for q in sorted(e.keys)]) for e in sources]
    flows += [(named(queue.queue), [queue]) for queue in alone]
    queues = [{"queue": q.queue, "flow": flow, "hop": named(q.queue)} for flow, held in flows for q in held]
    if not queues:
        return [], []
    values: dict[str, Any] = {"name": "rabbitmq", "kind": "rabbitmq", "url": given}
    if sources:
        values["exchanges"] = [{"exchange": e.exchange, "flow": named(e.exchange)} for e in sources]
    values["queues"] = queues
    notes = ["TODO ids: the property message_id, or name each flow's header under `identity`: {FLOW: HEADER}"]
    notes += [note for queue in seen.queues.values() for note in _of_queue(queue)]
    notes += [f"Left out, for dead letters go there: exchange {name}" for name in sorted(dead - {""})]
    specs = [_flow(flow, held, next((e for e in sources if named(e.exchange) == flow), None)) for flow, held in flows]
    return [Entry(notes, values)], specs


def _of_queue(queue: Queue) -> Iterator[str]:
    name = f"queue {queue.queue}:"
    if queue.consumers:
        yield f"TODO {name} taken by {', '.join(queue.consumers)}; `consumer: NAME` watches deliveries, at a cost"
    else:
        yield f"TODO {name} nobody takes from it now"
    if queue.type == "stream":
        yield f"TODO {name} a stream: reading takes nothing away"
    if not queue.durable:
        yield f"TODO {name} not durable: gone with its node"
    if queue.dead_letters is not None:
        yield f"{name} dead letters go to exchange {queue.dead_letters!r}; the firehose does not show that"
    else:
        yield f"TODO {name} no dead letter exchange: what is rejected or expires there is gone"


def _flow(flow: str, held: Sequence[Queue], exchange: Exchange | None) -> Flow:
    hops = [named(queue.queue) for queue in held]
    notes = [
        PRODUCER,
        "TODO who must have it: {hop: NAME, stage: ack, after: HOP, within: ...}; acks come from instrumented clients.",
    ]
    if exchange is None or exchange.type == "fanout" or len({tuple(k) for k in exchange.keys.values()}) == 1:
        return Flow(flow, notes, [{"hop": hop, "stage": "persist"} for hop in hops])
    bound = "; ".join(f"{queue} by {', '.join(keys)}" for queue, keys in sorted(exchange.keys.items()))
    notes.append(f"TODO queues are bound by different keys ({bound}): one of them has to have a message. Two flows?")
    return Flow(flow, notes, [{"hop": hops, "stage": "persist"}])
