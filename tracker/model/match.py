"""What a checkpoint's `match` says: by which spans, topics or queues the traffic of a checkpoint is known.

Every key that is given must fit; a key has one text or several, any of which may fit; `*` in one stands for anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def listed(value: object) -> object:
    """One in the place of several."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


Text = Annotated[str, Field(min_length=1, max_length=512)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(listed), Field(max_length=100, exclude_if=lambda texts: not texts)]


class Match(BaseModel):
    """`service` to `attributes` are asked of OTLP spans; `topic`, `queue` and `exchange` are for collectors that read
    a broker. `operation` is the type or the name of a span's operation; it makes a fitting span evidence of the
    checkpoint's own stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    service: Texts = ()
    system: Texts = ()
    destination: Texts = ()
    operation: Texts = ()
    group: Texts = ()
    attributes: dict[Text, Texts] = Field(default_factory=dict, max_length=16, exclude_if=lambda found: not found)
    topic: Texts = ()
    queue: Texts = ()
    exchange: Texts = ()

    @model_validator(mode="after")
    def _something(self) -> Match:
        if not self.model_fields_set or not any(getattr(self, key) for key in self.model_fields_set):
            raise ValueError("`match` that says nothing would fit everything; name a service or a destination")
        return self

    @cached_property
    def spans(self) -> Mapping[str, re.Pattern[str]]:
        """What is asked of a span: field -> pattern, an attribute as `attributes.NAME`. Empty: fits no span."""
        fields = {key: getattr(self, key) for key in ("service", "system", "destination", "operation", "group")}
        fields |= {f"attributes.{name}": texts for name, texts in self.attributes.items()}
        return {key: _pattern(texts) for key, texts in fields.items() if texts}


def _pattern(texts: tuple[str, ...]) -> re.Pattern[str]:
    one = (".*".join(map(re.escape, text.split("*"))) for text in texts)
    return re.compile("|".join(f"(?:{text})" for text in one), re.DOTALL)
