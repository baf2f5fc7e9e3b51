"""`tracker token`: access tokens, kept in the control database that this machine's settings name."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from tracker.cli.answers import Json, emit, table
from tracker.cli.errors import server_side
from tracker.cli.settings import service_settings
from tracker.model.units import duration, rfc3339

if TYPE_CHECKING:
    from tracker.control import Control
    from tracker.control.tokens import Rates

app = typer.Typer(
    no_args_is_help=True,
    help="Access tokens. Works on the control database itself (TRACKER_CONTROL), whether the service runs or not.",
)
SCOPES = "ingest, read, replay, audit, admin"
MB = 1 << 20
Events = Annotated[
    float | None, typer.Option(min=0, help="events it may send a second; 0: no limit. Else TRACKER_RATE_EVENTS")
]
Megabytes = Annotated[
    float | None, typer.Option(min=0, help="megabytes it may send a second; 0: no limit. Else TRACKER_RATE_MB")
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="who or what it is for; the audit log names it")],
    scope: Annotated[list[str], typer.Option(help=f"one of {SCOPES}; may be repeated")],
    expires: Annotated[str | None, typer.Option(help="valid for so long, as 90d; without it, until revoked")] = None,
    rate_events: Events = None,
    rate_mb: Megabytes = None,
    as_json: Json = False,
) -> None:
    """Make a token and show it, this once."""
    with _control() as (control, now):
        from tracker.control.tokens import Rates

        until = None if expires is None else now + duration(expires)
        rates = Rates(rate_events, None if rate_mb is None else rate_mb * MB)
        told = {"name": name, "scopes": scope} | _rates(rates)
        with control.transaction() as books:
            info, text = books.tokens.create(name, scope, now, _me(), until, rates)
            books.audit.append(now, _me(), "create", f"token/{info.id}", "", told)
    shown = {"id": info.id, "name": info.name, "scopes": info.scopes, "token": text}
    emit(as_json, shown, text)


@app.command()
def limit(
    token: Annotated[str, typer.Argument(help="its id, as `list` shows it")],
    rate_events: Events = None,
    rate_mb: Megabytes = None,
    as_json: Json = False,
) -> None:
    """Say how much a token may send from its next batch on; what is left out is as for all tokens again."""
    with _control() as (control, now):
        from tracker.control.tokens import Rates

        rates = Rates(rate_events, None if rate_mb is None else rate_mb * MB)
        with control.transaction() as books:
            info = books.tokens.limit(token, rates)
            books.audit.append(now, _me(), "limit", f"token/{token}", "", _rates(rates))
    shown = {"id": info.id, "name": info.name, "rate_events": info.rate_events, "rate_bytes": info.rate_bytes}
    emit(as_json, shown, f"token {info.id} ({info.name}): {_told(shown) or 'as all tokens'}")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Every token, without its secret."""
    with _control() as (control, _):
        rows = [msgspec.to_builtins(info) for info in control.tokens.list()]
    for row in rows:
        for field in ("created_at", "expires_at", "revoked_at", "last_used_at"):
            row[field] = None if row[field] is None else rfc3339(row[field])
    columns = {"id": "TOKEN", "name": "NAME", "scopes": "SCOPES", "rate": "RATE", "created_at": "CREATED",
               "last_used_at": "LAST USED", "expires_at": "EXPIRES", "revoked_at": "REVOKED"}  # fmt: skip
    shown = [row | {"rate": _told(row)} for row in rows]
    emit(as_json, rows, table(columns, shown, "no token yet: tracker token create NAME --scope read"))


@app.command()
def revoke(token: Annotated[str, typer.Argument(help="its id, as `list` shows it")], as_json: Json = False) -> None:
    """Refuse a token from now on."""
    with _control() as (control, now), control.transaction() as books:
        books.tokens.revoke(token, now)
        books.audit.append(now, _me(), "revoke", f"token/{token}")
    emit(as_json, {"id": token, "revoked": True}, f"token {token}: revoked")


@contextmanager
def _control() -> Iterator[tuple[Control, int]]:
    with server_side():
        from tracker.control import Control
        from tracker.reconcile import now_us

        with Control.open(service_settings().control_url) as control:
            yield control, now_us()


def _rates(rates: Rates) -> dict[str, float]:
    """What the audit log tells of them."""
    said = {"rate_events": rates.events, "rate_bytes": rates.bytes}
    return {name: rate for name, rate in said.items() if rate is not None}


def _told(row: Mapping[str, Any]) -> str:
    """The rates of a token's own; empty where it has none."""
    events, size = row["rate_events"], row["rate_bytes"]
    said = [] if events is None else [f"{events:g} events/s" if events else "any events"]
    return ", ".join(said + ([] if size is None else [f"{size / MB:g} MB/s" if size else "any size"]))


def _me() -> str:
    """Who the audit log names for what is done on the machine itself."""
    return f"{getpass.getuser()} (local)"
