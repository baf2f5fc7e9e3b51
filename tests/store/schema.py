"""The schema as the engine holds it after all migrations; `tracker/store/schema.sql` is kept equal to it.

python -m tests.store.schema        # writes tracker/store/schema.sql anew, after a migration was added
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tracker.store import Store

KEPT = Path(__file__).parents[2] / "tracker" / "store" / "schema.sql"
HEAD = "-- What all migrations together make. Never applied: for reading, and held against the migrations by a test.\n"


def schema_of(store: Store) -> str:
    """Every table and view of a migrated store, by name, without what durability sets."""
    db = store.engine.database
    rows = store.engine.rows(
        "SELECT formatQuery(create_table_query) AS text FROM system.tables WHERE database = {db:String} "
        "AND NOT startsWith(name, '.') ORDER BY name",
        {"db": db},
    )
    texts = (row["text"].replace(f"{db}.", "{db}.") for row in rows)
    return HEAD + "".join(f"\n{text.partition(chr(10) + 'SETTINGS ')[0]};\n" for text in texts)


def main() -> None:
    """Write the kept file."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(f"chdb://{folder}/store")
        store.migrate()
        KEPT.write_text(schema_of(store), encoding="utf-8")
        store.close()


if __name__ == "__main__":
    main()
