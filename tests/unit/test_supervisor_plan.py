"""Reading a Procfile, and showing what its processes say."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from botswarm.errors import Misconfigured
from botswarm.supervisor.console import Console
from botswarm.supervisor.plan import Line, for_venues, needed, read_procfile


def procfile(folder: Path, text: str) -> Path:
    path = folder / "Procfile"
    path.write_text(text)
    return path


def test_lines_comments_and_blank_lines_are_told_apart(tmp_path: Path) -> None:
    path = procfile(tmp_path, "# what runs\n\nfeed: botswarm run feed\n  beat:   sh -c 'a # b'\n")
    assert read_procfile(path) == [Line("feed", "botswarm run feed"), Line("beat", "sh -c 'a # b'")]


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    path = procfile(tmp_path, "feed: a\nnonsense\nfeed: b\nbeat: sh -c 'open\n")
    with pytest.raises(Misconfigured) as caught:
        read_procfile(path)
    assert [problem.cause.partition(":")[2] for problem in caught.value.problems] == [
        "2 is no process",
        "3 names feed again",
        "4 is no process",
    ]


@pytest.mark.parametrize("text", ["", "# only a comment\n"])
def test_a_procfile_without_a_process_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="lists no process"):
        read_procfile(procfile(tmp_path, text))


def test_a_procfile_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"none cannot be read: No such file.*--procfile"):
        read_procfile(tmp_path / "none")


def test_the_release_step_and_what_others_do_are_not_kept_running() -> None:
    lines = [Line(name, "x") for name in ("release", "broker", "feed")]
    assert [line.name for line in needed(lines, {"broker": "RabbitMQ"})] == ["feed"]


def test_a_worker_has_longer_to_end_than_any_order_may_take() -> None:
    from botswarm.queueing.table import BY_NAME

    worker = Line("orders", "botswarm run worker --queues orders")
    assert worker.grace_s > BY_NAME["orders"].hard_limit_s
    assert Line("mine", "celery -A botswarm worker -Q orders").grace_s == worker.grace_s
    assert Line("feed", "botswarm run feed").grace_s < worker.grace_s


def test_each_fed_venue_has_a_process_that_trades_on_paper() -> None:
    lines = [Line("feed", "x"), Line("paper", "botswarm run paper --if-needed")]
    assert for_venues(lines, []) == [Line("feed", "x")]
    kraken, binance = for_venues(lines, ["kraken", "binance"])[1:]
    assert kraken == Line("paper-kraken", "botswarm run paper --if-needed --venue kraken")
    assert binance.name == "paper-binance"
    # Workers that finish orders still need it.
    assert Line("orders", "x").stop_stage < kraken.stop_stage == Line("exchange", "x").stop_stage


def test_makers_of_work_stop_first_and_the_broker_last() -> None:
    names = ("broker", "exchange", "orders", "feed", "beat", "mine")
    stages = {name: Line(name, "x").stop_stage for name in names}
    assert stages["beat"] == stages["feed"] < stages["orders"] == stages["mine"]
    assert stages["orders"] < stages["exchange"] < stages["broker"]


RECORD = {"time": "2026-11-20T10:00:01.5Z", "level": "info", "message": "hello", "queue": "orders"}


def shown(lines: list[str], **how: Any) -> str:
    stream = io.StringIO()
    console = Console(stream, **{"as_json": False, "coloured": False, **how})
    for line in lines:
        console.say("feed", line)
    return stream.getvalue()


def test_people_see_the_time_the_process_the_words_and_what_is_beside_them() -> None:
    assert shown([json.dumps(RECORD)]) == "10:00:01 feed     | hello  queue=orders\n"


def test_what_is_no_log_line_is_shown_as_it_is() -> None:
    assert shown(["{not json", "[1, 2]"]).count("feed     | ") == 2


def test_colours_are_for_terminals_only() -> None:
    assert "\x1b" not in shown([json.dumps({**RECORD, "level": "error"})])
    assert "\x1b[31merror: hello" in shown(
        [json.dumps({**RECORD, "level": "error"})], coloured=True
    )


def test_machines_get_one_object_a_line_with_the_process_in_it() -> None:
    lines = shown([json.dumps(RECORD), "plain"], as_json=True).splitlines()
    first, second = (json.loads(line) for line in lines)
    assert first == {"process": "feed", **RECORD}
    assert (second["process"], second["message"]) == ("feed", "plain")
    assert second["time"].endswith("Z")


def test_an_event_is_told_after_its_line_was_shown() -> None:
    told: list[tuple[str, str]] = []
    stream = io.StringIO()

    def on_event(event: str, record: Mapping[str, Any]) -> None:
        told.append((event, stream.getvalue()))

    console = Console(stream, as_json=False, coloured=False, on_event=on_event)
    console.say("orders", json.dumps({**RECORD, "event": "fill"}))
    assert [(event, "hello" in before) for event, before in told] == [("fill", True)]


def test_people_are_spared_what_celery_says_of_itself_but_not_its_warnings() -> None:
    chatter = {**RECORD, "logger": "celery.worker.consumer.connection"}
    assert shown([json.dumps(chatter)]) == ""
    assert "hello" in shown([json.dumps({**chatter, "level": "warning"})])
    assert "hello" in shown([json.dumps(chatter)], as_json=True)


def test_an_event_is_shown_in_its_own_words_alone() -> None:
    assert shown([json.dumps({**RECORD, "event": "fill", "trade_id": 7})]).endswith("| hello\n")


@pytest.mark.timeout(20)
def test_whoever_is_told_of_an_event_may_say_something_about_it() -> None:
    stream = io.StringIO()

    def on_event(event: str, record: Mapping[str, Any]) -> None:
        console.say("up", f"first {event}")

    console = Console(stream, as_json=False, coloured=False, on_event=on_event)
    console.say("orders", json.dumps({"event": "fill", "message": "bought"}))
    assert [line.rpartition("| ")[2] for line in stream.getvalue().splitlines()] == [
        "bought", "first fill",
    ]  # fmt: skip


def test_a_reader_that_left_does_not_stop_the_swarm() -> None:
    stream = io.StringIO()
    stream.close()
    Console(stream, as_json=False, coloured=False).say("feed", "hello")
