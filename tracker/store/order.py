"""Order in the store: where messages stand in their lines, and which were overtaken. See `tracker.model.order`."""

from __future__ import annotations

from typing import Any

import msgspec

from tracker.model.order import UNMEASURED, Ordered
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.store.bounds import Bounds
from tracker.store.engine import Engine
from tracker.store.shape import NEVER
from tracker.store.sql import ask

LOOK_BACK = (60 * SECOND, 3600 * SECOND)
"""How far before what is new a pass looks for neighbours: the flow's longest deadline, within these bounds, µs."""
_PLACE = "tenant = '' AND flow = {flow:String} AND hop = {hop:String} AND stage = {stage:String}"
_GROUPS = {
    "key": "minIf(key_text, key_text != '' AND (begins OR is_here))",
    "partition": "if(placed, place.1, minIf(partition, is_here AND partition != ''))",
}


class Overtaken(msgspec.Struct, frozen=True):
    """A message was overtaken at (hop, stage) by another of its line."""

    hop: str
    stage: str
    passed_by: str


class Order:
    """Questions about order."""

    _engine: Engine
    _db: str

    def keep_order(self, spec: FlowSpec, point: Ordered, bounds: Bounds, number: int, again: bool = False) -> None:
        """Judge the order at `point` anew where this pass (`number`) brought something new; `again`: everywhere. May be
        done again."""
        roots = [(hop, spec.checkpoints[i].stage) for i in spec.paths.roots for hop in spec.checkpoints[i].hop]
        values: dict[str, Any] = {"flow": spec.flow, "hop": point.hop, "stage": point.stage.value, "pass": number}
        values |= {f"r{n}": hop for n, (hop, _) in enumerate(roots)}
        begun = " OR ".join(
            f"(hop = {{r{n}:String}} AND stage = '{stage.value}')" for n, (_, stage) in enumerate(roots)
        )
        pieces = {
            "roots": f"({begun})",
            "here": "(hop = {hop:String} AND stage = {stage:String})",
            "group": _GROUPS[point.by],
            "new_since": bounds.known() if again else bounds.new(),
            "known": bounds.known(),
        }
        standing = ask("standing", self._db, **pieces)
        self._engine.command(standing, values | bounds.parameters | {"unmeasured": UNMEASURED})
        back = min(max(spec.paths.longest, LOOK_BACK[0]), LOOK_BACK[1])
        sql = ask("reordered", self._db, place=_PLACE)
        self._engine.command(sql, values | {"never": NEVER, "look_back": back})

    def overtaken(self, flow: str, message_id: str) -> list[Overtaken]:
        """Where a message was overtaken, as the last pass left it."""
        rows = self._engine.rows(
            f"SELECT hop, stage, passed_by FROM {self._db}.reordered FINAL "
            "WHERE tenant = '' AND flow = {flow:String} AND message_id = {id:String} AND passed_by != '' "
            "ORDER BY hop, stage",
            {"flow": flow, "id": message_id},
        )
        return [msgspec.convert(row, Overtaken) for row in rows]
