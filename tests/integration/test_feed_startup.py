"""A feed that cannot read what it was told to read says so, and does not look well."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from botswarm.cli import feed as feeding
from botswarm.clock import SystemClock
from botswarm.config import Settings, load
from botswarm.domain.instrument import Instrument
from botswarm.errors import NotFound, Unreachable
from botswarm.exchanges import registry
from botswarm.exchanges.streams import MarketData
from botswarm.feed.daemon import Feed, Surroundings
from botswarm.feed.wishes import Sources
from botswarm.testing.servers import wait_until
from tests.integration.mini_venue import MiniData


def settings_of(tmp_path: Path, **more: str) -> Settings:
    told = {"BOTSWARM_STATE_DIR": str(tmp_path), "DATABASE_URL": f"sqlite:///{tmp_path}/l.db"}
    return load(environ=told | more).settings


def run(settings: Settings) -> None:
    """As the command does; its handlers of signals are ours again afterwards."""
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        feeding.run(settings, lambda: settings)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("names", ["typo", "simulated,typo"])
def test_a_feed_of_a_venue_that_does_not_exist_fails(tmp_path: Path, names: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "botswarm", "run", "feed", "--state-dir", tmp_path],
        env={**os.environ, "BOTSWARM_FEED_VENUES": names},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == NotFound.exit_code
    assert "there is no venue 'typo'; name one of these: simulated" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_feed_that_can_no_longer_read_one_of_its_venues_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(settings: Settings, venue: str) -> MarketData:
        if venue == "kraken":
            raise RuntimeError("a mistake in the adapter")
        raise Unreachable("not there yet")

    monkeypatch.setattr(registry, "market_data", broken)
    with pytest.raises(RuntimeError, match="a mistake in the adapter"):
        run(settings_of(tmp_path, BOTSWARM_FEED_VENUES="simulated,kraken"))


def test_markets_of_a_venue_that_is_not_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(settings: Settings, venue: str) -> MarketData:
        raise NotFound("there is no such venue")

    monkeypatch.setattr(registry, "market_data", gone)
    markets = "BTC-USDT,kraken:ETH-USD,simulated:ETH-USDT"
    with pytest.raises(NotFound):
        run(settings_of(tmp_path, BOTSWARM_FEED_MARKETS=markets))
    (said,) = [each.message for each in caplog.records if "kraken" in each.message]
    assert "kraken:ETH-USD" in said
    assert "BOTSWARM_FEED_VENUES" in said
    assert "simulated:ETH-USDT" not in said


class Strange(MiniData):
    def instruments(self) -> Sequence[Instrument]:
        raise TypeError("a mistake in the adapter")


def test_an_adapter_that_raises_anything_leaves_its_feed_going(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)

    def nowhere() -> str:
        raise Unreachable("no broker")

    feed = Feed(
        Strange("ws://127.0.0.1:9/"),
        Surroundings(
            broker_url=nowhere,
            wishes=Sources(running=lambda: {"A-X"}, save_instruments=lambda instruments: None),
            ring=lambda message: None,
            save_candles=lambda candles: None,
        ),
        configured=(),
        clock=SystemClock(),
    )
    stop = threading.Event()
    thread = threading.Thread(target=feed.run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: "a mistake in the adapter" in caplog.text, "its words", 5)
        assert not stop.wait(0.3)
        assert thread.is_alive()
    finally:
        stop.set()
        thread.join(10)
