"""What the configurations of all that reads an outbox have in common."""

from __future__ import annotations

from typing import Literal

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import field_validator

from collectors.part import Part


class Database(Part):
    """Where it is."""

    url: str

    @field_validator("url")
    @classmethod
    def _postgresql(cls, value: str) -> str:
        if not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("write postgresql://user:password@host:5432/database")
        try:
            said = conninfo_to_dict(value)
        except psycopg.ProgrammingError:  # its words hold a part of the URL, and that may be one of the password
            said = {"port": "none"}
        if not str(said.get("port", 0)).isdigit() or "@" in str(said.get("dbname", "")):
            raise ValueError("libpq cannot read it; percent-encode what is special in its password")
        return value

    @property
    def where(self) -> str:
        """Host, port and database, without a login."""
        said = conninfo_to_dict(self.url)
        return f"{said.get('host', '')}:{said.get('port', 5432)}/{said.get('dbname', '')}"


class DatabaseConfig(Database):
    """`docs/collectors/postgres.md` explains each key."""

    key: Literal["omit", "plain"] = "omit"
    node: str = ""
    region: str = ""
