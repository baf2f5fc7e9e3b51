"""CONFIG.yaml of `collectors run`: where the tracker is, where the spool lies, which collectors run.

Unknown keys are errors that name their line. `${NAME}` is taken from the environment, and only where a secret
belongs: in keys that end in token, password, secret, url or dsn.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from collectors.delivery import usable
from collectors.errors import ConfigInvalid
from tracker.model.units import SECOND, duration

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
SECRET = re.compile(r"(token|password|secret|url|dsn)$", re.IGNORECASE)
QUOTED = re.compile(r"'[^']{2,}'")
"""What PyYAML quotes of a file in its errors: `password: *abc` is an alias that is not defined, and it names it."""
Seconds = Annotated[float, BeforeValidator(lambda value: duration(value) / SECOND), Field(gt=0)]
"""`500ms`, `5s`, `2m`, or a bare number of seconds."""


def _address(value: Any) -> str:
    """`host:port`, `[::1]:port`, or a port of loopback."""
    text = str(value)
    host, _, port = text.rpartition(":")
    if text and not (port.isascii() and port.isdigit() and 0 <= int(port) < 65536):
        raise ValueError(f"{text!r} is no address; write 127.0.0.1:9464")
    return f"{host or '127.0.0.1'}:{port}" if text else ""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrackerAt(_Part):
    """Where reports go. The token stands here (`${TRACKER_TOKEN}`) or in a file."""

    url: str = Field(pattern=r"^https?://[^/\s]+")
    token: str = ""
    token_file: Path | None = None
    timeout: Seconds = 10.0

    @model_validator(mode="after")
    def _one_token(self) -> TrackerAt:
        if self.token and self.token_file:
            raise ValueError("give `token` or `token_file`, not both")
        return self

    def secret(self) -> str:
        """The token, its file read anew. Raises `ConfigInvalid`, which tells nothing of it, when that is not there, is
        empty, as while somebody writes it, or holds something else."""
        if self.token_file is None:
            return usable(self.token)
        try:
            token = usable(self.token_file.read_text("ascii").strip())
        except OSError as error:
            raise ConfigInvalid(f"tracker.token_file {self.token_file}: {error.strerror}") from error
        except (UnicodeDecodeError, ConfigInvalid):
            raise ConfigInvalid(f"tracker.token_file {self.token_file}: this is no token") from None
        if not token:
            raise ConfigInvalid(f"tracker.token_file {self.token_file}: the file is empty")
        return token


class CollectorAt(BaseModel):
    """One collector: its name (also in coverage), its kind, and the settings of that kind, checked by the kind.
    `retired`: what it watched is over; it is not run any more, only signed off. `archive`: which messages it keeps, and
    where, checked by `collectors.archive`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(pattern=NAME)
    kind: str
    retired: bool = False
    archive: dict[str, Any] | None = None

    @property
    def settings(self) -> Mapping[str, Any]:
        """All keys but name, kind, `retired` and `archive`."""
        return self.model_extra or {}


class Config(_Part):
    """The whole file. Each collector gets a folder of its name in `spool`, of at most `spool_mb`. `listen`: where
    health and metrics are shown, `host:port`; empty: nowhere. `unready_after`: seconds that one may go without reading.
    """

    tracker: TrackerAt
    spool: Path
    spool_mb: int = Field(256, ge=1)
    heartbeat: Seconds = 1.0
    listen: Annotated[str, BeforeValidator(_address)] = ""
    unready_after: Seconds = 60.0
    collectors: tuple[CollectorAt, ...] = Field(min_length=1)

    @field_validator("collectors")
    @classmethod
    def _names_differ(cls, collectors: tuple[CollectorAt, ...]) -> tuple[CollectorAt, ...]:
        names = [c.name for c in collectors]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"collector names must differ: {', '.join(sorted(twice))}")
        return collectors


class Located(BaseModel):
    """A configuration and the line where each collector begins."""

    config: Config
    lines: dict[str, int]


def read_config(path: Path, environment: Mapping[str, str] = os.environ) -> Located:
    """The configuration in the file. Raises `ConfigInvalid` that names file, line and key."""
    try:
        text = path.read_text()
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path}{_unreadable(error)}") from None
    if not isinstance(raw, dict) or node is None:
        raise ConfigInvalid(f"{path}: a mapping with `tracker`, `spool` and `collectors` belongs here")
    try:
        _one_of_each(node)
        config = Config.model_validate(_expanded(raw, (), environment))
    except _Misplaced as error:
        raise ConfigInvalid(f"{path}:{error.line or line_of(node, error.place)}: {error}") from None
    except ValidationError as error:
        wrong = [f"{path}:{line_of(node, e['loc'])}: {_said(e)}" for e in error.errors()]
        raise ConfigInvalid("\n".join(wrong)) from None
    return Located(
        config=config, lines={c.name: line_of(node, ("collectors", i)) for i, c in enumerate(config.collectors)}
    )


def _unreadable(error: yaml.YAMLError | UnicodeDecodeError) -> str:
    """Where and why a text is no YAML. Not the line itself, which may hold a secret."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return f": not readable as YAML: {getattr(error, 'reason', '') or type(error).__name__}"
    mark = error.problem_mark or error.context_mark
    why = QUOTED.sub("'...'", ", ".join(filter(None, (error.context, error.problem))))
    return f"{f':{mark.line + 1}' if mark else ''}: not readable as YAML: {why}"


class _Misplaced(ValueError):
    def __init__(self, reason: str, place: tuple[int | str, ...] = (), line: int = 0) -> None:
        super().__init__(reason)
        self.place, self.line = place, line


def _expanded(value: Any, place: tuple[int | str, ...], environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _expanded(each, (*place, key), environment) for key, each in value.items()}
    if isinstance(value, list):
        return [_expanded(each, (*place, i), environment) for i, each in enumerate(value)]
    if not isinstance(value, str) or not VARIABLE.search(value):
        return value
    name = next((str(part) for part in reversed(place) if isinstance(part, str)), "")
    if not SECRET.search(name):
        raise _Misplaced(f"{name}: ${{...}} is for secrets only (token, password, secret, url, dsn)", place)
    missing = [found for found in VARIABLE.findall(value) if found not in environment]
    if missing:
        raise _Misplaced(f"{name}: {', '.join(missing)} is not set in the environment", place)
    return VARIABLE.sub(lambda match: environment[match[1]], value)


def _one_of_each(node: yaml.Node) -> None:
    """YAML lets a key stand twice and takes the last: nobody means that."""
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            _one_of_each(each)
    if isinstance(node, yaml.MappingNode):
        known: set[Any] = set()
        for key, value in node.value:
            if key.value in known:
                raise _Misplaced(f"key {key.value!r} stands here twice", line=key.start_mark.line + 1)
            known.add(key.value)
            _one_of_each(value)


def _said(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key `{place}`"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def line_of(node: yaml.Node, place: tuple[int | str, ...]) -> int:
    """The line, from 1, of the deepest node that `place` reaches."""
    for part in place:
        if isinstance(node, yaml.MappingNode):
            match = next(((key, value) for key, value in node.value if key.value == part), None)
            if match is None:
                break
            key, value = match
            node = key if part == place[-1] else value
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        else:
            break
    return int(node.start_mark.line) + 1
