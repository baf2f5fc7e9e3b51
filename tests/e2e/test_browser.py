"""The pages in a real browser: what somebody sees who is woken, on a phone and at night."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e.service import Service, now_us
from tests.e2e.test_service import SPEC, many
from tests.servers.needed import HINT, missing

SCREENSHOTS = os.environ.get("TRACKER_TEST_SCREENSHOTS", "")
"""A folder where screenshots are kept; by default the test's own."""
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Three of fifty messages were never acked."""
    running = Service(tmp_path_factory.mktemp("service"), "--insecure").start()
    try:
        running.http.put("/v1/flows/orders", content=SPEC).raise_for_status()
        others = "flow: others\ncheckpoints: [{hop: shop, stage: produce}]\n"
        running.http.put("/v1/flows/others", content=others).raise_for_status()
        running.send(many("orders", 50, now_us(), {3, 14, 15}))
        running.until(lambda: running.get("/v1/incidents")["items"], bool)
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    binary = shutil.which("chromium")
    if binary is None:
        missing("chromium", f"Chromium not found; {HINT}")
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(params=[("light", DESK), ("dark", PHONE)], ids=["desk, light", "phone, dark"])
def page(request: pytest.FixtureRequest, browser: Browser, service: Service) -> Iterator[Page]:
    """A page that may not complain: no error on its console, no request that fails, nothing wider than the screen."""
    scheme, size = request.param
    context = browser.new_context(base_url=service.url, color_scheme=scheme, viewport=size)
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("response", lambda answer: wrong.append(answer.url) if answer.status >= 400 else None)
    yield opened
    assert not wrong
    context.close()


def looked_at(page: Page, name: str, folder: Path) -> None:
    """Keeps a screenshot; nothing has to be scrolled sideways to be read."""
    target = Path(SCREENSHOTS) if SCREENSHOTS else folder
    target.mkdir(parents=True, exist_ok=True)
    width = page.viewport_size["width"] if page.viewport_size else 0
    page.screenshot(path=target / f"{name}-{width}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_from_the_overview_to_what_to_do(page: Page, tmp_path: Path) -> None:
    """The flow's bar, the incident, its runbook with its own numbers and commands, a message's way."""
    page.goto("/")
    expect(page.locator(".tile.bad b").first).to_have_text("3")
    expect(page.locator("svg.bar").first).to_have_attribute("aria-label", "47 delivered, 3 unacknowledged")
    looked_at(page, "overview", tmp_path)

    page.locator(".card a").first.click()
    expect(page.locator("h1")).to_contain_text("billing")
    expect(page.locator("dl.facts")).to_contain_text("3 of 3")
    assert sorted(page.locator("ol.rows code").all_inner_texts()) == ["m-14", "m-15", "m-3"]
    expect(page.locator("table")).to_contain_text("opened: unacknowledged at billing")
    looked_at(page, "incident", tmp_path)
    ident = page.url.rpartition("/")[2]

    page.get_by_role("link", name="what to do").click()
    expect(page.locator(".now")).to_contain_text("3 of 3")
    commands = "\n".join(page.locator("pre").all_inner_texts())
    assert f"incident={ident}\n" in commands
    assert "flow=orders\nhop=billing\n" in commands
    looked_at(page, "runbook", tmp_path)

    page.goto("/")
    page.get_by_placeholder("message id").fill("m-14")
    page.get_by_role("button", name="Find").click()
    expect(page.locator(".verdict")).to_contain_text("unacknowledged")
    expect(page.locator(".step.s-overdue")).to_contain_text("billing")
    looked_at(page, "message", tmp_path)


def test_an_alert_leads_to_its_incident(page: Page) -> None:
    """By flow and hop, as an alert has them; where nothing is open, the text says so and stands alone."""
    page.goto("/runbooks/unacknowledged?flow=orders&hop=billing")
    expect(page.locator(".now")).to_contain_text("3 of 3")
    page.goto("/runbooks/lost?flow=orders&hop=kafka-eu")
    expect(page.locator(".empty")).to_contain_text("no incident of kind 'lost' in flow 'orders' at 'kafka-eu'")
    assert "flow=orders\nhop=kafka-eu\n" in page.locator("pre").first.inner_text()


def test_the_overview_keeps_itself_up_to_date(page: Page, service: Service) -> None:
    """Without anybody reloading it."""
    page.goto("/")
    before = page.locator(".tile b").first.inner_text()
    at = now_us()
    service.send([{"flow": "others", "message_id": f"n-{at}", "hop": "shop", "stage": "produce", "observed_at": at}])
    expect(page.locator(".tile b").first).not_to_have_text(before, timeout=30_000)
