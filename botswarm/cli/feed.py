"""The feed's surroundings: the broker, the ledger and the Celery app, as ``run feed`` has them."""

from __future__ import annotations

import functools
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, get_args

from botswarm import cards
from botswarm.alerts.night import NightWatch
from botswarm.cli.broker_url import broker_url_of
from botswarm.clock import SystemClock
from botswarm.config import Settings
from botswarm.domain.market import Channel
from botswarm.errors import BotswarmError, Unreachable
from botswarm.exchanges import registry
from botswarm.exchanges.allowances import clock_offsets
from botswarm.exchanges.streams import MarketData, Stream
from botswarm.exchanges.venue_meters import VenueMeters
from botswarm.feed.board import Board
from botswarm.feed.budget import attempts_file
from botswarm.feed.daemon import Feed, Surroundings
from botswarm.feed.meters import Meters
from botswarm.feed.pool import Pool
from botswarm.feed.reception import Reception
from botswarm.feed.resources import WHOLE_PROCESS, Watch, give_back_large_blocks
from botswarm.feed.rules import PoolRules
from botswarm.feed.security import SecurityLog
from botswarm.feed.standing import Streams
from botswarm.feed.state import ProcessState, status_card
from botswarm.feed.wishes import Sources
from botswarm.health.broker import Broker
from botswarm.health.machine import WallClock
from botswarm.health.process import Health
from botswarm.health.servers import LedgerLook, Redis
from botswarm.ledger import slow
from botswarm.ledger.books import LedgerBooks
from botswarm.ledger.bots import Bots
from botswarm.ledger.candles import Candles
from botswarm.ledger.presence import Presence
from botswarm.ledger.session import Database
from botswarm.ledger.subscriptions import Subscriptions
from botswarm.messages import EvaluateMarket, send

if TYPE_CHECKING:
    from botswarm.feed.caller import Tap
    from botswarm.feed.recorder import Recorder
    from botswarm.queueing import App

logger = logging.getLogger(__name__)

VENUE_PAUSE_S = 0.5
GARBAGE = (50_000, 20, 100)
TURN_S = 0.001
STOP_TIMEOUT_S = 10.0

Reread = Callable[[], Settings]
"""The settings as they are now: the embedded broker may have started since."""


def run(settings: Settings, reread: Reread) -> None:
    """Until SIGTERM or SIGINT; every venue has threads of its own, and waits for no other."""
    # Ticks make no circles, and looking for some among all that is kept would hold them up.
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    give_back_large_blocks()
    # Where ten sockets always have more, the one thread that publishes waits for each of them.
    sys.setswitchinterval(TURN_S)
    stop = threading.Event()

    def told_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told_to_stop)
    slow.watch(settings.ledger_slow_ms)
    swarm = _Swarm(settings, reread, stop)
    names = registry.fed_venues(settings)
    _warn_of_others(settings, names)
    others = [
        threading.Thread(target=swarm.feed, args=(name,), name=f"feed {name}", daemon=True)
        for name in names[1:]
    ]
    swarm.open()
    presence = Presence(settings, "feed", "feed")
    presence.begin()
    for thread in others:
        thread.start()
    try:
        swarm.feed(names[0])
    finally:
        stop.set()
        presence.end()
        for thread in others:
            thread.join(STOP_TIMEOUT_S)
        swarm.close()
    if swarm.failure is not None:
        raise swarm.failure


def _warn_of_others(settings: Settings, names: Collection[str]) -> None:
    for market in settings.feed_markets:
        venue = market.rpartition(":")[0]
        if venue and venue not in names:
            logger.warning(
                "nobody follows %s of BOTSWARM_FEED_MARKETS: %s is not among the venues that are "
                "read; add it to BOTSWARM_FEED_VENUES",
                market,
                venue,
            )


class _Swarm:
    """What the feeds of all venues share."""

    def __init__(self, settings: Settings, reread: Reread, stop: threading.Event) -> None:
        self._settings, self._reread, self._stop = settings, reread, stop
        self.database = Database(settings.database_url)
        self._ring = _Ring(reread)
        self._security = SecurityLog()
        self._rules = PoolRules.of(settings)
        self._feeds: list[Feed] = []
        self._clock = SystemClock()
        self._began = self._clock.monotonic()
        self._card = status_card(settings.state_dir, os.getpid())
        self._watch = Watch(self._rules, self._security, self._pools, self._leave_card)
        self._reception = Reception(lambda: broker_url_of(reread()).reveal(), self.state)
        self.meters = Meters()
        self._health = _health(settings, reread, lambda: list(self._feeds))
        self._health.source(self.meters)
        # On a machine that has nothing but feeds nobody else would tell what is wrong with them.
        self._night = NightWatch(settings)
        self._recorders: list[Recorder] = []
        self.failure: Exception | None = None
        """Why it had to end."""

    def open(self) -> None:
        self._watch.start()
        self._reception.start()
        self._health.start()
        self._night.start()

    def close(self) -> None:
        self._night.stop()
        self._health.stop()
        self._reception.stop()
        self._watch.stop()
        self._card.unlink(missing_ok=True)
        for recorder in self._recorders:
            recorder.close()
        self.database.close()

    def feed(self, venue: str) -> None:
        try:
            data = _venue(self._settings, venue, self._stop)
            if data is not None:
                self._made(data).run(self._stop)
        except BotswarmError as error:
            self.failure = self.failure or error
            self._stop.set()
        except Exception as error:
            # Nobody would read this venue any more, and nobody notice: better all end, loudly.
            logger.exception("the feed of %s failed", venue)
            self.failure = self.failure or error
            self._stop.set()

    def state(self) -> ProcessState:
        """How everything is, for whoever asks."""
        return ProcessState(
            instance_id=self._settings.instance_id,
            pid=os.getpid(),
            age_s=round(self._clock.monotonic() - self._began, 1),
            taken=self._watch.taken(),
            feeds=tuple(feed.state() for feed in list(self._feeds)),
            security=self._security.of(WHOLE_PROCESS),
        )

    def _leave_card(self) -> None:
        """For whoever asks while the broker cannot be asked."""
        try:
            cards.write(self._card, self.state())
        except OSError as error:
            logger.debug("the feed's state cannot be written to %s: %s", self._card, error)

    def _pools(self) -> list[Pool]:
        return [feed.pool for feed in list(self._feeds)]

    def _subscribed(self, venue: str) -> frozenset[Stream]:
        found = Subscriptions(self.database).all(venue)
        # A later version may know channels that this one does not.
        known = {name: name for name in get_args(Channel)}
        return frozenset(
            Stream(each.symbol, known[each.channel]) for each in found if each.channel in known
        )

    def _made(self, data: MarketData) -> Feed:
        settings, bots = self._settings, Bots(self.database)
        surroundings = Surroundings(
            broker_url=lambda: broker_url_of(self._reread()).reveal(),
            wishes=Sources(
                running=lambda: bots.running_markets(data.name),
                save_instruments=LedgerBooks(self.database).save_instruments,
                subscribed=lambda: self._subscribed(data.name),
                # Another reader of the venue: this one keeps what it was told first.
                instruments_anew=lambda: registry.market_data(settings, data.name).instruments(),
            ),
            ring=self._ring,
            save_candles=Candles(self.database).save,
            board=_board(settings),
        )
        feed = Feed(
            data,
            surroundings,
            configured=registry.fed_markets(settings, data.name),
            clock=self._clock,
            rules=self._rules,
            security=self._security,
            attempts_file=attempts_file(settings.state_dir, data.name),
            tap=self._tap(data.name),
        )
        self._feeds.append(feed)
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


def _health(settings: Settings, reread: Reread, feeds: Callable[[], Sequence[Feed]]) -> Health:
    made = Health(settings, "feed")
    broker = Broker(lambda: reread().broker_url, "botswarm feed health")
    made.check("broker", broker.look, is_needed=True)
    made.check("ledger", LedgerLook(settings.database_url))
    if settings.redis_url is not None:
        made.check("redis", Redis(settings.redis_url).look)
    made.check("clock", WallClock(functools.partial(clock_offsets, settings.state_dir)))
    streams = Streams(feeds, settings.feed_health_unhealthy)
    made.check("feed", streams.look)
    made.check("certificates", streams.certificates)
    made.facts_of(streams.facts)
    made.work_of("publishing", streams.publishing_age_s)
    made.source(VenueMeters(settings.state_dir))
    return made


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
            broker_url_of(settings)
            from botswarm.queueing import make_app

            self._app = make_app(settings)
        return send(self._app, message)
