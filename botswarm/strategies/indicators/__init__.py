"""Indicators in two forms: over whole series at once, and one candle after the other.

Functions take arrays and give arrays of the same length, NaN until known. The class of the same
name gives, for each candle it is updated with, the very value the function has at that place.
"""

from __future__ import annotations

from botswarm.strategies.indicators.averages import Ema, Sma, Stddev, Wma, ema, sma, stddev, wma
from botswarm.strategies.indicators.momentum import (
    Cci,
    Macd,
    MacdLines,
    Mfi,
    Roc,
    Rsi,
    Stochastic,
    StochasticLines,
    WilliamsR,
    cci,
    macd,
    mfi,
    roc,
    rsi,
    stochastic,
    williams_r,
)
from botswarm.strategies.indicators.moves import (
    Adx,
    AdxLines,
    Atr,
    Supertrend,
    SupertrendLines,
    adx,
    atr,
    supertrend,
    true_range,
)
from botswarm.strategies.indicators.ranges import (
    Bands,
    Bollinger,
    Donchian,
    Keltner,
    around,
    bollinger,
    donchian,
    keltner,
)
from botswarm.strategies.indicators.series import Floats, Integers
from botswarm.strategies.indicators.volume import (
    Obv,
    SessionVwap,
    Vwap,
    obv,
    session_vwap,
    vwap,
)

__all__ = [
    "Adx",
    "AdxLines",
    "Atr",
    "Bands",
    "Bollinger",
    "Cci",
    "Donchian",
    "Ema",
    "Floats",
    "Integers",
    "Keltner",
    "Macd",
    "MacdLines",
    "Mfi",
    "Obv",
    "Roc",
    "Rsi",
    "SessionVwap",
    "Sma",
    "Stddev",
    "Stochastic",
    "StochasticLines",
    "Supertrend",
    "SupertrendLines",
    "Vwap",
    "WilliamsR",
    "Wma",
    "adx",
    "around",
    "atr",
    "bollinger",
    "cci",
    "donchian",
    "ema",
    "keltner",
    "macd",
    "mfi",
    "obv",
    "roc",
    "rsi",
    "session_vwap",
    "sma",
    "stddev",
    "stochastic",
    "supertrend",
    "true_range",
    "vwap",
    "williams_r",
    "wma",
]
