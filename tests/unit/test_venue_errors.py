"""Every documented error of every venue has its class, and the page for people is the tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from botswarm.exchanges import error_tables
from botswarm.exchanges.binance import errors as binance
from botswarm.exchanges.coinbase import order_errors as coinbase
from botswarm.exchanges.error_tables import TABLES, Table
from botswarm.exchanges.kraken import errors as kraken
from botswarm.exchanges.meaning import Meaning

PAGE = Path(__file__).parents[2] / "docs" / "venue-errors.md"


def test_the_page_is_the_tables() -> None:
    fresh = error_tables.markdown()
    assert PAGE.read_text() == fresh, "run: python -m botswarm help venue-errors > docs/…"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table.venue}: {table.title}")
def test_every_row_of_a_table_is_on_the_page_once(table: Table) -> None:
    page = PAGE.read_text().split(f"### {table.title}\n")[1].split("\n#")[0]
    for code, name, meaning in table.rows():
        assert page.count(f"| `{code}` | {name} | {meaning.value} |") == 1


def test_the_page_says_of_each_class_what_becomes_of_the_order() -> None:
    introduction = PAGE.read_text().split("\n## ")[0]
    assert all(f"| {meaning.value} |" in introduction for meaning in Meaning)


def test_no_code_of_binance_stands_in_two_classes() -> None:
    lines = [line.strip() for text in binance._CODES.values() for line in text.splitlines()]
    codes = [line.split()[0] for line in lines if line]
    assert len(codes) == len(set(codes)) == len(binance.MEANING)


@pytest.mark.parametrize("status", [403, 418, 429])
def test_what_stands_before_everything_else_says_that_nothing_was_placed(status: int) -> None:
    assert binance.meaning_of(status, None, "").is_definite
    assert binance.meaning_of(status, -1007, "").is_definite


def test_a_word_nobody_has_heard_of_is_unknown_at_every_venue() -> None:
    word = "A_WORD_OF_THE_FUTURE"
    assert binance.meaning_of(400, -9_999, word) is Meaning.UNKNOWN
    assert coinbase.of_placement([word]) is Meaning.UNKNOWN
    assert coinbase.of_request(400, word) is Meaning.UNKNOWN
    assert kraken.meaning_of([f"EFuture:{word}"]) is Meaning.UNKNOWN


def test_coinbase_means_the_same_with_preview_before_the_word() -> None:
    for reason, meaning in coinbase.PLACING.items():
        assert coinbase.of_placement([reason]) is meaning
        assert coinbase.of_placement([f"PREVIEW_{reason}"]) is meaning
