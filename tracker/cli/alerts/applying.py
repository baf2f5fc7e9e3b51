"""`tracker alerts apply`: rules that Prometheus has read, and is known to have read
(https://prometheus.io/docs/prometheus/latest/management_api/#reload, .../querying/api/#rules)."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml

from tracker.alerting import rules
from tracker.cli.alerts.checking import difference, shown, tool
from tracker.cli.errors import UNAVAILABLE, CommandError
from tracker.cli.files import read, replace
from tracker.model.units import SECOND, duration

PATIENCE_S = 30.0


def applied(text: str, path: Path, url: str, yes: bool, as_json: bool) -> None:
    """Shows the difference; with `yes` the file is replaced and Prometheus reads it. Raises CommandError: also when it
    refuses the file, which then is as before, or when other rules are in force than these."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise CommandError(f"--reload {url}: write Prometheus' address, as http://prometheus:9090")
    base = url.rstrip("/").removesuffix("/-/reload")
    changed = difference(path, text)
    _accepted(text)
    if yes:
        _put(text, path, base)
    count = sum(1 for _ in _wanted(text))
    said = f"{count} rules of {path} are in force" if yes else "nothing was written; with --yes this is done"
    if not changed:
        said = f"{path} is as it would be made; {said}"
    answer = {"dry_run": not yes, "difference": changed, "rules": count, "file": str(path)}
    shown(as_json, answer, filter(None, [changed, said]))


def _accepted(text: str) -> None:
    """promtool reads it, where it is installed. Raises CommandError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / rules.NAME
        path.write_text(text, "utf-8")
        if told := tool(rules.NAME, path):
            raise CommandError(told)


def _put(text: str, path: Path, base: str) -> None:
    before = read(path) if path.exists() else None
    with httpx.Client(base_url=base, timeout=PATIENCE_S) as prometheus:
        _ask(prometheus, "GET", "/-/ready")  # before anything is written
        replace(path, text)
        try:
            _ask(prometheus, "POST", "/-/reload")
        except CommandError as error:
            if before is None:
                path.unlink()
            else:
                replace(path, before)
            raise CommandError(f"{error}; {path} is as it was before", error.code) from None
        _in_force(_ask(prometheus, "GET", "/api/v1/rules").json()["data"]["groups"], text, path)


def _ask(prometheus: httpx.Client, method: str, way: str) -> httpx.Response:
    """Raises CommandError that says what to do."""
    try:
        answer = prometheus.request(method, way)
    except httpx.HTTPError as error:
        raise CommandError(f"no Prometheus answers at {prometheus.base_url} ({error})", UNAVAILABLE) from None
    if answer.status_code == 403 and way == "/-/reload":
        told = f"{prometheus.base_url} does not take reloads: start it with --web.enable-lifecycle, or send it SIGHUP"
        raise CommandError(told)
    if not answer.is_success:
        told = f"{prometheus.base_url.join(way)} answered {answer.status_code}: {answer.text.strip()[:500]}"
        raise CommandError(told, UNAVAILABLE if answer.status_code in (502, 503, 504) else 2)
    return answer


def _in_force(groups: list[dict[str, Any]], text: str, path: Path) -> None:
    """Prometheus has every rule just as it stands in the text. Raises CommandError naming those that it has not."""
    has = {
        (group["name"], rule["name"]): _said(rule, "query", "duration")
        for group in groups
        for rule in group["rules"]
        if rule["type"] == "alerting"
    }
    wrong = [name for group, name, rule in _wanted(text) if has.get((group, name)) != rule]
    if wrong:
        told = f"Prometheus read its files, but has not these rules as they stand in {path}: {', '.join(wrong)}"
        where = "do its rule_files name this file? A container has to mount the folder: the file is a new one"
        raise CommandError(f"{told}; {where}")


def _wanted(text: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for group in yaml.safe_load(text)["groups"]:
        for rule in group["rules"]:
            yield group["name"], rule["alert"], _said({**rule, "for": duration(rule["for"]) / SECOND}, "expr", "for")


def _said(rule: dict[str, Any], expression: str, lasting: str) -> dict[str, Any]:
    """What counts of a rule; Prometheus writes expressions its own way (spaces, numbers)."""
    noted = {name: rule[name] for name in ("labels", "annotations")}
    return {**noted, "lasting": rule[lasting], "expression": _tokens(rule[expression])}


def _tokens(expression: str) -> list[str]:
    number = r"\d[\d.]*(?:e[+-]?\d+)?(?!\w)"
    found = re.findall(rf'"(?:[^"\\]|\\.)*"|{number}|[\w.:]+|\S', expression)
    return [repr(float(one)) if re.fullmatch(number, one) else one for one in found]
