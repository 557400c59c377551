"""One connection: it ends for every reason, and never takes more than was agreed on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from botswarm.exchanges.streams import Declined, GoingAway, Stream
from botswarm.feed.connection import Connection
from botswarm.feed.dialogue import Began, Ears, Ended, Happened, Proved
from botswarm.feed.rules import PoolRules
from botswarm.feed.security import Rejects, SecurityLog
from botswarm.testing.servers import HOST, free_port, wait_until
from tests.integration.mini_venue import (
    CLOSE,
    PING,
    PONG,
    RULES,
    TEXT,
    Client,
    Heap,
    MiniData,
    MiniVenue,
    frame,
    trades,
)

QUICK = PoolRules(ping_every_s=0.2, pong_timeout_s=0.2, connect_timeout_s=2.0)


@dataclass
class Line:
    """A connection, and what it told."""

    data: MiniData
    rules: PoolRules = QUICK
    heap: Heap = field(default_factory=Heap)
    events: list[Happened] = field(default_factory=list)
    wished: list[Stream] = field(default_factory=list)
    security: SecurityLog = field(default_factory=SecurityLog)

    def __post_init__(self) -> None:
        self.rejects = Rejects(self.security)
        self.connection = Connection(
            "mini-1",
            self.data,
            trades("A-B"),
            rules=self.rules,
            ears=Ears(
                ticks=self.heap.put,
                last_trade=self.heap.announce,
                skipped=self.heap.suspect,
                wants_book=self.wished.append,
                event=self.events.append,
            ),
            security=self.security,
            rejects=self.rejects,
            wall_ms=lambda: int(time.time() * 1000),
            timeout_s=self.rules.connect_timeout_s,
        )
        self.connection.start()

    @property
    def reason(self) -> str:
        wait_until(lambda: self.connection.has_ended, "the end", 10)
        return self.connection.ended or ""

    def noted(self) -> dict[str, int]:
        return {kind: count for (_, kind), count in self.security.counts.items()}


@pytest.fixture
def venue() -> Iterator[MiniVenue]:
    made = MiniVenue()
    yield made
    made.close()


Make = Callable[..., Line]


@pytest.fixture
def make(venue: MiniVenue) -> Iterator[Make]:
    lines: list[Line] = []

    def one(rules: PoolRules = QUICK, url: str = "", **changes: float) -> Line:
        asked = replace(RULES, **changes)  # type: ignore[arg-type]  # numbers, all of them
        lines.append(Line(MiniData(url or venue.url, asked), rules))
        return lines[-1]

    yield one
    for line in lines:
        line.connection.stop()
        assert line.connection.join(5)


def client_of(venue: MiniVenue) -> Client:
    wait_until(lambda: bool(venue.clients and venue.clients[0].streams), "a subscription", 5)
    return venue.clients[0]


def test_what_is_subscribed_is_acknowledged_and_brings_trades(venue: MiniVenue, make: Make) -> None:
    line = make()
    client_of(venue)
    wait_until(lambda: line.connection.talk.served == trades("A-B"), "the answer", 5)
    for _ in range(3):
        venue.trade("A-B")
    wait_until(lambda: line.heap.ids == {"A-B": [1, 2, 3]}, "three trades", 5)
    assert [type(event) for event in line.events] == [Began, Proved]


def test_streams_come_and_go_on_a_living_connection(venue: MiniVenue, make: Make) -> None:
    line = make()
    client = client_of(venue)
    line.connection.subscribe(trades("C-D"))
    wait_until(lambda: client.streams == {"A-B.trade", "C-D.trade"}, "both", 5)
    line.connection.unsubscribe(trades("A-B"))
    wait_until(lambda: client.streams == {"C-D.trade"}, "one", 5)
    assert len(venue.attempts) == 1


def says_goodbye(client: Client) -> None:
    client.send(CLOSE, b"\x03\xe9going")


def hangs_up(client: Client) -> None:
    client.hang_up()


def talks_nonsense(client: Client) -> None:
    client.send_raw(b"\xff\xff\xff\xff not a frame")


def compresses(client: Client) -> None:
    client.send_raw(bytes([0xC1, 2]) + b"{}")


def sends_a_huge_frame(client: Client) -> None:
    client.send_raw(bytes([0x81, 127]) + (1 << 40).to_bytes(8, "big") + b"{")


def never_ends_a_message(client: Client) -> None:
    client.send_raw(frame(TEXT, b"{", fin=False))
    for _ in range(40):
        client.send_raw(frame(0, b" " * 60_000, fin=False))


@pytest.mark.parametrize(
    ("misbehaves", "reason", "noted"),
    [
        (says_goodbye, "closed by the venue with 1001 going", {}),
        (hangs_up, "hung up", {}),
        (talks_nonsense, "a masked frame", {"invalid_message_format": 1}),
        (compresses, "compressed", {"invalid_message_format": 1}),
        (sends_a_huge_frame, "bytes, over 1048576", {"message_size_exceeded": 1}),
        (never_ends_a_message, "parts and", {"message_size_exceeded": 1}),
    ],
)
def test_whatever_a_venue_does_the_connection_ends_with_its_reason(
    misbehaves: Callable[[Client], None],
    reason: str,
    noted: dict[str, int],
    venue: MiniVenue,
    make: Make,
) -> None:
    venue.greeting = misbehaves
    line = make()
    assert reason in line.reason
    assert isinstance(line.events[-1], Ended)
    assert line.noted() == noted


def test_bad_frames_are_counted_by_reason_and_the_next_good_one_is_read(
    venue: MiniVenue, make: Make
) -> None:
    line = make()
    client = client_of(venue)
    client.send(TEXT, b"CloudFlare WebSocket proxy restarting")
    client.send(TEXT, b"\xff\xfe")
    client.say(unheard="of")
    client.say(crash=1)
    venue.trade("A-B")
    wait_until(lambda: line.heap.ids == {"A-B": [1]}, "the trade", 5)
    assert {reason: count for (_, reason), count in line.rejects.counts.items()} == {
        "not_json": 2,
        "unknown_event": 1,
        "reader_failed": 1,
    }
    assert not line.connection.has_ended


def test_many_bad_frames_are_a_parsing_error_rate_that_is_high(
    venue: MiniVenue, make: Make
) -> None:
    line = make()
    client = client_of(venue)
    for _ in range(50):
        client.send(TEXT, b"<html>")
    wait_until(lambda: line.rejects.total == 50, "all of them", 5)
    assert line.noted()["parsing_error_rate_high"] == 1
    assert line.connection.talk.malformed_share > QUICK.malformed_share_max


def test_the_venue_s_pings_are_answered_with_their_own_words_but_no_flood_of_them(
    venue: MiniVenue, make: Make
) -> None:
    make(sends_per_s=5.0, rules=PoolRules())
    client = client_of(venue)
    for number in range(200):
        client.send(PING, str(number).encode())
    wait_until(lambda: (PONG, b"199") in [each[1:] for each in client.heard], "a pong", 5)
    assert client.codes().count(PONG) <= 5


def test_no_more_messages_are_sent_than_the_venue_allows(venue: MiniVenue, make: Make) -> None:
    line = make(sends_per_s=5.0, rules=PoolRules())
    client = client_of(venue)
    for number in range(6):
        line.connection.subscribe(trades(f"X{number}-B"))
    wait_until(lambda: len(client.texts()) == 7, "all of them", 5)
    moments = [at for at, code, _ in client.heard if code == TEXT]
    assert moments[-1] - moments[0] > 6 / 5.0


def test_a_venue_that_answers_no_ping_is_left_after_so_many(venue: MiniVenue, make: Make) -> None:
    venue.answers_pings = False
    line = make()
    assert "3 pings in a row without an answer" in line.reason
    assert line.connection.pinger.missed_in_all == 3


def test_a_quiet_venue_that_answers_pings_is_not_left(venue: MiniVenue, make: Make) -> None:
    line = make()
    wait_until(lambda: line.connection.pinger.answers >= 5, "five answers", 5)
    assert not line.connection.has_ended
    assert line.connection.pinger.rtt_ms is not None


def test_a_venue_that_says_nothing_at_all_is_left_by_its_own_rule(
    venue: MiniVenue, make: Make
) -> None:
    venue.answers_pings = False
    line = make(rules=PoolRules(), silence_s=0.4)
    assert line.reason.startswith("not a byte for")


def test_a_machine_that_stalls_ends_no_connection_on_which_all_was_said(
    venue: MiniVenue, make: Make
) -> None:
    line = make(rules=PoolRules(ping_every_s=0.3, pong_timeout_s=0.3), silence_s=1.5)
    client_of(venue)
    line.heap.stall_s = 2.5
    for _ in range(30):
        venue.trade("A-B")
        time.sleep(0.1)
    wait_until(lambda: len(line.heap.ids["A-B"]) == 30, "all that was said meanwhile", 5)
    assert not line.connection.has_ended


def test_a_flood_is_read_to_its_end_and_in_its_order(venue: MiniVenue, make: Make) -> None:
    line = make(rules=PoolRules())
    client = client_of(venue)
    count = 20_000
    client.send_raw(
        b"".join(frame(TEXT, b'{"trade":"A-B","id":%d}' % number) for number in range(count))
    )
    wait_until(lambda: len(line.heap.ids.get("A-B", ())) == count, "all of them", 20)
    assert line.heap.ids["A-B"] == list(range(count))


def test_what_is_not_acknowledged_is_asked_for_again_and_then_given_up(
    venue: MiniVenue, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botswarm.feed.dialogue.ACK_TIMEOUT_S", 0.1)
    venue.acknowledges = False
    line = make()
    wait_until(lambda: any(isinstance(each, Declined) for each in line.events), "giving up", 10)
    assert len(venue.clients[0].texts()) == 3
    declined = next(each for each in line.events if isinstance(each, Declined))
    assert declined.streams == tuple(trades("A-B"))
    assert declined.reason == "no answer to 3 requests"


def test_what_the_venue_tells_beside_trades_reaches_who_needs_it(
    venue: MiniVenue, make: Make
) -> None:
    line = make()
    client = client_of(venue)
    client.say(beat="A-B", id=17)
    client.say(skipped=3)
    client.say(broken="A-B.book")
    client.say(bye="maintenance")
    wait_until(lambda: GoingAway(reason="maintenance") in line.events, "the notice", 5)
    assert line.heap.announced == [("A-B", 17)]
    assert line.heap.suspected == ["A-B"]
    assert dict(line.connection.talk.notices) == {"skipped": 3, "sequence": 1}
    wait_until(lambda: '{"resync": "A-B.book"}' in client.texts(), "the resync", 5)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 9999999999\r\n\r\n", "429"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "handshake failed"),
        (b"HTTP/1.1 101 Switching\r\n" + b"X: y\r\n" * 5000, "head of over"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "handshake failed"),
    ],
)
def test_an_answer_that_is_no_websocket_is_refused(
    head: bytes, reason: str, venue: MiniVenue, make: Make
) -> None:
    venue.answer_head = head
    assert reason in make().reason


def test_a_server_that_never_answers_is_given_up_in_time(venue: MiniVenue, make: Make) -> None:
    venue.answer_head = b"HTTP/1.1 101 Switch"
    began = time.monotonic()
    line = make(rules=PoolRules(connect_timeout_s=0.5))
    assert "in time" in line.reason
    assert time.monotonic() - began < 3
    assert line.noted() == {"connection_timeout_exceeded": 1}


def test_where_nobody_listens_the_reason_says_so(make: Make) -> None:
    port = free_port()
    assert f"no connection to {HOST}:{port}" in make(url=f"ws://{HOST}:{port}").reason


def test_stopping_ends_a_connection_that_waits_for_a_silent_venue(
    venue: MiniVenue, make: Make
) -> None:
    line = make()
    client_of(venue)
    began = time.monotonic()
    line.connection.stop()
    assert line.connection.join(5)
    assert time.monotonic() - began < 1
    assert line.events[-1] == Ended("stopped")
