"""Recorded frames of every venue become exact ticks, and the rest is accounted for."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from botswarm.cli.feed_files import summary
from botswarm.config import load
from botswarm.exchanges.registry import STREAMED, recorded
from botswarm.feed import recording
from botswarm.feed.ndjson import line
from botswarm.feed.normalising import Normaliser

ROOT = Path(__file__).parent.parent.parent
FRAMES = ROOT / "tests" / "data" / "frames"
DOCUMENT = ROOT / "docs" / "feed-format.md"
RECORDINGS = sorted(FRAMES.glob("*.txt"))
TRADE = '{"e":"trade","E":1,"s":"BNBBTC","t":%d,"p":"0.001","q":"100","T":1,"m":true}'


def run(*words: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "botswarm", "feed", "normalise", *words]
    return subprocess.run(command, input=given, capture_output=True, cwd=ROOT, check=False)


def account(given: bytes, *, market: str | None = None) -> dict[str, Any]:
    """What ``--json`` says on standard error, without a process."""
    settings = load(environ={}, folder=FRAMES).settings
    normaliser = Normaliser(recorded(settings, "binance"), market=market)
    assert all(line(tick) for tick in normaliser.ticks(recording.lines(io.BytesIO(given))))
    return summary("binance", normaliser.account)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_the_frames_of_each_venue_give_exactly_the_expected_lines(path: Path) -> None:
    done = run("--venue", path.stem, str(path))
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == path.with_suffix(".ndjson").read_text()


def test_all_our_venues_have_recorded_frames_of_each_channel_they_carry() -> None:
    assert {path.stem for path in RECORDINGS} == set(STREAMED)
    settings = load(environ={}, folder=FRAMES).settings
    for path in RECORDINGS:
        lines = path.with_suffix(".ndjson").read_text().splitlines()
        told = {json.loads(text)["channel"] for text in lines}
        assert told == recorded(settings, path.stem).channels, path.stem


def test_the_lines_and_the_account_in_the_document_are_real() -> None:
    expected = "".join(path.with_suffix(".ndjson").read_text() for path in RECORDINGS)
    lines = [text for text in DOCUMENT.read_text().splitlines() if text.startswith('{"venue"')]
    examples = [text for text in lines if "…" not in text]
    assert len(examples) >= 6
    for example in examples:
        assert f"{example}\n" in expected
    said = run("--venue", "binance", str(FRAMES / "binance.txt")).stderr.decode()
    assert f"```\n{said}```" in DOCUMENT.read_text()


def test_a_deleted_line_is_reported_as_a_gap() -> None:
    frames = [TRADE % number for number in (1, 2, 4, 5, 9)]
    done = run("--venue", "binance", "-", given="\n".join(frames).encode())
    assert done.returncode == 0
    assert done.stdout.count(b"\n") == len(frames)
    said = done.stderr.decode()
    assert "gaps 2, with 4 trades" in said
    assert "line 3, trade BNB-BTC: sequence, after 2 came 4, 1 missing" in said


def test_a_deleted_change_of_a_book_is_reported_as_a_gap() -> None:
    lines = (FRAMES / "binance.txt").read_text().splitlines()
    (hole,) = (index for index, line in enumerate(lines) if '"u":499869753' in line)
    lines[hole] = lines[hole].replace('"U":499869753,"u":499869753', '"U":499869755,"u":499869755')
    (gap,) = account("\n".join(lines).encode())["gap_list"]
    assert (gap["channel"], gap["from"], gap["to"]) == ("book", 499869753, 499869754)


def test_what_comes_twice_or_late_is_printed_and_counted() -> None:
    frames = "\n".join(TRADE % number for number in (1, 2, 5, 5, 4, 3, 3, 6))
    found = account(frames.encode())
    assert (found["gaps"], found["missing"]) == (1, 2)
    assert (found["late"], found["duplicates"]) == (2, 2)
    assert found["ticks"] == {"trade": 8}


def test_strict_fails_over_what_was_dropped_and_over_gaps() -> None:
    good = (TRADE % 1).encode()
    assert run("--venue", "binance", "--strict", "-", given=good).returncode == 0
    assert run("--venue", "binance", "--strict", "-", given=good + b"\nrubbish").returncode == 3
    hole = (TRADE % 3).encode()
    done = run("--venue", "binance", "--strict", "--gaps", "-", given=good + b"\n" + hole)
    assert done.returncode == 3
    gaps = [json.loads(line) for line in done.stdout.splitlines() if b'"gap"' in line]
    assert [gap["gap"]["missing"] for gap in gaps] == [1]


def test_nothing_between_good_frames_keeps_them_from_being_read() -> None:
    rubbish = [
        b"CloudFlare WebSocket proxy restarting",
        b"",
        b"# a comment",
        b"\xff\xfe\x00",
        b'{"a":' + b"[" * 100_000,
        (TRADE % 2).replace("0.001", "NaN").encode(),
        (TRADE % 2).replace('"T":1', '"T":99999999999999999').encode(),
        b'{"e":"tomorrow"}',
        b'{"code":2,"msg":"Invalid request","id":9}',
        b"x" * 2_000_000,
    ]
    frames = [(TRADE % number).encode() for number in range(1, len(rubbish) + 1)]
    mixed = b"\r\n".join(part for pair in zip(frames, rubbish, strict=True) for part in pair)
    found = account(mixed)
    assert found["ticks"] == {"trade": len(rubbish)}
    assert (found["empty"], found["comments"], found["gaps"]) == (1, 1, 0)
    dropped = found["dropped"]
    assert {reason: each["count"] for reason, each in dropped.items()} == {
        "not_json": 1,
        "not_text": 1,
        "too_deep": 1,
        "bad_number": 1,
        "bad_time": 1,
        "unknown_event": 1,
        "refused": 1,
        "too_large": 1,
    }
    assert dropped["not_json"]["line"] == 2


def test_a_full_disk_behind_the_ticks_is_told_with_its_cure() -> None:
    frames = b"\n".join((TRADE % number).encode() for number in range(3000))
    for words in ("normalise --venue binance -", "replay --venue binance --to stdout --speed 0 -"):
        command = f"{sys.executable} -m botswarm feed {words} > /dev/full"
        done = subprocess.run(
            ["bash", "-c", command], input=frames, capture_output=True, timeout=30, check=False
        )
        assert done.returncode == 5
        assert b"cannot be written: No space left on device; write it where" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_long_frame_that_a_connection_has_recorded_is_read() -> None:
    long = (TRADE % 1).encode().ljust(2_000_000)
    assert account(b"1.5 binance-1: " + long)["ticks"] == {"trade": 1}
    assert list(account(long)["dropped"]) == ["too_large"]


def test_compressed_frames_are_read_and_a_torn_file_up_to_its_tear() -> None:
    text = b"".join(b"%d.5: %s\n" % (n, (TRADE % n).encode()) for n in range(1, 3000))
    packed = gzip.compress(text)
    whole = run("--json", "--venue", "binance", "-", given=packed)
    assert json.loads(whole.stderr)["ticks"] == {"trade": 2999}
    torn = json.loads(run("--json", "--venue", "binance", "-", given=packed[:-300]).stderr)
    assert set(torn["dropped"]) == {"torn_file"}
    assert 1000 < torn["ticks"]["trade"] < 2999


def test_a_raw_partial_book_takes_its_market_from_the_command() -> None:
    frame = b'{"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[["0.0026","100"]]}'
    assert account(frame)["ticks"] == {}
    assert account(frame, market="BNB-BTC")["ticks"] == {"book": 1}
    named = run("--venue", "binance", "--market", "BNB-BTC", "-", given=frame)
    assert json.loads(named.stdout)["symbol"] == "BNB-BTC"


def test_a_file_or_venue_that_is_not_there_is_an_error_with_a_cure() -> None:
    done = run("--venue", "binance", "/nowhere/frames.txt")
    assert done.returncode == 5
    assert b"No such file" in done.stderr
    assert run("--venue", "atlantis", str(FRAMES / "binance.txt")).returncode == 4


def test_a_reader_that_leaves_early_is_no_error() -> None:
    frames = b"\n".join((TRADE % number).encode() for number in range(1, 20_000))
    command = [sys.executable, "-m", "botswarm", "feed", "normalise", "--venue", "binance", "-"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=ROOT, **pipes)  # type: ignore[call-overload]
    process.stdout.close()
    _, said = process.communicate(frames)
    assert b"Traceback" not in said


def test_a_number_made_of_a_time_that_nobody_said_is_null() -> None:
    frame = '{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":65972.8,'
    frame += '"bid_qty":0.10000000,"ask":65972.9,"ask_qty":39.67506683,"last":65972.9}]}'
    text = f"{frame}\n1716137125.100: {frame}\n"
    done = run("--venue", "kraken", "-", given=text.encode())
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["sequence"], first["time"]) == (None, None)
    assert second["sequence"] == 1716137125100000
    assert b"0 came late" in done.stderr
