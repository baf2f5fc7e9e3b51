"""`tracker demo`: a service with traffic in it, a loss, its name, and its way back, all through the public API."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tracker.cli.answers import Json
from tracker.cli.client import Api
from tracker.cli.errors import FINDINGS, UNAVAILABLE, CommandError, server_side
from tracker.cli.settings import ServiceSettings, service_settings

ORDERS, LOST = 600, 23
"""How many orders the story has, and how many of them billing goes past."""
PATIENCE_S = 45.0
"""How long the story waits for what must come."""
PACE_S = 0.05
"""Between two orders of the traffic that goes on after the story."""
FAULT_EVERY_S = 60.0

Say = Callable[[str], None]


def demo(
    host: Annotated[str, typer.Option(help="address to listen on; loopback only")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to listen on; 0 takes a free one")] = 8000,
    once: Annotated[bool, typer.Option("--once", help="tell the story once, then stop")] = False,
    broker: Annotated[str, typer.Option(help="a real broker, kafka://host:port; else one in memory")] = "",
    as_json: Json = False,
) -> None:
    """Start a service of its own with demo traffic: some orders get lost, are named, replayed and recovered.

    Ends with 1 when what was named differs from what was lost. The ledger is a temporary folder unless TRACKER_STORE
    names one.
    """
    with server_side(), tempfile.TemporaryDirectory(prefix="tracker-demo-") as folder:
        told = _run(Path(folder), host, port, once, broker, as_json)
    if as_json:
        sys.stdout.write(json.dumps(told) + "\n")
    if told["found_ids"] != told["expected_ids"]:
        raise typer.Exit(FINDINGS)


def _run(folder: Path, host: str, port: int, once: bool, broker_url: str, quiet: bool) -> dict[str, Any]:
    from tracker.cli.demo_world import InMemory, World, ports
    from tracker.cli.hops import Ends
    from tracker.cli.service import run

    settings = _settings(folder)
    broker = _kafka(broker_url) if broker_url else InMemory()
    sources, publishers = ports(broker)
    console = Console(highlight=False, soft_wrap=True, quiet=quiet)
    result: dict[str, Any] = {}
    failures: list[BaseException] = []

    def story(url: str) -> None:
        world = World(broker, url, "", folder)
        try:
            result.update(Story(world, Api(url, ""), console.print, url).tell())
            if not once:
                _go_on(world, Story(world, Api(url, ""), console.print, url))
        except BaseException as error:  # noqa: BLE001 - it is raised again by whoever waits for the story
            failures.append(error)
        finally:
            world.close()
            os.kill(os.getpid(), signal.SIGTERM)

    def ready(_: Any, url: str) -> None:
        console.print(f"[bold]The tracker listens on {url}[/]; its ledger is {settings.store_url}")
        threading.Thread(target=story, args=(url,), name="demo story", daemon=True).start()

    run(settings, host, port, insecure=True, ready=ready, ends=Ends(dict(sources), dict(publishers)))
    if failures and not isinstance(failures[0], _Stopped):
        raise failures[0]
    if not result:
        raise CommandError("stopped before the story was told", UNAVAILABLE)
    return result


def _settings(folder: Path) -> ServiceSettings:
    """The environment's settings; a ledger in `folder` where none is named, and nothing logged but errors."""
    given = service_settings()
    own = (
        {} if given.store else {"store": f"chdb://{folder / 'ledger'}", "control": f"sqlite:///{folder / 'control.db'}"}
    )
    return given.model_copy(update={**own, "log_level": "error"})


def _kafka(url: str) -> Any:
    scheme, _, servers = url.partition("://")
    if scheme != "kafka" or not servers:
        raise CommandError(f"--broker {url!r}: write kafka://host:port, or leave it out for the one in memory")
    from tracker.cli.demo_kafka import Kafka

    return Kafka(servers)


class _Stopped(Exception):
    """The service went away under the story."""


class Story:
    """What is told: orders accepted, some lost, named, replayed, recovered."""

    def __init__(self, world: Any, api: Api, say: Say, url: str) -> None:
        self._world, self._api, self._say, self._url = world, api, say, url

    def tell(self) -> dict[str, Any]:
        """From the empty ledger to the last recovery; the numbers of it."""
        from tracker.cli.demo_world import SPEC

        self._api.send(
            "PUT", "/v1/flows/demo-orders", content=SPEC.encode(), headers={"Content-Type": "application/yaml"}
        )
        self._world.start()
        self._until("collectors vouch for every hop", self._covered)
        self._say(f"1. The shop accepts {ORDERS} orders; they go through a log to billing and inventory.")
        self._world.send(ORDERS // 3)
        self._world.lose(LOST)
        self._world.send(ORDERS - ORDERS // 3)
        self._until("billing went past its orders", lambda: len(self._world.truth()) >= LOST)
        self._say(f"2. Billing commits past {LOST} of them without processing them. Nobody complains: its lag is zero.")
        self._until("the tracker names what is missing", lambda: len(self._findings("open")) >= LOST)
        named = sorted(item["message_id"] for item in self._findings("open"))
        self._say(f"3. The tracker names {len(named)}: {', '.join(named[:3])}, ...")
        self._say(f"   {self._findings('open')[0]['why']}")
        self.replay()
        found = self._findings()
        return self._numbers(found)

    def replay(self) -> None:
        """Dry run, request, approval; then wait until all of them were seen again."""
        selection = {"flow": "demo-orders", "hop": "billing", "kind": "unacknowledged"}
        plan = self._api.send("POST", "/v1/replays", json={**selection, "dry_run": True})["plan"]
        made = self._api.send("POST", "/v1/replays", json={**selection, "reason": "demo"})
        self._say(f"4. Replay {made['id']} of {plan['messages']} messages from the log is planned, then approved.")
        self._api.send("POST", f"/v1/replays/{made['id']}/approve", json={"why": "demo"})
        self._until("all are seen again", lambda: not self._findings("open"))
        spans = [_seconds(f["opened_at"], f["resolved_at"]) for f in self._findings("recovered")]
        most = _share(spans, 0.9)
        self._say(f"5. All {len(spans)} were seen at billing again: recovered, 90 % of them within {most:.1f} s.")

    def _numbers(self, found: list[dict[str, Any]]) -> dict[str, Any]:
        books = self._settled()
        recovered = [f for f in found if f["status"] == "recovered"]
        named, truth = sorted({f["message_id"] for f in found}), sorted(self._world.truth())
        return {
            "produced": books["produced"],
            "verdicts": books["verdicts"],
            "conserved": books["conserved"],
            "found": len(named),
            "expected": len(truth),
            "recovered": len(recovered),
            "detect_p99_s": round(_share([_seconds(f["known_at"], f["opened_at"]) for f in found], 0.99), 3),
            "recover_p90_s": round(_share([_seconds(f["opened_at"], f["resolved_at"]) for f in recovered], 0.9), 3),
            "found_ids": named,
            "expected_ids": truth,
        }

    def _settled(self) -> dict[str, Any]:
        """The books once every order has come to rest."""
        books: dict[str, Any] = {}

        def rest() -> bool:
            books.update(self._api.get("/v1/flows/demo-orders/reconciliation"))
            return books["produced"] == self._world.produced and set(books["verdicts"]) <= {"delivered", "late"}

        self._until("every order came to rest", rest)
        return books

    def _findings(self, status: str = "") -> list[dict[str, Any]]:
        return list(self._api.pages("/v1/findings", 10_000, flow="demo-orders", hop="billing", status=status))

    def _covered(self) -> bool:
        rows = self._api.get("/v1/coverage", flow="demo-orders")["items"]
        return {(r["hop"], r["stage"]) for r in rows} >= {
            ("shop", "produce"), ("orders-log", "persist"), ("billing", "ack"), ("inventory", "ack")}  # fmt: skip

    def _until(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > deadline:
                raise CommandError(f"waited {PATIENCE_S:g} s and still not: {what}; see {self._url}", UNAVAILABLE)
            time.sleep(0.2)


def _go_on(world: Any, story: Story) -> None:
    """Traffic until the service stops, with a loss every minute that is replayed half a minute later."""
    story._say("")
    story._say("Traffic goes on, and billing goes past a few orders every minute. Look at:")
    story._say(f"   {story._url}/                 what is missing now, and each message's timeline")
    command = f"TRACKER_URL={story._url} {sys.argv[0]}"
    story._say(f"   {command} reconcile --flow demo-orders    (the books, from another terminal)")
    story._say(f"   {command} findings --flow demo-orders     (every missing message by name)")
    story._say("   docs/quickstart.md                        a flow of your own.  Ctrl-C stops.")
    began = time.monotonic()
    faults = replays = 0
    while True:
        world.send(1)
        time.sleep(PACE_S)
        past = time.monotonic() - began
        if past > faults * FAULT_EVERY_S + FAULT_EVERY_S / 2:
            faults += 1
            world.lose(5)
        if past > (replays + 1) * FAULT_EVERY_S:
            replays += 1
            if story._findings("open"):
                story.replay()


def _seconds(start: str, end: str) -> float:
    from tracker.model.units import SECOND, instant

    return (instant(end) - instant(start)) / SECOND


def _share(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
