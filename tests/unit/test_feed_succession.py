"""A feed that takes over says what its predecessor did not, whatever both missed and asked for."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botswarm.domain.market import Trade
from botswarm.feed.lead import LAST_MAX
from botswarm.feed.order import HOLD_S
from botswarm.feed.outlet import Sent
from botswarm.feed.publisher import Publisher
from botswarm.feed.said import Note, Said
from botswarm.feed.tracker import Tracker
from botswarm.market.wire import EXCHANGE, Batch, Digest, encode, encode_any
from tests.integration.mini_venue import trade_of

START = 1_700_000_000_000
STEP_MS = 20
KEPT_MAX = 20
MARKETS = ("A-X", "B-X")


class Stage:
    """A venue's trades, one feed that leads, one that stands by, and what the broker keeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.happened: dict[str, list[Trade]] = {symbol: [] for symbol in MARKETS}
        self.leader, self.standby = self._feed(), self._feed()
        self.messages: list[bytes] = []
        self.spoken: dict[str, list[int]] = {symbol: [] for symbol in MARKETS}

    def _feed(self) -> Tracker:
        made = Tracker("mini", lambda: self.ms, lambda: self.now)
        made.follow(MARKETS)
        return made

    @property
    def ms(self) -> int:
        return START + round(1000 * self.now)

    def happen(self, symbol: str, to: Sequence[Tracker]) -> None:
        self.now += STEP_MS / 1000
        trades = self.happened[symbol]
        trades.append(trade_of(symbol, len(trades) + 1, self.ms, self.ms))
        for feed in to:
            feed.put(trades[-1:])

    def wait(self) -> None:
        self.now += HOLD_S
        for feed in (self.leader, self.standby):
            feed.advance()

    def ask(self, feed: Tracker) -> None:
        for symbol, _ in feed.wanted_trades():
            feed.recover(symbol, self.happened[symbol])

    def speak(self, feed: Tracker) -> None:
        for batch in feed.take_batches():
            self.messages.append(encode(batch))
            self.spoken[batch.symbol] += [
                each.trade_id for each in batch.ticks if isinstance(each, Trade)
            ]

    def take_over(self, kept: int) -> None:
        said = Said()
        for body in self.messages[-kept:]:
            said.add(body)
        said.is_all = kept >= len(self.messages)
        self.standby.resume(said)


ears = st.sampled_from(["both", "both", "leader", "standby", "neither"])
pauses = st.sampled_from(["wait", "speak", "leader asks", "standby asks"])


def deeds(*symbols: str) -> st.SearchStrategy[list[tuple[str, str]]]:
    happens = st.tuples(st.sampled_from(symbols), ears)
    return st.lists(st.one_of(happens, st.tuples(pauses, st.just(""))), max_size=60)


def do(stage: Stage, what: str, whom: str, *, is_over: bool = False) -> None:
    match what:
        case "wait":
            stage.wait()
        case "speak":
            stage.speak(stage.standby if is_over else stage.leader)
        case "leader asks" | "standby asks":
            stage.ask(stage.standby if is_over or what == "standby asks" else stage.leader)
        case symbol:
            hearing = {
                "both": (stage.leader, stage.standby),
                "leader": (stage.leader,),
                "standby": (stage.standby,),
            }
            stage.happen(symbol, hearing.get(whom, ()))


def end(stage: Stage) -> None:
    for symbol in MARKETS:
        stage.happen(symbol, (stage.standby,))
    for _ in range(2):
        stage.wait()
        stage.ask(stage.standby)
        stage.speak(stage.standby)


@settings(max_examples=400)
@given(deeds("A-X"), deeds("A-X"))
def test_every_trade_is_said_once_though_another_feed_goes_on_with_it(
    before: list[tuple[str, str]], after: list[tuple[str, str]]
) -> None:
    stage = Stage()
    for symbol in MARKETS:
        stage.happen(symbol, (stage.leader, stage.standby))
    stage.speak(stage.leader)
    for what, whom in before:
        do(stage, what, whom)
    stage.take_over(kept=LAST_MAX)
    for what, whom in after:
        do(stage, what, whom, is_over=True)
    end(stage)
    for symbol, spoken in stage.spoken.items():
        assert sorted(spoken) == list(range(1, len(stage.happened[symbol]) + 1)), symbol
    assert stage.standby.wanted_trades() == []


@settings(max_examples=200)
@given(deeds(*MARKETS), deeds(*MARKETS), st.integers(1, KEPT_MAX))
def test_what_has_left_the_broker_s_memory_is_not_said_again(
    before: list[tuple[str, str]], after: list[tuple[str, str]], kept: int
) -> None:
    """The leader says all at once, and asks at once for what it missed."""
    stage = Stage()
    for symbol in MARKETS:
        stage.happen(symbol, (stage.leader, stage.standby))
    for what, whom in before:
        do(stage, what, whom)
        stage.ask(stage.leader)
        stage.speak(stage.leader)
    for symbol in MARKETS:
        stage.happen(symbol, (stage.leader, stage.standby))
    stage.wait()
    stage.ask(stage.leader)
    stage.speak(stage.leader)
    for _ in range(KEPT_MAX):
        # What is left is of the one market: all of the other was said before.
        stage.happen("B-X", (stage.leader, stage.standby))
        stage.speak(stage.leader)
    stage.take_over(kept)
    for what, whom in after:
        do(stage, what, whom, is_over=True)
    end(stage)
    for symbol, spoken in stage.spoken.items():
        assert len(spoken) == len(set(spoken)), symbol


@settings(max_examples=200)
@given(deeds("A-X"), deeds(*MARKETS), st.integers(1, 2 * KEPT_MAX))
def test_nothing_is_said_again_wherever_the_broker_s_memory_begins(
    before: list[tuple[str, str]], after: list[tuple[str, str]], kept: int
) -> None:
    """The leader is held up now and then, and has said all in the end."""
    stage = Stage()
    both = stage.leader, stage.standby
    stage.happen("A-X", both)
    stage.speak(stage.leader)
    for what, whom in before:
        do(stage, what, whom)
    stage.happen("A-X", both)
    stage.wait()
    stage.ask(stage.leader)
    stage.speak(stage.leader)
    stage.happen("B-X", both)
    stage.speak(stage.leader)
    stage.take_over(kept)
    for what, whom in after:
        do(stage, what, whom, is_over=True)
    end(stage)
    for symbol, spoken in stage.spoken.items():
        assert len(spoken) == len(set(spoken)), symbol


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_what_was_asked_for_while_others_waited_is_no_hole_to_who_takes_over(kept: int) -> None:
    stage = Stage()
    both = stage.leader, stage.standby
    stage.happen("A-X", both)
    stage.speak(stage.leader)
    for heard in (both, (), both):
        stage.happen("A-X", heard)
    stage.wait()
    stage.ask(stage.leader)
    stage.speak(stage.leader)
    stage.take_over(kept)
    assert stage.standby.wanted_trades() == []
    assert sorted(stage.spoken["A-X"]) == [1, 2, 3, 4]


def test_markets_that_were_said_out_of_their_order_of_time_are_not_said_again() -> None:
    stage = Stage()
    both = stage.leader, stage.standby
    stage.happen("A-X", both)
    stage.happen("B-X", both)
    for _ in range(200):
        stage.happen("A-X", both)
    # What happened first is said last, and only that is left of it: B-X was said before.
    stage.speak(stage.leader)
    of_a = [batch for batch in stage.messages if b'"A-X"' in batch]
    of_b = [batch for batch in stage.messages if b'"B-X"' in batch]
    stage.messages = [*of_b, *of_a]
    stage.take_over(kept=len(of_a))
    stage.speak(stage.standby)
    assert stage.spoken["B-X"] == [1]


def test_what_a_restarted_broker_has_forgotten_is_told_as_what_may_be_a_repetition() -> None:
    stage = Stage()
    stage.happen("A-X", (stage.leader, stage.standby))
    said = Said()
    said.is_forgotten = True
    stage.standby.resume(said)
    stage.happen("B-X", (stage.standby,))
    first = stage.standby.take_batches()
    stage.happen("A-X", (stage.standby,))
    second = stage.standby.take_batches()
    assert {(each.symbol, each.is_repeat) for each in first} == {("A-X", True), ("B-X", True)}
    assert {(each.symbol, each.is_repeat) for each in second} == {("A-X", False)}


class Desk:
    """In an outlet's place: what it was given to send."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def put(self, key: str, body: bytes, since: float, *, exchange: str = "") -> None:
        self.bodies.append(body)


def left_over(number: int) -> list[Sent]:
    """Of one turn that was on its way when the connection ended."""
    digest = Digest(venue="mini", sent_ms=number, markets=())
    trades = Batch(
        venue="mini", symbol="A-X", kind="trade", ticks=(trade_of("A-X", number, START, START),)
    )
    return [
        Sent(EXCHANGE, "mini.A-X.trade", "trade", encode(trades), 0.0),
        Sent(EXCHANGE, "mini.digest", "digest", encode(digest), 0.0),
        Sent("", "botswarm.feed.mini.last", "note", encode_any(Note(number)), 0.0),
    ]


@pytest.mark.parametrize(
    ("arrived", "sent_again", "marked"),
    [
        (0, 6, []),  # nothing of it
        (1, 5, [0]),  # the first batch, and perhaps the digest after it
        (3, 3, []),  # the first turn whole
        (4, 2, [0]),
        (6, 0, []),
    ],
)
def test_a_digest_that_may_have_arrived_before_its_note_is_marked(
    arrived: int, sent_again: int, marked: list[int]
) -> None:
    publisher = Publisher(
        lambda: "", Tracker("mini", lambda: 0), on_digest=lambda _: None, wall_ms=lambda: 0
    )
    publisher._left_over = [*left_over(1), *left_over(2)]
    said, desk = Said(each.body for each in publisher._left_over), Desk()
    said.add(encode_any(Note(99)))
    for sent in publisher._left_over[:arrived]:
        if sent.kind != "digest":
            said.add(sent.body)
    publisher._send_again(desk, said)  # type: ignore[arg-type]  # all that it uses of one
    publisher.stop()
    assert len(desk.bodies) == sent_again
    repeats = [at for at, body in enumerate(desk.bodies) if b'"is_repeat":true' in body]
    assert repeats == marked
    assert publisher.tally.repeats == len(marked)


def test_what_was_said_last_is_read_without_being_kept() -> None:
    """Four venues' take-overs at once would be ten megabytes, which a process never gives back."""
    batch = Batch(
        venue="mini", symbol="A-X", kind="trade", ticks=(trade_of("A-X", 1, START, START),) * 10
    )
    body = encode(batch)
    tracemalloc.start()
    try:
        said = Said([body])
        for number in range(LAST_MAX):
            said.add(body + b" " * number)
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert said.read == LAST_MAX
    assert said.arrived == {body}
    assert kept < 100 * len(body)
