"""What the streams really told: every trade that happened, and whom each was sent to.

Written for tests only, on demand: a campaign compares it with what a feed counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from botswarm.exchanges.simulated.tape import PublicTrade

FILE: Final = "exchange-streams.jsonl"
Row = dict[str, Any]


class StreamJournal:
    """One JSON object a line: ``trades told connect end fault``."""

    def __init__(self, path: Path | None) -> None:
        self._file: TextIO | None = None if path is None else path.open("a", encoding="utf-8")
        self._told: dict[tuple[str, int, str, str], list[int]] = {}
        self._trades: dict[str, list[list[object]]] = {}

    def note(self, kind: str, now_ms: int, **words: object) -> None:
        if self._file is not None:
            self.flush(now_ms)
            self._write({"type": kind, "at": now_ms, **words})
            self._file.flush()

    def happened(self, symbol: str, trade: PublicTrade) -> None:
        if self._file is not None:
            side = "sell" if trade.buyer_is_maker else "buy"
            row = [trade.id, f"{trade.price:f}", f"{trade.quantity:f}", side, trade.at_ms]
            self._trades.setdefault(symbol, []).append(row)

    def told(
        self, venue: str, connection: int, peer: str, symbol: str, ids: tuple[int, ...]
    ) -> None:
        if self._file is not None and ids:
            self._told.setdefault((venue, connection, peer, symbol), []).extend(ids)

    def flush(self, now_ms: int) -> None:
        if self._file is None:
            return
        for symbol, trades in self._trades.items():
            self._write({"type": "trades", "at": now_ms, "symbol": symbol, "trades": trades})
        for (venue, connection, peer, symbol), ids in self._told.items():
            row = {"venue": venue, "connection": connection, "peer": peer, "symbol": symbol}
            self._write({"type": "told", "at": now_ms, **row, "ids": ids})
        self._trades.clear()
        self._told.clear()
        self._file.flush()

    def _write(self, row: Row) -> None:
        assert self._file is not None
        self._file.write(json.dumps(row, separators=(",", ":")) + "\n")

    def close(self, now_ms: int) -> None:
        self.flush(now_ms)
        if self._file is not None:
            self._file.close()


def read(path: Path, offset: int = 0) -> Iterator[tuple[int, Row]]:
    """Whole lines from ``offset`` on, each with the offset of the next."""
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield offset, json.loads(line)
