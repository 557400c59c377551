"""The system's clock is aware and in UTC; a stopped one moves only when told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from botswarm.clock import Clock, StoppedClock, SystemClock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("clock", [SystemClock(), StoppedClock(NOON)], ids=["system", "stopped"])
def test_both_clocks_tell_aware_utc_and_never_run_backwards(clock: Clock) -> None:
    assert clock.now().utcoffset() == timedelta(0)
    assert clock.monotonic() <= clock.monotonic()


def test_a_stopped_clock_moves_both_of_its_times_when_told() -> None:
    clock = StoppedClock(NOON, monotonic=5.0)
    assert (clock.now(), clock.monotonic()) == (NOON, 5.0)
    clock.advance(1.5)
    assert (clock.now(), clock.monotonic()) == (NOON + timedelta(seconds=1.5), 6.5)
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)


def test_a_stopped_clock_takes_any_aware_time_and_no_other() -> None:
    east = timezone(timedelta(hours=2))
    assert StoppedClock(NOON.astimezone(east)).now().tzinfo is UTC
    with pytest.raises(ValueError, match="aware"):
        StoppedClock(NOON.replace(tzinfo=None))
