"""Both forms of each indicator agree, and they give the values recorded of TA-Lib."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botswarm.strategies import indicators
from botswarm.strategies.api import Candles
from botswarm.strategies.candles import WINDOWED
from botswarm.strategies.indicators import Floats

RECORDED = json.loads((Path(__file__).parents[1] / "data" / "indicators.json").read_text())
HLC = ("high", "low", "close")
HLCV = (*HLC, "volume")
CLOSE = ("close",)
DAY_MS = 86_400_000
# Name, the columns it is updated with, and its parameters; the class has the name in capitals.
FORMS: Mapping[str, tuple[tuple[str, ...], tuple[Any, ...]]] = {
    "sma": (CLOSE, (5,)),
    "ema": (CLOSE, (5,)),
    "wma": (CLOSE, (5,)),
    "stddev": (CLOSE, (5,)),
    "rsi": (CLOSE, (4,)),
    "roc": (CLOSE, (3,)),
    "macd": (CLOSE, (3, 6, 4)),
    "bollinger": (CLOSE, (5, 2.0)),
    "stochastic": (HLC, (5, 3, 2)),
    "williams_r": (HLC, (5,)),
    "cci": (HLC, (5,)),
    "mfi": (HLCV, (4,)),
    "atr": (HLC, (4,)),
    "adx": (HLC, (3,)),
    "supertrend": (HLC, (4, 2.0)),
    "donchian": (("high", "low"), (5,)),
    "keltner": (HLC, (4, 1.5)),
    "vwap": (HLCV, (5,)),
    "session_vwap": (("open_ms", *HLCV), ()),
    "obv": (("close", "volume"), ()),
}
each_form = pytest.mark.parametrize("name", FORMS)


def some(rows: Sequence[tuple[int, int, int, int]]) -> Candles:
    """From close, and how far the high and the low are from it; quiet stretches included."""
    close = numpy.array([row[0] / 100 for row in rows])
    return Candles(
        open_ms=numpy.arange(len(rows), dtype=numpy.int64) * (DAY_MS // 8),
        open=close,
        high=close + [row[1] / 100 for row in rows],
        low=numpy.maximum(close - [row[2] / 100 for row in rows], 0.01),
        close=close,
        volume=numpy.array([row[3] / 1000 for row in rows]),
    )


prices = st.integers(100, 10**7)
moves = st.integers(0, 500)
candles = st.lists(
    st.tuples(
        prices | st.just(5000), moves | st.just(0), moves | st.just(0), st.integers(0, 10**6)
    ),
    min_size=1,
    max_size=40,
).map(some)


def columns(shown: Candles, names: Sequence[str]) -> list[Any]:
    return [getattr(shown, name) for name in names]


def whole(name: str, shown: Candles) -> Floats:
    """One row per line of the indicator."""
    names, parameters = FORMS[name]
    answer = getattr(indicators, name)(*columns(shown, names), *parameters)
    return numpy.array(answer if isinstance(answer, tuple) else [answer])


def updated(name: str, shown: Candles) -> Floats:
    names, parameters = FORMS[name]
    form: Callable[..., Any] = getattr(indicators, name.title().replace("_", ""))
    running = form(*parameters)
    rows: Iterator[Any] = zip(*(each.tolist() for each in columns(shown, names)), strict=True)
    answers = [running.update(*row) for row in rows]
    return numpy.array([each if isinstance(each, tuple) else (each,) for each in answers]).T


@each_form
@settings(max_examples=40)
@given(shown=candles)
def test_both_forms_agree(name: str, shown: Candles) -> None:
    one, other = whole(name, shown), updated(name, shown)
    assert one.shape == other.shape
    # Differences of large prices are known no better than the prices themselves.
    scale = max(1.0, float(numpy.abs(shown.close).max()))
    numpy.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12 * scale, equal_nan=True)


@each_form
@settings(max_examples=40)
@given(shown=candles)
def test_an_indicator_is_known_for_good_once_it_is_known(name: str, shown: Candles) -> None:
    for line in whole(name, shown):
        known = ~numpy.isnan(line)
        assert known[numpy.argmax(known) :].all() or not known.any()
        assert not numpy.isinf(line).any()


@each_form
@settings(max_examples=40)
@given(shown=candles, cut=st.integers(1, 39))
def test_what_comes_later_changes_nothing(name: str, shown: Candles, cut: int) -> None:
    early = Candles(**{each: getattr(shown, each)[:cut] for each in ("open_ms", "open", *HLCV)})
    numpy.testing.assert_array_equal(whole(name, early), whole(name, shown)[:, :cut])


@pytest.mark.parametrize("name", sorted(WINDOWED))
@settings(max_examples=40)
@given(shown=candles, cut=st.integers(10, 39))
def test_a_window_gives_the_same_however_much_is_before_it(
    name: str, shown: Candles, cut: int
) -> None:
    latest = shown.latest(min(cut, len(shown)))
    if len(latest) >= 10:
        numpy.testing.assert_array_equal(whole(name, latest)[:, -1], whole(name, shown)[:, -1])


@each_form
def test_a_series_that_does_not_move_breaks_nothing(name: str) -> None:
    flat = some([(3333, 0, 0, 0)] * 40)
    for line in whole(name, flat):
        assert math.isfinite(line[-1])


@each_form
def test_a_series_that_is_too_short_is_unknown_and_no_error(name: str) -> None:
    for count in (1, 2):
        for line in whole(name, some([(100, 1, 1, 1)] * count)):
            assert len(line) == count


WARM_UP = {
    **dict.fromkeys(("sma", "wma", "stddev", "bollinger", "donchian", "vwap"), 5),
    **dict.fromkeys(("williams_r", "cci"), 5),
    "stochastic": 5 + 3 + 2,
    "roc": 3 + 1,
    "mfi": 4 + 1,
    "ema": 4 * 5,
    "macd": 4 * 6 + 4,
    **dict.fromkeys(("rsi", "atr", "keltner"), 5 * 4 + 1),
    "adx": 10 * 3,
    "supertrend": 10 * 4 + 1,
    "obv": 1,
    "session_vwap": 1,
}


@each_form
def test_with_the_warm_up_of_the_guide_every_line_is_known(name: str) -> None:
    for line in whole(name, some([(5000 + 7 * n % 90, 9, 4, 10) for n in range(WARM_UP[name])])):
        assert math.isfinite(line[-1])


@pytest.mark.parametrize("name", ["ema", "rsi", "atr"])
def test_after_the_warm_up_what_came_before_hardly_counts(name: str) -> None:
    shown = recorded()
    long = getattr(shown, name)(10)[-1]
    short = getattr(shown.latest(4 * 10 if name == "ema" else 5 * 10 + 1), name)(10)[-1]
    assert short == pytest.approx(long, rel=0.02)


@each_form
def test_candles_offer_it_and_compute_it_once(name: str) -> None:
    shown = some([(5000 + 7 * n % 90, 9, 4, 10) for n in range(40)])
    offered: Callable[..., Any] = getattr(shown, name)
    first = offered(*FORMS[name][1])
    assert offered(*FORMS[name][1]) is first
    lines = numpy.array(first if isinstance(first, tuple) else [first])
    numpy.testing.assert_array_equal(lines, whole(name, shown))


# --- held to others -------------------------------------------------------------------------------

AS_RECORDED: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(("sma", "ema", "wma", "stddev", "roc"), (10,)),
    **dict.fromkeys(("rsi", "atr", "adx", "cci", "williams_r", "mfi"), (14,)),
    "macd": (12, 26, 9),
    "bollinger": (20, 2.0),
    "stochastic": (14, 3, 3),
    "donchian": (20,),
    "obv": (),
}


def recorded() -> Candles:
    shown: dict[str, Any] = {name: numpy.array(each) for name, each in RECORDED["candles"].items()}
    return Candles(open_ms=numpy.arange(len(shown["close"]), dtype=numpy.int64), **shown)


@pytest.mark.parametrize("name", RECORDED["values"])
def test_an_indicator_gives_the_values_of_ta_lib(name: str) -> None:
    indicator, _, line = name.partition(".")
    found = getattr(recorded(), indicator)(*AS_RECORDED[indicator])
    found = getattr(found, line) if line else found
    expected = [math.nan if each is None else each for each in RECORDED["values"][name]]
    known = ~numpy.isnan(numpy.array(expected))
    assert known.sum() > 80
    # TA-Lib begins some lines later, where another of the same indicator begins.
    assert numpy.isnan(found[: numpy.argmax(known)]).all() or indicator in ("macd", "stochastic")
    numpy.testing.assert_allclose(found[known], numpy.array(expected)[known], rtol=1e-9, atol=1e-9)


def test_a_vwap_is_what_was_paid_by_what_was_traded() -> None:
    shown = some([(100, 0, 0, 1000), (200, 0, 0, 3000), (400, 0, 0, 0), (500, 0, 0, 0)])
    assert shown.vwap(2).tolist()[1:] == pytest.approx([1.75, 2.0, 4.5])
    assert shown.session_vwap().tolist() == pytest.approx([1.0, 1.75, 1.75, 1.75])


def test_a_sessions_vwap_begins_anew_at_midnight() -> None:
    shown = some([(100 + n, 0, 0, 1000) for n in range(9)])
    assert shown.session_vwap()[7] == pytest.approx(1.035)
    assert shown.session_vwap()[8] == pytest.approx(1.08)


def test_a_supertrend_turns_where_the_price_goes_through_it_and_only_tightens() -> None:
    closes = [*range(100, 130), *range(130, 90, -2), *range(90, 120)]
    shown = some([(close * 100, 50, 50, 1) for close in closes])
    line, direction = shown.supertrend(5, 2.0)
    assert sorted(set(direction[5:].tolist())) == [-1.0, 1.0]
    turns = numpy.flatnonzero(numpy.diff(direction[5:])) + 6
    assert len(turns) == 2
    for place in range(6, len(closes)):
        rising = direction[place] > 0
        assert (shown.close[place] > line[place]) == rising
        if place not in turns:
            assert (line[place] >= line[place - 1]) if rising else (line[place] <= line[place - 1])
    assert shown.close[turns[0]] < line[turns[0] - 1]
    assert shown.close[turns[1]] > line[turns[1] - 1]


def test_keltner_bands_lie_average_ranges_around_the_average() -> None:
    shown = recorded()
    lower, middle, upper = shown.keltner(10, 1.5)
    numpy.testing.assert_array_equal(middle, shown.ema(10))
    numpy.testing.assert_allclose((upper - lower)[10:], 3.0 * shown.atr(10)[10:], rtol=1e-9)
