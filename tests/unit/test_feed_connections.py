"""The parts of a venue's pool that decide, without any socket: limits, pauses, scores, rhythms."""

from __future__ import annotations

import fcntl
import itertools
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botswarm.clock import BOOT
from botswarm.exchanges.binance.session import RULES as BINANCE
from botswarm.exchanges.streams import StreamRules
from botswarm.feed import health
from botswarm.feed.breaker import (
    PROBE_PAUSE_MAX_S,
    PROBE_TIMEOUT_S,
    Breaker,
    BreakerState,
    Retries,
    probe_pause_s,
)
from botswarm.feed.budget import LEISURE, Budget
from botswarm.feed.frames import BINARY, CLOSE, CONTINUED, PING, TEXT, Broke, Frame, FrameReader
from botswarm.feed.health import Inputs
from botswarm.feed.liveness import Pulse
from botswarm.feed.pace import SHARE, SharedPace
from botswarm.feed.rules import PoolRules
from botswarm.feed.security import SAID_PER_MINUTE_MAX, Rejects, SecurityLog
from tests.integration.mini_venue import frame

MIB = 1_048_576
COINBASE = replace(BINANCE, connects_max=8, connects_period_s=1.0)
KRAKEN = replace(BINANCE, connects_max=120, connects_period_s=600.0)


# --- frames -----------------------------------------------------------------------------------

payloads = st.builds(bytes.__mul__, st.binary(max_size=30), st.sampled_from([1, 10, 2185]))


@given(st.lists(payloads, min_size=1, max_size=5), st.lists(st.integers(1, 5000), min_size=1))
def test_frames_are_the_same_however_the_bytes_are_cut(
    bodies: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(frame(TEXT, body) for body in bodies)
    reader, found, place = FrameReader(MIB), list[Frame](), 0
    for number in range(len(data)):
        if place >= len(data):
            break
        size = cuts[number % len(cuts)]
        found += reader.feed(data[place : place + size])
        place += size
    assert found == [Frame(TEXT, body) for body in bodies]
    assert reader.waiting_bytes == 0


def test_a_message_in_parts_comes_as_one_also_with_a_ping_between_them() -> None:
    data = frame(TEXT, b"ab", fin=False) + frame(PING, b"p") + frame(CONTINUED, b"cd")
    assert FrameReader(MIB).feed(data) == [Frame(PING, b"p"), Frame(TEXT, b"abcd")]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (bytes([0x81, 127]) + (1 << 62).to_bytes(8, "big"), "message_size_exceeded"),
        (frame(TEXT, b"x" * 151), "message_size_exceeded"),
        (frame(TEXT, b"x" * 90, fin=False) + frame(CONTINUED, b"x" * 90), "message_size_exceeded"),
        (bytes([0xC1, 0]), "invalid_message_format"),
        (bytes([0x83, 0]), "invalid_message_format"),
        (bytes([0x81, 0x80, 0, 0, 0, 0]), "invalid_message_format"),
        (frame(CONTINUED, b"x"), "invalid_message_format"),
        (frame(TEXT, b"x", fin=False) + frame(BINARY, b"x"), "invalid_message_format"),
        (frame(PING, b"x", fin=False), "invalid_message_format"),
        (bytes([0x88, 126, 0, 126]), "invalid_message_format"),
    ],
)
def test_what_no_server_may_send_is_refused_before_it_is_kept(data: bytes, kind: str) -> None:
    reader = FrameReader(150)
    with pytest.raises(Broke) as broke:
        reader.feed(data)
    assert broke.value.kind == kind
    assert reader.waiting_bytes <= 200


def test_a_message_of_endless_empty_parts_is_refused() -> None:
    reader = FrameReader(MIB)
    reader.feed(frame(TEXT, b"", fin=False))
    endless = frame(CONTINUED, b"", fin=False) * 5000
    with pytest.raises(Broke):
        reader.feed(endless)


def test_a_close_frame_is_handed_on_with_its_words() -> None:
    assert FrameReader(MIB).feed(frame(CLOSE, b"\x03\xe8bye")) == [Frame(CLOSE, b"\x03\xe8bye")]


# --- how often is tried -----------------------------------------------------------------------


def test_the_budget_holds_within_any_period_and_says_how_long_to_wait() -> None:
    now = [0.0]
    budget = Budget(3, 60, clock=lambda: now[0])
    assert [budget.take(keep=0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert budget.take(keep=0) == 60.0
    now[0] = 59.0
    assert budget.take(keep=0) == 1.0
    assert budget.left == 0
    now[0] = 60.0
    assert budget.take(keep=0) == 0.0


def test_the_budget_is_shared_with_other_feeds_of_the_machine_and_survives_a_restart(
    tmp_path: Path,
) -> None:
    now, file = [1000.0], tmp_path / "state" / "attempts.txt"
    one = Budget(10, 60, file=file, clock=lambda: now[0])
    other = Budget(10, 60, file=file, clock=lambda: now[0])
    assert [each.take(keep=0) for each in (one, other) for _ in range(5)] == [0.0] * 10
    assert one.take(keep=0) > 0
    assert Budget(10, 60, file=file, clock=lambda: now[0]).take(keep=0) > 0
    file.write_text(f"half a l\n\nnan nan x\n999.5 1.0 {BOOT}\n")
    assert Budget(1, 60, file=file, clock=lambda: now[0]).take(keep=0) == pytest.approx(59.5)


def test_a_wall_clock_that_is_set_makes_no_attempt_older_or_younger(tmp_path: Path) -> None:
    now, wall, file = [100.0], [1000.0], tmp_path / "attempts.txt"

    def budget() -> Budget:
        return Budget(3, 60, file=file, clock=lambda: now[0], wall=lambda: wall[0])

    one = budget()
    assert [one.take(keep=0) for _ in range(3)] == [0.0] * 3
    for set_to in (1_800_000_000.0, 0.0):
        wall[0] = set_to
        now[0] += 20
        assert one.left == 0
        assert one.take(keep=0) == budget().take(keep=0) == 160 - now[0]
    now[0] = 160.0
    assert budget().take(keep=0) == 0.0


def test_attempts_before_the_machine_s_start_are_known_by_the_wall_clock_alone(
    tmp_path: Path,
) -> None:
    file = tmp_path / "attempts.txt"
    file.write_text("9000.0 1000.0 another-start\n1010.0\n")

    def budget(wall: float) -> Budget:
        return Budget(2, 60, file=file, clock=lambda: 5.0, wall=lambda: wall)

    assert budget(1020.0).take(keep=0) == 40.0
    assert budget(1065.0).take(keep=0) == 0.0
    assert budget(900.0).take(keep=0) == 60.0  # not yet set after the start: as if made now
    assert budget(5000.0).take(keep=0) == 60.0  # and so from then on, whatever it is set to


def test_a_budget_whose_file_cannot_be_written_is_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    budget = Budget(2, 60, file=tmp_path / "state" / "attempts.txt", clock=lambda: 1.0)
    assert [budget.take(keep=0) for _ in range(3)] == [0.0, 0.0, 60.0]


def test_a_budget_whose_disk_is_full_still_knows_what_this_process_has_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, file = [1000.0], tmp_path / "attempts.txt"
    budget = Budget(3, 60, file=file, clock=lambda: now[0])
    assert budget.take(keep=0) == 0

    def full(descriptor: int, data: bytes, at: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("botswarm.feed.budget.os.pwrite", full)
    assert [budget.take(keep=0) for _ in range(3)] == [0.0, 0.0, 60.0]
    monkeypatch.undo()
    assert budget.take(keep=0) == 60.0
    assert Budget(3, 60, file=file, clock=lambda: now[0]).take(keep=0) == 60.0


def test_messages_of_all_processes_of_an_address_keep_to_one_pace(tmp_path: Path) -> None:
    now, file = [100.0], tmp_path / "state" / "sends.txt"

    def pace(boot: str = BOOT) -> SharedPace:
        return SharedPace(10 / SHARE, file, clock=lambda: now[0], boot=boot)

    one, other = pace(), pace()
    assert one.take(0.0) == 0.0
    assert other.take(0.0) == one.take(0.0) == pytest.approx(0.1)
    now[0] += 0.1
    assert [other.take(0.0), one.take(0.0)] == [0.0, pytest.approx(0.1)]
    assert pace("another start").take(0.0) == 0.0
    for left_behind in ("half a l", f"9999.0 {BOOT}\n", f"nan {BOOT}\n"):
        file.write_text(left_behind)
        assert [one.take(0.0), other.take(0.0)] == [0.0, pytest.approx(0.1)]


def test_a_pace_goes_on_alone_where_its_file_is_held_for_ever_or_cannot_be_made(
    tmp_path: Path,
) -> None:
    file = tmp_path / "sends.txt"
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        pace = SharedPace(10 / SHARE, file)
        assert pace.take(0.0) > 0
        assert [pace.take(2.0), pace.take(2.0)] == [0.0, pytest.approx(0.1)]
    alone = SharedPace(10 / SHARE, file / "no folder" / "sends.txt")
    assert [alone.take(5.0), alone.take(5.0)] == [0.0, pytest.approx(0.1)]


def test_what_is_not_urgent_leaves_half_of_the_budget_and_the_rest_a_tenth_to_the_probe() -> None:
    budget = Budget(100, 60, clock=lambda: 1.0)
    assert sum(budget.take(keep=LEISURE) == 0 for _ in range(100)) == 50
    assert sum(budget.take() == 0 for _ in range(100)) == 40
    assert sum(budget.take(keep=0) == 0 for _ in range(100)) == 10


@pytest.mark.parametrize("venue", [BINANCE, COINBASE, KRAKEN])
def test_a_probe_can_go_on_for_ever_within_the_venue_s_budget(venue: StreamRules) -> None:
    """34 hours of outage: an attempt at least every five seconds, and none too many."""
    now, attempts = [0.0], list[float]()
    budget = Budget(venue.connects_max, venue.connects_period_s, clock=lambda: now[0])
    pause_s = probe_pause_s(venue)
    assert PROBE_TIMEOUT_S < PROBE_PAUSE_MAX_S
    while now[0] < 2 * 3600:
        wait_s = budget.take(keep=0)
        if wait_s == 0:
            attempts.append(now[0])
        now[0] += max(pause_s, wait_s)
    gaps = [later - before for before, later in itertools.pairwise(attempts)]
    assert max(gaps) <= 5.0
    within = venue.connects_period_s
    assert max(sum(0 <= x - at < within for x in attempts[i : i + 400])
               for i, at in enumerate(attempts[:400])) <= venue.connects_max  # fmt: skip


def test_pauses_grow_by_the_multiplier_up_to_the_longest_and_are_spread() -> None:
    retries = Retries(PoolRules(base_s=1, multiplier=2, pause_max_s=60, jitter=0.25))
    assert retries.pause_s(lambda: 1.0) <= 0.25
    middle = []
    for _ in range(8):
        retries.failed()
        middle.append(retries.pause_s(lambda: 0.5))
    assert middle == [1, 2, 4, 8, 16, 32, 60, 60]
    assert retries.pause_s(lambda: 0.0) == 45
    assert retries.pause_s(lambda: 1.0) == 75
    for _ in range(10_000):
        retries.failed()
    assert retries.pause_s(lambda: 0.5) == 60


def test_failures_are_forgotten_only_after_so_many_real_successes() -> None:
    retries = Retries(PoolRules(reset_after=3))
    for _ in range(4):
        retries.failed()
    retries.succeeded()
    retries.succeeded()
    retries.failed()
    assert retries.failures == 5
    for _ in range(3):
        retries.succeeded()
    assert retries.failures == 0


def test_the_breaker_opens_once_after_so_many_failures_and_never_ends_trying() -> None:
    breaker = Breaker(PoolRules(tries_max=3))
    assert [breaker.failed("refused") for _ in range(5)] == [False, False, True, False, False]
    assert (breaker.state, breaker.opened) == (BreakerState.OPEN, 1)
    assert breaker.answered()
    assert breaker.state is BreakerState.CLOSED
    assert not breaker.answered()
    # It has not proved itself: one more failure is enough.
    assert breaker.failed("refused")


# --- rhythms and scores -----------------------------------------------------------------------


def test_a_silence_is_judged_by_what_was_usual_on_that_stream() -> None:
    busy, rare = Pulse(10, 0.0), Pulse(10, 0.0)
    for number in range(1, 1001):
        busy.beat(number * 0.1)
        rare.beat(number * 30.0)
    assert busy.limit_s == 10
    assert not busy.is_quiet(100 + 10)
    assert busy.is_quiet(100 + 10.1)
    assert rare.limit_s > 90
    assert not rare.is_quiet(30_000 + 90)


def test_a_busy_stream_that_once_paused_may_pause_again() -> None:
    pulse = Pulse(1, 0.0)
    for number in range(1, 100):
        pulse.beat(number * 0.01)
    pulse.beat(5.0)
    assert not pulse.is_quiet(5.0 + 11)
    assert pulse.is_quiet(5.0 + 13)


def test_a_rhythm_that_is_not_known_yet_is_not_judged_for_minutes() -> None:
    pulse = Pulse(10, 0.0)
    for number in range(1, 6):
        pulse.beat(number * 0.1)
    assert not pulse.is_quiet(290)
    assert pulse.is_quiet(310)


def test_a_stream_keeps_its_rhythm_when_another_connection_carries_it() -> None:
    pulse = Pulse(10, 0.0)
    for number in range(1, 100):
        pulse.beat(number * 0.1)
    next_one = pulse.goes_on(500.0)
    assert not next_one.is_quiet(509)
    assert next_one.is_quiet(511)
    assert next_one.count == 0


def test_a_stream_that_has_never_spoken_is_not_quiet() -> None:
    assert not Pulse(1, 0.0).is_quiet(1_000_000)


def test_a_stream_whose_venue_s_clock_stands_still_is_stale() -> None:
    pulse = Pulse(10, 0.0)
    for number in range(1, 200):
        pulse.beat(number * 0.1, exchange_ms=min(number, 20))
    assert pulse.is_stale(20.0)
    pulse.beat(20.1, exchange_ms=21)
    assert not pulse.is_stale(20.1)


WELL = Inputs(is_up=True)


@pytest.mark.parametrize(
    ("found", "worst"),
    [
        (replace(WELL, pings_missed=2), "pings"),
        (replace(WELL, silent_s=30, silence_limit_s=10, quiet_share=1.0), "streams"),
        (replace(WELL, lag_ms=25_000), "lag"),
        (replace(WELL, malformed_share=0.2), "malformed"),
        (replace(WELL, pings_missed=1, silent_s=4, silence_limit_s=3), "pings"),
    ],
)
def test_what_is_wrong_makes_a_connection_unhealthy(found: Inputs, worst: str) -> None:
    factors = health.factors(found)
    assert min(factors, key=lambda name: factors[name]) == worst or len(set(factors.values())) > 2
    assert health.score(found) < PoolRules().health_unhealthy


def test_what_is_only_a_little_wrong_takes_a_little() -> None:
    assert health.score(WELL) == 1.0
    for found in (
        replace(WELL, reconnects=3),
        replace(WELL, quiet_share=0.5),
        replace(WELL, lag_ms=2000),
        replace(WELL, pings_missed=1),
        replace(WELL, silent_s=3000, silence_limit_s=10),
    ):
        assert PoolRules().health_unhealthy < health.score(found) < 1
    assert health.score(Inputs(is_up=False)) == 0


def test_a_venue_s_score_counts_streams_that_nobody_carries_as_nothing() -> None:
    assert health.overall([(1.0, 50), (0.5, 50)], 100) == 0.75
    assert health.overall([(1.0, 50)], 100) == 0.5
    assert health.overall([], 0) == 1.0


# --- events -----------------------------------------------------------------------------------


def test_each_reason_is_counted_always_and_said_ten_times_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    now = [0.0]
    security = SecurityLog(lambda: now[0])
    rejects = Rejects(security, lambda: now[0])
    for _ in range(500):
        rejects.note("mini", "not_json", "<html>")
    rejects.note("mini", "too_deep", "[[[[")
    assert rejects.counts == {("mini", "not_json"): 500, ("mini", "too_deep"): 1}
    said = [each.getMessage() for each in caplog.records if "left out" in each.getMessage()]
    assert len(said) == SAID_PER_MINUTE_MAX + 1
    now[0] = 61.0
    rejects.note("mini", "not_json", "<html>")
    assert "490 more of these before" in caplog.text
    assert security.counts["mini", "invalid_message_format"] == 502


def test_the_security_events_have_their_severities(caplog: pytest.LogCaptureFixture) -> None:
    SecurityLog().note("kraken", "invalid_certificate", "expired")
    assert caplog.records[0].levelname == "CRITICAL"
    assert caplog.records[0].getMessage() == "security: invalid_certificate at kraken: expired"
