"""Replay: plans (pure), throttles, fetches and sends through ports, follows up.

`Replays` is what people ask (plan, create, approve, pause, resume, cancel, get, list); `Worker` is what sends;
`Automatic` asks by itself where a flow lets it.
"""

from tracker.replay.automatic import Automatic
from tracker.replay.plan import Plan, Selection
from tracker.replay.routes import Keeper
from tracker.replay.service import Replays
from tracker.replay.worker import Worker

__all__ = ["Automatic", "Keeper", "Plan", "Replays", "Selection", "Worker"]
