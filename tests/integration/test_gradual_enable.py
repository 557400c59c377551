"""Trading opens step by step over real orders, and steps back when they begin to fail."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest

from botswarm.domain.order import OrderState
from botswarm.ledger.halts import place_of
from botswarm.testing.servers import EmbeddedBrokerServer
from tests.campaign.gradual_enable import Opening, an_opening, with_burst, without_burst

HOLD_S = 4.0
"""Longer than the two seconds between looks, or a stage would be over before anybody saw it."""
SHORT_S = 2.0


@pytest.fixture(scope="module")
def opening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opening]:
    with (
        EmbeddedBrokerServer() as broker,
        an_opening(broker, tmp_path_factory.mktemp("opening")) as made,
    ):
        yield made


def test_a_burst_of_errors_makes_it_step_back_and_say_why(opening: Opening) -> None:
    back = with_burst(opening, HOLD_S)
    # On a machine that stalls the next stage may have begun before the orders were answered.
    found = re.search(r"stepped back from (\d+) % to (\d+) %: .*error_rate is ", back.event.words)
    assert found is not None, back.event.words
    assert int(found[1]) >= back.at_share
    assert int(found[2]) < int(found[1])
    assert Decimal((back.event.numbers or {})["figures"]["error_rate"]) > 5
    # Bots beyond the share were refused all the while, and passed at no stage.
    passed = opening.passed(opening.latest().at, back.event.at)
    assert passed
    assert max(place_of(bot) for bot in passed) < int(found[1])
    refused = opening.ledger.orders.list(states=[OrderState.REFUSED])
    assert any("reducing" in (order.reason or "") for order in refused)


def test_without_one_all_stages_come_in_order_and_none_too_early(opening: Opening) -> None:
    events = without_burst(opening, SHORT_S, (50, 100))
    assert [event.value for event in events] == [50, 100, 100]
    assert events[-1].words.endswith("all stages went well")
    pauses = [later.at - event.at for event, later in itertools.pairwise(events)]
    assert min(pauses) >= timedelta(seconds=SHORT_S)
    swarm = next(each for each in opening.ledger.halts.all() if each.scope == "swarm")
    assert swarm.share is None
