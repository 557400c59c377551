"""Scrapes are measured of the swarm that was wished for, or of none."""

from __future__ import annotations

import pytest

from botswarm import exposition, metrics
from botswarm.bench.metrics import cost_is_met
from botswarm.bench.scrapes import ACCEPT, Scraped, check_bots, made_bots
from botswarm.bench.watching import interval
from botswarm.errors import BotswarmError
from botswarm.families import Samples
from botswarm.strategies.registry import load


def told(**states: float) -> dict[str, Scraped]:
    samples = [Samples(metrics.BOTS, [((state,), many) for state, many in states.items()])]
    registry = exposition.registry(lambda: exposition.families(samples))
    page, _ = exposition.page(registry, ACCEPT)
    return {"feed": Scraped(pid=1), "ops": Scraped(pid=2, page=page)}


def test_all_bots_that_were_made_and_no_others_have_to_run() -> None:
    check_bots(told(running=10_000), 10_000)
    with pytest.raises(BotswarmError, match="told of: 9999 running, 1 failed"):
        check_bots(told(running=9999, failed=1), 10_000)
    with pytest.raises(BotswarmError, match="told of: none"):
        check_bots({"feed": Scraped(pid=1)}, 10_000)


def test_the_bots_have_strategies_that_there_are() -> None:
    catalog = load()
    assert {each.strategy for each in made_bots(30)} <= {*catalog.found}


def test_rounds_that_differ_by_more_than_the_limit_show_nothing() -> None:
    assert cost_is_met([(-0.1, 0.04), (0.0, 0.01)], []) is None
    assert cost_is_met([None, (0.0, 0.01)], []) is None
    assert cost_is_met([(-0.01, 0.02), (0.01, 0.029)], []) is True
    assert cost_is_met([(0.01, 0.02), (0.031, 0.05)], []) is False


def test_turns_that_are_compared_show_nothing_but_the_contrary() -> None:
    assert cost_is_met([(0.0, 0.01)], [(-0.1, 0.1), None]) is True
    assert cost_is_met([(0.0, 0.04)], [(-0.1, 0.0)]) is None
    assert cost_is_met([(0.0, 0.01)], [(0.031, 0.1)]) is False


def test_the_interval_of_rounds_is_students() -> None:
    """Five values with mean 3 and deviation 1.58: 3 +- 2.78 * 1.58 / sqrt(5)."""
    assert interval([1, 2, 3, 4, 5]) == pytest.approx((1.034, 4.966), abs=0.01)
    assert interval([2.0]) is None
