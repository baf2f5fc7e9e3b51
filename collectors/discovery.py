"""`collectors discover URL`: from an address to drafts on a screen or in a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import msgspec

from collectors.config import SECRET, VARIABLE
from collectors.draft import Asked, Found, config, spec
from collectors.errors import ConfigInvalid
from collectors.registry import discoverer

CONFIG = "collectors"
"""Name of the configuration's file."""
_PASSWORD = re.compile(r"((?:^|&)(?:ssl)?password=)([^&]*)", re.IGNORECASE)


def looked_at(url: str, client: Sequence[str], identity_header: str, management: str) -> Found:
    """What is at `url`. Raises `CollectorError`."""
    scheme = url.partition("://")[0].lower()
    settings = {}
    for setting in client:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigInvalid(f"--client {setting}: write KEY=VALUE")
        settings[key] = (_given(key, value), expanded(value))
    return discoverer(scheme)(
        expanded(url), without_password(url), Asked(settings, identity_header, expanded(management))
    )


def _given(key: str, value: str) -> str:
    """As it may stand in a file."""
    if VARIABLE.search(value) and not SECRET.search(key):
        raise ConfigInvalid(f"--client {key}: ${{...}} is for secrets only (keys that end in token, password, secret)")
    return value if VARIABLE.search(value) or not SECRET.search(key) else "${KAFKA_PASSWORD}"


def expanded(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """`${NAME}` replaced. Raises `ConfigInvalid` when one is not set."""
    missing = [name for name in VARIABLE.findall(text) if name not in environment]
    if missing:
        raise ConfigInvalid(f"{', '.join(missing)} is not set in the environment")
    return VARIABLE.sub(lambda match: environment[match[1]], text)


def without_password(url: str) -> str:
    """As it may stand in a file: a password that was written out is `${SCHEME_PASSWORD}` instead."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    name = "${" + re.sub(r"[^A-Z]", "", parts.scheme.upper()) + "_PASSWORD}"
    if colon and not VARIABLE.fullmatch(password):
        parts = parts._replace(netloc=f"{user}:{name}{at}{host}")
    query = _PASSWORD.sub(lambda found: found[0] if VARIABLE.fullmatch(found[2]) else found[1] + name, parts.query)
    return urlunsplit(parts._replace(query=query))


def drafted(found: Found) -> list[tuple[str, str]]:
    """The drafts, each with its name: the configuration, unless there is nothing to watch, and the flow specs."""
    made = config(found)
    return [*([(CONFIG, made)] if made else []), *((flow.name, spec(flow, found.system)) for flow in found.flows)]


def write(folder: Path, drafts: Sequence[tuple[str, str]]) -> list[str]:
    """One file for each, never over one that is there, for somebody may have corrected it: the next free name is taken.
    Raises `ConfigInvalid` when the folder cannot be written to."""
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in drafts:
            names = (f"{name}{f'-{n}' if n else ''}.yaml" for n in count())
            file = next(folder / each for each in names if not (folder / each).exists())
            file.write_text(text, "utf-8")
            written.append(str(file))
    except OSError as error:
        raise ConfigInvalid(f"{folder}: {error.strerror}") from None
    return written


def told(found: Found, drafts: Sequence[tuple[str, str]], written: Sequence[str], as_json: bool) -> str:
    """What is shown of it."""
    if as_json:
        said = {
            "system": found.system,
            "notes": found.notes,
            "items": found.items,
            "drafts": [{"name": name, "text": text} for name, text in drafts],
            "written": written,
        }
        return msgspec.json.format(msgspec.json.encode(said), indent=2).decode() + "\n"
    if not drafts:
        return "\n  ".join([f"{found.system}: nothing to draft from", *found.notes]) + "\n"
    if written:
        return "\n".join([*written, "read them, decide what is marked TODO, then: collectors run --check FILE", ""])
    return "---\n".join(f"# {name}.yaml\n{text}" for name, text in drafts)
