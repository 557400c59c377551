"""What is no market is refused before anybody keeps it, or asks a venue for it."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from botswarm.cli.feed_subscribe import subscribe
from botswarm.cli.session import Session


@pytest.mark.parametrize("market", ["X", "BTC-USD#.*", "BTC USDT", "A-B-C", "-X", "A-" + 300 * "X"])
def test_text_that_is_no_market_is_refused(market: str) -> None:
    ended = CliRunner().invoke(
        subscribe, ["--venue", "kraken", "--", market], obj=Session(environ={})
    )
    assert ended.exit_code == 2
    assert "is no market: write BASE-QUOTE" in ended.output
