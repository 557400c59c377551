"""What the feed follows: what bots, settings and people want, as far as the venue has it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from botswarm.domain.instrument import Instrument
from botswarm.errors import Unreachable
from botswarm.exchanges.streams import Stream
from botswarm.feed.wishes import ANEW_EVERY_S, Sources, Wishes
from tests.integration.mini_venue import MiniData


def listed(*symbols: str) -> list[Instrument]:
    one = Decimal(1)
    return [
        Instrument(
            venue="mini",
            symbol=symbol,
            base=symbol.partition("-")[0],
            quote=symbol.partition("-")[2],
            tick_size=one,
            lot_size=one,
            quantity_min=one,
            quantity_max=one,
            notional_min=one,
        )
        for symbol in symbols
    ]


class Venue(MiniData):
    def instruments(self) -> Sequence[Instrument]:
        return listed("A-X", "B-X")


class World:
    def __init__(self, configured: Sequence[str] = ()) -> None:
        self.running: set[str] = set()
        self.asked: set[Stream] = set()
        self.listed = ["A-X", "B-X"]
        self.asked_anew = 0
        self.is_down = False
        self.passed_s = 1000.0
        self.wishes = Wishes(
            Venue("ws://127.0.0.1:9/"),
            Sources(
                running=self._running,
                save_instruments=lambda instruments: None,
                subscribed=lambda: self.asked,
                instruments_anew=self._anew,
            ),
            configured=configured,
            monotonic=lambda: self.passed_s,
        )

    def _running(self) -> set[str]:
        if self.is_down:
            raise Unreachable("the ledger is away")
        return self.running

    def _anew(self) -> Sequence[Instrument]:
        self.asked_anew += 1
        return listed(*self.listed)

    def wanted(self) -> dict[str, set[str]]:
        return {symbol: set(channels) for symbol, channels in self.wishes.channels().items()}


def test_bots_settings_and_people_each_have_their_markets_followed() -> None:
    world = World(configured=["A-X"])
    assert world.wanted() == {"A-X": {"trade", "quote"}}
    world.asked = {Stream("B-X", "book")}
    assert world.wanted() == {"A-X": {"trade", "quote"}, "B-X": {"trade", "quote", "book"}}
    world.running, world.asked = {"B-X"}, set()
    assert world.wanted() == {"A-X": {"trade", "quote"}, "B-X": {"trade", "quote"}}


def test_while_the_ledger_is_away_the_last_wishes_hold() -> None:
    world = World()
    world.running = {"A-X"}
    world.wanted()
    world.is_down = True
    assert set(world.wanted()) == {"A-X"}


def test_a_market_that_is_listed_later_is_followed_without_a_restart() -> None:
    world = World()
    world.running = {"A-X", "NEW-X"}
    assert set(world.wanted()) == {"A-X"}
    assert world.wishes.unknown == {"NEW-X"}
    world.listed.append("NEW-X")
    assert set(world.wanted()) == {"A-X"}
    assert world.asked_anew == 0
    world.passed_s += ANEW_EVERY_S
    assert set(world.wanted()) == {"A-X", "NEW-X"}
    assert world.asked_anew == 1
    assert not world.wishes.unknown
