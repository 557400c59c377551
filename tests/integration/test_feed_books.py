"""Order books of four venues through a running feed, while the exchange breaks their streams."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

import pytest

from botswarm.config import Secret
from botswarm.domain.market import Book
from botswarm.ledger.session import Database
from botswarm.ledger.subscriptions import Subscriptions
from tests.campaign.feed_stage import VENUES, Stage, set_up
from tests.integration.feed_process import Reader

WITHIN_S = 20.0
LOOKED_AT_S = 2.0
Levels = tuple[tuple[Decimal, Decimal], ...]
FAULTS = {
    "binance": ("stale_snapshot", "withhold", "crossed_book", "reorder"),
    "coinbase": ("withhold", "crossed_book"),
    # Its changes carry no number: a lost one is found when the book crosses.
    "coinbase-exchange": ("crossed_book",),
    "kraken": ("bad_checksum", "stale_snapshot", "withhold", "crossed_book"),
}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with set_up("embedded", daemons=1) as made:
        yield made


@pytest.fixture(scope="module")
def reader(stage: Stage) -> Iterator[Reader]:
    """Of the books that are asked for of the running feed."""
    with contextlib.closing(Database(Secret(stage.daemons[0].database_url))) as database:
        for venue in VENUES:
            Subscriptions(database).add(
                venue, ["BTC-USDT"], ["book"], now=datetime.now(UTC), actor="a test"
            )
    made = Reader(stage.broker.url(), "*.BTC-USDT.book")
    assert made.read_until(
        lambda: {batch.venue for batch in made.batches} == set(VENUES), 2 * WITHIN_S
    )
    yield made
    made.close()


def books(reader: Reader, venue: str) -> list[Book]:
    return [
        tick
        for batch in reader.batches
        for tick in batch.ticks
        if isinstance(tick, Book) and tick.venue == venue
    ]


def true_book(stage: Stage) -> tuple[int, Levels]:
    told = stage.exchange.public("GET", "/api/v3/depth", symbol="BTCUSDT", limit=5).body
    return told["lastUpdateId"], tuple((Decimal(p), Decimal(q)) for p, q in told["bids"])


def fired(stage: Stage, kind: str) -> int:
    return int(stage.exchange.misbehaviour("GET").body["fired"].get(kind, 0))


def struck_since(stage: Stage, kind: str, before: int) -> bool:
    return fired(stage, kind) > before


def has_more(reader: Reader, venue: str, count: int) -> bool:
    return len(books(reader, venue)) > count


@pytest.mark.parametrize("venue", VENUES)
def test_a_book_whose_stream_breaks_is_made_whole_and_is_never_shown_crossed(
    stage: Stage, reader: Reader, venue: str
) -> None:
    for kind in FAULTS[venue]:
        before = fired(stage, kind)
        stage.exchange.arm(kind, venue=venue, symbol="BTCUSDT", channel="book")
        if kind == "stale_snapshot":
            # It strikes at the next snapshot, which a new connection asks for.
            stage.exchange.arm("disconnect_streams", venue=venue)
        has_struck = partial(struck_since, stage, kind, before)
        assert reader.read_until(has_struck, WITHIN_S), f"{kind} never struck"
        goes_on = partial(has_more, reader, venue, len(books(reader, venue)) + 3)
        assert reader.read_until(goes_on, WITHIN_S), f"after {kind} no book came"
    assert [book for book in books(reader, venue) if book.is_crossed] == []


def test_every_book_of_binance_is_the_exchange_s_own_at_that_number(
    stage: Stage, reader: Reader
) -> None:
    """Also in the moments after a change was lost: until it is whole again none is shown."""
    true: dict[int, Levels] = {}

    def looked_until(end: float) -> bool:
        number, bids = true_book(stage)
        true[number] = bids
        return time.monotonic() > end

    for kind in ("withhold", "reorder", "withhold", "withhold"):
        stage.exchange.arm(kind, venue="binance", symbol="BTCUSDT", channel="book")
        reader.read_until(partial(looked_until, time.monotonic() + LOOKED_AT_S), WITHIN_S)
    compared = [book for book in books(reader, "binance") if book.sequence in true]
    assert len(compared) > 10
    assert [book for book in compared if book.bids[:5] != true[book.sequence]] == []
