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
    assert re.search(r"stepped back from (25 % to 10|50 % to 25) %: error_rate", back.event.words)
    numbers = back.event.numbers or {}
    assert Decimal(numbers["figures"]["error_rate"]) > 5
    # At every stage orders of bots beyond its share were refused, and never sent.
    refused = opening.ledger.orders.list(states=[OrderState.REFUSED])
    assert {place_of(order.bot) >= 10 for order in refused} == {True}
    assert any("reducing" in (order.reason or "") for order in refused)


def test_without_one_all_stages_come_in_order_and_none_too_early(opening: Opening) -> None:
    events = without_burst(opening, SHORT_S, (50, 100))
    assert [event.value for event in events] == [50, 100, 100]
    assert events[-1].words.endswith("all stages went well")
    pauses = [later.at - event.at for event, later in itertools.pairwise(events)]
    assert min(pauses) >= timedelta(seconds=SHORT_S)
    swarm = next(each for each in opening.ledger.halts.all() if each.scope == "swarm")
    assert swarm.share is None
