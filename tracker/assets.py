"""The files that a service serves or pushes: dashboards, alert rules, runbooks.

In a wheel they lie inside the package (`tracker/_assets`), in a checkout at its top
level, where people edit them. SQL, migrations and templates are package data of the packages that use them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Asset = Literal["dashboards", "alerts", "runbooks"]

_PACKAGED = Path(__file__).parent / "_assets"
_CHECKOUT = Path(__file__).parent.parent
_IN_CHECKOUT: dict[Asset, str] = {"dashboards": "dashboards", "alerts": "alerts", "runbooks": "docs/runbooks"}


def folder(name: Asset) -> Path:
    """The folder that holds the asset's files. Raises FileNotFoundError when this installation lacks it."""
    for path in (_PACKAGED / name, _CHECKOUT / _IN_CHECKOUT[name]):
        if path.is_dir():
            return path
    raise FileNotFoundError(
        f"{name} are not in this installation of message-tracker: looked in {_PACKAGED} and {_CHECKOUT}"
    )
