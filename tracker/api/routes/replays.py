"""Sending again: look first, ask, approve, watch."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from tracker.api import shapes
from tracker.api.auth import allowed, service_of
from tracker.api.problem import Problem
from tracker.api.reading import Cursor, Limit, moment, once_apart, replied
from tracker.control.idempotency import Answer
from tracker.control.replays import Replay
from tracker.control.tokens import Principal
from tracker.replay.plan import Selection
from tracker.replay.service import Replays, Shown

routes = APIRouter(prefix="/v1/replays", tags=["replays"])
NO_WORD = shapes.Why()
Caller = Annotated[Principal, Depends(allowed("replay"))]


def _replays(request: Request) -> Replays:
    found = service_of(request).replays
    if found is None:
        raise Problem(503, "this tracker does not replay: it was started without its replay engine")
    return found


@routes.post("", status_code=201, response_model=shapes.Replay)
def post_replay(request: Request, wanted: shapes.Selection, by: Caller, dry_run: bool = False) -> Response:
    """Ask for missing messages to be sent again. With `dry_run` (here or in the body) only the plan is answered (200):
    which messages, from where, to where, how long, what was refused; nothing is stored or sent."""
    replays = _replays(request)
    now = service_of(request).clock()
    selection = Selection(
        flow=wanted.flow,
        hop=wanted.hop,
        kind=wanted.kind,
        incident=wanted.incident,
        message_ids=tuple(wanted.message_ids or ()),
        since=None if wanted.since is None else moment(wanted.since, now, "since"),
        until=None if wanted.until is None else moment(wanted.until, now, "until"),
        key=wanted.key,
        dropped_as=wanted.dropped_as,
        attributes=wanted.attributes,
        source=wanted.source,
        to=wanted.to,
    )
    if wanted.dry_run or dry_run:
        plan = replays.plan(selection, wanted.rate).summary()
        return replied(Answer(200, msgspec.json.encode({"dry_run": True, "plan": plan}).decode()))

    def work() -> Answer:
        made = replays.create(selection, by, wanted.reason, wanted.rate)
        return Answer(201, _shown(made.replay, made.messages).model_dump_json())

    return once_apart(request, by, wanted.model_dump_json().encode(), work)


@routes.get("", dependencies=[Depends(allowed("read"))])
def list_replays(
    request: Request,
    status: Annotated[list[str] | None, Query()] = None,
    flow: str | None = None,
    incident: str | None = None,
    cursor: Cursor = "",
    limit: Limit = 100,
) -> shapes.Page[shapes.Replay]:
    """Replays, newest first."""
    page = _replays(request).list(status=status or (), flow=flow, incident=incident, cursor=cursor, limit=limit)
    return shapes.Page(items=[_shown(one) for one in page.items], next=page.cursor or None)


@routes.get("/{replay_id}", dependencies=[Depends(allowed("read"))])
def get_replay(request: Request, replay_id: str) -> shapes.Replay:
    """One replay and how far it came."""
    found = _replays(request).get(replay_id)
    return _shown(found.replay, found.messages)


@routes.get("/{replay_id}/messages", dependencies=[Depends(allowed("read"))])
def list_replay_messages(
    request: Request, replay_id: str, state: str | None = None, cursor: Cursor = "", limit: Limit = 100
) -> shapes.Page[shapes.ReplayMessage]:
    """Its messages in the order of sending."""
    page = _replays(request).messages(replay_id, state=state, cursor=cursor, limit=limit)
    items = [shapes.ReplayMessage.model_validate(one) for one in page.items]
    return shapes.Page(items=items, next=page.cursor or None)


@routes.post("/{replay_id}/approve")
def approve(request: Request, replay_id: str, by: Caller, said: shapes.Why = NO_WORD) -> shapes.Replay:
    """A second person says yes; doing it again changes nothing, as with the three below."""
    return _decided(_replays(request).approve(replay_id, by, said.why))


@routes.post("/{replay_id}/pause")
def pause(request: Request, replay_id: str, by: Caller, said: shapes.Why = NO_WORD) -> shapes.Replay:
    """Send nothing more for now."""
    return _decided(_replays(request).pause(replay_id, by, said.why))


@routes.post("/{replay_id}/resume")
def resume(request: Request, replay_id: str, by: Caller, said: shapes.Why = NO_WORD) -> shapes.Replay:
    """Go on after a pause."""
    return _decided(_replays(request).resume(replay_id, by, said.why))


@routes.post("/{replay_id}/cancel")
def cancel(request: Request, replay_id: str, by: Caller, said: shapes.Why = NO_WORD) -> shapes.Replay:
    """Send nothing more, for good."""
    return _decided(_replays(request).cancel(replay_id, by, said.why))


def _decided(found: Shown) -> shapes.Replay:
    return _shown(found.replay, found.messages)


def _shown(replay: Replay, messages: dict[str, int] | None = None) -> shapes.Replay:
    fields: dict[str, Any] = {n: getattr(replay, n) for n in shapes.Replay.model_fields if n != "messages"}
    return shapes.Replay(**fields, messages=messages)
