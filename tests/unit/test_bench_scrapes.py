"""Scrapes are measured of the swarm that was wished for, or of none."""

from __future__ import annotations

import pytest

from botswarm import exposition, metrics
from botswarm.bench.metrics import cost_is_met
from botswarm.bench.scrapes import ACCEPT, Scraped, check_bots, made_bots
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
    assert cost_is_met(-0.1, 0.02) is None
    assert cost_is_met(0.01, 0.02) is True
    assert cost_is_met(0.02, 0.04) is False
