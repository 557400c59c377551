"""The last price of each market: from Redis where there is one, else by listening to the feed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.broker_url import START_SWARM, broker_url_of
from botswarm.cli.command import Command, Group
from botswarm.cli.failures import PartsMissing
from botswarm.cli.feed_files import normalise
from botswarm.cli.feed_selftest import selftest
from botswarm.cli.feed_status import status
from botswarm.cli.feed_subscribe import subscribe, unsubscribe
from botswarm.cli.feed_tape import record, replay
from botswarm.cli.feed_validate import validate
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.clock import SystemClock
from botswarm.errors import BotswarmError, Malformed

if TYPE_CHECKING:
    from botswarm.config import Settings
    from botswarm.live.price import LivePrice

LISTEN_S = 1.0
"""Digests come four times a second, with the markets that moved since the last one."""


@click.group(cls=Group)
def feed() -> None:
    """Look at the feed and what it says, and at frames in files."""


for command in (status, subscribe, unsubscribe, validate, selftest, normalise, record, replay):
    feed.add_command(command)


@feed.command("prices", cls=Command)
@click.pass_obj
def prices(session: Session) -> Answer:
    """Show the last price of each market, and how old it is.

    They are read from Redis where one is configured and answers, else from what the feed tells
    the broker within a second. A price older than ten seconds is marked STALE, a market without
    a price that can be believed is MISSING. Exits with 3 when there is no price at all.
    """
    from botswarm.exchanges.registry import venue_name

    settings = session.settings()
    venue, warnings, found = venue_name(settings), list[str](), None
    try:
        found = shown(settings, venue)
    except BotswarmError as error:
        warnings.append(f"{error.cause}; listened to the feed instead")
    if found is not None and not found.prices:
        # It was emptied, or the feed does not know it: the feed itself may know better.
        warnings.append(f"Redis has no price of {venue}; listened to the feed instead")
    if found is None or not found.prices:
        found = _heard(settings, venue, 0 if found is None else found.unreadable)
    if found.unreadable:
        warnings.append(f"{found.unreadable} values in Redis are not what the feed writes there")
    return _answer(venue, found, warnings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    source: str
    """``redis`` or ``ticks``, the exchange."""
    prices: Sequence[LivePrice]
    missing: Sequence[str]
    unreadable: int = 0


def now_ms() -> int:
    return int(SystemClock().now().timestamp() * 1000)


def shown(settings: Settings, venue: str) -> Prices | None:
    """Those in Redis, None where none is configured; raises Unreachable where it is of no use."""
    if settings.redis_url is None:
        return None
    from botswarm.exchanges.registry import fed_markets
    from botswarm.live.store import LiveStore

    store = LiveStore(settings.redis_url, settings.env)
    try:
        found = store.read(venue, now_ms(), fed_markets(settings, venue))
    finally:
        store.close()
    return Prices(
        source="redis", prices=found.prices, missing=found.missing, unreadable=found.unreadable
    )


def _heard(settings: Settings, venue: str, unreadable: int) -> Prices:
    from botswarm.cli.amqp import channel
    from botswarm.exchanges.registry import fed_markets

    url = broker_url_of(settings, START_SWARM)
    with channel(url, start_hint="start it: botswarm up") as first:
        heard = Ear(first.connection, venue).listen(LISTEN_S)
    missing = sorted(set(fed_markets(settings, venue)) - {price.symbol for price in heard})
    return Prices(source="ticks", prices=heard, missing=missing, unreadable=unreadable)


class Ear:
    """Hears the digests of a venue from now on, over a connection that is there already."""

    def __init__(self, connection: Any, venue: str) -> None:
        from amqp.exceptions import NotFound

        from botswarm.market.wire import EXCHANGE, digest_key

        self._connection = connection
        self._prices: dict[str, LivePrice] = {}
        channel = connection.channel()
        try:
            queue = channel.queue_declare("", exclusive=True, auto_delete=True).queue
            channel.queue_bind(queue, EXCHANGE, digest_key(venue))
        except NotFound:
            return  # no feed has ever made the exchange: there is nothing to hear
        channel.basic_consume(queue, no_ack=True, callback=self._take)

    def _take(self, message: Any) -> None:
        from botswarm.live.price import prices_of
        from botswarm.market.wire import Digest, decode

        try:
            digest = decode(message.body)
        except Malformed:
            return
        if isinstance(digest, Digest):
            self._prices |= {price.symbol: price for price in prices_of(digest)}

    def listen(self, limit_s: float, *, until_first: bool = False) -> Sequence[LivePrice]:
        """The last price of every market that moved meanwhile."""
        deadline = time.monotonic() + limit_s
        while (left := deadline - time.monotonic()) > 0 and not (until_first and self._prices):
            try:
                self._connection.drain_events(timeout=left)
            except TimeoutError:
                break
        return [self._prices[symbol] for symbol in sorted(self._prices)]


# --- for people and for programs --------------------------------------------------------------


def _answer(venue: str, found: Prices, warnings: Sequence[str]) -> Answer:
    now, failure = now_ms(), None
    if not found.prices:
        failure = PartsMissing(
            f"no market of {venue} has a price just now", cure="start the feed: botswarm run feed"
        )
    rows: list[Sequence[object]] = [
        (*_numbers(price).values(), f"{price.age_s(now):.1f} s", _mark(price, now))
        for price in found.prices
    ]
    rows += [(symbol, None, None, None, None, "MISSING") for symbol in found.missing]
    data = {
        "venue": venue,
        "source": found.source,
        "prices": [_told(price, now) for price in found.prices],
        "missing": list(found.missing),
        "unreadable": found.unreadable,
    }
    heads = ["MARKET", "LAST", "BID", "ASK", "AGE", ""]
    return Answer(data=data, text=in_columns(heads, rows), warnings=warnings, failure=failure)


def _mark(price: LivePrice, now: int) -> str:
    return "STALE" if price.is_stale(now) else "ok"


def _numbers(price: LivePrice) -> dict[str, str | None]:
    trade, quote = price.trade, price.quote
    return {
        "symbol": price.symbol,
        "last": None if trade is None else _digits(trade.price),
        "bid": None if quote is None else _digits(quote.bid),
        "ask": None if quote is None else _digits(quote.ask),
    }


def _told(price: LivePrice, now: int) -> dict[str, object]:
    return {
        **_numbers(price),
        "exchange_ms": price.exchange_ms,
        "sequence": price.sequence,
        "age_s": round(price.age_s(now), 3),
        "is_stale": price.is_stale(now),
    }


def _digits(number: Decimal) -> str:
    return f"{number:f}"
