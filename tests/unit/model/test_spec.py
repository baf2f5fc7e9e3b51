"""Flow specs: the good one means what it says, and every bad one is refused with the line at fault."""

from __future__ import annotations

import time

import pytest

from tracker.api.specs import canonical
from tracker.model.errors import SpecError
from tracker.model.event import Stage
from tracker.model.spec import MAX_TEXT, load_spec
from tracker.model.units import SECOND

GOOD = """\
flow: orders
owner: team-payments
identity: {header: x-order}
key: plain
checkpoints:
  - {hop: checkout,  stage: produce, outbox: true}
  - {hop: kafka-eu,  stage: persist,   after: checkout,  within: 5s, quorum: 3}
  - {hop: kafka-us,  stage: replicate, after: kafka-eu,  within: 30s, same_payload: true}
  - {hop: billing,   stage: ack,       after: kafka-eu,  within: 2m, at_most: 1, order: key, coverage: assumed}
  - {hop: [a, b],    stage: deliver,   after: [kafka-eu, "billing:ack"],  within: 5m, required: false}
objectives:
  delivery: {target: 99.99%, window: 30d}
  latency:  {p99: 2s, window: 30d}
  recovery: {p90: 15m}
replay: {sources: [log: kafka-eu, peer: kafka-us], mode: approve, rate: 500/s, max_attempts: 3}
runbook: runbooks/orders
"""
HEAD = "flow: orders\ncheckpoints:\n  - {hop: shop, stage: produce}\n"
"""Three good lines; what follows is at fault on line 4."""


def refused(text: str) -> SpecError:
    """The error that this text gives."""
    with pytest.raises(SpecError) as caught:
        load_spec(text)
    return caught.value


def test_a_good_spec() -> None:
    """Every key of the format, in the units that the inside uses."""
    spec = load_spec(GOOD)
    assert (spec.flow, spec.owner, spec.identity.header, spec.key) == ("orders", "team-payments", "x-order", "plain")
    log, mirror, billing, either = spec.checkpoints[1:]
    assert (log.hop, log.stage, log.after, log.within, log.quorum) == (
        ("kafka-eu",), Stage.persist, ("checkout",), 5 * SECOND, 3)  # fmt: skip
    assert mirror.same_payload
    assert (billing.at_most, billing.order, billing.coverage) == (1, "key", "assumed")
    assert (either.name, either.required) == ("a|b:deliver", False)
    assert spec.objectives.delivery.target == pytest.approx(0.9999)
    assert spec.objectives.latency.p99 == 2 * SECOND
    assert spec.objectives.recovery.p90 == 900 * SECOND
    assert spec.replay.sources == ({"log": "kafka-eu"}, {"peer": "kafka-us"})
    assert spec.replay.rate == 500.0
    assert spec.hops == ("checkout", "kafka-eu", "kafka-us", "billing", "a", "b")


@pytest.mark.parametrize(
    ("said", "messages", "span", "shown"),
    [
        ("1000/h", 1000, 3600, "1000/h"),
        ("50/30m", 50, 1800, "50/30m"),
        ("20 / d", 20, 86_400, "20/d"),
        ("5/90s", 5, 90, "5/1m30s"),
    ],
)
def test_bounds_of_auto(said: str, messages: int, span: int, shown: str) -> None:
    """One kind or several, messages per any span, seconds or a duration."""
    spec = load_spec(HEAD + f"replay: {{mode: auto, kinds: lost, budget: {said}, after: 90}}\n").replay
    assert (spec.kinds, spec.budget, spec.after) == (("lost",), (messages, span * SECOND), 90 * SECOND)
    assert str(spec.budget) == shown
    assert load_spec(HEAD + "replay: {kinds: [lost, divergent]}\n").replay.kinds == ("lost", "divergent")


def test_bounds_that_are_not_said_leave_the_text_as_it_was() -> None:
    """A spec that was put before there were any is the same spec: putting it again makes no new version."""
    said = canonical(load_spec(HEAD + "replay: {mode: auto}\n"))
    assert '"replay":{"max_attempts":3,"mode":"auto","rate":100.0,"sources":[]}' in said
    usual = "kinds: [unacknowledged, lost], budget: 1000/h, after: 30s"
    assert canonical(load_spec(HEAD + f"replay: {{mode: auto, {usual}}}\n")) == said
    assert '"budget":[5,3600000000]' in canonical(load_spec(HEAD + "replay: {mode: auto, budget: 5/h}\n"))


def test_whose_clock_it_is() -> None:
    """UTC, unless a time zone is named; a spec that names none is as it was. One that nobody knows is an error."""
    assert load_spec("flow: a\ncheckpoints:\n  - {hop: h, stage: produce}\n").time_zone == "UTC"
    named = load_spec("flow: a\ntime_zone: Europe/Berlin\ncheckpoints:\n  - {hop: h, stage: produce}\n")
    assert named.time_zone == "Europe/Berlin"
    assert "time_zone" in named.model_dump_json()
    assert "time_zone" not in load_spec("flow: a\ncheckpoints:\n  - {hop: h, stage: produce}\n").model_dump_json()
    for wrong in ("Mars/Olympus", "../etc/passwd", "/etc", "3", "''"):
        error = refused(f"flow: a\ntime_zone: {wrong}\ncheckpoints:\n  - {{hop: h, stage: produce}}\n")
        assert error.line == 2
        assert "time zone" in str(error)


def test_json_is_a_spec_too() -> None:
    """JSON is YAML."""
    assert load_spec('{"flow": "f", "checkpoints": [{"hop": "a", "stage": "produce"}]}').flow == "f"


def test_defaults() -> None:
    """What is not said: required, one node, no limit, any coverage, replays only after approval."""
    spec = load_spec(HEAD)
    point = spec.checkpoints[0]
    assert (point.required, point.quorum, point.at_most, point.coverage) == (True, 1, None, None)
    assert (spec.replay.mode, spec.identity.header, spec.key) == ("approve", "x-message-id", "hashed")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "begins with `flow: NAME`"),
        ("- a\n", 1, "begins with `flow: NAME`"),
        ("flow: orders\n", 1, "checkpoints: Field required"),
        ("flow: orders\ncheckpoints: []\n", 2, "at least 1 item"),
        ("flow: o\n\ncheckpoints: [\n", 4, "not readable as YAML"),
        ("flow: 'a b'\ncheckpoints:\n  - {hop: a, stage: produce}\n", 1, "'a b' is no name"),
        ("owner: me\nflow: 12\ncheckpoints:\n  - {hop: a, stage: produce}\n", 2, "12 is no name"),
        (HEAD + "colour: red\n", 4, "unknown key `colour`"),
        (HEAD + "7: red\n", 4, "Keys should be strings"),
        (HEAD + "flow: again\n", 4, "key `flow` is given twice"),
        (HEAD + "objectives:\n  latency: {p98: 2s, window: 1d}\n", 5, "unknown key `objectives.latency.p98`"),
        (HEAD + "objectives: {delivery: {target: 110%, window: 1d}}\n", 4, "'110%' is no share"),
        (HEAD + "objectives: {delivery: {target: [1], window: 1d}}\n", 4, "objectives.delivery.target"),
        (HEAD + "replay: {rate: -1/s}\n", 4, "'-1/s' is no rate"),
        (HEAD + "replay: {rate: .inf}\n", 4, "inf is no rate"),
        (HEAD + "replay: {kinds: late}\n", 4, "replay.kinds.0: Input should be 'unacknowledged', 'under_replicated'"),
        (HEAD + "replay: {kinds: []}\n", 4, "replay.kinds: Tuple should have at least 1 item"),
        (HEAD + "replay: {budget: 1000}\n", 4, "1000 is no budget; write 1000/h"),
        (HEAD + "replay: {budget: 0/h}\n", 4, "'0/h' is no budget"),
        (HEAD + "replay: {budget: 5/1ms}\n", 4, "'5/1ms' is no budget"),
        (HEAD + "replay: {budget: -5/h}\n", 4, "'-5/h' is no budget"),
        (HEAD + "replay: {budget: [5]}\n", 4, "is no budget"),
        (HEAD + "replay: {after: soon}\n", 4, "replay.after: 'soon' is no duration"),
        (HEAD + "replay: {sources: [log: nowhere]}\n", 1, "`log: nowhere` names no hop"),
        (HEAD + "replay: {sources: [tape: shop]}\n", 4, "replay.sources"),
    ],
)
def test_errors_of_the_whole(text: str, line: int, said: str) -> None:
    """The line and the reason, for keys and values anywhere in the spec."""
    error = refused(text)
    assert error.line == line
    assert said in error.reason


@pytest.mark.parametrize(
    ("checkpoint", "said"),
    [
        ("hop: log, stage: persist, after: shop, within: 5s, colour: red", "unknown key `checkpoints.1.colour`"),
        ("hop: log, stage: persist, after: shop", "needs `within`"),
        ("hop: log, stage: persist, after: shop, within: soon", "'soon' is no duration"),
        ("hop: log, stage: persist, after: shop, within: -5", "-5 is no duration"),
        ("hop: log, stage: persist, after: shop, within: .inf", "inf is no duration"),
        ("hop: log, stage: persist, after: shop, within: [5s]", "is no duration"),
        ("hop: log, stage: persist, after: shop, within: 2026-01-01", "is no duration"),
        ("hop: log, stage: persist, after: shop, within: 9999999999d", "is no duration"),
        ("hop: log, stage: persist, after: nowhere, within: 5s", "the hops of this flow are log, shop"),
        ("hop: log, stage: persist, after: 'shop:ack', within: 5s", "names no checkpoint"),
        ("hop: log, stage: persist, after: '', within: 5s", "names no checkpoint"),
        ("hop: log, stage: persist, after: 5, within: 5s", "checkpoints.1.after"),
        ("hop: log, stage: persist, after: log, within: 5s", "in a circle: log:persist -> log:persist"),
        ("hop: log, stage: persist", "only one checkpoint may begin the flow"),
        ("hop: shop, stage: produce, after: shop, within: 1s", "shop:produce appears twice"),
        ("hop: [log, log], stage: persist, after: shop, within: 1s", "log:persist appears twice"),
        ("hop: [], stage: persist, after: shop, within: 1s", "at least 1 item"),
        ("hop: a:b, stage: persist, after: shop, within: 1s", "'a:b' is no name"),
        ("hop: no, stage: persist, after: shop, within: 1s", "False is no name"),
        ("hop: log, stage: nack, after: shop, within: 1s", "cannot be a checkpoint"),
        ("hop: log, stage: drop, after: shop, within: 1s", "cannot be a checkpoint"),
        ("hop: log, stage: eaten, after: shop, within: 1s", "Input should be 'produce'"),
        ("hop: log, stage: persist, within: 5s, same_payload: true", "`same_payload` compares"),
        ("hop: log, stage: persist, quorum: 2", "`quorum` needs `within`"),
        ("hop: log, stage: persist, after: shop, within: 5s, quorum: 0", "checkpoints.1.quorum"),
        ("hop: log, stage: persist, after: shop, within: 5s, at_most: 0", "checkpoints.1.at_most"),
        ("hop: log, stage: persist, after: shop, within: 5s, order: time", "checkpoints.1.order"),
        ("hop: log, stage: persist, after: shop, within: 5s, coverage: none", "checkpoints.1.coverage"),
    ],
)
def test_errors_of_a_checkpoint(checkpoint: str, said: str) -> None:
    """The line of the checkpoint at fault, and what is wrong with it."""
    error = refused(HEAD + f"  - {{{checkpoint}}}\n")
    assert error.line == 4
    assert said in error.reason


def test_the_line_of_a_key_written_below_its_checkpoint() -> None:
    """In block style the key's own line is named, not the checkpoint's first."""
    error = refused(HEAD + "  - hop: log\n    stage: persist\n    after: shop\n    within: soon\n")
    assert error.line == 7


def test_a_circle_is_shown_in_the_order_in_which_messages_would_go() -> None:
    """All who take part, once around."""
    error = refused(
        HEAD + "  - {hop: a, stage: ack, after: b, within: 1s}\n  - {hop: b, stage: ack, after: a, within: 1s}\n"
    )
    assert error.line in (4, 5)
    assert "circle: a:ack -> b:ack -> a:ack" in error.reason


def test_a_hop_with_two_checkpoints_needs_the_stage_named() -> None:
    """`after: billing` could mean either; the error offers both."""
    points = "  - {hop: b, stage: deliver, after: shop, within: 1s}\n"
    points += "  - {hop: b, stage: ack, after: 'b:deliver', within: 1s}\n"
    error = refused(HEAD + points + "  - {hop: mail, stage: ack, after: b, within: 1s}\n")
    assert error.line == 6
    assert "b:deliver or b:ack; name the stage" in error.reason
    assert load_spec(HEAD + points.replace("b:deliver", "b")).paths.before[2] == (1,)


def test_at_most_64_checkpoints() -> None:
    """States keep one bit for each."""
    points = "".join(f"  - {{hop: h{n}, stage: ack, after: shop, within: 1s}}\n" for n in range(64))
    assert "at most 64" in refused(HEAD + points).reason


# --- YAML that would hurt: bounded in depth, size and repetition, and never another kind of error --------------------

POINT = HEAD + "  - hop: b\n    stage: ack\n    after: shop\n    within: 1s\n    match:\n"


def bomb(levels: int) -> str:
    """Each line repeats the one before nine times."""
    lines = ["      a0: &a0 [x]"]
    lines += [f"      a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return POINT + "\n".join(lines) + "\n"


def test_aliases_are_allowed() -> None:
    """Repeating oneself by alias or merge key is good YAML."""
    spec = load_spec(HEAD + "  - &b {hop: b, stage: ack, after: shop, within: 1s}\n  - {<<: *b, hop: c}\n")
    assert [c.name for c in spec.checkpoints[1:]] == ["b:ack", "c:ack"]
    assert "unknown key `checkpoints.1.match.a0`" in refused(bomb(3)).reason, "read, and refused for what it says"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (bomb(40), "values, repeated ones counted"),
        (POINT + "      x: [" + "1," * 11_000 + "]\n", "values, repeated ones counted"),
        (POINT.replace("match:\n", "match: &m {x: *m}\n"), "alias of itself"),
        (POINT + "      x: " + "[" * 60 + "]" * 60 + "\n", "nested too deeply"),
        (POINT + "      x: " + "{a: " * 60 + "1" + "}" * 60 + "\n", "nested too deeply"),
        ("x: " + "[" * 900 + "]" * 900, "nested too deeply"),
        ("x" * (MAX_TEXT + 1), "too many for a flow spec"),
        ("flow: 2026-13-45\n", "month must be in 1..12"),
        ("flow: !!int abc\n", "not readable as YAML"),
        ("flow: " + "9" * 5000 + "\n", "not readable as YAML"),
        ("flow: !!python/object/apply:os.system [ls]\n", "not readable as YAML"),
        ("? [a]\n: b\n", "not readable as YAML"),
        ("flow: a\0b\n", "not readable as YAML"),
        ("flow: *nobody\n", "not readable as YAML"),
        ("flow: a\n---\nflow: b\n", "not readable as YAML"),
    ],
)
def test_yaml_that_would_hurt(text: str, said: str) -> None:
    """One kind of error, soon, whatever the text: nothing is expanded that was not counted first."""
    begun = time.process_time()
    assert said in refused(text).reason
    assert time.process_time() - begun < 20
