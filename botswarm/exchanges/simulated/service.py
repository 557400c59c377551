"""A running exchange: engine, synthetic market, journal and streams, kept in step."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Final, Protocol

from botswarm.clock import Clock
from botswarm.exchanges.simulated import history, stream_journal
from botswarm.exchanges.simulated.attempts import Attempts
from botswarm.exchanges.simulated.candles import Candles
from botswarm.exchanges.simulated.coinbase import CoinbaseFeed
from botswarm.exchanges.simulated.coinbase_exchange import CoinbaseExchangeFeed
from botswarm.exchanges.simulated.exchange import Fact, OwnTrade, Traded
from botswarm.exchanges.simulated.faults import Faults
from botswarm.exchanges.simulated.feeds import Feed, Stage
from botswarm.exchanges.simulated.http import Request, Response
from botswarm.exchanges.simulated.journal import Entry, Journal, last_start, read
from botswarm.exchanges.simulated.kraken import KrakenFeed
from botswarm.exchanges.simulated.limits import OrderLimits, Storm
from botswarm.exchanges.simulated.market import LISTINGS, STEP_MS, SyntheticMarket
from botswarm.exchanges.simulated.mishaps import Delivery
from botswarm.exchanges.simulated.options import ACCOUNT, ExchangeOptions
from botswarm.exchanges.simulated.orders import NewOrder, VenueOrder
from botswarm.exchanges.simulated.publisher import FAST_MS, SLOW_MS, Publisher
from botswarm.exchanges.simulated.random_streams import RandomStreams
from botswarm.exchanges.simulated.refusal import Refusal, market_closed
from botswarm.exchanges.simulated.source import MarketSource
from botswarm.exchanges.simulated.stream_faults import Spoiler
from botswarm.exchanges.simulated.streams import VENUE, Line, StreamHub
from botswarm.exchanges.simulated.users import UserData
from botswarm.exchanges.simulated.websocket import WebSocket


class Teller(Protocol):
    """One venue's private side: who may enter, orders, and what is told of them."""

    def is_door(self, request: Request) -> bool:
        """Whether this REST request, or this WebSocket, is for it to answer."""
        ...

    async def rest(self, request: Request) -> tuple[Response, Delivery]: ...

    def open(self, socket: WebSocket, peer: str, now_s: float) -> Line: ...

    async def receive(self, line: Line, text: str) -> None:
        """A message of a client; what the answer's loss shall be is done here too."""
        ...

    def leave(self, line: Line) -> None: ...

    @property
    def lines(self) -> Collection[Line]: ...

    def publish(self, facts: Sequence[Fact], now_ms: int) -> None:
        """To all who listen to the accounts that they concern."""
        ...

    def on_second(self, now_ms: int) -> None:
        """Heartbeats, switches that run out, and what else comes by the clock."""
        ...


IDS_RESERVED: Final = 5_000
"""Trade numbers set aside by one line of the journal; a killed exchange skips the unused ones."""


class Service:
    def __init__(
        self,
        options: ExchangeOptions,
        journal: Journal,
        clock: Clock,
        source: MarketSource | None = None,
    ) -> None:
        """Without a source it makes its market up."""
        self.options = options
        self.journal = journal
        self.clock = clock
        self.clock_offset_ms = 0
        self.lifetime_s = options.lifetime_s
        self.faults = Faults()
        self.attempts = Attempts()
        self.down_until_ms: dict[str, int] = {}
        """Venues whose market data cannot be reached until then."""
        self.storms: list[Storm] = []
        """Times in which Binance's doors were shut for everybody, the last one last."""
        self.random_streams: RandomStreams | None = None
        journal_path = options.state_dir / stream_journal.FILE if options.writes_streams else None
        self.stream_journal = stream_journal.StreamJournal(journal_path)
        self.hub = StreamHub(Spoiler(self.faults), self.stream_journal)
        self.order_limits = OrderLimits(options.limits)
        self.silent_until_ms = 0
        self.last_step_ms = 0
        now_ms = self.now_ms()
        epoch_ms = self._epoch(now_ms)
        self.market: MarketSource = source or SyntheticMarket.of(
            LISTINGS,
            seed=options.seed,
            scenario=options.scenario,
            epoch_ms=epoch_ms,
            now_ms=now_ms,
        )
        self.exchange = self.market.exchange
        self.users = UserData(self.exchange, self.faults)
        self.publisher = self._publisher(now_ms)
        self.feeds = self._feeds()
        self.publisher.others.extend(self.feeds.values())
        self.tellers: dict[str, Teller] = {}
        """The private sides of the venues that are not Binance, by name."""
        self._last_connection = 0
        self._open(epoch_ms, now_ms)

    def now_ms(self) -> int:
        """The exchange's own time, which may have been told to be wrong."""
        return int(self.clock.now().timestamp() * 1000) + self.clock_offset_ms

    # --- coming back ----------------------------------------------------------------------

    def _epoch(self, now_ms: int) -> int:
        """The same scenario goes on where it was; another begins."""
        last = last_start(self.journal.path)
        now = (self.options.scenario, self.options.seed)
        if last is None or (last["scenario"], last["seed"]) != now:
            return now_ms
        return int(last["epoch"])

    def _publisher(self, now_ms: int) -> Publisher:
        candles = {
            symbol: Candles(line, self.exchange.markets[symbol].rules.lot_size, now_ms)
            for symbol, line in self.market.lines.items()
        }
        return Publisher(self.exchange, candles, self.hub, now_ms)

    def _feeds(self) -> dict[str, Feed]:
        """Of the venues that are not Binance, by name; of another's market nobody tells."""
        if not self.publisher.boards:
            return {}
        stage = Stage(
            boards=self.publisher.boards,
            now_ms=self.now_ms,
            is_silent=lambda: self.hub.is_silent,
            spoiler=self.hub.spoiler,
            journal=self.stream_journal,
        )
        kinds: tuple[type[Feed], ...] = (CoinbaseFeed, CoinbaseExchangeFeed, KrakenFeed)
        return {kind.name: kind(stage) for kind in kinds}

    def stream_lines(self) -> Iterator[Line]:
        """Every market-data connection, of all venues."""
        yield from list(self.hub.connections)
        for feed in self.feeds.values():
            yield from list(feed.lines)

    def next_connection(self) -> int:
        self._last_connection += 1
        return self._last_connection

    def is_down(self, venue: str) -> bool:
        return self.now_ms() < self.down_until_ms.get(venue, 0)

    def _open(self, epoch_ms: int, now_ms: int) -> None:
        entries = read(self.journal.path)
        restored = history.restore(self.exchange, entries, self.options.fees, now_ms)
        self.reserved = restored.ids
        for symbol, last in restored.ids.aggregates.items():
            if symbol in self.publisher.boards:
                self.publisher.boards[symbol].tape.last_aggregate_id = last
        start: Entry = {
            "type": "start",
            "at": now_ms,
            "scenario": self.options.scenario,
            "seed": self.options.seed,
            "epoch": epoch_ms,
            "pid": os.getpid(),
        }
        self.journal.write([start, *history.entries_of(restored.repairs)])
        self.open_account(ACCOUNT)

    def open_account(self, name: str) -> None:
        """With what every customer begins with, unless the journal knows the account."""
        if name in self.exchange.accounts:
            return
        now_ms = self.now_ms()
        self.exchange.open_account(name, self.options.fees[name])
        entries: list[Entry] = []
        for asset, amount in self.options.balances.items():
            self.exchange.deposit(name, asset, Decimal(amount))
            entries.append(
                {"type": "deposit", "at": now_ms, "account": name, "asset": asset, "amount": amount}
            )
        self.journal.write(entries)

    def stop(self) -> None:
        """After a clean end no number is skipped."""
        self._note_ids(ahead=0)
        self.journal.write([self.reserved.entry("stop", self.now_ms())])
        self.stream_journal.close(self.now_ms())

    # --- facts ----------------------------------------------------------------------------

    def commit(self, facts: Sequence[Fact], now_ms: int) -> None:
        """What happened at ``now_ms``: written down first, then told to everybody who listens."""
        self.journal.write([*self._reservation(now_ms), *history.entries_of(facts)])
        for fact in facts:
            if isinstance(fact, Traded):
                self._count_first_fills(fact, now_ms)
        self.publisher.publish(facts, now_ms)
        self.users.publish(facts, now_ms)
        for teller in self.tellers.values():
            teller.publish(facts, now_ms)
        self._flush()

    # --- orders, whichever protocol they come in ------------------------------------------

    def place(self, request: NewOrder, venue: str) -> VenueOrder:
        """Raises Refusal; either is written down."""
        now_ms = self.now_ms()
        if news := self.market.catch_up(now_ms):
            self.commit(news, now_ms)
        if self.options.fee_in_quote:
            request = replace(request, fee_in_quote=True)
        try:
            if venue == VENUE:
                self.order_limits.count(now_ms)
            if objection := self.market.objection(request.symbol, now_ms):
                raise market_closed(objection)
            order, facts = self.exchange.place(request, now_ms)
        except Refusal as why:
            self.journal.write([history.rejection(request, why, now_ms)])
            raise
        if (lag := self.faults.take_kind("query_lag", venue)) is not None:
            order.visible_from_ms = now_ms + int(lag.seconds * 1000)
        self.commit(facts, now_ms)
        return order

    def cancel(self, order: VenueOrder, cancel_id: str = "") -> None:
        now_ms = self.now_ms()
        self.commit(self.exchange.cancel(order, now_ms, cancel_id=cancel_id)[1], now_ms)

    def trades_of(self, order: VenueOrder) -> list[OwnTrade]:
        """Those of one that was just placed."""
        if not order.trade_ids:
            return []
        trades = self.exchange.markets[order.symbol].trades[order.account]
        return [each for each in trades[-len(order.trade_ids) :] if each.order_id == order.id]

    def is_visible(self, order: VenueOrder | None) -> bool:
        """To queries; one that was forgotten hides nothing: it ended long ago."""
        return order is None or order.visible_from_ms <= self.now_ms()

    def _reservation(self, now_ms: int) -> list[Entry]:
        """A number is handed out only below what the journal has set aside."""
        for symbol, market in self.exchange.markets.items():
            # Aggregates are counted later and are never more than trades.
            if market.last_trade_id > self.reserved.trades.get(symbol, 0):
                self._note_ids(ahead=IDS_RESERVED)
                return [self.reserved.entry("reserve", now_ms)]
        return []

    def _note_ids(self, *, ahead: int) -> None:
        for symbol, market in self.exchange.markets.items():
            # A real venue has thousands of markets, and few are traded here.
            if market.last_trade_id or symbol in self.publisher.boards:
                self.reserved.trades[symbol] = market.last_trade_id + ahead
        for symbol, board in self.publisher.boards.items():
            unseen = board.market.last_trade_id - (
                board.tape.trades[-1].id if board.tape.trades else board.market.last_trade_id
            )
            self.reserved.aggregates[symbol] = board.tape.last_aggregate_id + unseen + ahead

    def _count_first_fills(self, trade: Traded, now_ms: int) -> None:
        for share in trade.shares:
            if share.order.account == ACCOUNT and share.filled == trade.quantity:
                self.order_limits.first_fill(now_ms)

    # --- time -----------------------------------------------------------------------------

    def step(self) -> None:
        """One tenth of a second of the market; called at least that often."""
        now_ms = self.now_ms()
        step_ms = now_ms - now_ms % STEP_MS
        if step_ms == self.last_step_ms:
            return
        is_new_second = step_ms // 1000 != self.last_step_ms // 1000
        self.last_step_ms = step_ms
        lines = self.market.lines.values()
        self.hub.is_silent = now_ms < self.silent_until_ms or any(
            line.feed_is_out(now_ms) for line in lines
        )
        self.commit(self.market.step(step_ms, now_ms), now_ms)
        self.publisher.show_depth(FAST_MS, now_ms)
        if is_new_second:
            self.publisher.show_depth(SLOW_MS, now_ms)
            self.publisher.show_candles(now_ms)
            self.publisher.show_tickers(now_ms)
            self.publisher.remember_books()
            for feed in self.feeds.values():
                feed.on_second(now_ms)
            for teller in self.tellers.values():
                teller.on_second(now_ms)
            self.stream_journal.flush(now_ms)
        if not self.hub.is_silent:
            self.publisher.show_others(now_ms)
        self._flush()

    def _flush(self) -> None:
        self.hub.flush()
        for feed in self.feeds.values():
            feed.flush()
