"""What streams do not bring is asked by REST: as often as it is wanted, and no more."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from botswarm.domain.market import Book, Status
from botswarm.errors import Unreachable
from botswarm.feed import asker
from botswarm.feed.asker import Asker
from botswarm.testing.servers import wait_until
from tests.integration.mini_venue import MiniData


class Venue(MiniData):
    def __init__(self) -> None:
        super().__init__("ws://127.0.0.1:9/")
        self.asked: list[str] = []
        self.is_down = False

    def statuses(self) -> Sequence[Status]:
        self.asked.append("statuses")
        return ()

    def book(self, symbol: str) -> Book | None:
        self.asked.append(symbol)
        if self.is_down:
            raise Unreachable("the venue is away")
        return None


@pytest.fixture
def venue() -> Venue:
    return Venue()


@pytest.fixture
def asking(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asker]:
    monkeypatch.setattr(asker, "PAUSE_S", 0.01)
    monkeypatch.setattr(asker, "AGAIN_S", 0.01)
    made = Asker(venue, lambda ticks: None)
    yield made
    made.stop()


def nobody(book: Book) -> None:
    raise AssertionError("there is no book")


def test_statuses_are_asked_at_once_and_also_while_books_are_wanted(
    venue: Venue, asking: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asker, "STATUSES_EVERY_S", 0.2)
    venue.is_down = True
    asking.want_book("mini-1", "A-X", nobody)
    asking.want_statuses(frozenset({"A-X"}))
    wait_until(lambda: venue.asked.count("statuses") >= 3, "statuses again and again", 5)
    assert "A-X" in venue.asked


def test_statuses_that_are_wanted_again_are_asked_when_their_time_comes(
    venue: Venue, asking: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asker, "STATUSES_EVERY_S", 0.5)
    asking.want_statuses(frozenset({"A-X"}))
    wait_until(lambda: "statuses" in venue.asked, "the first", 5)
    asking.want_statuses(frozenset())
    asking.want_book("mini-1", "A-X", nobody)
    wait_until(lambda: "A-X" in venue.asked, "the book", 5)
    asking.want_statuses(frozenset({"A-X"}))
    wait_until(lambda: venue.asked.count("statuses") == 2, "the second", 5)


def test_nobody_asks_for_statuses_that_nobody_wants(
    venue: Venue, asking: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asker, "STATUSES_EVERY_S", 0.05)
    asking.want_book("mini-1", "A-X", nobody)
    wait_until(lambda: "A-X" in venue.asked, "the book", 5)
    assert not threading.Event().wait(0.3)
    assert "statuses" not in venue.asked


def test_no_book_is_asked_for_a_connection_that_has_gone(venue: Venue, asking: Asker) -> None:
    venue.is_down = True
    for number in range(50):
        asking.want_book(f"mini-{number}", "A-X", nobody)
        asking.forget(f"mini-{number}")
    asking.want_book("mini-50", "B-X", nobody)
    wait_until(lambda: venue.asked.count("B-X") >= 3, "the book that is wanted", 5)
    assert venue.asked.count("A-X") <= 1
