"""Recordings are whole whatever happens to their writer, and are played in their own rhythm."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botswarm.config import load
from botswarm.domain.market import Book, Trade
from botswarm.errors import Unreachable
from botswarm.exchanges.registry import recorded
from botswarm.exchanges.streams import Changed
from botswarm.feed import blockfile, recording
from botswarm.feed.blockfile import BlockFile
from botswarm.feed.normalising import Normaliser
from botswarm.feed.recording import Line
from botswarm.feed.replaying import Gathering, Rhythm
from botswarm.market.wire import Batch
from tests.unit.test_market_book import trade

ROOT = Path(__file__).parent.parent.parent
VICTIM = """
import itertools, sys, time
from pathlib import Path
from botswarm.feed.blockfile import BlockFile
file = BlockFile(Path(sys.argv[1]), heading=b"# begun")
for number in itertools.count():
    file.write(b"%d\\n" % number)
    if number == 50_000:
        print("written", flush=True)
    if number > 50_000:
        time.sleep(0.0005)
"""


def read(path: Path) -> list[bytes]:
    with recording.opened(str(path)) as file:
        return [line.frame for line in recording.lines(file)]


def wait_for(path: Path, size: int) -> None:
    deadline = time.monotonic() + 20
    while not path.exists() or path.stat().st_size < size:
        assert time.monotonic() < deadline, path
        time.sleep(0.01)


def test_what_was_written_is_read_by_any_reader_of_gz(tmp_path: Path) -> None:
    file = BlockFile(tmp_path / "frames.gz", heading=b"# heading")
    for number in range(1000):
        file.write(b"%d\n" % number)
    file.close()
    whole = gzip.decompress((tmp_path / "frames.gz").read_bytes())
    assert whole.splitlines() == [b"# heading", *(b"%d" % number for number in range(1000))]
    assert (file.lines, file.lost, file.trouble) == (1000, 0, "")


def test_what_waits_is_written_within_a_second_or_two_without_more(tmp_path: Path) -> None:
    file = BlockFile(tmp_path / "frames.gz")
    file.write(b"alone\n")
    wait_for(tmp_path / "frames.gz", 1)
    assert read(tmp_path / "frames.gz") == [b"alone"]
    file.close()


def test_after_kill_9_everything_up_to_the_last_block_is_there(tmp_path: Path) -> None:
    path = tmp_path / "frames.gz"
    command = [sys.executable, "-c", VICTIM, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        deadline = time.monotonic() + 20
        while len(found := read_torn(path)) < 50_001:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    last = read_torn(path)
    assert last[0] == b"# begun"
    assert last[1 : len(found)] == found[1:]
    assert [int(text) for text in last[1:]] == list(range(len(last) - 1))


def read_torn(path: Path) -> list[bytes]:
    found: list[bytes] = []
    if not path.exists():
        return found
    with path.open("rb") as raw, gzip.open(raw) as file:
        try:
            for line in recording.lines(file):  # type: ignore[arg-type]
                found.append(line.frame)
        except recording.Truncated:
            pass
    return found


def test_files_are_rotated_by_size_and_the_oldest_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blockfile, "BLOCK_S", 0.01)
    limits = {"rotate_bytes": 3000, "keep_bytes": 9000}
    file = BlockFile(tmp_path / "frames.gz", heading=b"# heading", **limits)
    for number in range(40):
        before = file.bytes_written
        file.write(os.urandom(500).hex().encode() + b" %d\n" % number)
        deadline = time.monotonic() + 10
        while file.bytes_written == before:
            assert time.monotonic() < deadline
            time.sleep(0.002)
    file.close()
    assert file.paths == sorted(tmp_path.iterdir(), key=lambda path: int(path.name.split(".")[1]))
    assert not (tmp_path / "frames.gz").exists()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 9000
    lines = [line for path in file.paths for line in read(path) if line != b"# heading"]
    numbers = [int(line.split()[1]) for line in lines]
    assert numbers == list(range(numbers[0], 40))


def test_a_recording_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "frames.gz").write_bytes(b"precious")
    with pytest.raises(Unreachable, match="never written over"):
        BlockFile(tmp_path / "frames.gz")
    with pytest.raises(Unreachable, match="cannot be written"):
        BlockFile(tmp_path / "nowhere" / "frames.gz")


def test_a_full_disk_ends_the_recording_and_says_so(tmp_path: Path) -> None:
    code = """
import os, resource, sys, time
from pathlib import Path
from botswarm.feed.blockfile import BlockFile
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
file = BlockFile(Path(sys.argv[1]))
while not file.trouble:
    file.write(os.urandom(1000).hex().encode() + b"\\n")
    time.sleep(0.0005)
file.write(b"too late")
file.close()
print(file.lost, file.trouble)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "frames.gz")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lost, _, trouble = done.stdout.partition(" ")
    assert int(lost) == 1
    assert "cannot be written any more: [Errno 27] File too large" in trouble


@given(st.binary(max_size=80), st.integers(0, 4_000_000_000_000))
def test_any_frame_comes_back_as_it_was(frame: bytes, at_ms: int) -> None:
    text = recording.stamped(at_ms, "binance-1.2", frame)
    assert text.count(b"\n") == 1
    (line,) = recording.lines(io.BytesIO(text))
    assert (line.received_ms, line.connection) == (at_ms, "binance-1.2")
    assert line.frame == frame


PACKED = b"".join(gzip.compress(b"%d\n" % number * 50) for number in range(5))


@given(st.lists(st.tuples(st.integers(0, len(PACKED) - 1), st.integers(0, 255)), max_size=4))
def test_a_damaged_file_is_read_up_to_the_damage_or_said_to_be_torn(
    damage: list[tuple[int, int]],
) -> None:
    raw = bytearray(PACKED)
    for place, byte in damage:
        raw[place] = byte
    found = []
    with contextlib.suppress(recording.Truncated), gzip.open(io.BytesIO(raw)) as file:
        for line in recording.lines(file):  # type: ignore[arg-type]
            found.append(line.frame)
    assert len(found) <= 5 * 50 * 4


def test_a_whole_book_is_written_between_the_frames_and_makes_their_changes_a_book() -> None:
    book = Book(
        venue="binance",
        symbol="BTC-USDT",
        sequence=10,
        bids=((Decimal("0.00000012"), Decimal("5.0")),),
        asks=((Decimal("0.00000013"), Decimal("4.00")),),
        exchange_ms=1000,
        received_ms=1000,
    )
    change = (
        b'{"e":"depthUpdate","E":1000,"s":"BTCUSDT","U":%d,"u":%d,"b":[["0.00000011","1"]],"a":[]}'
    )
    frames = [change % (10, 10), recording.whole_frame(book), change % (11, 12)]
    damaged = recording.whole_frame(book).replace(b'"5.0"', b'"NaN"')
    text = b"".join(recording.stamped(1000, "a-1", frame) for frame in [*frames, damaged])
    settings = load(environ={}, folder=ROOT / "tests").settings
    normaliser = Normaliser(recorded(settings, "binance"))
    ticks = list(normaliser.ticks(recording.lines(io.BytesIO(text))))
    assert [type(tick) for tick in ticks] == [Changed, Book, Book]
    assert ticks[1] == book
    assert set(normaliser.account.dropped) == {"bad_number"}


@pytest.mark.parametrize(
    ("text", "received_ms", "frame"),
    [
        (b'{"e":1}', None, b'{"e":1}'),
        (b'1633998523.957215: {"e":1}\r\n', 1633998523957, b'{"e":1}'),
        (b'1633998523: {"e":1}', 1633998523000, b'{"e":1}'),
        (b"CloudFlare WebSocket proxy restarting", None, b"CloudFlare WebSocket proxy restarting"),
        (b"123", None, b"123"),
    ],
)
def test_a_time_before_the_frame_is_optional(
    text: bytes, received_ms: int | None, frame: bytes
) -> None:
    (line,) = recording.lines(io.BytesIO(text))
    assert (line.received_ms, line.frame) == (received_ms, frame)


def test_a_line_longer_than_any_frame_costs_no_memory_and_not_the_next_line() -> None:
    text = b"x" * 5000 + b"\n" + b"good\n" + b"y" * 1000
    lines = list(recording.lines(io.BytesIO(text), line_max=1000))
    assert [(line.number, line.is_too_long) for line in lines] == [
        (1, True),
        (2, False),
        (3, False),
    ]
    assert lines[1].frame == b"good"


# --- rhythm -----------------------------------------------------------------------------------


class Time:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def at(*moments: int | None) -> list[Line]:
    return [Line(number, moment, "", b"{}") for number, moment in enumerate(moments, 1)]


@pytest.mark.parametrize(("speed", "slept"), [(1.0, [2.0, 1.0]), (4.0, [0.5, 0.25]), (0.0, [])])
def test_pauses_are_as_long_as_they_were_by_the_speed(speed: float, slept: list[float]) -> None:
    time = Time()
    rhythm = Rhythm(speed, monotonic=time.monotonic, sleep=time.sleep)
    flushed: list[None] = []
    lines = at(5000, 5001, 7000, None, 8000, 6000)
    played = list(rhythm.pace(lines, lambda: flushed.append(None)))
    assert len(played) == 6
    assert time.slept == pytest.approx(slept)
    assert len(flushed) == len(slept)
    assert rhythm.is_timed is (speed > 0)


def test_what_is_played_has_a_name_of_its_own() -> None:
    sent: list[Batch] = []
    gathering = Gathering("replay-simulated", sent.append)
    for number in range(1, 600):
        gathering.add(trade(number))
    gathering.flush()
    assert [len(batch.ticks) for batch in sent] == [500, 99]
    assert {batch.venue for batch in sent} == {"replay-simulated"}
    assert {tick.venue for batch in sent for tick in batch.ticks} == {"replay-simulated"}
    ids = [tick.trade_id for batch in sent for tick in batch.ticks if isinstance(tick, Trade)]
    assert ids == list(range(1, 600))


def test_changes_of_a_book_that_was_never_whole_are_not_played_but_counted() -> None:
    sent: list[Batch] = []
    gathering = Gathering("replay-binance", sent.append)
    gathering.add(
        Changed(venue="binance", symbol="BTC-USDT", bids=(), asks=(), sequence=1,
                exchange_ms=1, received_ms=1)
    )  # fmt: skip
    gathering.flush()
    assert (sent, gathering.changes) == ([], 1)
