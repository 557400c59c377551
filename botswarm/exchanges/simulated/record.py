"""The simulated exchange's address card: where it is and the key to it, for every process here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from botswarm import cards

PART = "exchange"
"""What the files of the exchange with a market of its own are named after."""
FILE = f"{PART}.json"
PAPER = "paper-"
"""Before a venue's name: the exchange that trades on paper at that venue's prices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRecord:
    """Written 0600 into the state folder: it carries the secret."""

    host: str
    port: int
    rest_url: str
    stream_url: str
    ws_api_url: str
    api_key: str
    api_secret: str
    pid: int
    started_at: str
    coinbase_rest_url: str = ""
    coinbase_stream_url: str = ""
    coinbase_trading_url: str = ""
    coinbase_api_key: str = ""
    coinbase_api_secret: str = ""
    coinbase_exchange_rest_url: str = ""
    coinbase_exchange_stream_url: str = ""
    kraken_rest_url: str = ""
    kraken_stream_url: str = ""
    kraken_trading_url: str = ""

    def __repr__(self) -> str:
        return f"ExchangeRecord({self.host}:{self.port}, pid {self.pid})"


def read(state_dir: Path, part: str = PART) -> ExchangeRecord | None:
    return cards.read(_file(state_dir, part), ExchangeRecord)


def write(state_dir: Path, record: ExchangeRecord, part: str = PART) -> None:
    cards.write(_file(state_dir, part), record)


def paper_venues(state_dir: Path) -> Sequence[str]:
    """Those at whose prices orders were ever traded on paper here."""
    found = sorted(state_dir.glob(f"{PAPER}*.json"))
    return [each.stem.removeprefix(PAPER) for each in found]


def _file(state_dir: Path, part: str) -> Path:
    return state_dir / f"{part}.json"
