"""Settings and commands without a page are not finished."""

from pathlib import Path

from typer.main import get_command

from tracker.cli.main import app
from tracker.cli.settings import ClientSettings, ServiceSettings, described

DOCS = Path(__file__).parents[3] / "docs"


def commands(command, path=("tracker",)):
    """Every command, as typed."""
    for name, sub in getattr(command, "commands", {}).items():
        if getattr(sub, "commands", None):
            yield from commands(sub, (*path, name))
        else:
            yield " ".join((*path, name)), sub


def test_every_command_and_option_has_its_place_in_the_page():
    """docs/cli.md names each command, and each of its options."""
    text = (DOCS / "cli.md").read_text("utf-8")
    for name, command in commands(get_command(app)):
        assert f"`{name}" in text, name
        for option in (opt for param in command.params for opt in param.opts if opt.startswith("--")):
            assert option in text, f"{name} {option}"


def test_every_setting_has_its_place_in_the_page():
    """docs/configuration.md names each variable with its default."""
    text = (DOCS / "configuration.md").read_text("utf-8")
    for kind in (ClientSettings, ServiceSettings):
        for name, default, meaning in described(kind):
            shown = f"`{default}`" if default else ""
            assert f"| `{name}` | {shown} | {meaning} |" in text, name
