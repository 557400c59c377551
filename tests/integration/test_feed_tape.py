"""What a venue sends is recorded whole, becomes the same ticks later, and is played again."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import AmqpServer, EmbeddedBrokerServer, wait_until
from tests.integration.feed_process import FeedProcess, Reader

ROOT = Path(__file__).parent.parent.parent
MARKETS = ("--market", "BTC-USDT", "--market", "ETH-USDT")
CARRIED = ("trade", "quote", "candle", "book", "status")
CHANNELS = tuple(word for name in ("trade", "quote", "book") for word in ("--channel", name))


@pytest.fixture(scope="module")
def exchange() -> Iterator[SimulatedExchangeServer]:
    with SimulatedExchangeServer() as server:
        yield server


@pytest.fixture(scope="module")
def broker() -> Iterator[AmqpServer]:
    with EmbeddedBrokerServer() as server:
        yield server


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "botswarm", "feed", *words]


def environment(state_dir: Path, **more: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if "BOTSWARM" not in name}
    return plain | {"BOTSWARM_STATE_DIR": str(state_dir)} | more


def run(state_dir: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env=environment(state_dir, **more),
    )


@pytest.fixture(scope="module")
def recording(
    exchange: SimulatedExchangeServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("recording") / "frames.gz"
    words = ("record", "--json", "--for", "4s", *MARKETS, *CHANNELS, str(path))
    done = run(exchange.state_dir, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return path, json.loads(done.stdout)["data"]


def test_frames_that_were_recorded_become_the_ticks_that_they_were(
    recording: tuple[Path, dict[str, Any]], exchange: SimulatedExchangeServer
) -> None:
    path, told = recording
    done = run(exchange.state_dir, "normalise", "--venue", "simulated", "--strict", str(path))
    assert done.returncode == 0, done.stderr
    then = gzip.decompress(path.with_name("frames.ticks.gz").read_bytes()).decode().splitlines()
    now = done.stdout.splitlines()
    # Before the whole book had come there were changes only, and no book to tell.
    assert sorted(then) == sorted(line for line in now if '"type":"update"' not in line)
    assert sum('"type":"update"' in line for line in now) < told["ticks"]["book"]
    assert told["ticks"]["trade"] > 0
    assert told["ticks"]["book"] > 0
    assert told["frames"] >= len(now)
    assert told["lost"] == 0


def test_every_venue_s_frames_become_the_ticks_that_they_were(
    exchange: SimulatedExchangeServer, tmp_path: Path
) -> None:
    addresses = {
        f"BOTSWARM_{venue}_{kind}_URL": getattr(exchange.card, f"{venue}_{kind}_url".lower())
        for venue in ("COINBASE", "COINBASE_EXCHANGE", "KRAKEN")
        for kind in ("REST", "STREAM")
    }
    env = environment(exchange.state_dir, **addresses)
    every = tuple(word for name in CARRIED for word in ("--channel", name))
    made = {
        venue: subprocess.Popen(
            command(
                *("record", "--venue", venue, "--market", "BTC-USDT", "--for", "6s", *every),
                str(tmp_path / f"{venue}.gz"),
            ),
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for venue in ("coinbase", "coinbase-exchange", "kraken")
    }
    for venue, process in made.items():
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0, said.decode()
        path = tmp_path / f"{venue}.gz"
        done = run(exchange.state_dir, "normalise", "--strict", "--venue", venue, str(path))
        assert done.returncode == 0, done.stderr
        then = gzip.decompress((tmp_path / f"{venue}.ticks.gz").read_bytes()).decode()
        # A connection tells what has changed, and the status is told anew by each.
        lines = [
            sorted(line for line in text.splitlines() if '"channel":"status"' not in line)
            for text in (then, done.stdout)
        ]
        assert lines[0] == lines[1], venue
        told = {json.loads(line)["channel"] for line in done.stdout.splitlines()}
        assert told >= {"trade", "quote", "book", "status"}, venue


def test_what_is_played_reaches_readers_under_a_name_of_its_own(
    recording: tuple[Path, dict[str, Any]], exchange: SimulatedExchangeServer, broker: AmqpServer
) -> None:
    path, told = recording
    reader = Reader(broker.url())
    try:
        words = ("replay", "--json", "--speed", "0", str(path))
        done = run(exchange.state_dir, *words, BOTSWARM_BROKER_URL=broker.url())
        assert done.returncode == 0, done.stdout + done.stderr
        played = json.loads(done.stdout)["data"]
        trades = told["ticks"]["trade"]
        assert reader.read_until(lambda: len(reader.batches) >= played["published"], 10)
        assert sum(map(len, reader.trades.values())) == trades == played["ticks"]["trade"]
        assert {batch.venue for batch in reader.batches} == {"replay-simulated"}
        assert {tick.venue for batch in reader.batches for tick in batch.ticks} == {
            "replay-simulated"
        }
        assert played["published"] == len(reader.batches)
        assert not reader.digests
    finally:
        reader.close()


def test_a_recording_is_printed_in_the_rhythm_it_had(
    recording: tuple[Path, dict[str, Any]], exchange: SimulatedExchangeServer
) -> None:
    path, told = recording
    began = time.monotonic()
    words = ("replay", "--speed", "2", "--to", "stdout", "--as", "again", str(path))
    done = run(exchange.state_dir, *words)
    took_s = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["venue"] for line in lines} == {"again"}
    assert sum(line["channel"] == "trade" for line in lines) == told["ticks"]["trade"]
    received = [line["received"] for line in lines]
    length_s = float(received[-1][-7:-1]) - float(received[0][-7:-1])
    assert took_s >= length_s % 60 / 2


def test_a_recording_whose_writer_was_killed_is_read_up_to_its_end(
    exchange: SimulatedExchangeServer, tmp_path: Path
) -> None:
    path = tmp_path / "frames.gz"
    words = ("record", "--for", "60s", *MARKETS, "--no-ticks", str(path))
    with subprocess.Popen(command(*words), cwd=ROOT, env=environment(exchange.state_dir)) as made:
        wait_until(lambda: path.exists() and path.stat().st_size > 2000, "frames", 20)
        os.kill(made.pid, signal.SIGKILL)
    done = run(exchange.state_dir, "normalise", "--json", "--venue", "simulated", str(path))
    account = json.loads(done.stderr)
    assert account["ticks"]["trade"] > 0
    assert account["gaps"] == 0
    assert set(account["dropped"]) <= {"torn_file"}


def test_a_running_feed_writes_down_what_it_hears(
    exchange: SimulatedExchangeServer, broker: AmqpServer, tmp_path: Path
) -> None:
    folder = tmp_path / "not" / "yet"
    made = FeedProcess(
        exchange.state_dir, broker.url(), settings={"BOTSWARM_FEED_RECORD_DIR": str(folder)}
    )
    with made:
        wait_until(lambda: any(path.stat().st_size > 2000 for path in found(folder)), "frames", 20)
    (path,) = found(folder)
    assert path.name.startswith("simulated-")
    done = run(exchange.state_dir, "normalise", "--strict", "--venue", "simulated", str(path))
    assert done.returncode == 0, done.stderr
    assert '"channel":"trade"' in done.stdout


def found(folder: Path) -> list[Path]:
    return list(folder.glob("*.gz"))


def test_what_cannot_be_recorded_or_played_says_why(
    exchange: SimulatedExchangeServer, tmp_path: Path
) -> None:
    path = str(tmp_path / "frames.gz")
    unknown = run(exchange.state_dir, "record", "--market", "DOGE-NIX", path)
    assert (unknown.returncode, "no market DOGE-NIX" in unknown.stderr) == (4, True)
    (tmp_path / "plain.txt").write_text('{"e":"trade"}\n')
    nameless = run(exchange.state_dir, "replay", str(tmp_path / "plain.txt"))
    assert (nameless.returncode, "--venue" in nameless.stderr) == (2, True)
    (tmp_path / "ticks.txt").write_text('{"venue":"binance","symbol":"BTC-USDT"}\n')
    ticks = run(exchange.state_dir, "replay", "--venue", "binance", str(tmp_path / "ticks.txt"))
    assert (ticks.returncode, "FILE has ticks" in ticks.stderr) == (2, True)
    nowhere = run(
        exchange.state_dir,
        *("replay", "--venue", "binance", str(tmp_path / "plain.txt")),
        BOTSWARM_BROKER_URL="amqp://guest:guest@127.0.0.1:9/",
    )
    assert nowhere.returncode == 5
    assert "Traceback" not in unknown.stderr + nameless.stderr + nowhere.stderr
