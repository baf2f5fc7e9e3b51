"""Drafts of what was found, without a system."""

from __future__ import annotations

import json

import pytest
import yaml

from collectors.discovery import drafted, expanded, looked_at, told, without_password, write
from collectors.draft import Entry, Flow, Found, named
from collectors.errors import ConfigInvalid
from tracker.model.spec import load_spec

FLOW = Flow("orders", ["TODO who produces"], [{"hop": ["a", "b"], "stage": "persist"}])
ENTRY = Entry(
    ["TODO a", "b: {c}"], {"name": "kafka", "kind": "kafka", "url": "kafka://h:1", "topics": [{"topic": "t"}]}
)
FOUND = Found("Kafka h:1", ["left out: x"], [{"topic": "t"}], [ENTRY], [FLOW])


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("kafka://h:9092,i:9092", "kafka://h:9092,i:9092"),
        ("amqp://u:p%40ss@h:5672/%2F", "amqp://u:${AMQP_PASSWORD}@h:5672/%2F"),
        ("amqp://u:${MQ_PASSWORD}@h:5672/%2F", "amqp://u:${MQ_PASSWORD}@h:5672/%2F"),
        ("postgresql://u@h/db?sslmode=require", "postgresql://u@h/db?sslmode=require"),
        ("postgresql://u:p@h/db?sslmode=require", "postgresql://u:${POSTGRESQL_PASSWORD}@h/db?sslmode=require"),
        ("postgresql://h/db?user=u&password=p", "postgresql://h/db?user=u&password=${POSTGRESQL_PASSWORD}"),
        ("postgresql://h/db?password=${PG_PASSWORD}", "postgresql://h/db?password=${PG_PASSWORD}"),
    ],
)
def test_no_password_is_written_down(url, written):
    """Of a login the user stays; a password becomes a variable, and one that is a variable stays what it is."""
    assert without_password(url) == written


def test_variables_are_replaced_for_looking():
    """All of them, or an error that names those that are missing."""
    assert expanded("amqp://u:${P}@h", {"P": "x"}) == "amqp://u:x@h"
    with pytest.raises(ConfigInvalid, match="P, Q is not set"):
        expanded("${P}${Q}", {})


@pytest.mark.parametrize("setting", ["client.id", "client.id=${HOME}"])
def test_a_setting_of_the_client_is_understood(setting):
    """What is no KEY=VALUE, or hides something where the configuration would refuse it, is said at once."""
    with pytest.raises(ConfigInvalid, match=r"--client client\.id"):
        looked_at("kafka://h:1", [setting], "", "")


def test_a_draft_is_a_configuration_and_specs():
    """The configuration holds the entry as it is, with its notes as comments; the spec can be read by its parser."""
    (name, config), (flow, spec) = drafted(FOUND)
    assert (name, flow) == ("collectors", "orders")
    assert yaml.safe_load(config)["collectors"] == [dict(ENTRY.values)]
    assert "  # TODO a\n  # b: {c}\n  - name: kafka\n" in config
    assert "# left out: x\n" in config
    assert [c.name for c in load_spec(spec).checkpoints] == ["a|b:persist"]
    assert "# TODO who produces\n" in spec


def test_nothing_is_written_over(tmp_path):
    """Somebody may have corrected a draft: the next free name is taken."""
    drafts = drafted(FOUND)
    assert write(tmp_path / "d", drafts) == [f"{tmp_path}/d/collectors.yaml", f"{tmp_path}/d/orders.yaml"]
    assert write(tmp_path / "d", drafts)[1] == f"{tmp_path}/d/orders-1.yaml"
    (tmp_path / "file").touch()
    with pytest.raises(ConfigInvalid, match="file: File exists"):
        write(tmp_path / "file", drafts)


def test_what_is_shown():
    """The drafts one after the other; the files' names when they were written; JSON; or that there is nothing."""
    drafts = drafted(FOUND)
    assert told(FOUND, drafts, [], False).startswith("# collectors.yaml\n# Drafted from Kafka h:1.")
    assert "---\n# orders.yaml\n" in told(FOUND, drafts, [], False)
    assert told(FOUND, drafts, ["d/orders.yaml"], False).splitlines()[0] == "d/orders.yaml"
    said = json.loads(told(FOUND, drafts, [], True))
    assert said["items"] == [{"topic": "t"}]
    assert [draft["name"] for draft in said["drafts"]] == ["collectors", "orders"]
    empty = FOUND._replace(collectors=[], flows=[])
    assert told(empty, drafted(empty), [], False) == "Kafka h:1: nothing to draft from\n  left out: x\n"


@pytest.mark.parametrize(("text", "name"), [("orders.v1", "orders.v1"), ("a b/c", "a-b-c"), ("..", "unnamed")])
def test_names_are_such_as_flows_have(text, name):
    """Whatever a system calls its things, a draft's names are accepted."""
    assert named(text) == name
