"""Writes tests/data/indicators.json: a market's candles and what TA-Lib makes of them.

TA-Lib is no dependency, of the tests neither: its values do not change. To record them anew, in
any environment: pip install TA-Lib, then python -m tests.campaign.record_indicators
"""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import numpy
from numpy.typing import NDArray

FILE = Path(__file__).parents[1] / "data" / "indicators.json"
COUNT = 160


def candles() -> dict[str, NDArray[numpy.float64]]:
    """A random walk with trends, and with candles that do not move at all."""
    random = numpy.random.default_rng(20)
    steps = random.normal(0, 0.8, COUNT) + 0.5 * numpy.sin(numpy.arange(COUNT) / 12)
    close = numpy.round(200 + numpy.cumsum(steps), 2)
    close[70:74] = close[69]
    before = numpy.concatenate([close[:1], close[:-1]])
    high = numpy.round(numpy.maximum(before, close) + numpy.abs(random.normal(0, 0.4, COUNT)), 2)
    low = numpy.round(numpy.minimum(before, close) - numpy.abs(random.normal(0, 0.4, COUNT)), 2)
    volume = numpy.round(random.gamma(2.0, 3.0, COUNT), 3)
    return {"open": before, "high": high, "low": low, "close": close, "volume": volume}


def main() -> None:
    talib = importlib.import_module("talib")
    shown = candles()
    high, low, close, volume = (shown[name] for name in ("high", "low", "close", "volume"))
    upper, middle, lower = talib.BBANDS(close, 20, 2, 2)
    line, signal, histogram = talib.MACD(close, 12, 26, 9)
    k, d = talib.STOCH(high, low, close, 14, 3, 0, 3, 0)
    values = {
        "sma": talib.SMA(close, 10),
        "ema": talib.EMA(close, 10),
        "wma": talib.WMA(close, 10),
        "stddev": talib.STDDEV(close, 10),
        "rsi": talib.RSI(close, 14),
        "roc": talib.ROC(close, 10),
        "macd.line": line,
        "macd.signal": signal,
        "macd.histogram": histogram,
        "bollinger.lower": lower,
        "bollinger.middle": middle,
        "bollinger.upper": upper,
        "atr": talib.ATR(high, low, close, 14),
        "adx.adx": talib.ADX(high, low, close, 14),
        "adx.plus": talib.PLUS_DI(high, low, close, 14),
        "adx.minus": talib.MINUS_DI(high, low, close, 14),
        "stochastic.k": k,
        "stochastic.d": d,
        "donchian.lower": talib.MIN(low, 20),
        "donchian.upper": talib.MAX(high, 20),
        "obv": talib.OBV(close, volume),
        "cci": talib.CCI(high, low, close, 14),
        "williams_r": talib.WILLR(high, low, close, 14),
        "mfi": talib.MFI(high, low, close, volume, 14),
    }
    told = {
        "by": f"TA-Lib {talib.__version__}",
        "candles": {name: each.tolist() for name, each in shown.items()},
        "values": {
            name: [None if math.isnan(each) else each for each in series.tolist()]
            for name, series in values.items()
        },
    }
    FILE.write_text(json.dumps(told, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
