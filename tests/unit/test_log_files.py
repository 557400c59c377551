"""Log files lose no line between processes that rotate them, and are read again as one."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from botswarm import logfiles
from botswarm.cli import botswarm as command
from botswarm.cli.log_patterns import PATTERNS, judge
from botswarm.cli.session import Session
from botswarm.config import SecretMask
from botswarm.config.secret import Secret
from botswarm.logfiles import AppendingFile, Follower, Keeping
from botswarm.supervisor.console import Console
from botswarm.supervisor.logbook import Logbook

KEEPING = Keeping(size_max_bytes=2_000, files_max=500, days_max=30)


def now() -> datetime:
    return datetime.now(UTC)


ORDER = "0b7a3f8e-1c2d-4e5f-8a9b-0c1d2e3f4a5b"


def a_line(message: str, **fields: Any) -> dict[str, Any]:
    at = fields.pop("at", now())
    return {"time": at.isoformat(), "level": "info", "message": message, **fields}


def write(path: Path, *records: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


# --- writing --------------------------------------------------------------------------------------


def write_many(path: Path, name: int) -> None:
    file = AppendingFile(path, KEEPING)
    for number in range(300):
        assert file.write(json.dumps(a_line("x" * 40, writer=name, number=number)))


def test_processes_that_share_a_file_lose_no_line_while_it_is_rotated(tmp_path: Path) -> None:
    path, began = tmp_path / "logs" / "app.log", now() - timedelta(seconds=1)
    spawned = multiprocessing.get_context("fork")
    writers = [spawned.Process(target=write_many, args=(path, name)) for name in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    files = list(path.parent.glob("app.log*"))
    lines = [line for file in files for line in file.read_text().splitlines()]
    found = Counter((each["writer"], each["number"]) for each in map(json.loads, lines))
    assert found == {(name, number): 1 for name in range(3) for number in range(300)}
    assert len(files) > 20
    everything = logfiles.through([path], began, now(), lambda _: True, lambda _: True)
    assert sum(1 for _ in everything) == 900


def test_only_so_many_full_files_are_kept_and_none_too_long(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = AppendingFile(path, Keeping(size_max_bytes=100, files_max=3, days_max=2))
    for number in range(12):
        file.write(f"{number:>90}")
    assert {each.name for each in tmp_path.glob("app.log*")} == {
        *("app.log", "app.log.1", "app.log.2", "app.log.3", "app.log.lock"),
    }
    long_ago = time.time() - 3 * 86_400
    for number in (1, 2):
        os.utime(f"{path}.{number}", (long_ago, long_ago))
    file.write("y" * 200)
    file.write("z")
    assert {each.name for each in tmp_path.glob("app.log*")} == {
        *("app.log", "app.log.1", "app.log.2", "app.log.lock"),
    }


def test_lines_that_could_not_be_written_are_counted_and_said(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.write_text("a file where the folder should be")
    file = AppendingFile(folder / "app.log", KEEPING)
    assert [file.write("lost") for _ in range(3)] == [False] * 3
    folder.unlink()
    assert file.write("back again")
    said, line = (folder / "app.log").read_text().splitlines()
    assert json.loads(said)["message"] == "3 lines before this one could not be written"
    assert line == "back again"


def test_the_supervisor_keeps_each_process_in_its_file_and_no_secret_in_any(
    tmp_path: Path,
) -> None:
    shown: list[str] = []

    class Screen:
        def write(self, text: str) -> None:
            shown.append(text)

        def flush(self) -> None:
            pass

    book = Logbook(tmp_path, KEEPING)
    mask = SecretMask([Secret("amqp://u:s3cret-word@h")])
    screen: Any = Screen()
    console = Console(screen, as_json=False, coloured=False, mask=mask, keep=book.keep)
    console.say("feed", json.dumps(a_line("all is well", bot_id="alpha")))
    console.say("orders", "a library printed s3cret-word")
    book.close()
    (feed,) = (tmp_path / "feed.log").read_text().splitlines()
    (orders,) = (tmp_path / "orders.log").read_text().splitlines()
    assert (json.loads(feed)["process"], json.loads(feed)["bot_id"]) == ("feed", "alpha")
    assert json.loads(orders)["message"] == "a library printed ***"
    assert "s3cret" not in "".join(shown)
    assert oct((tmp_path / "feed.log").stat().st_mode & 0o777) == "0o600"


def test_a_follower_goes_on_after_the_file_was_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = AppendingFile(path, Keeping(size_max_bytes=50, files_max=3, days_max=2))
    file.write("before")
    follower = Follower(path)
    file.write("one" + "." * 60)
    assert follower.new() == [b"one" + b"." * 60]
    file.write("two")
    assert follower.new() == [b"two"]
    assert follower.new() == []


# --- reading --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    logs = tmp_path / "logs"
    ago = timedelta(minutes=1)
    write(
        logs / "orders.log.1",
        a_line("long ago", at=now() - 100 * ago, process="orders"),
        a_line("a little while ago", at=now() - 30 * ago, process="orders", order_id=ORDER),
    )
    write(
        logs / "orders.log",
        a_line("sent", at=now() - 3 * ago, process="orders", order_id=ORDER, trace_id="ab" * 16),
        a_line("refused x: too big", at=now() - ago, process="orders", level="warning"),
    )
    write(
        logs / "feed.log",
        a_line("Überraschung", at=now() - 2 * ago, process="feed", bot_id="alpha"),
        a_line("no", at=now() - ago / 2, process="feed", level="error", traceback="Traceback …"),
    )
    return tmp_path


def run(folder: Path, *words: str, expect: int = 0) -> Any:
    session = Session(environ={"BOTSWARM_STATE_DIR": str(folder)}, json=True)
    done = CliRunner().invoke(command, [*words], obj=session, standalone_mode=False)
    if done.exception is not None:
        code = getattr(done.exception, "exit_code", None)
        assert code == expect, done.exception
        return done.exception
    answer = json.loads(done.stdout)
    assert done.return_value == expect, answer
    return answer


def messages(answer: Any) -> list[str]:
    return [row["message"] for row in answer["data"]]


def test_the_tail_is_of_all_files_together_by_time(folder: Path) -> None:
    answer = run(folder, "logs", "tail", "-n", "3")
    assert messages(answer) == ["Überraschung", "refused x: too big", "no"]
    everything = run(folder, "logs", "tail", "-n", "50")
    assert messages(everything)[:3] == ["long ago", "a little while ago", "sent"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--order", ORDER], ["a little while ago", "sent"]),
        (["--bot", "alpha"], ["Überraschung"]),
        (["--level", "warning"], ["refused x: too big", "no"]),
        (["--process", "orders", "--since", "10m"], ["sent", "refused x: too big"]),
        (["--regex", '"message": "(sent|no)"'], ["sent", "no"]),
        (["überRASCHUNG"], ["Überraschung"]),
        (["ab" * 16], ["sent"]),
        (["--until", "20m"], ["long ago", "a little while ago"]),
        (["nothing like it"], []),
    ],
)
def test_lines_are_found_by_what_they_are_about(
    folder: Path, words: list[str], found: list[str]
) -> None:
    assert messages(run(folder, "logs", "search", *words)) == found


def test_a_pattern_that_is_none_is_said_also_where_no_line_is_held_to_it(folder: Path) -> None:
    refused = run(folder, "logs", "search", "nowhere", "--regex", "(", expect=2)
    assert "is no pattern" in str(refused)


def test_more_than_asked_for_is_said(folder: Path) -> None:
    answer = run(folder, "logs", "search", "-n", "2")
    assert len(answer["data"]) == 2
    assert answer["warnings"] == ["there are more than 2: narrow it, or raise -n"]


def test_the_check_counts_what_should_not_be_there(folder: Path) -> None:
    answer = run(folder, "logs", "check", "--since", "15m")
    found = {row["name"]: (row["status"], row["count"]) for row in answer["data"]["patterns"]}
    assert found["errors"] == ("warn", 1)
    assert found["tracebacks"] == ("warn", 1)
    assert found["order-failures"] == ("warn", 1)
    assert found["fatal"] == ("ok", 0)
    assert answer["data"]["lines"] == 4
    write(folder / "logs" / "beat.log", a_line("uncaught exception", level="critical"))
    bad = run(folder, "logs", "check", "--since", "15m", expect=3)
    assert bad["error"]["code"] == "BSW-3020"
    assert "fatal (1)" in bad["error"]["cause"]


def test_strict_fails_on_warnings(folder: Path) -> None:
    assert run(folder, "logs", "check", "--since", "45s")["ok"]
    run(folder, "logs", "check", "--since", "45s", "--strict", expect=3)


def test_without_any_file_it_is_said_how_to_get_one(tmp_path: Path) -> None:
    error = run(tmp_path, "logs", "tail", expect=4)
    assert "botswarm up" in error.cure


SAMPLES = {
    "fatal": {"level": "critical"},
    "errors": {"level": "error"},
    "tracebacks": {"message": "Traceback (most recent call last):"},
    "order-failures": {"message": "order 7 is left as it stands: no answer", "level": "error"},
    "rate-limits": {"message": "HTTP 429 from the venue", "level": "warning"},
    "lost-connections": {"message": "no longer leading: closed", "level": "warning"},
    "restarts": {"message": "feed ended with exit code 1; starting it again in 0.5 s"},
    "warnings": {"level": "warning"},
}


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda each: each.name)
def test_each_pattern_fits_its_sample_and_no_quiet_line(pattern: Any) -> None:
    quiet = a_line("order 7 is filled after 429 ms")
    counts = judge([a_line("x") | SAMPLES[pattern.name], quiet])
    assert counts.counts[pattern.name] == 1
    assert not pattern.fits(quiet)
