"""Parts of a collector's configuration: strict, frozen, and with errors that name the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from collectors.errors import ConfigInvalid

PART = TypeVar("PART", bound="Part")


class Part(BaseModel):
    """An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def settings(model: type[PART], config: Mapping[str, Any], what: str) -> PART:
    """`config` as `model`. Raises `ConfigInvalid` that names `what`, each wrong key and why."""
    try:
        return model.model_validate(dict(config))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'config'}: {_said(e['msg'])}" for e in error.errors())
        raise ConfigInvalid(f"{what}: {wrong}") from error


def _said(message: str) -> str:
    return message.removeprefix("Value error, ")
