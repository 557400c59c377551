"""Indicators give what a person computes by hand."""

from __future__ import annotations

from decimal import Decimal, getcontext
from itertools import pairwise

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botswarm.strategies.indicators import ema, rsi, sma

PRICES = st.lists(st.integers(1, 10**7).map(lambda n: n / 100), min_size=1, max_size=60)
LENGTHS = st.integers(1, 20)


def close_to(found: float, exact: Decimal) -> bool:
    return abs(Decimal(found) - exact) <= Decimal("1e-7") * max(abs(exact), Decimal(1))


def test_averages_of_a_few_numbers_are_what_one_reckons_in_the_head() -> None:
    values = numpy.array([1.0, 2.0, 3.0, 6.0, 3.0])
    assert sma(values, 3).tolist()[2:] == [2.0, 11 / 3, 4.0]
    # Begins with the simple average 2, then half of each new value.
    assert ema(values, 3).tolist()[2:] == [2.0, 4.0, 3.5]
    assert numpy.isnan(sma(values, 3)[:2]).all()
    assert numpy.isnan(ema(values, 3)[:2]).all()


def test_the_rsi_of_a_few_numbers_is_what_one_reckons_in_the_head() -> None:
    # Steps +1, -1, then +2: average gain 1/2 and loss 1/2, then (1/2 + 2) / 2 and 1/4.
    strengths = rsi(numpy.array([10.0, 11.0, 10.0, 12.0]), 2)
    assert numpy.isnan(strengths[:2]).all()
    assert strengths[2:].tolist() == pytest.approx([50.0, 100 * 1.25 / 1.5])


def test_the_rsi_ends_at_its_bounds_and_stands_in_the_middle_of_nothing() -> None:
    assert rsi(numpy.arange(1.0, 9.0), 3)[-1] == 100.0
    assert rsi(numpy.arange(9.0, 1.0, -1.0), 3)[-1] == 0.0
    assert rsi(numpy.full(8, 5.0), 3)[-1] == 50.0


def test_wilders_own_kind_of_series_gives_the_published_value() -> None:
    """The worked example that every textbook copies: 14 periods, first value 70.53."""
    closes = [44.3389, 44.0902, 44.1497, 43.6124, 44.3278, 44.8264, 45.0955, 45.4245, 45.8433,
              46.0826, 45.8931, 46.0328, 45.6140, 46.2820, 46.2820, 46.0028, 46.0328]  # fmt: skip
    assert rsi(numpy.array(closes), 14)[14:].tolist() == pytest.approx(
        [70.53, 66.32, 66.55], abs=0.006
    )


@given(PRICES, LENGTHS)
def test_indicators_agree_with_exact_loops(prices: list[float], length: int) -> None:
    getcontext().prec = 40
    exact = [Decimal(price) for price in prices]
    values = numpy.array(prices)
    _agree(sma(values, length).tolist(), _exact_sma(exact, length))
    _agree(ema(values, length).tolist(), _exact_ema(exact, length))
    _agree(rsi(values, length).tolist(), _exact_rsi(exact, length))


def _agree(found: list[float], exact: list[Decimal | None]) -> None:
    assert len(found) == len(exact)
    for one, other in zip(found, exact, strict=True):
        assert (other is None) == bool(numpy.isnan(one))
        assert other is None or close_to(one, other)


def _exact_sma(values: list[Decimal], length: int) -> list[Decimal | None]:
    return [
        sum(values[end - length : end], Decimal(0)) / length if end >= length else None
        for end in range(1, len(values) + 1)
    ]


def _exact_ema(values: list[Decimal], length: int) -> list[Decimal | None]:
    averages: list[Decimal | None] = []
    for end in range(1, len(values) + 1):
        before = averages[-1] if averages else None
        if end < length:
            averages.append(None)
        elif before is None:
            averages.append(sum(values[:length], Decimal(0)) / length)
        else:
            averages.append((2 * values[end - 1] + (length - 1) * before) / (length + 1))
    return averages


def _exact_rsi(values: list[Decimal], length: int) -> list[Decimal | None]:
    strengths: list[Decimal | None] = [None] * min(length, len(values))
    steps = [after - before for before, after in pairwise(values)]
    gain = loss = Decimal(0)
    for number, step in enumerate(steps, 1):
        up, down = max(step, Decimal(0)), max(-step, Decimal(0))
        if number <= length:
            gain, loss = gain + up / length, loss + down / length
        else:
            gain = (gain * (length - 1) + up) / length
            loss = (loss * (length - 1) + down) / length
        if number >= length:
            moved = gain + loss
            strengths.append(100 * gain / moved if moved else Decimal(50))
    return strengths
