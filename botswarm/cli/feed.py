"""The feed's surroundings: the broker, the ledger and the Celery app, as ``run feed`` has them."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from botswarm.clock import SystemClock
from botswarm.config import Settings
from botswarm.errors import NotFound, Unreachable
from botswarm.exchanges import registry
from botswarm.exchanges.streams import MarketData
from botswarm.feed.board import Board
from botswarm.feed.daemon import Feed, Surroundings
from botswarm.feed.rules import PoolRules
from botswarm.feed.security import SecurityLog
from botswarm.ledger.books import LedgerBooks
from botswarm.ledger.bots import Bots
from botswarm.ledger.candles import Candles
from botswarm.ledger.session import Database
from botswarm.messages import EvaluateMarket, send

if TYPE_CHECKING:
    from botswarm.feed.caller import Tap
    from botswarm.feed.meters import Meters
    from botswarm.feed.recorder import Recorder
    from botswarm.queueing import App

logger = logging.getLogger(__name__)

VENUE_PAUSE_S = 0.5
STOP_TIMEOUT_S = 10.0

Reread = Callable[[], Settings]
"""The settings as they are now: the embedded broker may have started since."""


def run(settings: Settings, reread: Reread) -> None:
    """Until SIGTERM or SIGINT; every venue has threads of its own, and waits for no other."""
    stop = threading.Event()

    def told_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told_to_stop)
    swarm = _Swarm(settings, reread, stop)
    names = registry.fed_venues(settings)
    others = [
        threading.Thread(target=swarm.feed, args=(name,), name=f"feed {name}", daemon=True)
        for name in names[1:]
    ]
    for thread in others:
        thread.start()
    try:
        swarm.feed(names[0])
    finally:
        stop.set()
        for thread in others:
            thread.join(STOP_TIMEOUT_S)
        swarm.close()


class _Swarm:
    """What the feeds of all venues share."""

    def __init__(self, settings: Settings, reread: Reread, stop: threading.Event) -> None:
        self._settings, self._reread, self._stop = settings, reread, stop
        self.database = Database(settings.database_url)
        self._ring = _Ring(reread)
        self._security = SecurityLog()
        self.meters = _meters(settings)
        self._recorders: list[Recorder] = []

    def close(self) -> None:
        for recorder in self._recorders:
            recorder.close()
        self.database.close()
        if self.meters is not None:
            self.meters.close()

    def feed(self, venue: str) -> None:
        try:
            data = _venue(self._settings, venue, self._stop)
            if data is not None:
                self._made(data).run(self._stop)
        except NotFound as error:
            logger.error("%s; %s", error, error.cure)
            self._stop.set()

    def _made(self, data: MarketData) -> Feed:
        settings, bots = self._settings, Bots(self.database)
        surroundings = Surroundings(
            broker_url=lambda: _broker_url(self._reread()),
            running=lambda: bots.running_markets(data.name),
            ring=self._ring,
            save_candles=Candles(self.database).save,
            save_instruments=LedgerBooks(self.database).save_instruments,
            board=_board(settings),
        )
        feed = Feed(
            data,
            surroundings,
            configured=settings.feed_markets,
            clock=SystemClock(),
            rules=PoolRules.of(settings),
            security=self._security,
            attempts_file=settings.state_dir / f"feed-attempts-{data.name}.txt",
            tap=self._tap(data.name),
        )
        if self.meters is not None:
            self.meters.add(feed)
        return feed

    def _tap(self, venue: str) -> Tap | None:
        """Where every frame is written down, if anywhere; it never holds up a socket."""
        folder = self._settings.feed_record_dir
        if folder is None:
            return None
        from botswarm.feed.recorder import Recorder

        now = SystemClock().now()
        try:
            recorder = Recorder.of_feed(
                folder / f"{venue}-{now:%Y%m%dT%H%M%S}-{os.getpid()}.gz",
                venue=venue,
                begun_ms=int(now.timestamp() * 1000),
                keep_bytes=self._settings.feed_record_max_mb * 1_000_000,
            )
        except Unreachable as error:
            # Trading does not wait for a recording.
            logger.error("%s is not recorded: %s; %s", venue, error, error.cure)
            return None
        self._recorders.append(recorder)
        logger.info("frames of %s are recorded in %s", venue, recorder.frames.paths[0])
        return recorder.tap


def _meters(settings: Settings) -> Meters | None:
    if not settings.metrics_port:
        return None
    # Nobody else needs the library: it costs megabytes.
    from botswarm.feed.meters import Meters

    meters = Meters()
    meters.serve(settings.metrics_port)
    logger.info("metrics are served on http://127.0.0.1:%d/metrics", settings.metrics_port)
    return meters


def _venue(settings: Settings, venue: str, stop: threading.Event) -> MarketData | None:
    """The simulated exchange may start after us; None when told to stop while waiting for it."""
    said = False
    while not stop.is_set():
        try:
            return registry.market_data(settings, venue)
        except Unreachable as error:
            if not said:
                logger.warning("waiting for %s: %s", venue, error)
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
