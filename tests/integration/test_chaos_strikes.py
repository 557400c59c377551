"""A strike that fails leaves no server behind on which the later ones would fail as well."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

from botswarm.chaos.campaign.plan import Fault, Strike
from botswarm.chaos.campaign.runner import Runner
from botswarm.chaos.campaign.stage import Stage
from botswarm.errors import TimedOut
from botswarm.testing.servers import RedisServer


def test_a_server_that_a_failed_strike_left_dead_is_started_anew() -> None:
    def strike(stage: Any, _: random.Random) -> str:
        stage.redis.kill()
        raise TimedOut("it did not come back")

    fault = Fault(code="F15", words="killed for good", strike=strike, about_s=1, holds=("cache",))
    with RedisServer() as redis:
        stage = cast("Stage", SimpleNamespace(redis=redis, servers={"cache": redis}))
        runner = Runner(
            stage, [Strike(fault=fault, round=1, at_s=0.0, lasts_s=1.0)], 1, lambda line: None
        )
        runner.heal = lambda: None  # type: ignore[method-assign]  # there is nothing else here
        runner.run()
        assert redis.answers
        assert "did not come back; redis was started anew" in runner.notes[0].failed
