"""The feed's surroundings: the broker, the ledger and the Celery app, as ``run feed`` has them."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from botswarm.clock import SystemClock
from botswarm.config import Settings
from botswarm.errors import Unreachable
from botswarm.exchanges import registry
from botswarm.exchanges.base import MarketData
from botswarm.feed.board import Board
from botswarm.feed.daemon import Feed, Surroundings
from botswarm.ledger.books import LedgerBooks
from botswarm.ledger.bots import Bots
from botswarm.ledger.candles import Candles
from botswarm.ledger.session import Database
from botswarm.messages import EvaluateMarket, send

if TYPE_CHECKING:
    from botswarm.queueing import App

logger = logging.getLogger(__name__)

VENUE_PAUSE_S = 0.5

Reread = Callable[[], Settings]
"""The settings as they are now: the embedded broker may have started since."""


def run(settings: Settings, reread: Reread) -> None:
    """Until SIGTERM or SIGINT."""
    stop = threading.Event()

    def told_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told_to_stop)
    data = _venue(settings, stop)
    if data is None:
        return
    database = Database(settings.database_url)
    bots = Bots(database)
    surroundings = Surroundings(
        broker_url=lambda: _broker_url(reread()),
        running=lambda: bots.running_markets(data.name),
        ring=_Ring(reread),
        save_candles=Candles(database).save,
        save_instruments=LedgerBooks(database).save_instruments,
        board=_board(settings),
    )
    clock = SystemClock()
    Feed(data, surroundings, configured=settings.feed_markets, clock=clock).run(stop)
    database.close()


def venues(settings: Settings) -> Sequence[str]:
    """Those whose streams are read."""
    return settings.feed_venues or (registry.venue_name(settings),)


def _venue(settings: Settings, stop: threading.Event) -> MarketData | None:
    """The simulated exchange may start after us; None when told to stop while waiting for it."""
    said = False
    while not stop.is_set():
        try:
            return registry.market_data(settings)
        except Unreachable as error:
            if not said:
                logger.warning("waiting for the exchange: %s", error)
            said = True
            stop.wait(VENUE_PAUSE_S)
    return None


def _broker_url(settings: Settings) -> str:
    if settings.broker_url is None:
        raise Unreachable(
            f"no broker is configured, and none was started in {settings.state_dir}",
            cure="start one: botswarm broker run; or set BOTSWARM_BROKER_URL",
        )
    return settings.broker_url.reveal()


def _board(settings: Settings) -> Board | None:
    if settings.redis_url is None:
        return None
    from botswarm.live.store import LiveStore

    return Board(LiveStore(settings.redis_url, settings.env).write)


class _Ring:
    """Sends through the Celery app, which is made when there is a broker and something to say.

    A feed that stands by never needs it, and saves the memory.
    """

    def __init__(self, reread: Reread) -> None:
        self._reread = reread
        self._app: App | None = None

    def __call__(self, message: EvaluateMarket) -> Any:
        if self._app is None:
            settings = self._reread()
            _broker_url(settings)
            from botswarm.queueing import make_app

            self._app = make_app(settings)
        return send(self._app, message)
