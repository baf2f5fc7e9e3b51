"""Flow specs by version, and the bits that stand for their hops and checkpoints in a message's state.

Which version judges a message: the highest one whose `in_force_from` is not after the message's origin time. The
first version reaches back without limit. Bits are never given to another hop or checkpoint, whatever later versions
say, because states written under them stay; hence at most 64 of each in the life of a flow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from tracker.control import tables
from tracker.control.database import Transactions, lock
from tracker.control.errors import Exhausted, NotFound
from tracker.control.tables import BITS, CheckpointBit, HopBit

_REVISION = "flows.revision"
_AGAIN = "fold.again."


class FlowVersion(msgspec.Struct, frozen=True):
    """A spec as given (`text`, YAML) and in its one canonical form (JSON). `deleted_at` is set on every version
    of a flow that was deleted."""

    flow: str
    version: int
    in_force_from: int
    text: str
    canonical: str
    created_at: int
    created_by: str
    deleted_at: int | None


class Bits(msgspec.Struct, frozen=True):
    """Bit numbers 0 to 63: of hops, and of checkpoints by (hop, stage)."""

    hops: dict[str, int]
    checkpoints: dict[tuple[str, str], int]


class LeftOut(msgspec.Struct, frozen=True, omit_defaults=True):
    """Passes may have left out what there is of a flow until this version: it is the first one, and somebody sent
    events before it was put; or the flow had been deleted, and `came_back`. With `hops`: only what was seen nowhere but
    at these, which it adds."""

    version: int
    came_back: bool
    hops: tuple[str, ...] = ()


class Flows:
    """The specs of all flows, old versions included."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def put(
        self,
        flow: str,
        text: str,
        canonical: str,
        now: int,
        by: str,
        hops: Sequence[str],
        checkpoints: Sequence[tuple[str, str]],
    ) -> int:
        """The version that is in force from `now`: a new one, or the last one where its canonical text is the same.

        New hops and checkpoints get their bits in the same transaction. A deleted flow comes back as a new version.
        Raises `Exhausted` when a flow would need its 65th bit; nothing is stored then.
        """
        with self._transactions.write() as session:
            lock(session, "flows")
            last = _last(session, flow)
            if last is not None and last.deleted_at is None and last.canonical == canonical:
                return last.version
            row = tables.FlowVersion(
                flow=flow,
                version=1 if last is None else last.version + 1,
                in_force_from=0 if last is None else now,
                text=text,
                canonical=canonical,
                created_at=now,
                created_by=by,
                deleted_at=None,
            )
            session.add(row)
            added = _allocate(session, flow, hops, checkpoints)
            _count_change(session)
            if last is None or last.deleted_at is not None:
                _leave_out(session, flow, LeftOut(row.version, came_back=last is not None))
            elif added:
                _leave_out(session, flow, _more(_left_out(session, flow), row.version, added))
            return row.version

    def get(self, flow: str) -> FlowVersion:
        """The newest version. Raises `NotFound` for a flow that never was or was deleted."""
        with self._transactions.read() as session:
            last = _last(session, flow)
            if last is None or last.deleted_at is not None:
                raise NotFound(f"no flow {flow!r}; list them with: tracker flows")
            return _value(last)

    def all(self) -> list[FlowVersion]:
        """The newest version of every flow that is not deleted, by name."""
        newest = (
            select(tables.FlowVersion.flow, func.max(tables.FlowVersion.version).label("version"))
            .group_by(tables.FlowVersion.flow)
            .subquery()
        )
        query = (
            select(tables.FlowVersion)
            .join(
                newest,
                (tables.FlowVersion.flow == newest.c.flow) & (tables.FlowVersion.version == newest.c.version),
            )
            .where(tables.FlowVersion.deleted_at.is_(None))
            .order_by(tables.FlowVersion.flow)
        )
        with self._transactions.read() as session:
            return [_value(row) for row in session.scalars(query)]

    def versions(self, flow: str | None = None) -> list[FlowVersion]:
        """Every version of one flow, or of all, deleted ones included, by (flow, version)."""
        query = select(tables.FlowVersion).order_by(tables.FlowVersion.flow, tables.FlowVersion.version)
        if flow is not None:
            query = query.where(tables.FlowVersion.flow == flow)
        with self._transactions.read() as session:
            return [_value(row) for row in session.scalars(query)]

    def delete(self, flow: str, now: int) -> None:
        """Mark every version deleted. Bits and text stay. Raises `NotFound` when there is nothing to delete."""
        with self._transactions.write() as session:
            lock(session, "flows")
            last = _last(session, flow)
            if last is None or last.deleted_at is not None:
                raise NotFound(f"no flow {flow!r} to delete; list them with: tracker flows")
            versions = tables.FlowVersion
            session.execute(
                update(versions).where(versions.flow == flow, versions.deleted_at.is_(None)).values(deleted_at=now)
            )
            session.execute(delete(tables.Setting).where(tables.Setting.name == _AGAIN + flow))  # all of it is, anyhow
            _count_change(session)

    def to_fold_again(self) -> dict[str, LeftOut]:
        """What passes may have left out, by flow."""
        query = select(tables.Setting).where(tables.Setting.name.startswith(_AGAIN, autoescape=True))
        with self._transactions.read() as session:
            rows = session.scalars(query.order_by(tables.Setting.name))
            return {row.name.removeprefix(_AGAIN): _read(row.value) for row in rows}

    def folded_again(self, flow: str, left: LeftOut) -> None:
        """A pass has taken that on; what was left out since then is still to be."""
        setting, value = tables.Setting, _written(left)
        with self._transactions.write() as session:
            lock(session, "flows")
            session.execute(delete(setting).where(setting.name == _AGAIN + flow, setting.value == value))

    def bits(self, flow: str) -> Bits:
        """All bits ever given to this flow; empty for a flow that never was."""
        with self._transactions.read() as session:
            return _bits(session, flow)

    def hops(self) -> dict[str, list[str]]:
        """By flow, every hop that ever had a bit."""
        found: dict[str, list[str]] = {}
        with self._transactions.read() as session:
            for row in session.scalars(select(HopBit).order_by(HopBit.flow, HopBit.bit)):
                found.setdefault(row.flow, []).append(row.hop)
        return found

    def revision(self) -> int:
        """Grows with every change to any flow: one cheap question that tells whether specs must be read again."""
        with self._transactions.read() as session:
            row = session.get(tables.Setting, _REVISION)
            return 0 if row is None else int(row.value)


def in_force(versions: Iterable[FlowVersion], origin: int) -> FlowVersion | None:
    """The version of one flow that judges a message of this origin time; None when there are none."""
    applicable = (version for version in versions if version.in_force_from <= origin)
    return max(applicable, key=lambda version: version.version, default=None)


def _last(session: Session, flow: str) -> tables.FlowVersion | None:
    versions = tables.FlowVersion
    return session.scalar(select(versions).where(versions.flow == flow).order_by(versions.version.desc()).limit(1))


def _bits(session: Session, flow: str) -> Bits:
    hops = session.scalars(select(HopBit).where(HopBit.flow == flow).order_by(HopBit.bit))
    points = session.scalars(select(CheckpointBit).where(CheckpointBit.flow == flow).order_by(CheckpointBit.bit))
    return Bits({row.hop: row.bit for row in hops}, {(row.hop, row.stage): row.bit for row in points})


def _left_out(session: Session, flow: str) -> LeftOut | None:
    row = session.get(tables.Setting, _AGAIN + flow)
    return None if row is None else _read(row.value)


def _leave_out(session: Session, flow: str, left: LeftOut) -> None:
    session.merge(tables.Setting(name=_AGAIN + flow, value=_written(left)))


def _more(before: LeftOut | None, version: int, added: Sequence[str]) -> LeftOut:
    """These hops, too. It names the new version in any case: a pass that is under way does not know it yet."""
    if before is None:
        return LeftOut(version, False, tuple(added))
    return LeftOut(version, before.came_back, (*before.hops, *added) if before.hops else ())


def _written(left: LeftOut) -> str:
    return msgspec.json.encode(left).decode()


def _read(value: str) -> LeftOut:
    """An older tracker wrote the version alone."""
    return LeftOut(int(value), True) if value.isdigit() else msgspec.json.decode(value, type=LeftOut)


def _allocate(session: Session, flow: str, hops: Sequence[str], checkpoints: Sequence[tuple[str, str]]) -> list[str]:
    """Bits for those that have none; the hops among them."""
    given = _bits(session, flow)
    new_hops = [hop for hop in dict.fromkeys(hops) if hop not in given.hops]
    new_points = [point for point in dict.fromkeys(checkpoints) if point not in given.checkpoints]
    _refuse_beyond(flow, "hops", len(given.hops), len(new_hops))
    _refuse_beyond(flow, "checkpoints", len(given.checkpoints), len(new_points))
    for bit, hop in enumerate(new_hops, len(given.hops)):
        session.add(HopBit(flow=flow, hop=hop, bit=bit))
    for bit, (hop, stage) in enumerate(new_points, len(given.checkpoints)):
        session.add(CheckpointBit(flow=flow, hop=hop, stage=stage, bit=bit))
    return new_hops


def _refuse_beyond(flow: str, what: str, used: int, new: int) -> None:
    if used + new > BITS:
        raise Exhausted(
            f"flow {flow!r} has used {used} of {BITS} {what} over its versions and this one adds {new}: "
            f"names are never used again, so keep the old names, or start a new flow"
        )


def _count_change(session: Session) -> None:
    row = session.get(tables.Setting, _REVISION)
    if row is None:
        session.add(tables.Setting(name=_REVISION, value="1"))
    else:
        row.value = str(int(row.value) + 1)


def _value(row: tables.FlowVersion) -> FlowVersion:
    return msgspec.convert(row, FlowVersion, from_attributes=True)
