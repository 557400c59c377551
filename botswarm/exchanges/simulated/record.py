"""The simulated exchange's address card: where it is and the key to it, for every process here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from botswarm import cards

FILE = "exchange.json"


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


def read(state_dir: Path) -> ExchangeRecord | None:
    return cards.read(state_dir / FILE, ExchangeRecord)


def write(state_dir: Path, record: ExchangeRecord) -> None:
    cards.write(state_dir / FILE, record)
