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

from botswarm.bots.brakes import brakes
from botswarm.bots.evaluation import Evaluator
from botswarm.bots.registry import Registry
from botswarm.clock import Clock, SystemClock
from botswarm.config import Settings
from botswarm.domain.instrument import Instrument
from botswarm.domain.market import Candle
from botswarm.errors import BotswarmError, Unreachable
from botswarm.exchanges import registry as venues
from botswarm.exchanges.base import MarketData
from botswarm.ledger.bots import Stand
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

logger = logging.getLogger(__name__)

BEHIND_MAX_S = 1.0
"""How long an evaluation waits for the digest it was rung for."""


@dataclass(slots=True)
class Desk:
    """What one process evaluates with."""

    ledger: Ledger
    book: MarketBook
    evaluator: Evaluator
    clock: Clock
    data_age_max_s: float
    _instruments: dict[tuple[str, str], Instrument] = field(default_factory=dict)

    def instrument(self, venue: str, symbol: str) -> Instrument:
        """Raises NotFound until the feed has saved it."""
        known = self._instruments.get((venue, symbol))
        if known is None:
            known = self._instruments[venue, symbol] = self.ledger.books.instrument(venue, symbol)
        return known


@task(EvaluateMarket)
def evaluate_market(venue: str, symbol: str, sequence: int) -> dict[str, Any] | None:
    """Harmless twice and late: a bot never decides again on what it has decided on."""
    at = desk()
    at.book.wait_for(venue, symbol, sequence, BEHIND_MAX_S)
    stands = at.ledger.bots.stands(venue, symbol)
    view = _view(at, venue, symbol, stands)
    if view is None or not stands:
        return None
    market = _market(at, view, sequence)
    now = at.clock.now()
    done = at.evaluator.evaluate(
        stands, market, _candles(view), now, brakes=lambda bots: brakes(at.ledger, bots, now)
    )
    decided = at.ledger.bots.decide_many(done.decisions, now)
    # Committed: from here on whatever fails is rung again by the sweep.
    at.ledger.outbox.ring(decided.doorbells, ring, now)
    _pause(at, done.pauses)
    return {"bots": len(stands), "decided": len(decided.bots), "orders": len(decided.doorbells)}


def _view(at: Desk, venue: str, symbol: str, stands: Sequence[Stand]) -> MarketView | None:
    needs = at.evaluator.needs(stands)
    return at.book.view(venue, symbol, needs, max(needs.values(), default=1))


def _market(at: Desk, view: MarketView, wanted: int) -> Market:
    return Market(
        instrument=at.instrument(view.venue, view.symbol),
        sequence=view.sequence,
        trade=view.trade,
        quote=view.quote,
        exchange_ms=view.exchange_ms,
        wanted_sequence=wanted,
        data_age_max_s=at.data_age_max_s,
    )


def _candles(view: MarketView) -> Mapping[str, Candles]:
    return {timeframe: _of(series) for timeframe, series in view.candles.items()}


def _of(series: Series) -> Candles:
    names = ("open_ms", "open", "high", "low", "close", "volume")
    return Candles(**{name: getattr(series, name) for name in names})


def _pause(at: Desk, pauses: Mapping[str, str]) -> None:
    bots = Registry(at.ledger)
    for name, reason in pauses.items():
        try:
            bots.pause(name, at.clock.now(), actor="strategy worker", reason=reason)
            logger.error("%s is paused: %s", name, reason, extra={"bot_id": name})
        except BotswarmError as error:
            # Stopped or deleted by somebody meanwhile; else the next failure asks again.
            logger.warning("%s is not paused: %s", name, error, extra={"bot_id": name})


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
    return made


def desk_for(settings: Settings, clock: Clock) -> Desk:
    ledger = Ledger(settings.database_url)
    catalog = strategies.load(settings.strategies_dir)
    for source, why in catalog.broken.items():
        logger.error("strategies of %s cannot be used: %s", source, why)
    life = timedelta(seconds=settings.limit_signal_age_max_s)
    return Desk(
        ledger=ledger,
        book=MarketBook(
            first_whole(
                lambda *asked: ledger.candles.load(*asked[:3], limit=asked[3]),
                _Venue(settings).candles,
                wall_ms=lambda: int(clock.now().timestamp() * 1000),
            )
        ),
        evaluator=Evaluator(catalog, life),
        clock=clock,
        data_age_max_s=settings.limit_data_age_max_s,
    )


class _Venue:
    """Asked for history only, and first found when that is: it may start after us."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._data: MarketData | None = None

    def candles(self, venue: str, symbol: str, timeframe: str, limit: int) -> Sequence[Candle]:
        if self._data is None:
            self._data = venues.market_data(self._settings)
        if self._data.name != venue:
            raise Unreachable(f"{venue} is not the venue of this swarm, {self._data.name}")
        try:
            return self._data.candles(symbol, timeframe, limit=limit)
        except BotswarmError:
            # The simulated exchange may come back at another address.
            self._data = None
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
