"""What of a venue's ticks the broker really has: read back from the queue of the last ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from botswarm.feed.order import RENUMBERED_AFTER_MS, without

HOLES_MAX = 10_000
"""Numbers; a longer jump is no hole but a venue that counts anew."""


DISORDER_MS = 1000
"""By so much trades of different markets may be said in another order than they happened in."""


class _Tick(msgspec.Struct):
    """Of any kind: only the numbers by which ticks are known."""

    trade_id: int | None = None
    sequence: int | None = None
    timeframe: str | None = None
    open_ms: int | None = None
    exchange_ms: int | None = None


class _Message(msgspec.Struct):
    kind: str
    symbol: str = ""
    ticks: list[_Tick] = []
    is_recovered: bool = False
    sequence: int = 0


_decoder = msgspec.json.Decoder(_Message)


class Note(msgspec.Struct):
    """Put into that queue after each digest, which itself is not in it."""

    sequence: int
    kind: str = "note"


@dataclass(slots=True)
class SaidOfMarket:
    trade_id: int | None = None
    trade_ms: int = 0
    """When that trade was, by the venue's clock."""
    holes: list[range] = field(default_factory=list)
    """Ids before ``trade_id`` that were not among the trades said."""
    found: set[int] = field(default_factory=set)
    """Of trades that were asked for, while no other trade of the market was said."""
    quote_sequence: int | None = None
    candles: set[tuple[str, int]] = field(default_factory=set)


class Said:
    def __init__(self, sent: Iterable[bytes] = ()) -> None:
        """``sent`` are bodies of which the reader would know whether they have arrived."""
        self.markets: dict[str, SaidOfMarket] = {}
        self.sequence = 0
        """Of the last digest."""
        self.since_ms: int | None = None
        """By the venue's clock: of the oldest trade in there. What is older was said before."""
        self.until_ms = 0
        """By the venue's clock: of the latest trade in there."""
        self.is_all = True
        """No older message had to go."""
        self.is_forgotten = False
        """Some feed has led, and the broker has nothing of what it said: it was restarted."""
        self.arrived: set[bytes] = set()
        """Of the bodies that were asked about. All of them would be megabytes."""
        self.is_empty = True
        """Nobody has said anything."""
        self._sent = frozenset(sent)
        self.read = 0
        self.unreadable = 0

    @property
    def settled_ms(self) -> int:
        """By the venue's clock: trades before it that are not in there were said earlier.

        Those of different markets are not said in their order of time: what was said just before
        the oldest message that is left may have happened a little after what that one says.
        """
        since_ms = self.since_ms or 0
        if self.is_all:
            return since_ms
        return since_ms + min(DISORDER_MS, max(0, self.until_ms - since_ms) // 2)

    def of(self, symbol: str) -> SaidOfMarket:
        return self.markets.get(symbol) or SaidOfMarket()

    def add(self, body: bytes) -> None:
        """One message of the queue, in its order."""
        self.read += 1
        try:
            message = _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.unreadable += 1
            return
        if not message.symbol and not message.sequence:
            return  # somebody knocked
        self.is_empty = False
        if body in self._sent:
            self.arrived.add(body)
        self.sequence = max(self.sequence, message.sequence)
        if message.symbol:
            market = self.markets.setdefault(message.symbol, SaidOfMarket())
            for tick in message.ticks:
                self._note(market, message, tick)

    def _note(self, market: SaidOfMarket, message: _Message, tick: _Tick) -> None:
        kind = message.kind
        if kind == "trade" and tick.trade_id is not None:
            if not message.is_recovered:
                if self.since_ms is None:
                    self.since_ms = tick.exchange_ms
                self.until_ms = max(self.until_ms, tick.exchange_ms or 0)
            elif market.trade_id is None:
                market.found.add(tick.trade_id)
                return
            # Trades that were asked for may be the latest: a connection that is back asks at once.
            _note_trade(market, tick.trade_id, tick.exchange_ms or 0)
        elif kind == "quote" and tick.sequence is not None:
            market.quote_sequence = tick.sequence
        elif kind == "candle" and tick.timeframe is not None and tick.open_ms is not None:
            market.candles.add((tick.timeframe, tick.open_ms))


def _note_trade(market: SaidOfMarket, trade_id: int, at_ms: int) -> None:
    last = market.trade_id
    if last is None or trade_id == last + 1:
        market.trade_id, market.trade_ms = trade_id, at_ms
    elif at_ms > market.trade_ms + RENUMBERED_AFTER_MS and trade_id < last:
        market.trade_id, market.trade_ms, market.holes = trade_id, at_ms, []
    elif trade_id > last:
        market.trade_id, market.trade_ms = trade_id, at_ms
        if trade_id - last <= HOLES_MAX:
            market.holes.append(range(last + 1, trade_id))
    elif market.holes:
        market.holes = without(market.holes, trade_id)
