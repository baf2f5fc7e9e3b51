"""Numbered migrations, applied once each, in order; never edited after release.

The first line of each says what it does and its cost: `metadata` (instant) or `rewrite` (touches stored rows).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources

from tracker.model.errors import Invalid
from tracker.store.engine import Engine

_HEAD = re.compile(r"-- .+ Cost: (metadata|rewrite)")


def migrations() -> Iterator[tuple[str, str]]:
    """(name, text) of every migration, in order."""
    folder = resources.files("tracker.store").joinpath("migrations")
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".sql"):
            yield entry.name.removesuffix(".sql"), entry.read_text(encoding="utf-8")


def migrate(engine: Engine) -> list[str]:
    """Apply what was not applied yet; gives the names of those. Raises Invalid when the store is newer than we are."""
    db = engine.database
    engine.command(
        f"CREATE TABLE IF NOT EXISTS {db}.migrations (name String, applied_at DateTime DEFAULT now()) "
        "ENGINE = MergeTree ORDER BY name"
    )
    applied = {row["name"] for row in engine.rows(f"SELECT name FROM {db}.migrations")}
    known = dict(migrations())
    ahead = applied - set(known)
    if ahead:
        raise Invalid(f"{engine.where} was migrated by a newer version ({', '.join(sorted(ahead))}): upgrade this one")
    done = []
    for name, text in known.items():
        if name not in applied:
            _apply(engine, name, text)
            done.append(name)
    return done


def _apply(engine: Engine, name: str, text: str) -> None:
    """Statement by statement; each must be safe to repeat, since a crash may leave a migration half done."""
    head, _, body = text.partition("\n")
    if not _HEAD.match(head):
        raise Invalid(f"migrations/{name}.sql must begin with `-- what it does. Cost: metadata|rewrite`")
    for statement in body.split(";"):
        if statement.strip():
            engine.command(statement.replace("{db}", engine.database))
    engine.command(f"INSERT INTO {engine.database}.migrations (name) VALUES ({{name:String}})", {"name": name})
