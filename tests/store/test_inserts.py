"""One insert is one block, one part, and visible as a whole or not at all: what passes rely on (docs/adr/0001)."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pyarrow as pa
import pytest

from tests.store.conftest import ROOT, Server
from tests.store.writing import batch
from tests.unit.ingest.lines import NOTHING
from tracker.model.errors import TrackerError
from tracker.store import Store
from tracker.store.bounds import Bounds
from tracker.store.columns import EVENTS, together
from tracker.store.store import CONCLUDED, PROMISED

ROWS = 20_000
DAY = 86_400_000_000
_numbers = count()


@pytest.fixture(params=["embedded", "served"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A migrated, empty store on either engine."""
    if request.param == "embedded":
        yield request.getfixturevalue("new_store")()
        return
    server: Server = request.getfixturevalue("clickhouse_server")
    opened = Store.open(server.url(f"inserts{next(_numbers)}"), durability="process")
    opened.migrate()
    yield opened
    opened.close()


def parts(store: Store, table: str = "events") -> int:
    """Parts that were ever made and are not yet gone, merged ones included."""
    db = store.engine.database
    return int(store.engine.command(f"SELECT count() FROM system.parts WHERE database = '{db}' AND table = '{table}'"))


def quiet(store: Store) -> None:
    """No merges, so that parts are what inserts made."""
    store.engine.command(f"SYSTEM STOP MERGES {store.engine.database}.events")


def test_a_large_insert_in_several_chunks_is_one_part(store: Store) -> None:
    """More rows than an engine's usual block holds, in four record batches: one part."""
    quiet(store)
    store.insert_events(batch(1_100_000, 1))
    assert parts(store) == 1


def test_an_insert_of_many_events_is_few_files(store: Store) -> None:
    """All columns in one: each file is synced before the answer."""
    quiet(store)
    store.insert_events(batch(250_000, 1))
    [part] = store.engine.rows(
        "SELECT part_type, data_uncompressed_bytes AS size FROM system.parts WHERE active AND table = 'events' "
        f"AND database = '{store.engine.database}'"
    )
    assert part["part_type"] == "Compact"
    assert part["size"] > 10 << 20, "the engine's own bound would do"


def test_without_our_settings_it_would_be_several(store: Store) -> None:
    """The settings of tracker/store/engine.py are what makes it one block; usual ones cut it."""
    quiet(store)
    columns = batch(1_100_000, 1)
    usual = {"max_insert_block_size": 1_048_449, "min_insert_block_size_rows": 0, "min_insert_block_size_bytes": 0}
    with store.engine.client() as client:
        client.insert_arrow(f"{store.engine.database}.events", _typed(columns), settings=usual)
    assert parts(store) > 1


def test_what_is_left_out_is_nothing(store: Store) -> None:
    """Columns that an insert lacks, and nulls in those that it has, are stored as what stands for nothing."""
    columns = {
        "flow": pa.array(["f", "f"]).dictionary_encode(),
        "message_id": pa.array(["a", "b"]),
        "hop": pa.array(["h", "h"]).dictionary_encode(),
        "stage": pa.array(["ack", "ack"]).dictionary_encode(),
        "observed_at": pa.array([7, 7]),
        "received_at": pa.array([7, 7]),
    }
    empty = {field.name: pa.nulls(2, field.type) for field in EVENTS if field.name not in columns}
    for one in (pa.table(columns), pa.table(columns | empty)):
        store.insert_events(one)
    rows = store.engine.rows(
        "SELECT * EXCEPT (lane, sequence, message_id) REPLACE (toUnixTimestamp64Micro(origin_at) AS origin_at) "
        f"FROM {store.engine.database}.events"
    )
    assert len(rows) == 4
    nothing = dict.fromkeys(EVENTS.names, "") | NOTHING
    for row in rows:
        assert {name: row[name] for name in empty} == {name: nothing[name] for name in empty}


def test_batches_of_any_columns_share_an_insert(store: Store) -> None:
    """One brings no node, another only words of its own: each row keeps its own."""

    def one(ident: str, **more: str) -> pa.Table:
        words = {"flow": "f", "hop": f"hop-{ident}", "stage": "ack", **more}
        made = {name: pa.array([word] * 3).dictionary_encode() for name, word in words.items()}
        return pa.table(
            {"message_id": pa.array([ident] * 3), "observed_at": pa.array([7] * 3), "received_at": pa.array([7] * 3)}
            | made
        )

    store.insert_events(together([one("a"), one("b", node="n"), one("c", region="eu")]))
    rows = store.engine.rows(
        f"SELECT message_id, hop, node, region, count() AS n FROM {store.engine.database}.events "
        "GROUP BY ALL ORDER BY message_id"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("a", "hop-a", "", "", 3), ("b", "hop-b", "n", "", 3), ("c", "hop-c", "", "eu", 3)]  # fmt: skip


def test_an_insert_over_midnight_is_one_part_per_day(store: Store) -> None:
    """Days are partitions: the writer gives each its own insert and its own sequence."""
    quiet(store)
    columns = batch(400, 1)
    days = pa.array([1_800_000_000_000_000 + (n % 2) * DAY for n in range(400)])
    store.insert_events(columns.set_column(columns.schema.get_field_index("received_at"), "received_at", days))
    assert parts(store) == 2
    sequences = store.stored_since(Bounds())
    assert sorted(rows for _, _, rows in sequences) == [200, 200]
    assert len({sequence for _, sequence, _ in sequences}) == 2


def test_a_reader_never_sees_part_of_an_insert(store: Store) -> None:
    """Whoever looks while inserts are under way sees each of them whole or not yet, in the order of its lane."""
    seen: set[frozenset[int]] = set()
    ended = threading.Event()
    failures: list[str] = []

    def read() -> None:
        while not ended.is_set():
            rows = store.engine.rows(
                f"SELECT attempt, count() AS n FROM {store.engine.database}.events GROUP BY attempt ORDER BY attempt"
            )
            torn = [row for row in rows if row["n"] != ROWS]
            gaps = [row["attempt"] for row in rows] != list(range(1, len(rows) + 1))
            if torn or gaps:
                failures.append(str(rows))
            seen.add(frozenset(row["attempt"] for row in rows))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1, 16):
        store.insert_events(batch(ROWS, number))
    ended.set()
    for reader in readers:
        reader.join(60)
    assert not failures, failures[0]
    assert len(seen) > 2, "the readers saw nothing of what went on"


def test_a_failed_insert_ends_its_lane(new_store: Callable[[], Store]) -> None:
    """A server may finish an insert after we gave up on it, so what comes next is of another lane: passes take both."""
    store = new_store()
    store.insert_events(batch(8, 1))
    with pytest.raises(TrackerError):
        store.insert_events(batch(8, 2).rename_columns({"hop": "wrong"}))
    store.insert_events(batch(8, 3))
    assert len({lane for lane, _, _ in store.stored_since(Bounds())}) == 2


def test_a_clock_that_was_set_back_gives_growing_sequences(new_store: Callable[[], Store]) -> None:
    """A process that starts with an older clock goes on above everything stored, or passes would never look there."""
    store = new_store()
    store.insert_events(batch(4, 1))
    ahead = 1 << 62
    store.engine.command(f"INSERT INTO {store.engine.database}.events (sequence, lane) VALUES ({ahead}, 1)")
    again = Store(store.engine, "process")
    again.insert_events(batch(4, 2))
    assert max(sequence for _, sequence, _ in again.stored_since(Bounds())) == ahead + 1


def test_writers_whose_clocks_differ_stay_together(clickhouse_server: Server) -> None:
    """Passes forget what lies ten minutes before the newest sequence, so no writer may stay behind another."""
    url = clickhouse_server.url(f"inserts{next(_numbers)}")
    one, other = Store.open(url, "process"), Store.open(url, "process")
    one.migrate()
    one.insert_events(batch(4, 1))
    ahead = 1 << 62
    other.engine.command(f"INSERT INTO {other.engine.database}.events (sequence, lane) VALUES ({ahead}, 1)")
    one.insert_events(batch(4, 2))
    assert max(sequence for _, sequence, _ in one.stored_since(Bounds())) == ahead + 1
    one.close()
    other.close()


@pytest.mark.parametrize(("durability", "expected"), [("fsync", "1"), ("process", "0")])
def test_durability_is_a_setting_of_the_tables(
    embedded_folder: Path, durability: str, expected: str, new_store: Callable[[], Store]
) -> None:
    """`fsync`, the default, waits for the disk at every insert: of what was promised to somebody, and of what passes
    make of it, since nobody looks at it a second time."""
    engine = new_store().engine
    store = Store(engine, durability)  # type: ignore[arg-type]
    store.migrate()
    rows = engine.rows(
        "SELECT name, create_table_query AS text FROM system.tables WHERE database = {db:String} "
        "AND engine LIKE '%MergeTree' AND name NOT IN ('migrations', 'installation', 'resubmitted')",
        {"db": engine.database},
    )
    assert {row["name"] for row in rows} == {*PROMISED, *CONCLUDED}
    assert all(f"fsync_after_insert = {expected}" in row["text"] for row in rows)
    assert all(f"fsync_part_directory = {expected}" in row["text"] for row in rows)


@pytest.mark.slow
def test_inserts_survive_kill_and_none_is_torn(tmp_path: Path) -> None:
    """SIGKILL at any moment: what was answered is there, and what is there is whole."""
    folder, chooser = tmp_path / "killed", random.Random(7)
    begun = done = 0
    for _ in range(4):
        begun, done = _killed(folder, chooser.uniform(0, 0.3))
        left = json.loads(_run(folder, "--look").communicate(timeout=60)[0])
        stored = {int(number): rows for number, rows in left.items()}
        assert all(rows % ROWS == 0 for rows in stored.values()), stored
        assert set(range(1, done + 1)) <= stored.keys() <= set(range(1, 60_000)), (done, stored.keys())
    assert begun >= done > 0


def _killed(folder: Path, delay: float) -> tuple[int, int]:
    """Let it write a few inserts, kill it somewhere in the next; (last begun, last done)."""
    process = _run(folder)
    begun = done = 0
    assert process.stdout is not None
    for line in process.stdout:
        word, number = line.split()
        begun, done = (int(number), done) if word == "begin" else (begun, int(number))
        if begun == 4:
            threading.Event().wait(delay)  # into the middle of the insert, or beyond
            process.kill()
            break
    for line in process.stdout:
        word, number = line.split()
        done = int(number) if word == "done" else done
    process.wait(30)
    process.stdout.close()
    return begun, done


def _run(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.store.writing", str(folder), str(ROWS), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _typed(columns: pa.Table) -> pa.Table:
    """As the writer sends them."""
    from tracker.store.writer import typed

    columns = typed(columns)
    for name in ("lane", "sequence"):
        columns = columns.append_column(name, pa.repeat(pa.scalar(1, pa.uint64()), columns.num_rows))
    return columns


def test_what_may_wait_gives_way(store: Store) -> None:
    """Threads of a pass in an embedded engine leave the processors to those of others; the store is the same."""
    asked = "SELECT toInt64(getSetting('os_threads_nice_value_query')) AS nice"
    yielding = store.yielding()
    [mine], [passes] = store.engine.rows(asked), yielding.engine.rows(asked)
    assert (mine["nice"], passes["nice"] > 0) == (0, store.engine.embedded)
    store.insert_events(batch(4, 1))
    assert yielding.stored_since(Bounds()) == store.stored_since(Bounds()) != []
    yielding.close()
