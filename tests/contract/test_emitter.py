"""The emitter against a real HTTP server on the loopback."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import msgspec
import pytest

from collectors import clock
from collectors.base import NOTHING_YET_MS, Lag
from collectors.batch import Bounds
from collectors.emitter import CHUNK
from collectors.errors import ConfigInvalid, Forked, SpoolHeld
from collectors.instrument.observe import Observer
from collectors.sender import Pace
from collectors.spool import REFUSED
from tracker.model.carry import MESSAGE_ID
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage

SOURCE = SourceRef("orders", "billing", "ack", "pod-7")


def event(number, **more):
    """One ack."""
    known = {"flow": "orders", "message_id": f"m-{number}", "hop": "billing", "stage": Stage.ack, "observed_at": 1}
    return Event(**{**known, **more})


def gone(found):
    """End an emitter as a SIGKILL would: no flush, no sign-off, the lock goes with the process."""
    found._sender.stop()
    found._thread.join()
    found._delivery.close()
    found._spool.unlock()
    found._closed = True


def test_lines_arrive_with_their_report(tracker, emitter):
    """Events come as NDJSON with a coverage header that counts them, in order."""
    found = emitter()
    found.vouch([SOURCE])
    found.emit([event(i) for i in range(500)])
    assert found.flush()
    assert tracker.ids == [f"m-{i}" for i in range(500)]
    first = next(request for request in tracker.requests if request.lines)
    assert first.path == "/v1/events"
    assert first.headers["Content-Type"] == "application/x-ndjson"
    assert first.headers["Content-Encoding"] == "gzip"
    assert first.report["events"] == len(first.lines)
    assert first.report["sources"] == [msgspec.to_builtins(SOURCE)]
    assert sum(request.report["events"] for request in tracker.stored) == 500


def test_the_token_is_sent(tracker, emitter):
    """The bearer token goes with every request."""
    tracker.token = "secret"
    found = emitter(token="secret")
    found.emit([event(1)])
    assert found.flush()


def test_a_silent_client_sends_heartbeats(tracker, emitter):
    """With sources and nothing to send, reports come alone, each with the next sequence, and the lag stays small."""
    found = emitter()
    found.vouch([SOURCE])
    assert tracker.until(lambda: len(tracker.requests) >= 4)
    reports = [request.report for request in tracker.requests]
    assert {request.path for request in tracker.requests} == {"/v1/coverage"}
    assert [report["sequence"] for report in reports] == list(range(1, len(reports) + 1))
    assert len({report["epoch"] for report in reports}) == 1
    assert all(report["lag_ms"] < 2000 for report in reports)


def test_nothing_to_vouch_for_is_silence(tracker, emitter):
    """Without sources and lines there is nothing to say."""
    found = emitter()
    found.emit([event(1)])
    assert found.flush()
    count = len(tracker.requests)
    assert not tracker.until(lambda: len(tracker.requests) > count, timeout=0.2)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_what_may_pass_is_tried_again(tracker, emitter, status):
    """The same report with the same lines comes again until the tracker takes it."""
    tracker.script.extend([(status, {}, {})] * 3)
    found = emitter()
    found.emit([event(1)])
    assert found.flush()
    assert [(r.report["sequence"], r.report["events"], len(r.lines)) for r in tracker.requests] == [(1, 1, 1)] * 4
    assert tracker.ids == ["m-1"]
    assert found.counts.retries == 3
    assert found.counts.last_error == ""


def test_retry_after_is_honoured(tracker, emitter):
    """A tracker that says how long to wait is not asked before that."""
    tracker.script.append((503, {"Retry-After": "0.4"}, {}))
    found = emitter()
    found.emit([event(1)])
    assert found.flush()
    first, second = tracker.requests
    assert second.at - first.at >= 400_000


@pytest.mark.parametrize("status", [0, 401, 503])
def test_a_login_in_the_trackers_address_is_used_and_not_told(tracker, emitter, status, caplog):
    """It goes with every request, and into no log and no counter: whether the tracker refuses, is away or cannot be
    reached at all (0)."""
    caplog.set_level("DEBUG")
    address = tracker.url.replace("//", "//operator:s3cr%40t@")
    tracker.script.extend([(status, {}, {"title": "no"})] * 10**4)
    found = emitter(url=address if status else "http://operator:s3cr%40t@127.0.0.1:9")
    found.emit([event(1)])
    for _ in range(500):
        if found.counts.last_error:
            break
        time.sleep(0.01)
    assert "127.0.0.1" in found.counts.last_error
    told = caplog.text + found.counts.last_error
    assert "operator" not in told
    assert "s3cr" not in told
    if status:
        basic = "Basic " + base64.b64encode(b"operator:s3cr@t").decode()
        assert {request.headers["Authorization"] for request in tracker.requests} == {basic}


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_what_needs_a_person_keeps_the_data(tracker, emitter, status, caplog):
    """A refusal is logged with its reason and what to check; the lines stay and go through once it is mended."""
    tracker.script.extend([(status, {}, {"title": "no such token"})] * 3)
    found = emitter()
    found.emit([event(1)])
    assert found.flush()
    assert tracker.ids == ["m-1"]
    assert "no such token" in caplog.text
    assert "check URL and token" in caplog.text
    assert str(status) in caplog.text


def test_quarantined_lines_are_counted(tracker, emitter, caplog):
    """A 207 is a yes: the emitter counts and logs what was set aside, and goes on."""
    error = {"line": 1, "field": "stage", "reason": "no such stage"}
    tracker.script.append((207, {}, {"accepted": 1, "quarantined": 1, "errors": [error]}))
    found = emitter()
    found.emit([event(1), event(2)])
    assert found.flush()
    assert found.counts.quarantined == 1
    assert found.counts.acknowledged == 2
    assert "no such stage" in caplog.text


def test_a_yes_without_a_readable_body_is_a_yes(tracker, emitter):
    """Whatever stands in the body of a 2xx, the lines are stored."""
    tracker.script.append((200, {}, ["odd"]))
    found = emitter()
    found.emit([event(1)])
    assert found.flush()
    assert len(tracker.requests) == 1


def test_too_large_a_batch_is_halved(tracker, emitter):
    """After a 413 smaller batches come until they fit; every line arrives once, sequences have no gap."""
    tracker.limit = 60_000
    found = emitter()
    found.vouch([SOURCE])
    found.emit([event(i, attributes={"text": "x" * 100}) for i in range(2000)])
    assert found.flush()
    assert tracker.ids == [f"m-{i}" for i in range(2000)]
    assert any(request.status == 413 for request in tracker.requests)
    sequences = [request.report["sequence"] for request in tracker.stored]
    assert sequences == list(range(1, len(sequences) + 1))


def test_a_line_too_large_for_the_tracker_is_set_aside(tracker, emitter, tmp_path):
    """A single line that no request can hold is kept in a file and declared as dropped; those behind it arrive."""
    tracker.limit = 30_000
    found = emitter()
    found.vouch([SOURCE])
    found.emit([event(1, attributes={"text": "x" * 50_000})])
    found.emit([event(2)])
    assert found.flush()
    assert tracker.ids == ["m-2"]
    assert sum(request.report["dropped"] for request in tracker.stored) == 1
    assert found.counts.dropped == 1
    kept = (tmp_path / "spool" / "rejected.ndjson").read_text()
    assert json.loads(kept)["message_id"] == "m-1"


def test_a_tracker_that_hangs_is_tried_again(tracker, emitter):
    """A request without an answer ends at the timeout and comes again; a line that came twice counts once."""
    tracker.hang = 0.5
    found = emitter(timeout=0.1)
    found.emit([event(1)])
    assert tracker.until(lambda: len(tracker.requests) >= 1)
    tracker.hang = 0.0
    assert found.flush()
    assert set(tracker.ids) == {"m-1"}
    assert {request.report["sequence"] for request in tracker.requests} == {1}


def test_emit_never_waits_for_the_tracker(emitter):
    """With nobody listening, emit returns at once and keeps everything."""
    found = emitter(url="http://127.0.0.1:9")
    began = time.monotonic()
    for i in range(1000):
        found.emit([event(i)])
    assert time.monotonic() - began < 2
    assert found.counts.backlog == 1000
    assert not found.flush(timeout=0.05)


def test_a_backlog_is_not_vouched_for(tracker, emitter):
    """While lines wait, a report vouches only up to the first that it does not hold, and says how many wait."""
    found = emitter(bounds=Bounds(lines=1), pace=Pace(linger=10, heartbeat=10, backoff=(0.001, 0.01)))
    tracker.script.extend([(503, {}, {})] * 10**4)  # nothing goes through until all lines wait
    found.vouch([SOURCE])
    emitted = []
    for i in range(3):
        emitted.append(time.time_ns() // 1000)
        found.emit([event(i)])
        time.sleep(0.05)  # the wall clock has to move: receipts are dated by it
    tracker.script.clear()
    assert found.flush()
    taken = {request.report["sequence"]: request for request in tracker.requests if request.lines}
    with_lines = list(taken.values())  # of each report the last attempt, which was the one that was taken
    for request, following in zip(with_lines, emitted[1:], strict=False):
        assert request.reached <= following
    assert [request.report["backlog"] for request in with_lines] == [2, 1, 0]


def test_refused_lines_are_declared_and_make_a_hole(tracker, emitter):
    """What did not fit is declared once, in its place, and no source is vouched for until later times are reached."""
    tracker.script.append((503, {"Retry-After": "0.3"}, {}))
    found = emitter(limit=64 * 1024)
    found.vouch([SOURCE])
    results = [found.emit([event(i, attributes={"text": "x" * 1000})]) for i in range(100)]
    refused = results.count(REFUSED)
    assert 0 < refused == found.counts.dropped
    assert found.flush()
    found.emit([event(1000)])
    assert tracker.until(lambda: tracker.stored and tracker.stored[-1].report["sources"])
    assert sum(request.report["dropped"] for request in tracker.stored) == refused
    assert len(set(tracker.ids) - {"m-1000"}) == 100 - refused
    for request in tracker.stored:
        assert not (request.report["dropped"] and request.report["sources"])


def test_the_same_epoch_goes_on_after_a_restart(tracker, emitter):
    """A new process of the same folder continues epoch and sequence, and announces before it signs off."""
    found = emitter()
    found.vouch([SOURCE])
    found.emit([event(1)])
    assert found.flush()
    gone(found)
    last = tracker.stored[-1].report
    again = emitter()
    again.emit([event(2)])
    assert again.flush()
    assert tracker.until(lambda: any(request.report["signed_off"] for request in tracker.stored))
    later = [r.report for r in tracker.stored if r.report["sequence"] > last["sequence"]]
    assert {report["epoch"] for report in later} == {last["epoch"]}
    assert later[0]["sequence"] == last["sequence"] + 1
    signing = next(report for report in later if report["signed_off"])
    assert signing["signed_off"] == [msgspec.to_builtins(SOURCE)]
    assert signing["sources"] == []


def test_the_heir_delivers_before_it_signs_off(tracker, emitter):
    """What a killed process left is delivered before its sources end."""
    tracker.script.extend([(503, {}, {})] * 10**4)
    found = emitter()
    found.vouch([SOURCE])
    found.emit([event(i) for i in range(50)])
    assert tracker.until(lambda: len(tracker.requests) > 2)
    gone(found)
    tracker.script.clear()
    emitter()
    assert tracker.until(lambda: any(request.report["signed_off"] for request in tracker.stored))
    signing = next(i for i, request in enumerate(tracker.stored) if request.report["signed_off"])
    before = {line["message_id"] for request in tracker.stored[: signing + 1] for line in request.lines}
    assert before == {f"m-{i}" for i in range(50)}


def test_another_collector_in_the_folder_has_a_new_epoch(tracker, emitter):
    """A folder taken over under another name delivers what is there and begins its own sequence."""
    first = emitter(url="http://127.0.0.1:9")
    first.emit([event(1)])
    gone(first)
    second = emitter(collector="d")
    assert second.flush()
    assert tracker.ids == ["m-1"]
    assert tracker.stored[0].report["collector"] == "d"
    assert tracker.stored[0].report["sequence"] == 1


def test_closing_flushes_and_signs_off(tracker, emitter):
    """At close everything emitted is delivered, then the sources end; nothing comes after that."""
    found = emitter(pace=Pace(linger=5, heartbeat=5))
    found.vouch([SOURCE])
    found.emit([event(1)])
    assert found.close()
    assert tracker.ids == ["m-1"]
    assert tracker.stored[-1].report["signed_off"] == [msgspec.to_builtins(SOURCE)]
    assert found.close()


def test_a_source_announced_twice_ends_with_the_second(tracker, emitter):
    """Two wrapped clients of one process: the source ends when both have signed off."""
    found = emitter()
    found.vouch([SOURCE])
    found.vouch([SOURCE])
    found.sign_off([SOURCE])
    found.emit([event(1)])
    assert found.flush()
    assert not any(request.report["signed_off"] for request in tracker.stored)
    found.sign_off([SOURCE])
    assert tracker.until(lambda: any(request.report["signed_off"] for request in tracker.stored))


def listed(tracker):
    """The sources of the last report."""
    return [source["source"] for source in tracker.stored[-1].report["sources"]] if tracker.stored else None


def vouch_until(tracker, found, sources, lag, expected):
    """As a runner does, again and again, until the last report lists just these."""
    for _ in range(200):
        found.vouch(sources, lag)
        if tracker.until(lambda: listed(tracker) == expected, timeout=0.05):
            return
    raise AssertionError(f"{listed(tracker)} is not {expected}")


def test_a_reader_vouches_only_as_far_as_it_says(tracker, emitter):
    """A reader's coverage stands still without a word of it, and its lag is the reader's lag."""
    found = emitter(reader=True)
    vouch_until(tracker, found, [SOURCE], Lag(ms=60_000, backlog=7), ["pod-7"])
    count = len(tracker.requests)
    assert tracker.until(lambda: len(tracker.requests) >= count + 3)
    reports = [request.report for request in tracker.requests[count - 1 :]]
    assert all(report["lag_ms"] >= 60_000 for report in reports)
    assert reports[-1]["lag_ms"] > reports[0]["lag_ms"]
    assert {report["backlog"] for report in reports} == {7}


def test_a_new_source_of_a_reader_is_not_vouched_for_before_its_time(tracker, emitter):
    """The first report that lists a source does not reach back before the moment from which it was vouched for."""
    found = emitter(reader=True)
    began = time.time_ns() // 1000
    vouch_until(tracker, found, [SOURCE], Lag(), ["pod-7"])
    first = next(request for request in tracker.stored if request.report["sources"])
    assert first.reached >= began


def test_a_reader_lets_go_and_does_not_sign_off(tracker, emitter):
    """A partition goes on without its reader: closing ends no source, and one left out is just not listed."""
    other = SourceRef("orders", "log", "persist", "t/1")
    found = emitter(reader=True)
    vouch_until(tracker, found, [SOURCE, other], Lag(), ["pod-7", "t/1"])
    vouch_until(tracker, found, [SOURCE], Lag(), ["pod-7"])
    found.close()
    assert not any(request.report["signed_off"] for request in tracker.stored)


def test_a_reader_that_comes_back_vouches_for_what_was_vouched_for_until_it_knows_more(tracker, emitter):
    """It has a backlog to read first. No report says less meanwhile, or there would be a hole for good."""
    found = emitter(reader=True)
    vouch_until(tracker, found, [SOURCE], Lag(), ["pod-7"])
    gone(found)
    before = tracker.stored[-1]
    again = emitter(reader=True)
    again.vouch([SOURCE], Lag(NOTHING_YET_MS, backlog=1))
    again.emit([event(1)])
    assert again.flush()
    again.vouch([SOURCE], Lag())
    assert tracker.until(lambda: tracker.stored[-1].reached > before.at + 1000)
    later = tracker.stored[tracker.stored.index(before) + 1 :]
    assert all([source["source"] for source in request.report["sources"]] == ["pod-7"] for request in later)
    assert all(request.report["lag_ms"] < NOTHING_YET_MS for request in later)


def test_what_was_noted_before_the_clock_was_set_back_is_as_old_as_it_is(tracker, emitter, monkeypatch):
    """Ten minutes pass between two processes, and the wall clock is set back by five of them. The second vouches for
    what the first had read, ten minutes ago, and not for five minutes that nobody read."""
    found = emitter(reader=True)
    vouch_until(tracker, found, [SOURCE], Lag(), ["pod-7"])
    gone(found)
    ticks, wall, count = clock.elapsed_ns, time.time_ns, len(tracker.requests)
    monkeypatch.setattr(clock, "elapsed_ns", lambda: ticks() + 600 * 10**9)
    monkeypatch.setattr(time, "time_ns", lambda: wall() + 300 * 10**9)
    emitter(reader=True)
    assert tracker.until(lambda: len(tracker.requests) > count + 1)
    later = [request.report for request in tracker.requests[count:] if request.report["sources"]]
    assert later
    assert [report["sources"] for report in later] == [[msgspec.to_builtins(SOURCE)]] * len(later)
    assert all(600_000 <= report["lag_ms"] < 660_000 for report in later)


def test_a_source_left_out_for_a_moment_has_a_hole(tracker, emitter):
    """However short it was: a report without it comes in between, so the span is not vouched for."""
    found = emitter(reader=True)
    vouch_until(tracker, found, [SOURCE], Lag(), ["pod-7"])
    found.vouch([], Lag())
    vouch_until(tracker, found, [SOURCE], Lag(), [])
    vouch_until(tracker, found, [SOURCE], Lag(), ["pod-7"])


@pytest.mark.parametrize("changed", [{"hop": "a b"}, {"flow": ""}, {"stage": "sent"}, {"source": ""}])
def test_a_source_that_no_tracker_takes_is_refused_at_once(emitter, changed):
    """The error names it; nothing of it gets into a report, which would be refused for ever."""
    found = emitter()
    wrong = msgspec.structs.replace(SOURCE, **changed)
    with pytest.raises(ConfigInvalid, match="source SourceRef"):
        found.vouch([wrong])


def test_a_long_report_goes_alone_behind_its_lines(tracker, emitter):
    """Thousands of sources do not fit into a header: the lines go first, then their report in a body."""
    found = emitter()
    found.vouch([SourceRef("orders", "log", "persist", f"topic-{i}/0") for i in range(1000)])
    found.emit([event(1)])
    assert found.flush()
    lines = next(i for i, request in enumerate(tracker.requests) if request.lines)
    assert "Tracker-Coverage" not in tracker.requests[lines].headers
    report = tracker.requests[lines + 1]
    assert report.path == "/v1/coverage"
    assert report.report["events"] == 1
    assert len(report.report["sources"]) == 1000


def test_quarantined_lines_are_declared_by_a_report_that_goes_alone(tracker, emitter):
    """With a report in the header the tracker does so; otherwise they would be vouched for."""
    found = emitter()
    found.vouch([SourceRef("orders", "log", "persist", f"topic-{i}/0") for i in range(1000)])
    tracker.quarantines = 1
    found.emit([event(1), event(2)])
    assert found.flush()
    lines = next(i for i, request in enumerate(tracker.requests) if request.lines)
    assert tracker.requests[lines + 1].report["dropped"] == 1


def test_letters_beyond_ascii_fit_into_the_header(tracker, emitter):
    """A report with any names arrives as it was."""
    found = emitter(collector="größe-日本")
    found.vouch([SourceRef("f", "h", "ack", "κ")])
    found.emit([event(1)])
    assert found.flush()
    report = next(request.report for request in tracker.requests if request.lines)
    assert report["collector"] == "größe-日本"
    assert report["sources"][0]["source"] == "κ"


def test_many_threads_may_emit(tracker, emitter):
    """Nothing is lost or mixed up when threads emit at once, each in its own order."""
    found = emitter()

    def work(thread):
        for i in range(200):
            found.emit([event(f"{thread}-{i}")])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.flush()
    for n in range(4):
        assert [i for i in tracker.ids if i.startswith(f"m-{n}-")] == [f"m-{n}-{i}" for i in range(200)]


def test_acknowledged_moves_with_the_answers(tracker, emitter):
    """The position that emit returned is acknowledged once the tracker said yes, not before."""
    tracker.script.append((503, {"Retry-After": "0.2"}, {}))
    found = emitter()
    position = found.emit([event(i) for i in range(CHUNK * 2 + 1)])
    assert found.acknowledged < position
    assert found.wait(position, 5)
    assert found.acknowledged >= position


def test_emit_of_nothing(tracker, emitter):
    """No observations: the position of what was emitted before."""
    found = emitter()
    position = found.emit([event(1)])
    assert found.emit([]) == position


def test_a_folder_has_one_emitter(emitter):
    """A second emitter on the folder is refused with a clear error."""
    emitter()
    with pytest.raises(SpoolHeld, match="one process per folder"):
        emitter()


def test_a_child_is_told_to_make_its_own(tracker, emitter):
    """In a forked child emit raises; the parent goes on, and its folder is free once it is gone."""
    found = emitter()
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            found.emit([event(1)])
            os.write(send, b"emitted")
        except Forked:
            os.write(send, b"forked")
        finally:
            os._exit(0)
    os.close(send)
    assert os.read(receive, 100) == b"forked"
    os.close(receive)
    os.waitpid(child, 0)
    found.emit([event(2)])
    assert found.flush()
    assert tracker.ids == ["m-2"]


def in_child(body, patience=20.0):
    """Run `body` in a forked child; fails when it does not come to its end."""
    child = os.fork()
    if child == 0:
        try:
            body()
        finally:
            os._exit(0)
    until = time.monotonic() + patience
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise AssertionError("the child waits for ever")
        time.sleep(0.01)


def test_what_a_child_observes_is_vouched_for_by_nobody(tracker, emitter):
    """An application that was forked after it was instrumented, as servers do: its observations are lost, and the
    parent, which vouches for them, says so. Neither waits, not even where a lock was held at the fork, and what the
    parent has written meanwhile is not written over."""
    found = emitter()
    observer = Observer(found, "orders", "billing", stages=[Stage.ack], source="pod-7")
    assert tracker.until(lambda: any(request.report["sources"] for request in tracker.requests))
    began, held, done = len(tracker.requests), threading.Event(), threading.Event()
    receive, send = os.pipe()

    def holds():
        with found._spool._mutex:
            held.set()
            done.wait(20)

    holder = threading.Thread(target=holds)
    holder.start()
    held.wait(20)

    def body():
        os.read(receive, 1)
        for number in range(3):
            observer.ack({MESSAGE_ID: f"lost-{number}"}, b"x")
        observer.close()
        found.close()

    def parent():
        done.set()
        holder.join()
        observer.ack({MESSAGE_ID: "kept"}, b"x")
        os.write(send, b"!")

    writes = threading.Timer(0.2, parent)
    writes.start()
    in_child(body)
    writes.join()
    assert found.flush()
    assert tracker.until(lambda: sum(request.report["dropped"] for request in tracker.stored[began:]) == 3)
    blind = next(r.report for r in tracker.stored[began:] if r.report["dropped"])
    assert blind["sources"] == []
    assert tracker.ids == ["kept"]
    assert tracker.until(lambda: tracker.stored[-1].report["sources"] == [msgspec.to_builtins(SOURCE)])
    os.close(receive)
    os.close(send)


PROGRAM = textwrap.dedent("""
    import sys
    from collectors.emitter import Emitter
    from collectors.sender import Pace
    from tracker.model.coverage import SourceRef
    from tracker.model.event import Event, Stage
    url, spool, start = sys.argv[1], sys.argv[2], int(sys.argv[3])
    emitter = Emitter(url, collector="app", spool=spool, pace=Pace(linger=0.01, heartbeat=0.05))
    emitter.vouch([SourceRef("orders", "billing", "ack", f"process-{start}")])
    for i in range(start, 10**9):
        emitter.emit([Event(flow="orders", message_id=f"m-{i}", hop="billing", stage=Stage.ack, observed_at=1)])
        sys.stdout.write(f"{i}\\n")
        sys.stdout.flush()
""")


def named(tracker, field):
    """Every source that any stored report names in this field."""
    return {source["source"] for request in tracker.stored for source in request.report[field]}


def test_a_sigkill_of_the_application_loses_nothing(tracker, emitter, tmp_path):
    """Killed three times in mid-work with the tracker failing now and then: every line whose emit returned arrives,
    sequences have no gap, and the sources of the dead end."""
    folder, told = tmp_path / "app", -1
    for _ in range(3):
        tracker.script.extend([(503, {}, {}), (200, {}, {})] * 2)
        command = [sys.executable, "-c", PROGRAM, tracker.url, str(folder), str(told + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            goal = told + 2000
            while told < goal:
                told = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            rest = [line for line in process.stdout.read().split("\n") if line]
            told = int(rest[-2]) if len(rest) > 1 else told  # the last one may be cut short
    tracker.script.clear()
    heir = emitter(collector="app", spool=folder)
    assert heir.flush()
    assert tracker.until(lambda: named(tracker, "sources") <= named(tracker, "signed_off"))
    missing = {f"m-{i}" for i in range(told + 1)} - set(tracker.ids)
    assert not missing
    assert len({request.report["epoch"] for request in tracker.stored}) == 1
    sequences = sorted({request.report["sequence"] for request in tracker.stored})
    assert sequences == list(range(1, len(sequences) + 1))


def test_what_a_defect_kept_from_the_spool_is_declared(tracker, emitter):
    """Also when nothing else happens: the next report says that a line is missing, so nobody vouches for its time."""
    found = emitter()
    found.vouch([SOURCE])
    assert found.flush()
    found.lost()
    assert found.flush()
    assert any(request.report.get("dropped") == 1 for request in tracker.requests)
