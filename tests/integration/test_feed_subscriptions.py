"""Streams are asked for and left on a running feed, and no other stream notices."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence

from botswarm.bench.stream_server import StreamServer
from botswarm.config import Secret
from botswarm.ledger import migrate
from botswarm.ledger.session import Database
from botswarm.testing.servers import EmbeddedBrokerServer
from tests.integration.feed_process import FeedProcess, Reader

ALWAYS, ADDED = 30, 250
"""Markets; each brings trades and quotes."""
WITHIN_S = 30.0


def said(words: Sequence[str], markets: Sequence[str], database_url: str) -> None:
    plain = {name: value for name, value in os.environ.items() if "BOTSWARM" not in name}
    run = subprocess.run(
        [sys.executable, "-m", "botswarm", "feed", *words, *markets],
        env=plain | {"DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_adding_and_removing_500_subscriptions_disturbs_no_other_stream() -> None:
    with (
        StreamServer(markets=ALWAYS + ADDED, trades_per_s=560, quotes_per_s=140) as venue,
        EmbeddedBrokerServer() as broker,
    ):
        database_url = f"sqlite:///{venue.data / 'ledger.db'}"
        with contextlib.closing(Database(Secret(database_url))) as database:
            migrate.migrate(database, wait_s=0)
        always, added = venue.symbols[:ALWAYS], venue.symbols[ALWAYS:]
        feed = FeedProcess(
            venue.state_dir,
            broker.url(),
            database_url=database_url,
            settings={"BOTSWARM_FEED_MARKETS": ",".join(always)},
        )
        with feed, contextlib.closing(Reader(broker.url(), "simulated.*.trade")) as reader:

            def all_told(symbols: Sequence[str], more: int) -> bool:
                return all(len(reader.trades.get(symbol, ())) >= more for symbol in symbols)

            assert reader.read_until(lambda: all_told(always, 3), WITHIN_S)
            said(["subscribe"], added, database_url)
            assert reader.read_until(lambda: all_told(added, 3), WITHIN_S)
            said(["unsubscribe"], added, database_url)
            assert reader.read_until(lambda: quiet(reader, added), WITHIN_S)
            before = {symbol: max(reader.trades[symbol]) for symbol in always}
            assert reader.read_until(
                lambda: all(max(reader.trades[s]) > before[s] + 2 for s in always), WITHIN_S
            )
            for symbol in always:
                ids = sorted(reader.trades[symbol])
                assert ids == list(range(ids[0], ids[-1] + 1)), symbol
            assert reader.repeated == 0
            assert not any(batch.missing or batch.is_recovered for batch in reader.batches)
            feed.stop()
            assert feed.said("gaps 0 (trades missed 0, recovered 0), duplicates 0")
            assert not feed.said("ended:")


def quiet(reader: Reader, symbols: Sequence[str]) -> bool:
    """Whether nothing of these comes any more."""
    before = sum(len(reader.trades[symbol]) for symbol in symbols)
    reader.read_until(lambda: False, 1.0)
    return sum(len(reader.trades[symbol]) for symbol in symbols) == before
