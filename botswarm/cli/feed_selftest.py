"""Proves in a moment that what is said on the ticks exchange is heard, and how fast."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.command import Command
from botswarm.cli.failures import PartsMissing
from botswarm.cli.session import Answer, Session
from botswarm.clock import SystemClock
from botswarm.errors import Malformed, TimedOut

if TYPE_CHECKING:
    from botswarm.market.wire import Digest

TRIPS = 5
HEARD_WITHIN_S = 1.0
DIGEST_WITHIN_S = 3.0
FRESH_MS = 5000
"""A market whose newest trade or quote is older than this when its digest leaves is stale."""


@click.command(cls=Command)
@click.option("--venue", metavar="VENUE", help="Also hear a digest of its feed, and how fresh.")
@click.pass_obj
def selftest(session: Session, venue: str | None) -> Answer:
    """Publish unique messages on the ticks exchange, and hear them again within a second.

    Prints how long they took there and back. With --venue a digest of the venue's feed must
    come within three seconds, too, and be fresh by the venue's own clock. Exits with 7 when a
    message is not heard in time, with 3 when no digest comes or it is stale.
    """
    from botswarm.cli.amqp import broker_of, channel

    url, _, hint = broker_of(session)
    with channel(url, start_hint=hint) as opened:
        trips = [_trip(opened) for _ in range(TRIPS)]
        trips.sort()
        data: dict[str, Any] = {
            "messages": TRIPS,
            "round_trip_ms": {
                "least": trips[0],
                "median": trips[TRIPS // 2],
                "most": trips[-1],
            },
        }
        text = (
            f"{TRIPS} of {TRIPS} messages were heard: there and back in "
            f"{trips[0]:.1f} to {trips[-1]:.1f} ms, in the middle {trips[TRIPS // 2]:.1f} ms"
        )
        if venue is None:
            return Answer(data=data, text=text)
        digest = _digest_of(opened, venue)
    return _with_digest(venue, digest, data, text)


def _trip(opened: Any) -> float:
    """Milliseconds from publishing a message to hearing that very one."""
    import amqp

    from botswarm.market.wire import EXCHANGE

    token = uuid.uuid4().hex
    key = f"selftest.{token}.test"
    heard: list[str] = []
    opened.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
    queue = opened.queue_declare("", exclusive=True, auto_delete=True).queue
    opened.queue_bind(queue, EXCHANGE, key)
    tag = opened.basic_consume(
        queue, no_ack=True, callback=lambda message: heard.append(message.body)
    )
    body = json.dumps({"v": 1, "kind": "selftest", "token": token})
    began = time.perf_counter()
    opened.basic_publish(
        amqp.Message(body, content_type="application/json", delivery_mode=1), EXCHANGE, key
    )
    _wait(opened, HEARD_WITHIN_S, lambda: body in [_text(each) for each in heard])
    took_ms = 1000 * (time.perf_counter() - began)
    if body not in [_text(each) for each in heard]:
        raise TimedOut(
            f"a message on the exchange {EXCHANGE} was not heard within {HEARD_WITHIN_S:g} s",
            cure="look for a memory or disk alarm of the broker, and at how busy it is",
        )
    opened.basic_cancel(tag)
    return round(took_ms, 3)


def _text(body: str | bytes) -> str:
    return body.decode() if isinstance(body, bytes) else body


def _digest_of(opened: Any, venue: str) -> Digest | None:
    from botswarm.market.wire import EXCHANGE, Digest, decode, digest_key

    found: list[Digest] = []

    def take(message: Any) -> None:
        try:
            digest = decode(message.body)
        except Malformed:
            return
        if isinstance(digest, Digest):
            found.append(digest)

    queue = opened.queue_declare("", exclusive=True, auto_delete=True).queue
    opened.queue_bind(queue, EXCHANGE, digest_key(venue))
    opened.basic_consume(queue, no_ack=True, callback=take)
    _wait(opened, DIGEST_WITHIN_S, lambda: bool(found))
    return found[0] if found else None


def _wait(opened: Any, limit_s: float, until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + limit_s
    while not until() and (left_s := deadline - time.monotonic()) > 0:
        try:
            opened.connection.drain_events(timeout=left_s)
        except TimeoutError:
            return


def _with_digest(venue: str, digest: Digest | None, data: dict[str, Any], text: str) -> Answer:
    data["venue"] = venue
    if digest is None:
        data["digest"] = None
        return Answer(
            data=data,
            text=text,
            failure=PartsMissing(
                f"no digest of {venue} came within {DIGEST_WITHIN_S:g} s",
                cure="see botswarm feed status; start the feed: botswarm run feed",
            ),
        )
    moments = [
        tick.exchange_ms
        for market in digest.markets
        for tick in (market.trade, market.quote)
        if tick is not None
    ]
    way_ms = int(SystemClock().now().timestamp() * 1000) - digest.sent_ms
    age_ms = digest.sent_ms - max(moments, default=0)
    data["digest"] = {"markets": len(digest.markets), "way_ms": way_ms, "age_ms": age_ms}
    text += (
        f"\na digest of {venue} with {len(digest.markets)} markets came in {way_ms} ms; its "
        f"newest tick was {age_ms} ms old by the venue's clock"
    )
    if not moments or age_ms > FRESH_MS:
        stale = PartsMissing(
            f"the digests of {venue} are stale: nothing in them is younger than {FRESH_MS} ms",
            cure="see botswarm feed status: its connections, or the venue itself",
        )
        return Answer(data=data, text=text, failure=stale)
    return Answer(data=data, text=text)
