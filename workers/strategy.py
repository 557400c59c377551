"""What the ``strategy`` queue runs: a market moved, and every bot of it may want to decide."""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from celery import signals
from celery.exceptions import Reject

from botswarm.bots.evaluation import Evaluator
from botswarm.bots.floor import Floor
from botswarm.bots.muster import Muster
from botswarm.bots.registry import Rules
from botswarm.bots.scene import Scene
from botswarm.bots.strategies import Strategies
from botswarm.clock import Clock, SystemClock
from botswarm.config import Settings
from botswarm.domain.instrument import Instrument
from botswarm.domain.market import Candle
from botswarm.errors import BotswarmError, NotFound
from botswarm.exchanges import registry as venues
from botswarm.exchanges.streams import MarketData
from botswarm.ledger.store import Ledger
from botswarm.market.book import MarketBook, MarketView
from botswarm.market.consumer import Follower
from botswarm.market.history import first_whole
from botswarm.market.series import Series
from botswarm.messages import EvaluateMarket
from botswarm.queueing import App, current_settings, ring, task
from botswarm.strategies import registry as strategies
from botswarm.strategies.api import Candles
from botswarm.strategies.evaluate import Market
from workers.marks import Marker

logger = logging.getLogger(__name__)

BEHIND_MAX_S = 1.0
"""How long an evaluation waits for the digest it was rung for."""

YOUNG_S = 10.0
"""So long a worker gives back what it was rung for and has not heard of."""
INSTRUMENT_S = 60.0
"""How long an instrument is believed: a venue may close a market, or change its steps."""


@dataclass(slots=True)
class Desk:
    """What one process evaluates with."""

    ledger: Ledger
    book: MarketBook
    floor: Floor
    data_age_max_s: float
    clock: Clock
    began: float
    """By the monotonic clock."""
    _instruments: dict[tuple[str, str], tuple[float, Instrument]] = field(default_factory=dict)
    _candles: dict[tuple[str, ...], tuple[Series, Candles]] = field(default_factory=dict)

    @property
    def is_young(self) -> bool:
        return self.clock.monotonic() - self.began < YOUNG_S

    def instrument(self, venue: str, symbol: str) -> Instrument:
        """Raises NotFound until the feed has saved it."""
        now = self.clock.monotonic()
        known = self._instruments.get((venue, symbol))
        if known is None or now - known[0] > INSTRUMENT_S:
            known = now, self.ledger.books.instrument(venue, symbol)
            self._instruments[venue, symbol] = known
        return known[1]

    def look(self, muster: Muster, wanted_sequence: int) -> Scene | None:
        """What a market's bots want to see, of their own and of further markets."""
        view = self.book.view(muster.venue, muster.symbol, muster.wanted)
        if view is None:
            return None
        others = {
            symbol: found
            for symbol, wanted in muster.others.items()
            if (found := self._other(muster, symbol, wanted)) is not None
        }
        return Scene(
            market=self._market(view, wanted_sequence),
            candles=self._shown(view, muster.symbol),
            others=others,
        )

    def _other(
        self, muster: Muster, symbol: str, wanted: Mapping[str, int]
    ) -> tuple[Market, Mapping[str, Candles]] | None:
        view = self.book.view(muster.venue, symbol, wanted)
        if view is None:
            return None
        try:
            return self._market(view, 0), self._shown(view, muster.symbol)
        except NotFound as error:
            # Its bots are stopped and say so; those of the market itself go on.
            logger.warning("a further market cannot be looked at: %s", error)
            return None

    def _market(self, view: MarketView, wanted_sequence: int) -> Market:
        return Market(
            instrument=self.instrument(view.venue, view.symbol),
            sequence=view.sequence,
            trade=view.trade,
            quote=view.quote,
            exchange_ms=view.exchange_ms,
            wanted_sequence=wanted_sequence,
            data_age_max_s=self.data_age_max_s,
        )

    def _shown(self, view: MarketView, to: str) -> Mapping[str, Candles]:
        """The very same ones until a candle closes, and with them what was computed over them.

        ``to`` is the market whose bots look: those of another may want to see more, or less.
        """
        return {
            timeframe: self._of((view.venue, view.symbol, timeframe, to), series)
            for timeframe, series in view.candles.items()
        }

    def _of(self, key: tuple[str, ...], series: Series) -> Candles:
        known = self._candles.get(key)
        if known is not None and known[0] is series:
            return known[1]
        names = ("open_ms", "open", "high", "low", "close", "volume")
        made = Candles(**{name: getattr(series, name) for name in names})
        self._candles[key] = series, made
        return made


@task(EvaluateMarket)
def evaluate_market(venue: str, symbol: str, sequence: int) -> dict[str, Any] | None:
    """Harmless twice and late: a bot never decides again on what it has decided on."""
    at = desk()
    at.book.wait_for(venue, symbol, sequence, BEHIND_MAX_S)
    if at.is_young and not at.book.sequence(venue, symbol):
        # It was said before this worker listened; the others have heard it.
        raise Reject("this worker does not know the market yet", requeue=True)
    done = at.floor.pass_market(venue, symbol, lambda muster: at.look(muster, sequence))
    if done is None:
        return None
    return {"bots": done.bots, "decided": done.decided, "orders": done.orders}


# --- what a process evaluates with ----------------------------------------------------------------

_making = threading.Lock()


def desk() -> Desk:
    """This process's own; its book follows the feed from then on."""
    with _making:
        return _desk_of(os.getpid())


@functools.lru_cache(maxsize=1)
def _desk_of(_: int) -> Desk:
    # By process: a forked child has its parent's memory, and none of its threads.
    settings, clock = current_settings(), SystemClock()
    made = desk_for(settings, clock)
    Follower(functools.partial(_broker_url, settings), made.book).start()
    Marker(made.book, made.ledger.marks, clock).start()
    return made


def desk_for(settings: Settings, clock: Clock) -> Desk:
    ledger = Ledger(settings.database_url)
    catalog = strategies.load(settings.strategies_dir, is_apart=True)
    for source, why in catalog.broken.items():
        logger.error("strategies of %s cannot be used: %s", source, why)
    floor = Floor(
        ledger,
        Strategies(catalog),
        Evaluator(timedelta(seconds=settings.limit_signal_age_max_s)),
        clock,
        lambda doorbells, now: ledger.outbox.ring(doorbells, ring, now),
        Rules.of(settings, functools.partial(venues.is_live, settings)),
    )
    book = MarketBook(
        first_whole(
            lambda *asked: ledger.candles.load(*asked[:3], limit=asked[3]),
            _Venues(settings).candles,
            wall_ms=lambda: int(clock.now().timestamp() * 1000),
        )
    )
    return Desk(
        ledger=ledger,
        book=book,
        floor=floor,
        data_age_max_s=settings.limit_data_age_max_s,
        clock=clock,
        began=clock.monotonic(),
    )


class _Venues:
    """Asked for history only, and first found when that is: they may start after us."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._data: dict[str, MarketData] = {}

    def candles(self, venue: str, symbol: str, timeframe: str, limit: int) -> Sequence[Candle]:
        data = self._data.get(venue)
        if data is None:
            data = self._data[venue] = venues.market_data(self._settings, venue)
        try:
            return data.candles(symbol, timeframe, limit=limit)
        except BotswarmError:
            # The simulated exchange may come back at another address.
            self._data.pop(venue, None)
            raise


def _broker_url(settings: Settings) -> str:
    # A worker runs only where there is a broker; the embedded one comes back at the same address.
    assert settings.broker_url is not None
    return settings.broker_url.reveal()


# --- ready before the first ring ------------------------------------------------------------------


def _warm_up(sender: Any, **_: Any) -> None:
    """A worker that evaluates in its own process follows the feed from its start."""
    app = sender.app
    if isinstance(app, App) and set(app.amqp.queues.consume_from) == {"strategy"}:
        threading.Thread(target=_follow, name="warm up", daemon=True).start()


signals.worker_ready.connect(_warm_up, weak=False)


def _follow() -> None:
    try:
        desk()
    except BotswarmError as error:
        # The first evaluation tries again.
        logger.warning("not following the markets yet: %s; %s", error, error.cure)
