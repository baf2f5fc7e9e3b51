"""Replay: plans (pure), throttles, fetches and sends through ports, follows up.

`Replays` is what people ask (plan, create, approve, pause, resume, cancel, get, list); `Worker` is what sends.
"""

from tracker.replay.plan import Plan, Selection
from tracker.replay.routes import Keeper
from tracker.replay.service import Replays
from tracker.replay.worker import Worker

__all__ = ["Keeper", "Plan", "Replays", "Selection", "Worker"]
