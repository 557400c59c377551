"""What the streaming bench venue says: frames cheap to make, and REST."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

FIRST_ID = 1_000_000_000
"""All ids have ten digits, so that a market's frames are all equally long."""
STEP_S = 0.002
BURST_MAX = 500
PING_EVERY_S = 20.0
REMEMBERED_MAX = 200_000
"""Trades that REST still tells, of all markets together."""
DRAWS = 4093
INTERVALS_S = {"1s": 1, "1m": 60, "5m": 300, "15m": 900, "1h": 3600, "4h": 14_400, "1d": 86_400}

Told = tuple[int, int, int, bool, int]
"""A trade's id, its price in cents, ten thousandths of its quantity, its side and its time."""


def symbols(count: int) -> list[str]:
    """Our names of the markets it has: ``M0000-USDT`` and so on."""
    return [f"M{number:04d}-USDT" for number in range(count)]


class Market:
    def __init__(self, name: str, remembered: int) -> None:
        self.name = name
        self.last_id = FIRST_ID
        self.update_id = FIRST_ID
        self.cents = 20_000 + sum(name.encode()) * 7919 % 50_000
        self.tape: deque[Told] = deque(maxlen=remembered)
        stem = name.lower().encode()
        body = (
            b'{"stream":"%s@trade","data":{"e":"trade","E":%%d,"s":"%s","t":%%d,"p":"%%d.%%02d",'
            b'"q":"0.0%%04d","T":%%d,"m":%%s,"M":true}}' % (stem, name.encode())
        )
        self.trade_frames = [
            head(len(body % (10**12, FIRST_ID, 100, 0, 1000, 10**12, side))) + body
            for side in (b"false", b"true")
        ]
        body = (
            b'{"stream":"%s@aggTrade","data":{"e":"aggTrade","E":%%d,"s":"%s","a":%%d,'
            b'"p":"%%d.%%02d","q":"0.0%%04d","T":%%d,"m":%%s,"M":true}}' % (stem, name.encode())
        )
        self.aggregate_frames = [
            head(len(body % (10**12, FIRST_ID, 100, 0, 1000, 10**12, side))) + body
            for side in (b"false", b"true")
        ]
        body = (
            b'{"stream":"%s@bookTicker","data":{"u":%%d,"s":"%s","b":"%%d.%%02d","B":"1.0000",'
            b'"a":"%%d.%%02d","A":"2.0000"}}' % (stem, name.encode())
        )
        self.quote_frame = head(len(body % (FIRST_ID, 100, 0, 100, 0))) + body

    def trade(self, now_ms: int, draw: int, *, is_aggregate: bool = False) -> bytes:
        self.last_id += 1
        self.cents = min(99_000, max(11_000, self.cents + draw % 7 - 3))
        is_sell = draw & 8 != 0
        self.tape.append((self.last_id, self.cents, 1000 + draw, is_sell, now_ms))
        whole, part = divmod(self.cents, 100)
        frame = (self.aggregate_frames if is_aggregate else self.trade_frames)[is_sell]
        side = b"true" if is_sell else b"false"
        return frame % (now_ms, self.last_id, whole, part, 1000 + draw, now_ms, side)

    def quote(self, now_ms: int, draw: int) -> bytes:
        self.update_id += 1
        bid, ask = self.cents - 1 - draw % 3, self.cents + 1
        return self.quote_frame % (self.update_id, *divmod(bid, 100), *divmod(ask, 100))


@dataclass(slots=True)
class Line:
    """One client's WebSocket."""

    socket: socket.socket
    lock: threading.Lock = field(default_factory=threading.Lock)
    streams: set[str] = field(default_factory=set)
    outbox: list[bytes] = field(default_factory=list)
    is_up: bool = True

    def send(self, frames: bytes) -> bool:
        if not self.is_up:
            return False
        try:
            with self.lock:
                self.socket.sendall(frames)
        except OSError:
            self.is_up = False
        return self.is_up


class Venue:
    def __init__(
        self, markets: int, trades_per_s: float, quotes_per_s: float, history: int = 1000
    ) -> None:
        """``history``: so many closed candles of each timeframe are told at most."""
        self._history = history
        remembered = max(50, REMEMBERED_MAX // markets)
        names = [symbol.replace("-", "") for symbol in symbols(markets)]
        self.markets = {name: Market(name, remembered) for name in names}
        self.rates = {"trade": trades_per_s, "bookTicker": quotes_per_s}
        self.sent = {"trade": 0, "bookTicker": 0}
        self.behind = 0.0
        """Frames that were due and not sent yet, when it last looked: the readers are too slow."""
        self.dropped = 0
        self.connects = 0
        self._lines: dict[str, list[Line]] = {}
        self._wanted: dict[str, list[str]] = {"trade": [], "bookTicker": []}
        self._changed = False
        self._lock = threading.Lock()
        chance = random.Random(1)  # noqa: S311 - the same prices every time, guards nothing
        self._draws = [chance.randrange(1000) for _ in range(DRAWS)]
        self._drawn = 0

    # --- who listens --------------------------------------------------------------------------

    def subscribe(self, line: Line, names: Sequence[str]) -> None:
        with self._lock:
            for name in names:
                stem, _, channel = name.partition("@")
                if _rate_of(channel) in self._wanted and stem.upper() in self.markets:
                    if line not in self._lines.setdefault(name, []):
                        self._lines[name].append(line)
                    line.streams.add(name)
            self._note_wanted()

    def unsubscribe(self, line: Line, names: Sequence[str]) -> None:
        with self._lock:
            for name in names:
                if name in line.streams:
                    line.streams.discard(name)
                    self._lines[name].remove(line)
            self._note_wanted()

    def _note_wanted(self) -> None:
        for channel in self._wanted:
            self._wanted[channel] = [
                name
                for name, lines in self._lines.items()
                if lines and _rate_of(name.partition("@")[2]) == channel
            ]
            # In an order of no meaning, the same each time: every market has its turn.
            random.Random(2).shuffle(self._wanted[channel])  # noqa: S311 - guards nothing

    # --- speaking -----------------------------------------------------------------------------

    def run(self) -> None:
        began = time.monotonic()
        due = dict.fromkeys(self.rates, 0.0)
        turn = dict.fromkeys(self.rates, 0)
        last, pinged = began, began
        while True:
            now = time.monotonic()
            for channel, rate in self.rates.items():
                wanted = self._wanted[channel]
                due[channel] = due[channel] + rate * (now - last) if wanted and rate else 0.0
                count = min(BURST_MAX, int(due[channel])) if rate > 0 else 0
                due[channel] -= count
                turn[channel] = self._speak(channel, wanted, turn[channel], count)
            last = now
            self.behind = sum(due.values())
            if now - pinged > PING_EVERY_S:
                pinged = now
                for line in self._everybody():
                    line.send(b"\x89\x04" + struct.pack("!I", int(now) & 0xFFFFFFFF))
            if self.behind < BURST_MAX:
                time.sleep(max(0.0, STEP_S - (time.monotonic() - now)))

    def _speak(self, channel: str, wanted: list[str], turn: int, count: int) -> int:
        now_ms, is_trade = int(time.time() * 1000), channel == "trade"
        markets, waiting = self.markets, dict[int, Line]()
        with self._lock:
            for _ in range(count):
                turn = (turn + 1) % len(wanted)
                name = wanted[turn]
                market = markets[name.partition("@")[0].upper()]
                self._drawn = (self._drawn + 1) % DRAWS
                draw = self._draws[self._drawn]
                if is_trade:
                    # Each trade alone: their own numbers, and nothing lies between two of them.
                    frame = market.trade(now_ms, draw, is_aggregate=name.endswith("@aggTrade"))
                else:
                    frame = market.quote(now_ms, draw)
                for line in self._lines[name]:
                    line.outbox.append(frame)
                    waiting[id(line)] = line
            self.sent[channel] += count
        for line in waiting.values():
            frames, line.outbox = b"".join(line.outbox), []
            if not line.send(frames):
                self.leave(line)
        return turn

    def _everybody(self) -> list[Line]:
        with self._lock:
            return list({id(line): line for each in self._lines.values() for line in each}.values())

    def leave(self, line: Line) -> None:
        if line.streams:
            self.dropped += 1
        line.is_up = False
        self.unsubscribe(line, list(line.streams))
        line.socket.close()

    # --- answering ----------------------------------------------------------------------------

    def answer(self, path: str, query: dict[str, str]) -> Any:
        """None for what is not known here."""
        now_ms = int(time.time() * 1000)
        limit = int(query.get("limit", 500))
        market = self.markets.get(query.get("symbol", ""))
        match path.removeprefix("/api/v3/"):
            case "ping":
                return {}
            case "time":
                return {"serverTime": now_ms}
            case "exchangeInfo":
                return {"serverTime": now_ms, "symbols": [_listing(n) for n in self.markets]}
            case "trades" if market:
                return [_row(each) for each in list(market.tape)[-limit:]]
            case "historicalTrades" if market:
                first = int(query.get("fromId", 0))
                rows = [each for each in list(market.tape) if each[0] >= first]
                return [_row(each) for each in rows[:limit]]
            case "aggTrades" if market:
                first = int(query.get("fromId", 0))
                rows = [each for each in list(market.tape) if each[0] >= first]
                return [_aggregate(each) for each in rows[:limit]]
            case "klines" if market:
                return _klines(market, query, min(limit, self._history + 1), now_ms)
            case "depth" if market:
                price = market.cents / 100
                return {
                    "lastUpdateId": market.update_id,
                    "bids": [[f"{price - 0.01 * n:.2f}", "1.0000"] for n in range(1, 21)],
                    "asks": [[f"{price + 0.01 * n:.2f}", "1.0000"] for n in range(1, 21)],
                }
            case "/bench/truth":
                return self.truth()
            case "/bench/rates":
                for channel in self.rates:
                    self.rates[channel] = float(query.get(channel, self.rates[channel]))
                return self.truth()
        return None

    def truth(self) -> dict[str, Any]:
        with self._lock:
            return {
                "sent": dict(self.sent),
                "behind": int(self.behind),
                "dropped": self.dropped,
                "connects": self.connects,
                "connections": len({id(ln) for each in self._lines.values() for ln in each}),
                "streams": sum(map(len, self._wanted.values())),
                "first_id": FIRST_ID + 1,
                "last_ids": {name: market.last_id for name, market in self.markets.items()},
            }


def _rate_of(channel: str) -> str:
    return "trade" if channel == "aggTrade" else channel


def head(size: int) -> bytes:
    return struct.pack("!BBH", 0x81, 126, size) if size > 125 else bytes((0x81, size))


def _listing(name: str) -> dict[str, Any]:
    return {
        "symbol": name,
        "status": "TRADING",
        "baseAsset": name.removesuffix("USDT"),
        "quoteAsset": "USDT",
        "baseAssetPrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "isSpotTradingAllowed": True,
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00",
             "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", "minQty": "0.0001", "maxQty": "9000.0",
             "stepSize": "0.0001"},
            {"filterType": "NOTIONAL", "minNotional": "5.0", "maxNotional": "9000000.0"},
        ],
    }  # fmt: skip


def _row(trade: Told) -> dict[str, Any]:
    trade_id, cents, quantity, is_sell, at_ms = trade
    price = f"{cents // 100}.{cents % 100:02d}"
    return {"id": trade_id, "price": price, "qty": f"0.0{quantity}", "quoteQty": "1.0",
            "time": at_ms, "isBuyerMaker": is_sell, "isBestMatch": True}  # fmt: skip


def _aggregate(trade: Told) -> dict[str, Any]:
    row = _row(trade)
    return {"a": row["id"], "p": row["price"], "q": row["qty"], "f": row["id"], "l": row["id"],
            "T": row["time"], "m": row["isBuyerMaker"], "M": True}  # fmt: skip


def _klines(market: Market, query: dict[str, str], limit: int, now_ms: int) -> list[list[Any]]:
    """Of one price: nobody measures with them, but every hole can be filled."""
    length_ms = INTERVALS_S.get(query.get("interval", "1m"), 60) * 1000
    end_ms = min(int(query.get("endTime", now_ms)), now_ms)
    last_ms = end_ms - end_ms % length_ms
    first_ms = max(int(query.get("startTime", 0)), last_ms - (limit - 1) * length_ms)
    price = f"{market.cents / 100:.2f}"
    return [
        [at, price, price, price, price, "1.0", at + length_ms - 1, "1.0", 1, "0.5", "0.5", "0"]
        for at in range(first_ms, last_ms + 1, length_ms)
    ]
