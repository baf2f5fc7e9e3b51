"""Somebody is woken: 3 % of a flow's acks are lost, and the chain from the tracker over Prometheus and Alertmanager to
a receiver says so once, to the right team, and takes it back when all is well again.

    python -m tests.drills.paged --json
    python -m tests.drills.paged --clean 3600 --loss 300 --json    # an hour of noise first: nobody may be woken by it
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import which
from typing import Any

import yaml

from collectors.emitter import Emitter
from tests.drills.result import end
from tests.drills.scene import Missing
from tests.e2e.service import Service, now_us
from tests.servers.prometheus import Alertmanager, Prometheus
from tracker.alerting import routing
from tracker.alerting.alert import OPERATIONS, Places
from tracker.alerting.receivers import Receivers
from tracker.alerting.rules import rendered
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage
from tracker.model.units import SECOND

DEPLOY = Path(__file__).parents[2] / "deploy"
OWNER = "team-payments"
WITHIN_S = 10
SPEC = f"""flow: orders
owner: {OWNER}
checkpoints:
  - {{hop: checkout, stage: produce, coverage: watermark}}
  - {{hop: billing, stage: ack, after: checkout, within: {WITHIN_S}s, coverage: watermark}}
objectives:
  delivery: {{target: 99.9%, window: 30d}}
"""
RATE = 20
"""Messages per second."""
EVERY = 33
"""Of so many messages one is never acked: 3 %."""
ALERT = "MessagesUnacknowledged"
PATIENCE_S = 420
"""Alertmanager tells of what is over at its `group_interval`, 5 minutes."""


class Application:
    """A shop and its billing, both instrumented: each message is produced, and acked a moment later, sometimes twice or
    in another order, but in time; unless `losing`."""

    def __init__(self, url: str, folder: Path) -> None:
        self.losing = False
        self.sold: list[str] = []
        self.unacked: list[str] = []
        self._chance = random.Random(11)
        self._due: list[tuple[int, str]] = []
        self._checkout = _emitter(url, folder, "checkout", "produce")
        self._billing = _emitter(url, folder, "billing", "ack")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            now = now_us()
            for _ in range(RATE // 10):
                name = f"m-{len(self.sold)}"
                self.sold.append(name)
                self._checkout.emit([_event(name, "checkout", Stage.produce, now)])
                if self.losing and len(self.sold) % EVERY == 0:
                    self.unacked.append(name)
                else:
                    self._due.append((now + round(self._chance.expovariate(1.0) * SECOND), name))
            ready = [one for one in self._due if one[0] <= now]
            self._due = [one for one in self._due if one[0] > now]
            self._chance.shuffle(ready)
            for _, name in ready:
                event = _event(name, "billing", Stage.ack, now)
                self._billing.emit([event] * self._chance.choice((1, 1, 1, 2)))

    def catch_up(self) -> None:
        """The acks that are missing come after all."""
        self._billing.emit([_event(name, "billing", Stage.ack, now_us()) for name in self.unacked])

    def close(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join()
        self._checkout.close()
        self._billing.close()


def _emitter(url: str, folder: Path, hop: str, stage: str) -> Emitter:
    made = Emitter(url, "", collector=f"{hop}-1", spool=folder / hop)
    made.vouch([SourceRef("orders", hop, stage, f"{hop}-1")])
    return made


def _event(name: str, hop: str, stage: Stage, at: int) -> Event:
    return Event(flow="orders", message_id=name, hop=hop, stage=stage, observed_at=at, delivery="1")


class Pager:
    """Who is woken: each message of Alertmanager, with the time at which it came."""

    def __init__(self) -> None:
        told: list[tuple[float, dict[str, Any]]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                told.append((time.time(), json.loads(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self.told = told
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """No more."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def chain(folder: Path, service: Service, pager: Pager) -> Iterator[None]:
    """Prometheus and Alertmanager with the files that we deliver, but for the addresses; one receiver for all."""
    binaries = which("prometheus"), which("prometheus-alertmanager") or which("alertmanager")
    if not all(binaries):
        raise Missing("this drill needs Prometheus and Alertmanager: make servers")
    told: dict[str, dict[str | None, Any]] = {
        owner: {None: {"webhook_configs": [{"url": pager.url + owner}]}} for owner in (OPERATIONS, OWNER)
    }
    routes = routing.rendered([OWNER], Receivers(told))
    with ExitStack() as stack:
        alertmanager = Alertmanager(folder / "alertmanager", str(binaries[1]), routes).start()
        stack.callback(alertmanager.stop)
        rules = folder / "rules.yaml"
        rules.write_text(rendered(Places(tracker=service.url)))
        scraping = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        scraping["rule_files"] = [str(rules)]
        scraping["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager.port}"]}]}]
        scraping["scrape_configs"] = [
            {"job_name": "tracker", "static_configs": [{"targets": [f"127.0.0.1:{service.port}"]}]}
        ]
        prometheus = Prometheus(folder / "prometheus", str(binaries[0]), yaml.safe_dump(scraping)).start()
        stack.callback(prometheus.stop)
        yield


def drill(folder: Path, clean_s: float, loss_s: float) -> dict[str, Any]:
    """Noise, loss, noise, and the lost acks in the end. What came to the pager, and when."""
    with ExitStack() as stack:
        pager = Pager()
        stack.callback(pager.close)
        service = Service(folder, "--insecure").start()
        stack.callback(service.close)
        service.http.put("/v1/flows", content=SPEC).raise_for_status()
        stack.enter_context(chain(folder, service, pager))
        application = Application(service.url, folder)
        stack.callback(application.close)
        time.sleep(clean_s)
        early = len(pager.told)
        application.losing = True
        began = time.time()
        first = _until(lambda: _findings(service), "a finding")
        page = _until(lambda: _told(pager, "firing"), "a page")
        time.sleep(max(0.0, began + loss_s - time.time()))
        application.losing = False
        time.sleep(WITHIN_S + 5)
        found = {one["message_id"] for one in _findings(service)}
        lost = set(application.unacked)
        application.catch_up()
        mended = time.time()
        resolved = _until(lambda: _told(pager, "resolved"), "the end of the page")
        known = min(_seconds(one["known_at"]) for one in first)
        alert = page[0][1]["alerts"][0]
        return {
            "drill": "paged", "messages": len(application.sold), "clean_s": clean_s, "loss_s": loss_s,
            "pages_while_clean": early,
            "lost_truth": len(lost), "lost_found": len(found & lost), "false_findings": len(found - lost),
            "page_after_s": round(page[0][0] - known, 1),
            "pages": len(_told(pager, "firing")),
            "others": sorted({a["labels"]["alertname"] for _, one in pager.told for a in one["alerts"]} - {ALERT}),
            "resolved_after_s": round(resolved[0][0] - mended, 1),
            "owner": alert["labels"]["owner"], "severity": alert["labels"]["severity"],
            "summary": alert["annotations"]["summary"],
            "runbook": alert["annotations"]["runbook_url"], "dashboard": alert["annotations"]["dashboard_url"],
            "runbook_status": service.http.get(alert["annotations"]["runbook_url"]).status_code,
        }  # fmt: skip


def good(said: dict[str, Any]) -> bool:
    """One page, to its owner, within 90 s of what could be known first; nothing before; all named and no other."""
    return bool(
        not said["pages_while_clean"]
        and (said["lost_found"], said["false_findings"]) == (said["lost_truth"], 0)
        and said["page_after_s"] <= 90
        and said["pages"] == 1
        and (said["owner"], said["severity"], said["runbook_status"]) == (OWNER, "page", 200)
    )


def _told(pager: Pager, status: str) -> list[tuple[float, dict[str, Any]]]:
    return [one for one in pager.told if one[1]["status"] == status
            and any(alert["labels"]["alertname"] == ALERT for alert in one[1]["alerts"])]  # fmt: skip


def _findings(service: Service) -> list[dict[str, Any]]:
    found, cursor = [], ""
    while True:
        page = service.get("/v1/findings", flow="orders", status="open", limit=1000, cursor=cursor)
        found += page["items"]
        if not (cursor := page["next"]):
            return found


def _until(look: Any, what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {PATIENCE_S} s")
        time.sleep(0.2)
    return found


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def main() -> int:
    """Run it from the command line: 0 when one person was woken, once, and rightly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clean", type=float, default=60.0, help="seconds of noise without loss before")
    parser.add_argument("--loss", type=float, default=60.0, help="seconds in which acks are lost")
    parser.add_argument("--json", action="store_true", help="one line")
    options = parser.parse_args()
    said = drill(Path(tempfile.mkdtemp(prefix="drill-")), options.clean, options.loss)
    print(json.dumps(said, indent=None if options.json else 2))
    return 0 if good(said) else 1


if __name__ == "__main__":
    end(main())
