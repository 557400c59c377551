"""What the ``ops`` queue does once a day or hour: old rows, candles, keys, the day's report."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from functools import lru_cache

from botswarm.clock import SystemClock
from botswarm.config import Secret, Settings
from botswarm.domain.market import TIMEFRAMES_S
from botswarm.keys import ages
from botswarm.ledger import retention
from botswarm.ledger.candles import Candles
from botswarm.ledger.exchange_keys import ExchangeKeys
from botswarm.ledger.reports import Reports
from botswarm.ledger.session import Database
from botswarm.messages import CheckKeys, KeepCandles, PruneHistory, ReportDay
from botswarm.queueing import current_settings, task
from workers import certificates

logger = logging.getLogger(__name__)

MINUTE_S, HOUR_S = 60, 3600
DAY_MS = 86_400_000


@task(PruneHistory)
def prune_history() -> dict[str, int]:
    """Harmless however often it runs: what is gone is gone."""
    settings = current_settings()
    database = _database(settings.database_url, os.getpid())
    gone = retention.prune(database, SystemClock().now(), settings.history_days_kept)
    return dict(gone)


@task(KeepCandles)
def keep_candles() -> dict[str, int]:
    """Harmless however often it runs. Holes are said, and filled by whoever needs the candles."""
    settings = current_settings()
    candles = Candles(_database(settings.database_url, os.getpid()))
    now_ms = int(SystemClock().now().timestamp() * 1000)
    gone = 0
    for timeframe in TIMEFRAMES_S:
        days = _days_kept(timeframe, settings)
        if days is not None:
            gone += candles.prune(timeframe, now_ms - days * DAY_MS)
    holes = candles.holes(now_ms - DAY_MS)
    for (venue, symbol, timeframe), missing in sorted(holes.items()):
        logger.info("%s %s lacks %d candles of %s in a day", venue, symbol, missing, timeframe)
    return {"deleted": gone, "missing": sum(holes.values()), "series_with_holes": len(holes)}


def _days_kept(timeframe: str, settings: Settings) -> int | None:
    """None is for ever."""
    if TIMEFRAMES_S[timeframe] < MINUTE_S:
        return settings.evaluation_days_kept + 1
    return settings.candle_days_kept if TIMEFRAMES_S[timeframe] < HOUR_S else None


@task(CheckKeys)
def check_keys() -> str:
    """Harmless however often it runs: it looks, and says what is old. The check of health
    ``keys`` tells what it answers, and an empty answer is none to tell.
    """
    settings = current_settings()
    keys = ExchangeKeys(_database(settings.database_url, os.getpid())).all()
    most = timedelta(days=settings.key_days_max)
    found = ages.too_old(keys, settings, SystemClock().now(), most)
    for endpoint in certificates.endpoints(settings):
        words = certificates.ending(endpoint, settings.feed_certificate_days_min)
        if words is not None:
            found.append(words)
    for words in found:
        logger.warning("%s", words)
    return "; ".join(found)


@task(ReportDay)
def report_day() -> str:
    """Harmless however often it runs: it adds up the day before again."""
    now = SystemClock().now()
    day = (now - timedelta(days=1)).date()
    report = Reports(_database(current_settings().database_url, os.getpid())).make(day, now)
    orders, fills = (sum(report.data[name].values()) for name in ("orders", "fills"))
    words = (
        f"{day}: {orders} orders, {fills} fills, realised {report.data['realised'] or 'nothing'}"
    )
    logger.info("%s", words)
    return words


@lru_cache(maxsize=1)
def _database(url: Secret, pid: int) -> Database:
    """One pool for each process: connections do not survive a fork."""
    return Database(url)
