"""Every setting, read once, from the environment: `TRACKER_` and the field's name in capitals.

docs/configuration.md describes each; a test fails when one is missing there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tracker.cli.errors import CommandError

PREFIX = "TRACKER_"
S = TypeVar("S", bound="Strict")


class Strict(BaseSettings):
    """Frozen; unknown variables of the prefix are somebody else's."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)


class ClientSettings(Strict):
    """Where the commands find the service."""

    url: str = Field("http://127.0.0.1:8000", description="address of the service")
    token: SecretStr = Field(SecretStr(""), description="access token; not needed where the service runs --insecure")
    timeout_s: float = Field(30.0, gt=0, description="seconds that an answer may take")

    @field_validator("url")
    @classmethod
    def _http(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("write http://host:port or https://host:port")
        return value.rstrip("/")


class ServiceSettings(Strict):
    """What `tracker serve` and `tracker migrate` work on."""

    store: str = Field("", description="chdb:///folder, or clickhouse[s]://user:password@host:port/database")
    control: str = Field(
        "", description="sqlite:///file or postgresql://...; by default a file beside the store's folder"
    )
    durability: Literal["fsync", "process"] = Field("fsync", description="fsync: answered events survive power loss")
    hops: Path | None = Field(None, description="YAML file that says where replays read and send, per hop")
    statement_key: Path | None = Field(
        None, description="file of the key that signs statements; by default beside the control database's file"
    )
    commit_rows: int = Field(250_000, ge=1, le=4_000_000, description="rows that a shared insert has at most")
    commit_wait_ms: float = Field(20.0, ge=0, le=5000, description="how long a request waits for others to share with")
    commit_memory_mb: int = Field(512, ge=1, description="memory of batches that wait to be durable; then 503")
    spool: Path | None = Field(
        None, description="folder where events wait while the store is down; by default beside the control database"
    )
    spool_mb: int = Field(2048, ge=0, description="most that waits there; then 503. 0: no spool")
    spool_after_s: float = Field(2.0, gt=0, description="what the store has not taken after so long goes to the spool")
    body_mb: float = Field(16.0, gt=0, description="largest body as sent; then 413")
    inflated_mb: float = Field(64.0, gt=0, description="largest body after decompression; then 413")
    read_s: float = Field(30.0, gt=0, description="seconds that headers, and a body, may take to come; then 408")
    ingest_slots: int = Field(32, ge=1, description="batches in work at once; then 503")
    rate_events: float = Field(0, ge=0, description="events that one token may send a second; then 429. 0: no limit")
    rate_mb: float = Field(0, ge=0, description="megabytes that one token may send a second; then 429. 0: no limit")
    otlp_port: int = Field(0, ge=0, le=65535, description="second port, where OTLP exporters look: 4318. 0: none")
    otlp_grpc_port: int = Field(0, ge=0, le=65535, description="port for OTLP over gRPC, usually 4317. 0: none")
    clickhouse_queries: int = Field(
        4, ge=0, le=64, description="statements that `/clickhouse` runs at once; 0: it is off"
    )
    clickhouse_s: float = Field(30.0, gt=0, description="seconds that one may take")
    clickhouse_memory_mb: int = Field(1024, ge=16, description="memory that one may take")
    clickhouse_rows: int = Field(1_000_000, ge=1, description="rows that one may give")
    clickhouse_answer_mb: int = Field(64, ge=1, description="size that its answer may have")
    pass_interval_s: float = Field(0.5, gt=0, description="seconds between passes of the reconciler")
    log_format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else JSON")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")

    @property
    def control_url(self) -> str:
        """The control database: as set, else a file beside the embedded store's folder, else one in ./var."""
        if self.control:
            return self.control
        parts = urlsplit(self.store_url)
        if parts.scheme == "chdb":
            folder = Path(unquote(parts.path))
            return f"sqlite:///{folder.with_name(folder.name + '.control.db')}"
        return f"sqlite:///{Path.cwd() / 'var' / 'control.db'}"

    @property
    def statement_key_path(self) -> Path | None:
        """The key that signs statements: as set, else beside the control database's file; None where that is none."""
        if self.statement_key:
            return self.statement_key
        parts = urlsplit(self.control_url)
        if not parts.scheme.startswith("sqlite"):
            return None
        control = Path(parts.path[1:])
        return control.with_name(control.name + ".statement-key")

    @property
    def spool_path(self) -> Path:
        """Where the spool lies: as set, else beside the control database's file, else in ./var."""
        if self.spool:
            return self.spool
        parts = urlsplit(self.control_url)
        if not parts.scheme.startswith("sqlite"):
            return Path.cwd() / "var" / "spool"
        control = Path(parts.path[1:])
        return control.with_name(control.name + ".spool")

    @property
    def store_url(self) -> str:
        """The store: as set, else ./var/ledger."""
        return self.store or f"chdb://{Path.cwd() / 'var' / 'ledger'}"


def client_settings() -> ClientSettings:
    """Raises CommandError naming the variable and its value."""
    return _read(ClientSettings)


def service_settings() -> ServiceSettings:
    """Raises CommandError naming the variable and its value."""
    return _read(ServiceSettings)


def _read(kind: type[S]) -> S:
    try:
        return kind()
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        raise CommandError(
            f"{name}={_shown(name, first['input'])}: {first['msg'].removeprefix('Value error, ')}"
        ) from None


def _shown(name: str, value: Any) -> str:
    return "***" if "TOKEN" in name else repr(value)


def described(kind: type[Strict]) -> list[tuple[str, str, str]]:
    """(variable, default, meaning) of every setting."""
    rows = []
    for name, field in kind.model_fields.items():
        default = "" if isinstance(field.default, SecretStr) else field.default
        rows.append((PREFIX + name.upper(), "" if default is None else str(default), field.description or ""))
    return rows
