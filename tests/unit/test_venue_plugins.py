"""A venue of a third party is an installed package with one entry point."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from botswarm.errors import NotFound, Unreachable
from botswarm.exchanges import registry
from botswarm.exchanges.binance.market import BinanceMarketData
from tests.settings import settings_of

MODULE = """
from botswarm.exchanges.binance.market import BinanceMarketData

class Elsewhere(BinanceMarketData):
    def __init__(self):
        super().__init__(name="elsewhere", rest_url="http://127.0.0.1:1",
                         stream_url="ws://127.0.0.1:1")

def broken():
    raise RuntimeError("no licence")
"""
ENTRY_POINTS = """
[botswarm.venues]
elsewhere = venue_of_elsewhere:Elsewhere
broken = venue_of_elsewhere:broken
empty = venue_of_elsewhere:object
"""
INFO = "venue_of_elsewhere-1.0.dist-info"
FILES = {
    "venue_of_elsewhere.py": MODULE,
    f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: venue-of-elsewhere\nVersion: 1.0\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/entry_points.txt": ENTRY_POINTS,
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real package, installed into a folder of its own."""
    wheel = tmp_path_factory.mktemp("wheel") / "venue_of_elsewhere-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        for name, text in FILES.items():
            packed.writestr(name, text)
        packed.writestr(f"{INFO}/RECORD", "".join(f"{name},,\n" for name in FILES))
    target = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command = [*install, "--target", str(target), str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def test_an_installed_package_adds_a_venue(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(installed)
    assert "elsewhere" in registry.venues()
    made = registry.market_data(settings_of(tmp_path), "elsewhere")
    assert (made.name, type(made).__module__) == ("elsewhere", "venue_of_elsewhere")
    frame = '{"e":"trade","s":"BTCUSDT","t":1,"p":"1","q":"1","T":5,"m":true}'
    assert len(made.reader().read(frame, 1_700_000_000_000)) == 1


@pytest.mark.parametrize(("venue", "words"), [("broken", "no licence"), ("empty", "object")])
def test_a_package_that_cannot_be_loaded_is_named_with_its_cause(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, venue: str, words: str
) -> None:
    monkeypatch.syspath_prepend(installed)
    with pytest.raises(Unreachable, match="venue-of-elsewhere") as failed:
        registry.market_data(settings_of(tmp_path), venue)
    assert words in str(failed.value)


def test_without_it_the_venue_is_unknown_and_the_known_ones_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as failed:
        registry.market_data(settings_of(tmp_path), "elsewhere")
    assert "kraken" in failed.value.cure


def test_the_feed_reads_the_venue_that_orders_go_to_unless_others_are_named(
    tmp_path: Path,
) -> None:
    assert registry.fed_venues(settings_of(tmp_path)) == ("simulated",)
    named = settings_of(tmp_path, BOTSWARM_FEED_VENUES="binance,kraken")
    assert registry.fed_venues(named) == ("binance", "kraken")


def test_a_recording_of_the_simulated_exchange_is_read_while_none_runs(tmp_path: Path) -> None:
    made = registry.recorded(settings_of(tmp_path), "simulated")
    assert isinstance(made, BinanceMarketData)
    assert made.name == "simulated"
