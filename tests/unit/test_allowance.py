"""What is asked of a venue: counted for all processes, never above its limits, bans obeyed."""

from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botswarm import exposition
from botswarm.clock import StoppedClock
from botswarm.exchanges import allowances
from botswarm.exchanges import board as board_module
from botswarm.exchanges.allowance import SHARES, Limit, Purpose, TooSoon
from botswarm.exchanges.binance import limits as binance
from botswarm.exchanges.board import BAN_AT, Board
from botswarm.exchanges.coinbase import limits as coinbase
from botswarm.exchanges.kraken import limits as kraken
from botswarm.exchanges.offset import OffsetTracker
from botswarm.exchanges.shared_allowance import SharedAllowance
from botswarm.exchanges.venue_meters import VenueMeters

TEN = Limit(name="ORDERS-10S", most=10, period_s=10, of_account=True, has_reserve=False)
WEIGHT = Limit(name="REQUEST_WEIGHT-1M", most=100, period_s=60)
COUNTER = Limit(name="COUNTER", most=20, decay_per_s=0.5, of_account=True)


@dataclass(slots=True)
class Time:
    """The time since the machine's start, which stands still until it is told to go on."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Desk:
    """An allowance whose time is in the test's hand."""

    limits: tuple[Limit, ...] = (TEN, WEIGHT, COUNTER)
    time: Time = field(default_factory=Time)
    file: Path | None = None
    made: SharedAllowance = field(init=False)

    def __post_init__(self) -> None:
        self.made = self.another()

    def another(self, account: str = "spot") -> SharedAllowance:
        board = Board(self.file, clock=self.time, wall=self.time)
        return SharedAllowance("binance", self.limits, board, account=account)

    def grants(self, cost: dict[str, int], purpose: Purpose = Purpose.PLACE) -> bool:
        try:
            self.made.spend(cost, purpose)
        except TooSoon:
            return False
        return True

    def granted(self, cost: dict[str, int], purpose: Purpose = Purpose.PLACE) -> int:
        """How many times, one after the other at the same moment."""
        times = 0
        while self.grants(cost, purpose):
            times += 1
        return times


# --- counting -------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.floats(0, 12, allow_nan=False), st.integers(1, 4), st.sampled_from(list(Purpose))
        ),
        max_size=150,
    ),
    offset=st.floats(0, 10),
    start=st.floats(0, 1e6),
)
def test_no_period_of_the_venue_ever_holds_more_than_its_limit(
    steps: list[tuple[float, int, Purpose]], offset: float, start: float
) -> None:
    desk = Desk(time=Time(start))
    taken: list[tuple[float, int]] = []
    for seconds, amount, purpose in steps:
        desk.time.now += seconds / 4
        if desk.grants({"ORDERS": amount}, purpose):
            taken.append((desk.time.now, amount))
    # Wherever the venue begins its periods, in round seconds or not.
    for moment, _ in taken:
        within = sum(each for at, each in taken if moment <= at < moment + TEN.period_s)
        assert within <= TEN.most
    windows: dict[int, int] = {}
    for at, amount in taken:
        window = int((at + offset) // TEN.period_s)
        windows[window] = windows.get(window, 0) + amount
    assert all(total <= TEN.most for total in windows.values())


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(st.tuples(st.floats(0, 20), st.integers(1, 8)), max_size=100),
)
def test_a_counter_that_decays_is_never_above_its_limit(steps: list[tuple[float, int]]) -> None:
    desk = Desk()
    level, at = 0.0, desk.time.now
    for seconds, amount in steps:
        desk.time.now += seconds
        if desk.grants({"COUNTER": amount}, Purpose.CANCEL):
            level = max(0.0, level - (desk.time.now - at) * COUNTER.decay_per_s) + amount
            at = desk.time.now
            assert level <= COUNTER.most + 1e-3


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.floats(0, 5), st.integers(0, 3), st.booleans()), min_size=1, max_size=150
    )
)
def test_what_the_venue_gives_back_may_be_used_again_and_its_limit_is_kept(
    steps: list[tuple[float, int, bool]],
) -> None:
    """A venue that counts within round periods, and takes back the orders that were filled."""
    desk = Desk()
    used, window = 0, 0
    for seconds, filled, is_told in steps:
        desk.time.now += seconds
        if int(desk.time.now // TEN.period_s) != window:
            used, window = 0, int(desk.time.now // TEN.period_s)
        used = max(0, used - filled)
        if desk.grants({"ORDERS": 1}):
            used += 1
            assert used <= TEN.most
            if is_told:
                desk.made.heard({"ORDERS-10S": used})


@pytest.mark.parametrize("part", range(20))
def test_what_was_spent_counts_for_the_whole_period_wherever_in_its_part_it_was(part: int) -> None:
    desk = Desk(time=Time(1000 + part * 0.01))
    assert desk.granted({"ORDERS": 1}) == 10
    desk.time.now += TEN.period_s - 0.001
    assert not desk.grants({"ORDERS": 1})
    desk.time.now += 0.2
    assert desk.grants({"ORDERS": 1})


def test_the_time_that_is_told_is_enough_to_wait() -> None:
    desk = Desk()
    for _ in range(10):
        assert desk.grants({"ORDERS": 1})
        desk.time.now += 0.3
    board = Board(clock=desk.time)
    count = board.count("x", TEN)
    count.add(10)
    wait_s = count.wait_s(1, 10, desk.time.now)
    desk.time.now += wait_s - 0.1
    assert board.count("x", TEN).wait_s(1, 10, desk.time.now) > 0
    desk.time.now += 0.11
    assert board.count("x", TEN).wait_s(1, 10, desk.time.now) == 0


def test_a_cost_is_taken_from_all_limits_of_its_family_or_from_none() -> None:
    day = Limit(name="ORDERS-1D", most=12, period_s=86_400, of_account=True, has_reserve=False)
    desk = Desk(limits=(TEN, day, WEIGHT))
    assert desk.granted({"ORDERS": 1, "REQUEST_WEIGHT": 1}) == 10
    desk.time.now += 11
    assert desk.granted({"ORDERS": 1, "REQUEST_WEIGHT": 1}) == 2
    used = {each.name: each.used for each in desk.made.used()}
    assert used == {"spot/ORDERS-10S": 2, "spot/ORDERS-1D": 12, "REQUEST_WEIGHT-1M": 12}


def test_accounts_have_orders_of_their_own_and_share_what_the_address_may_ask() -> None:
    desk = Desk(file=None)
    board = Board(clock=desk.time)
    first = SharedAllowance("binance", desk.limits, board, account="first")
    other = SharedAllowance("binance", desk.limits, board, account="other")
    for _ in range(10):
        first.spend({"ORDERS": 1, "REQUEST_WEIGHT": 7}, Purpose.PLACE)
    with pytest.raises(TooSoon, match=r"ORDERS-10S: 10 of 10 for this purpose; again in 10\.\d s"):
        first.spend({"ORDERS": 1}, Purpose.PLACE)
    other.spend({"ORDERS": 1, "REQUEST_WEIGHT": 10}, Purpose.PLACE)
    with pytest.raises(TooSoon, match="REQUEST_WEIGHT-1M: 80 of 80"):
        other.spend({"ORDERS": 1, "REQUEST_WEIGHT": 1}, Purpose.PLACE)


def test_each_market_has_a_counter_of_its_own_where_the_venue_has() -> None:
    desk = Desk(limits=kraken.LIMITS)
    assert desk.granted(kraken.placing("BTC-USD")) == 48
    assert desk.granted(kraken.placing("ETH-USD")) == 48
    assert desk.granted(kraken.cancelling("BTC-USD"), Purpose.CANCEL) == 1
    desk.made.heard({"TRADING:SOL-USD": 60})
    assert desk.granted(kraken.cancelling("SOL-USD"), Purpose.CANCEL) == 0


def test_what_is_less_urgent_leaves_a_reserve_and_cancels_use_all_of_it() -> None:
    left = {}
    for purpose in Purpose:
        desk = Desk()
        left[purpose] = desk.granted({"REQUEST_WEIGHT": 1}, purpose)
    assert left == {purpose: round(100 * share) for purpose, share in SHARES.items()}
    desk = Desk()
    assert desk.granted({"REQUEST_WEIGHT": 1}, Purpose.MARKET) == 60
    assert desk.granted({"REQUEST_WEIGHT": 1}, Purpose.PLACE) == 20
    assert desk.granted({"REQUEST_WEIGHT": 1}, Purpose.CANCEL) == 20
    assert desk.granted({"REQUEST_WEIGHT": 1}, Purpose.CANCEL) == 0


def test_one_question_dearer_than_its_share_goes_when_nothing_else_did() -> None:
    desk = Desk()
    assert desk.grants({"REQUEST_WEIGHT": 80}, Purpose.MARKET)
    assert not desk.grants({"REQUEST_WEIGHT": 80}, Purpose.MARKET)


# --- the venue's word -----------------------------------------------------------------------------


def test_what_others_used_up_is_counted_as_soon_as_the_venue_says_it() -> None:
    desk = Desk()
    assert desk.grants({"REQUEST_WEIGHT": 1})
    desk.made.heard({"REQUEST_WEIGHT-1M": 75})
    assert desk.granted({"REQUEST_WEIGHT": 1}) == 5


def test_a_low_word_counts_only_for_what_was_spent_well_before_it_was_asked_for() -> None:
    desk = Desk()
    for _ in range(6):
        assert desk.grants({"ORDERS": 1})
    desk.time.now += 5
    assert desk.grants({"ORDERS": 1})
    desk.made.heard({"ORDERS-10S": 1})
    # One that the venue counts, and the latest, which it may not have counted yet.
    assert desk.granted({"ORDERS": 1}) == 8


def test_a_low_word_that_nobody_asked_for_lowers_nothing() -> None:
    desk = Desk()
    assert desk.granted({"ORDERS": 1}) == 10
    desk.time.now += 5
    desk.made.heard({"ORDERS-10S": 5})
    desk.made.heard({"ORDERS-10S": 0})
    assert desk.granted({"ORDERS": 1}) <= 5


def test_the_limits_that_the_venue_tells_replace_what_was_believed() -> None:
    desk = Desk()
    told = {
        "rateLimits": [
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 4},
            {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 6},
        ]
    }
    desk.made.learn(binance.told(told))
    assert desk.granted({"ORDERS": 1}) == 4
    desk.time.now += 11
    assert desk.granted({"ORDERS": 1}) == 2


def test_limits_learned_by_one_process_hold_for_those_that_never_asked(tmp_path: Path) -> None:
    desk = Desk(file=tmp_path / "board.bin")
    other = desk.another()
    desk.made.learn([Limit(name="ORDERS-10S", most=3, period_s=10)])
    for _ in range(3):
        other.spend({"ORDERS": 1}, Purpose.PLACE)
    with pytest.raises(TooSoon):
        other.spend({"ORDERS": 1}, Purpose.PLACE)


def test_the_headers_of_an_answer_are_read_by_the_names_of_the_limits() -> None:
    headers = {"x-mbx-used-weight": "9", "x-mbx-used-weight-1m": "9", "x-mbx-order-count-10s": "2"}
    assert binance.used(headers) == {"REQUEST_WEIGHT-1M": 9, "ORDERS-10S": 2}
    assert binance.used({"x-mbx-used-weight-1m": "many"}) == {}


@pytest.mark.parametrize("limits", [binance.LIMITS, kraken.LIMITS, coinbase.LIMITS])
def test_every_limit_of_a_venue_either_has_a_period_or_decays(limits: tuple[Limit, ...]) -> None:
    assert all((each.period_s > 0) != (each.decay_per_s > 0) for each in limits)
    assert len({each.name for each in limits}) == len(limits)


# --- bans -----------------------------------------------------------------------------------------


def test_within_a_ban_nothing_goes_out_whatever_it_is_for_and_after_it_everything() -> None:
    desk = Desk()
    desk.made.banned(30, "the venue answered 418")
    for purpose in Purpose:
        with pytest.raises(TooSoon, match="30 s"):
            desk.made.spend({"REQUEST_WEIGHT": 1}, purpose)
    desk.time.now += 29.9
    with pytest.raises(TooSoon):
        desk.made.obey()
    desk.time.now += 0.2
    desk.made.obey()
    assert desk.grants({"REQUEST_WEIGHT": 1}, Purpose.CANCEL)


@pytest.mark.parametrize("told_s", [1e15, 1e308, float("inf")])
def test_a_ban_of_an_absurd_length_is_obeyed_for_days_and_breaks_nothing(told_s: float) -> None:
    desk = Desk()
    desk.made.banned(told_s, "418")
    with pytest.raises(TooSoon):
        desk.made.obey()
    desk.time.now += 7 * 86_400
    desk.made.obey()


def test_a_shorter_ban_does_not_shorten_a_longer_one() -> None:
    desk = Desk()
    desk.made.banned(300, "418")
    desk.made.banned(1, "429")
    assert desk.made.ban() == (300, "418")


def test_a_ban_is_obeyed_by_processes_that_start_within_it(tmp_path: Path) -> None:
    desk = Desk(file=tmp_path / "board.bin")
    desk.made.banned(300, "418")
    desk.made.close()
    desk.time.now += 100
    with pytest.raises(TooSoon, match="200 s"):
        desk.another("other").obey()


def test_a_ban_outlives_the_restart_of_the_machine(tmp_path: Path) -> None:
    file = tmp_path / "board.bin"
    Board(file, clock=lambda: 5000.0, wall=lambda: 1_000_000.0).ban(300, "418")
    again = Board(file, clock=lambda: 3.0, wall=lambda: 1_000_100.0, boot="another start")
    assert again.ban_left_s() == 200


# --- the venue's clock ----------------------------------------------------------------------------


def test_how_far_the_venues_clock_is_shows_for_every_process_and_in_the_metrics(
    tmp_path: Path,
) -> None:
    file = tmp_path / allowances.file_name("binance", "https://api.binance.com")
    allowance = SharedAllowance("binance", binance.LIMITS, Board(file), account="spot")
    clock = StoppedClock(datetime(2026, 3, 1, tzinfo=UTC))
    ahead = timedelta(seconds=0.75)
    tracker = OffsetTracker(clock, lambda: clock.now() + ahead, allowance.note_offset)
    tracker.check()
    found = Board(file).offset()
    assert found is not None
    assert found[0] == 0.75
    allowance.spend(binance.asking(600), Purpose.MARKET)
    allowance.banned(100, "429")
    shown = exposition.text(VenueMeters(tmp_path).collect()).decode()
    server = 'server="binance-api.binance.com"'
    assert f"botswarm_clock_offset_seconds{{{server}}} 0.75" in shown
    assert f'used_ratio{{limit="REQUEST_WEIGHT-1M",{server}}} 0.1' in shown
    assert f"botswarm_rate_limit_ban_seconds{{{server}}} 9" in shown


# --- processes ------------------------------------------------------------------------------------


def _spend_all(file: Path, until: float, granted: object) -> None:
    # A period that outlasts every stall of the machine.
    limit = Limit(name="ORDERS-1H", most=TEN.most, period_s=3600, has_reserve=False)
    allowance = SharedAllowance("binance", (limit,), Board(file), account="spot")
    times = []
    while time.time() < until:
        try:
            allowance.spend({"ORDERS": 1}, Purpose.PLACE)
            times.append(time.time())
        except TooSoon:
            time.sleep(0.0005)
    granted.put(times)  # type: ignore[attr-defined]


def test_many_processes_together_get_no_more_than_one_alone(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    granted = context.Queue()
    until = time.time() + 2
    file = tmp_path / "board.bin"
    processes = [context.Process(target=_spend_all, args=(file, until, granted)) for _ in range(8)]
    for process in processes:
        process.start()
    times = [at for _ in processes for at in granted.get(timeout=60)]
    for process in processes:
        process.join(30)
    assert len(times) == TEN.most


def test_a_forked_child_counts_with_its_parent(tmp_path: Path) -> None:
    desk = Desk(file=tmp_path / "board.bin")
    assert desk.grants({"ORDERS": 4})
    child = os.fork()
    if not child:
        os._exit(desk.granted({"ORDERS": 1}))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 6
    assert desk.granted({"ORDERS": 1}) == 0


HOLDER = """
import sys, time
from pathlib import Path
from botswarm.exchanges.board import Board
with Board(Path(sys.argv[1])).held() as is_held:
    print(is_held, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the lock and does not move."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "board.bin")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        process.send_signal(signal.SIGSTOP)
        yield process
        process.kill()


def test_a_frozen_process_that_holds_the_lock_stops_new_orders_and_nothing_else(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    desk = Desk(file=tmp_path / "board.bin")
    with pytest.raises(TooSoon):
        desk.made.spend({"ORDERS": 1}, Purpose.PLACE)
    desk.made.spend({"REQUEST_WEIGHT": 1}, Purpose.CANCEL)
    desk.made.heard({"REQUEST_WEIGHT-1M": 5})
    desk.made.banned(10, "429")
    with pytest.raises(TooSoon, match="10 s"):
        desk.made.obey()


def test_the_lock_of_a_killed_process_is_free_at_once(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    holder.kill()
    holder.wait()
    desk = Desk(file=tmp_path / "board.bin")
    assert desk.grants({"ORDERS": 1})


def test_where_the_file_cannot_be_used_this_process_counts_for_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    with caplog.at_level(logging.WARNING):
        desk = Desk(file=tmp_path / "state" / "board.bin")
        assert desk.granted({"ORDERS": 1}) == 10
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "only this process counts" in caplog.text


def test_a_file_of_garbage_is_begun_anew(tmp_path: Path) -> None:
    file = tmp_path / "board.bin"
    file.write_bytes(os.urandom(4096))
    assert Desk(file=file).granted({"ORDERS": 1}) == 10


def test_a_full_table_gives_up_the_market_that_was_used_least() -> None:
    desk = Desk(limits=kraken.LIMITS)
    for number in range(board_module.COUNTS_MAX + 20):
        assert desk.grants(kraken.placing(f"M{number}-USD"))
    assert desk.granted(kraken.placing("BTC-USD")) == 48


def test_the_lock_is_the_files_and_not_the_process(tmp_path: Path) -> None:
    board = Board(tmp_path / "board.bin")
    with board.held() as is_held:
        assert is_held
        other = os.open(tmp_path / "board.bin", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
    assert struct.calcsize("=36sdd128s") + BAN_AT < board_module.COUNTS_AT
