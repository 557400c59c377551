"""The simulated exchange's address card: where it is and the key to it, for every process here."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

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

    def __repr__(self) -> str:
        return f"ExchangeRecord({self.host}:{self.port}, pid {self.pid})"


def read(state_dir: Path) -> ExchangeRecord | None:
    """The last exchange's record, whether or not it still runs; None where there was none."""
    try:
        text = (state_dir / FILE).read_text()
    except FileNotFoundError:
        return None
    try:
        return ExchangeRecord(**json.loads(text))
    except (ValueError, TypeError):
        return None  # half-written by an older version: the next start writes it anew


def write(state_dir: Path, record: ExchangeRecord) -> None:
    """Replace the record in one step, readable by its owner only."""
    temporary = state_dir / f"{FILE}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(record), file, indent=1)
    temporary.replace(state_dir / FILE)
