"""One allowance of several machines over Redis: the same arithmetic, and trading without Redis."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from botswarm.config import Secret
from botswarm.exchanges import redis_counts
from botswarm.exchanges.allowance import Limit, Purpose, TooSoon
from botswarm.exchanges.board import Board
from botswarm.exchanges.redis_counts import RedisCounts
from botswarm.exchanges.shared_allowance import SharedAllowance
from botswarm.testing.servers import RedisServer

HOUR = Limit(name="ORDERS-1H", most=60, period_s=3600, of_account=True, has_reserve=False)
TEN = Limit(name="ORDERS-10S", most=10, period_s=10, of_account=True, has_reserve=False)
WEIGHT = Limit(name="REQUEST_WEIGHT-1H", most=100, period_s=3600)
COUNTER = Limit(name="COUNTER", most=20, decay_per_s=0.5, of_account=True)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch, redis: RedisServer) -> None:
    """A machine that stalls for seconds is no Redis that has gone."""
    monkeypatch.setattr(redis_counts, "TIMEOUT_S", 20.0)
    Redis(port=redis.port).flushall()


def machine(
    server: RedisServer, name: str, limits: tuple[Limit, ...] = (HOUR, WEIGHT), address: str = "a"
) -> SharedAllowance:
    counts = RedisCounts(Secret(server.url()), "venue", machine=name, address=address)
    return SharedAllowance("venue", limits, Board(), account="spot", elsewhere=counts)


def granted(allowance: SharedAllowance, cost: dict[str, int], purpose: Purpose) -> int:
    times = 0
    try:
        while True:
            allowance.spend(cost, purpose)
            times += 1
    except TooSoon:
        return times


def test_machines_together_get_no_more_than_one_alone(redis: RedisServer) -> None:
    first, other = machine(redis, "first"), machine(redis, "other")
    for _ in range(30):
        first.spend({"ORDERS": 1}, Purpose.PLACE)
    assert granted(other, {"ORDERS": 1}, Purpose.PLACE) == 30
    assert granted(first, {"ORDERS": 1}, Purpose.PLACE) == 0


def test_machines_of_different_addresses_share_their_accounts_only(redis: RedisServer) -> None:
    first, other = machine(redis, "first"), machine(redis, "other", address="b")
    assert granted(first, {"REQUEST_WEIGHT": 1}, Purpose.CANCEL) == 100
    assert granted(other, {"REQUEST_WEIGHT": 1}, Purpose.CANCEL) == 100
    assert granted(first, {"ORDERS": 1}, Purpose.PLACE) == 60
    assert granted(other, {"ORDERS": 1}, Purpose.PLACE) == 0


def test_a_ban_told_to_one_machine_is_obeyed_by_the_next_question_of_the_others(
    redis: RedisServer,
) -> None:
    first, other = machine(redis, "first"), machine(redis, "other")
    first.banned(300, "418")
    with pytest.raises(TooSoon):
        other.spend({"REQUEST_WEIGHT": 1}, Purpose.CANCEL)
    assert other.ban()[0] > 200


def test_a_redis_without_memory_forgets_no_ban(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_counts, "AGAIN_S", 0.0)
    machine(redis, "told").banned(60, "slow down")
    server = Redis(port=redis.port)
    server.config_set("maxmemory", 1)
    try:
        # Counted by this machine alone for now.
        machine(redis, "second").spend({"ORDERS": 1}, Purpose.PLACE)
    finally:
        server.config_set("maxmemory", 0)
    with pytest.raises(TooSoon):
        machine(redis, "third").spend({"ORDERS": 1}, Purpose.PLACE)


def test_limits_and_words_of_the_venue_hold_for_all_machines(redis: RedisServer) -> None:
    first, other = machine(redis, "first"), machine(redis, "other")
    first.learn([Limit(name="ORDERS-1H", most=20, period_s=3600)])
    first.spend({"ORDERS": 1}, Purpose.PLACE)
    first.heard({"ORDERS-1H": 15})
    assert granted(other, {"ORDERS": 1}, Purpose.PLACE) == 5


@dataclass(slots=True)
class Time:
    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("seed", range(4))
def test_redis_answers_as_the_file_does(redis: RedisServer, seed: int) -> None:
    """The same questions, words and pauses for both, by one clock."""
    dice, at = random.Random(seed), Time()
    limits = (TEN, WEIGHT, COUNTER)
    counts = RedisCounts(Secret(redis.url()), f"same{seed}", machine="one", now=at)
    # The board of the one over Redis is of no account here: it only answers without Redis.
    over_redis = SharedAllowance(
        "venue", limits, Board(clock=at, wall=at), account="spot", elsewhere=counts
    )
    by_file = SharedAllowance("venue", limits, Board(clock=at, wall=at), account="spot")
    for _ in range(300):
        at.now += dice.choice([0.0, 0.01, 0.2, 1.5, 7.0])
        family, purpose = (
            dice.choice(["ORDERS", "REQUEST_WEIGHT", "COUNTER"]),
            dice.choice(list(Purpose)),
        )
        cost = {family: dice.randint(1, 4)}
        answers = []
        for allowance in (over_redis, by_file):
            try:
                allowance.spend(cost, purpose)
                answers.append(True)
            except TooSoon:
                answers.append(False)
        assert answers[0] is answers[1], (cost, purpose)
        if answers[0] and dice.random() < 0.4:
            name = {"ORDERS": "ORDERS-10S", "REQUEST_WEIGHT": "REQUEST_WEIGHT-1H"}.get(family)
            if name is not None:
                used = {name: dice.randint(0, 12)}
                over_redis.heard(used)
                by_file.heard(used)


def test_without_redis_each_machine_keeps_to_its_part_and_says_so_once(
    redis: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = machine(redis, "first"), machine(redis, "other")
    for each in (first, other, first):
        each.spend({"REQUEST_WEIGHT": 1}, Purpose.CANCEL)
    monkeypatch.setattr(redis_counts, "AGAIN_S", 0.0)
    redis.stop()
    try:
        with caplog.at_level(logging.WARNING):
            alone = [granted(each, {"ORDERS": 1}, Purpose.PLACE) for each in (first,)]
        assert alone == [30]
        assert len([each for each in caplog.records if "one of 2" in each.message]) == 1
    finally:
        redis.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        # Counted over Redis again: what it knew before it went is in its own file.
        granted(other, {"ORDERS": 1}, Purpose.PLACE)
        if Redis(port=redis.port).exists("{venue}"):
            break
        time.sleep(0.1)
    assert Redis(port=redis.port).exists("{venue}")


@pytest.mark.parametrize("garbage", [b"\x93\x01", "not a map", "\x80"])
def test_garbage_in_redis_is_counted_anew(redis: RedisServer, garbage: str | bytes) -> None:
    client = Redis(port=redis.port)
    client.set("{venue}", garbage)
    assert granted(machine(redis, "first"), {"ORDERS": 1}, Purpose.PLACE) == 60
    for name in client.hkeys("{venue}"):
        client.hset("{venue}", name, garbage)
    assert granted(machine(redis, "first"), {"ORDERS": 1}, Purpose.PLACE) == 60
    client.flushall()
    assert granted(machine(redis, "first"), {"ORDERS": 1}, Purpose.PLACE) == 60


def test_where_no_redis_was_ever_seen_a_machine_counts_alone(tmp_path: Path) -> None:
    counts = RedisCounts(Secret("redis://127.0.0.1:1/0"), "venue", machine="one")
    alone = SharedAllowance("venue", (HOUR,), Board(), account="spot", elsewhere=counts)
    assert granted(alone, {"ORDERS": 1}, Purpose.PLACE) == 60
