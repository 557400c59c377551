"""Whoever asks how the feed is gets an answer again right after the broker is back."""

from __future__ import annotations

import pytest

from botswarm.errors import Unreachable
from botswarm.feed import reception
from botswarm.feed.reception import Reception
from botswarm.testing.servers import EmbeddedBrokerServer, wait_until


def test_a_broker_that_was_lost_is_tried_again_soon_however_long_it_took_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reception, "RETRY_S", 0.01)
    with EmbeddedBrokerServer() as broker:
        missing = [Unreachable("no broker has been started")] * 9

        def url() -> str:
            if missing:
                raise missing.pop()
            return broker.url()

        asked = Reception(url, dict)
        asked.start()
        wait_until(lambda: asked.connects == 1, "a connection", 10)
        monkeypatch.setattr(reception, "RETRY_MAX_S", 60.0)
        broker.restart()
        wait_until(lambda: asked.connects == 2, "the next connection", 4)
        asked.stop()
