"""A pool carries its streams through whatever its venue does, and never hammers it."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from botswarm.exchanges.streams import Stream, StreamRules
from botswarm.feed import takeover
from botswarm.feed.pool import Pool
from botswarm.feed.rules import PoolRules
from botswarm.feed.state import PoolState
from botswarm.testing.servers import wait_until
from tests.integration.mini_venue import RULES, Client, Heap, MiniData, MiniVenue, trades

QUICK = PoolRules(
    connections_initial=2,
    check_every_s=0.2,
    idle_close_s=0.5,
    ping_every_s=0.5,
    pong_timeout_s=0.5,
    connect_timeout_s=2.0,
    base_s=0.2,
    pause_max_s=2.0,
    tries_max=3,
)
FOUR = ("A-X", "B-X", "C-X", "D-X")


@pytest.fixture
def venue() -> Iterator[MiniVenue]:
    made = MiniVenue()
    yield made
    made.close()


class Swim:
    """A pool with what it brought."""

    def __init__(self, venue: MiniVenue, rules: PoolRules, venue_rules: StreamRules, file: Path):
        self.heap = Heap()
        self.pool = Pool(
            MiniData(venue.url, venue_rules),
            self.heap,
            rules,
            wall_ms=lambda: int(time.time() * 1000),
            attempts_file=file,
        )

    @property
    def state(self) -> PoolState:
        return self.pool.state()

    def follow(self, *symbols: str) -> None:
        self.pool.want(trades(*symbols))
        wait_until(lambda: self.pool.subscription_count == len(symbols), "all streams", 10)


Start = Callable[..., Swim]


@pytest.fixture
def start(venue: MiniVenue, tmp_path: Path) -> Iterator[Start]:
    running: list[Swim] = []

    def one(venue_rules: StreamRules = RULES, **rules: float) -> Swim:
        asked = replace(QUICK, **rules)  # type: ignore[arg-type]  # numbers, all of them
        swim = Swim(venue, asked, venue_rules, tmp_path / "attempts.txt")
        running.append(swim)
        swim.pool.start()
        return swim

    yield one
    for swim in running:
        swim.pool.stop()
        assert [each for each in swim.pool.connections() if not each.has_ended] == []


@contextlib.contextmanager
def trading(venue: MiniVenue, symbols: Sequence[str]) -> Iterator[None]:
    """Each market trades a hundred times a second meanwhile."""
    stop = threading.Event()

    def trade() -> None:
        while not stop.wait(0.01):
            for symbol in symbols:
                venue.trade(symbol)

    thread = threading.Thread(target=trade, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join()


def wait_for_more(swim: Swim, symbol: str) -> None:
    count = len(swim.heap.ids[symbol])
    wait_until(lambda: len(swim.heap.ids[symbol]) > count + 20, f"more of {symbol}", 10)


def is_whole(ids: Sequence[int]) -> bool:
    return sorted(set(ids)) == list(range(min(ids), max(ids) + 1))


def test_streams_are_spread_first_and_then_packed_up_to_both_limits(
    venue: MiniVenue, start: Start
) -> None:
    swim = start(streams_per_connection_max=4, connections_max=3)
    swim.follow("A-X", "B-X")
    assert [each.streams for each in swim.state.connections] == [1, 1]
    markets = [f"M{number}-X" for number in range(14)]
    swim.pool.want(trades(*markets))
    wait_until(lambda: len(swim.state.connections) == 3, "a third connection", 5)
    wait_until(lambda: swim.pool.subscription_count == 12, "all there is room for", 5)
    state = swim.state
    assert [each.streams for each in state.connections] == [4, 4, 4]
    assert len(state.unserved) == 2
    assert state.security == {"connection_limit_exceeded": 1}
    assert max(len(client.streams) for client in venue.clients) == 4


def test_many_streams_come_and_go_and_no_other_stream_notices(
    venue: MiniVenue, start: Start
) -> None:
    swim = start()
    swim.follow(*FOUR)
    attempts = len(venue.attempts)
    with trading(venue, FOUR):
        for _ in range(5):
            swim.follow(*FOUR, *(f"M{number}-X" for number in range(80)))
            swim.follow(*FOUR)
            wait_until(lambda: venue.streams() == sorted(f"{name}.trade" for name in FOUR), "", 5)
    assert len(venue.attempts) == attempts
    for symbol in FOUR:
        ids = swim.heap.ids[symbol]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        assert len(ids) > 20


def test_a_connection_that_ends_soon_is_replaced_before_anything_is_missed(
    venue: MiniVenue, start: Start
) -> None:
    swim = start(connections_initial=1)
    swim.follow(*FOUR)
    first = venue.clients[0]
    venue.delay_s = 0.3
    with trading(venue, FOUR):
        wait_until(lambda: len(swim.heap.ids) == 4, "the first trades", 5)
        first.say(bye="maintenance")
        wait_until(lambda: first not in venue.clients, "the old one's end", 10)
        wait_for_more(swim, "A-X")
    assert all(is_whole(swim.heap.ids[symbol]) for symbol in FOUR)
    assert (swim.state.renewed, swim.state.reconnects) == (1, 0)
    assert swim.heap.interrupted_symbols == []


def test_an_announced_end_is_prepared_for_also_when_the_first_attempt_fails(
    venue: MiniVenue, start: Start
) -> None:
    swim = start(connections_initial=1)
    swim.follow("A-X")
    first = venue.clients[0]
    venue.answer_head = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
    with trading(venue, ["A-X"]):
        first.say(bye="maintenance")
        wait_until(lambda: len(venue.attempts) >= 3, "two attempts in vain", 10)
        venue.answer_head = b""
        wait_until(lambda: first not in venue.clients, "the old one's end", 10)
        wait_for_more(swim, "A-X")
    assert is_whole(swim.heap.ids["A-X"])
    assert swim.state.renewed == 1


def test_one_that_took_over_early_is_not_replaced_in_its_turn(
    venue: MiniVenue, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "AGAIN_S", 0.5)
    swim = start(connections_initial=1)
    swim.follow("A-X")
    first = venue.clients[0]
    first.say(bye="in a moment")
    wait_until(lambda: len(venue.streams()) == 2, "a second connection", 5)
    first.hang_up()
    wait_until(lambda: len(venue.clients) == 1, "the first to be gone", 5)
    assert not threading.Event().wait(3)
    assert len(venue.attempts) == 2


def test_an_old_connection_is_renewed_and_no_tick_is_missed(venue: MiniVenue, start: Start) -> None:
    swim = start(connections_initial=1, age_max_s=1.0)
    swim.follow("A-X")
    venue.delay_s = 0.3
    with trading(venue, ["A-X"]):
        wait_until(lambda: swim.state.renewed >= 1, "a new one", 10)
        wait_for_more(swim, "A-X")
    assert is_whole(swim.heap.ids["A-X"])
    assert "older than 1 s" in str(swim.state.connections[0].reasons)


def test_after_an_outage_one_connection_tries_and_the_others_follow_it(
    venue: MiniVenue, start: Start
) -> None:
    swim = start(connections_initial=4)
    swim.follow(*FOUR)
    attempts = swim.state.attempts
    venue.close()
    wait_until(lambda: swim.state.breaker == "open", "the breaker", 20)
    state = swim.state
    assert not state.is_connected
    assert state.score == 0.0
    assert sorted(swim.heap.interrupted_symbols) == list(FOUR)
    # Of four connections: one round that all shared, then the probe alone.
    assert state.attempts - attempts <= 4 + QUICK.tries_max + 1
    venue.open()
    began = time.monotonic()
    wait_until(lambda: swim.state.is_connected, "the first connection", 10)
    assert time.monotonic() - began < 5
    wait_until(lambda: swim.pool.subscription_count == 4, "all streams", 10)
    assert time.monotonic() - began < 10
    assert swim.state.breaker == "closed"


def test_the_budget_is_kept_also_with_a_venue_that_hangs_up_at_once(
    venue: MiniVenue, start: Start
) -> None:
    venue.greeting = lambda client: client.hang_up()
    swim = start(
        replace(RULES, connects_max=6, connects_period_s=2.0), connections_initial=4, base_s=0.01
    )
    swim.pool.want(trades(*FOUR))
    wait_until(lambda: len(venue.attempts) >= 10, "ten attempts", 20)
    moments = list(venue.attempts)
    windows = [sum(0 <= later - at < 1.95 for later in moments) for at in moments]
    assert max(windows) <= 6
    assert swim.state.reconnects > 0


def test_a_venue_that_speaks_once_and_hangs_up_is_called_by_the_probe_until_pauses_are_over(
    venue: MiniVenue, start: Start
) -> None:
    def speak_once(client: Client) -> None:
        client.say(beat="A-X", id=1)
        client.hang_up()

    venue.greeting = speak_once
    swim = start(connections_initial=4, base_s=30.0, pause_max_s=60.0)
    swim.pool.want(trades(*FOUR))
    wait_until(lambda: len(venue.attempts) >= 7, "each once, and then three probes", 20)
    assert venue.attempts[6] - venue.attempts[3] > 5
    pauses = [later - before for before, later in itertools.pairwise(venue.attempts[3:])]
    assert min(pauses) > 2
    venue.greeting = lambda client: None
    wait_until(lambda: swim.state.is_connected, "the probe that finds it well", 6)


def test_a_venue_that_answers_nobody_is_called_by_one_connection_at_a_time(
    venue: MiniVenue, start: Start
) -> None:
    swim = start(connections_initial=4, base_s=30.0, tries_max=1)
    swim.follow(*FOUR)
    venue.delay_s = 10.0
    venue.hang_up()
    wait_until(lambda: swim.state.breaker == "open", "the breaker", 10)
    count = len(venue.attempts)
    wait_until(lambda: len(venue.attempts) >= count + 3, "three attempts", 20)
    pauses = [later - before for before, later in itertools.pairwise(venue.attempts[count:])]
    assert min(pauses) > 2


def test_a_connection_whose_pings_go_unanswered_is_replaced_without_a_gap(
    venue: MiniVenue, start: Start
) -> None:
    swim = start(connections_initial=1, pings_missed_max=12, pong_timeout_s=0.2)
    swim.follow("A-X")
    first = venue.clients[0]
    with trading(venue, ["A-X"]):
        venue.answers_pings = False
        wait_until(lambda: len(venue.attempts) == 2, "a second connection", 10)
        venue.answers_pings = True
        wait_until(lambda: first not in venue.clients, "the old one's end", 10)
        wait_for_more(swim, "A-X")
    assert is_whole(swim.heap.ids["A-X"])
    assert "unwell, most of all by its pings" in str(swim.state.connections[0].reasons)


def test_a_socket_that_is_open_at_our_end_only_is_found_and_replaced(
    venue: MiniVenue, start: Start
) -> None:
    swim = start(connections_initial=1, ping_every_s=60.0)
    swim.follow("A-X")
    with trading(venue, ["A-X"]):
        wait_until(lambda: len(swim.heap.ids.get("A-X", ())) > 20, "some trades", 5)
        wait_until(lambda: swim.state.connections[0].ping_ms is not None, "the first ping", 5)
        venue.answers_pings = False
        venue.clients[0].streams = set()
        began = time.monotonic()
        wait_until(lambda: len(venue.attempts) == 2, "a second connection", 10)
        assert time.monotonic() - began < 6


def test_a_stream_that_falls_silent_is_asked_for_on_another_connection(
    venue: MiniVenue, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botswarm.feed.dialogue.STREAM_SILENCE_FLOOR_S", 0.5)
    swim = start()
    swim.follow(*FOUR)
    with trading(venue, FOUR):
        wait_until(lambda: all(len(swim.heap.ids.get(s, ())) > 30 for s in FOUR), "trades", 10)
        forgetful = next(each for each in venue.clients if "A-X.trade" in each.streams)
        forgetful.streams -= {"A-X.trade"}
        count = len(swim.heap.ids["A-X"])
        wait_until(lambda: len(swim.heap.ids["A-X"]) > count + 10, "more of them", 10)
    holder = next(each for each in venue.clients if "A-X.trade" in each.streams)
    assert holder is not forgetful
    assert len(venue.attempts) == 2
    assert all(is_whole(swim.heap.ids[symbol]) for symbol in FOUR[1:])


def test_a_pool_with_little_to_do_becomes_smaller_without_a_gap(
    venue: MiniVenue, start: Start
) -> None:
    swim = start(connections_initial=1, streams_per_connection_max=5, connections_max=3)
    swim.follow(*(f"M{number}-X" for number in range(12)))
    kept = ["M0-X", "M11-X"]
    with trading(venue, kept):
        wait_until(lambda: len(swim.heap.ids) == 2, "trades", 5)
        swim.follow(*kept)
        wait_until(lambda: len(venue.clients) == 1, "one connection", 15)
        for symbol in kept:
            wait_for_more(swim, symbol)
    assert all(is_whole(swim.heap.ids[symbol]) for symbol in kept)
    wait_until(lambda: len(swim.state.connections) == 1, "one line", 5)


def test_what_a_venue_declines_is_shown_with_its_reason(venue: MiniVenue, start: Start) -> None:
    swim = start(connections_initial=1)
    swim.follow("A-X", "B-X")
    venue.clients[0].say(declined=["B-X.trade"])
    wait_until(lambda: swim.state.declined == {"B-X trade": "no"}, "the answer", 5)
    assert swim.pool.subscription_count == 1
    assert swim.state.score > 0.9


def test_what_only_a_second_connection_is_declined_stays_where_it_is_carried(
    venue: MiniVenue, start: Start
) -> None:
    swim = start(connections_initial=1, age_max_s=1.0)
    swim.follow("A-X", "B-X")
    first = venue.clients[0]
    venue.obeys = lambda client, name: client is first or name != "B-X.trade"
    with trading(venue, ["A-X", "B-X"]):
        wait_until(lambda: len(venue.attempts) == 2, "a second connection", 10)
        wait_until(lambda: venue.clients == [first], "its end, for it does not bring all", 10)
        wait_for_more(swim, "B-X")
    state = swim.state
    assert state.declined == {}
    assert swim.pool.subscription_count == 2
    assert state.connections[0].streams == 2
    assert is_whole(swim.heap.ids["B-X"])


def test_what_a_connection_it_moves_to_is_declined_stays_where_it_is_carried(
    venue: MiniVenue, start: Start
) -> None:
    swim = start(connections_initial=1, streams_per_connection_max=5, connections_max=3)
    swim.follow(*(f"M{number}-X" for number in range(12)))
    kept = ["M0-X", "M9-X"]
    asked: list[str] = []

    def declines(client: Client, name: str) -> bool:
        asked.append(name)
        return False

    venue.obeys = declines
    with trading(venue, kept):
        wait_until(lambda: len(swim.heap.ids) == 2, "trades", 5)
        swim.follow(*kept)
        wait_until(lambda: len(asked) > 0, "one connection to ask for what another has", 15)
        for symbol in kept:
            wait_for_more(swim, symbol)
        wait_until(lambda: len(venue.clients) == 2, "the empty connection to end", 10)
        for symbol in kept:
            wait_for_more(swim, symbol)
    assert len(asked) == 1, "it is not tried again and again"
    assert swim.state.declined == {}
    assert swim.pool.subscription_count == 2
    assert sorted(each.streams for each in swim.state.connections) == [1, 1]
    assert all(is_whole(swim.heap.ids[symbol]) for symbol in kept)


def test_what_was_declined_on_the_connection_that_takes_over_is_shown_from_then_on(
    venue: MiniVenue, start: Start
) -> None:
    swim = start(connections_initial=1)
    swim.follow("A-X", "B-X")
    first = venue.clients[0]
    venue.obeys = lambda client, name: client is first or name != "B-X.trade"
    first.say(bye="maintenance")
    wait_until(lambda: len(venue.streams()) == 3, "a second connection", 10)
    assert swim.state.declined == {}
    first.hang_up()
    wait_until(lambda: swim.state.declined == {"B-X trade": "no"}, "the second's answer", 5)
    wait_until(lambda: swim.pool.subscription_count == 1, "the other", 5)


def test_channels_that_the_venue_does_not_carry_are_never_asked_for(
    venue: MiniVenue, start: Start
) -> None:
    swim = start(connections_initial=1)
    swim.pool.want({Stream("A-X", "trade"), Stream("A-X", "candle"), Stream("A-X", "status")})
    wait_until(lambda: swim.pool.subscription_count == 1, "the one", 5)
    assert venue.streams() == ["A-X.trade"]


def test_two_feeds_of_one_address_send_no_more_than_it_may(venue: MiniVenue, start: Start) -> None:
    rules = replace(RULES, address_sends_per_s=5.0)
    swims = [start(rules, connections_initial=4, ping_every_s=60.0) for _ in range(2)]
    for swim in swims:
        swim.pool.want(trades(*FOUR))
    for swim in swims:
        wait_until(lambda swim=swim: swim.pool.subscription_count == 4, "all streams", 15)  # type: ignore[misc]
    moments = sorted(heard[0] for client in list(venue.clients) for heard in client.heard)
    assert len(moments) >= 8
    assert max(sum(0 <= later - at < 0.95 for later in moments) for at in moments) <= 5


def test_without_reconnecting_a_connection_that_ended_stays_so(
    venue: MiniVenue, start: Start
) -> None:
    swim = start(connections_initial=1, reconnect=False)
    swim.follow("A-X")
    venue.hang_up()
    wait_until(lambda: not swim.state.is_connected, "the end", 5)
    time.sleep(1.0)
    assert len(venue.attempts) == 1
