"""That the swarm is well is kept in few rows: since when it is known, and when it was not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from botswarm.config import Secret, load
from botswarm.domain.uptime import LONGEST, Span
from botswarm.health.exporter import _told
from botswarm.health.swarm import Swarm
from botswarm.ledger import uptimes
from botswarm.ledger.plain import asking
from botswarm.ledger.store import Ledger
from botswarm.queueing.slots import FileSlots
from tests.ledger.conftest import NOW
from tests.ledger.test_processes import At


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def url_of(ledger: Ledger) -> Secret:
    return Secret(ledger.database.url.render_as_string(hide_password=False))


def marked(ledger: Ledger, *moments: datetime) -> None:
    for moment in moments:
        uptimes.mark(ledger.database, moment)


def spans(ledger: Ledger) -> Sequence[Span]:
    with asking(url_of(ledger)) as ask:
        return uptimes.spans(ask)


def test_looks_that_follow_one_another_are_one_span_and_a_gap_begins_another(
    ledger: Ledger,
) -> None:
    marked(ledger, *(NOW + seconds(5 * turn) for turn in range(100)))
    again = NOW + seconds(490 + 31)
    marked(ledger, again, again + seconds(30))
    assert spans(ledger) == [
        Span(NOW, NOW + seconds(490)),
        Span(again, again + seconds(30)),
    ]


def test_looks_that_come_often_are_not_all_written(quick_ledger: Ledger) -> None:
    marked(quick_ledger, NOW, NOW + seconds(9))
    assert spans(quick_ledger) == [Span(NOW, NOW)]


def test_a_span_that_a_fast_clock_wrote_ends_when_the_clock_is_right(quick_ledger: Ledger) -> None:
    ahead = NOW + timedelta(hours=2)
    marked(quick_ledger, NOW, NOW + seconds(20), ahead, ahead + seconds(20), NOW + seconds(40))
    assert [each for each in spans(quick_ledger) if each.began_at < each.until] == [
        Span(NOW, NOW + seconds(20)),
    ]
    marked(quick_ledger, NOW + seconds(80), NOW + seconds(100))
    assert spans(quick_ledger)[-1] == Span(NOW + seconds(80), NOW + seconds(100))


def test_once_the_clock_is_right_the_swarm_is_up_again(quick_ledger: Ledger) -> None:
    ahead = NOW + timedelta(hours=2)
    marked(quick_ledger, ahead, ahead + seconds(20), NOW, NOW + seconds(20), NOW + seconds(40))
    assert spans(quick_ledger) == [Span(NOW, NOW + seconds(40))]


def test_old_spans_go_and_the_last_of_them_says_that_the_swarm_was_there(
    quick_ledger: Ledger,
) -> None:
    first, second = NOW - 3 * LONGEST, NOW - 2 * LONGEST
    marked(quick_ledger, first, second, NOW)
    assert [each.began_at for each in spans(quick_ledger)] == [second, NOW]


def test_uptime_survives_the_swarm_and_is_on_the_page_and_among_the_metrics(
    ledger: Ledger, tmp_path: Path
) -> None:
    began = NOW - timedelta(hours=36)
    marked(ledger, *(began + seconds(20 * turn) for turn in range(90)))
    url = url_of(ledger).reveal().replace("+psycopg2", "")
    settings = load(environ={"BOTSWARM_DATABASE_URL": url}, folder=tmp_path).settings
    health = Swarm(settings, FileSlots(tmp_path), {}, At(NOW))
    assert health.facts() == {}
    health._look_at_ledger()
    page = health.facts()["swarm_uptime"]
    assert page["percent"]["1d"] == 0
    assert page["percent"]["7d"] == round(100 * (89 * 20) / (36 * 3600), 3)
    assert page["down_s"]["30d"] == 36 * 3600 - 89 * 20
    shares = {
        row[0][0]: row[1]
        for samples in _told(health._known())
        if samples.family.name == "botswarm_swarm_up_ratio"
        for row in samples.rows
    }
    assert set(shares) == {"1d", "7d", "30d"}
    assert shares["1d"] == 0


def test_of_a_swarm_that_is_an_hour_old_no_share_is_told_that_an_alert_could_take_ill(
    quick_ledger: Ledger, tmp_path: Path
) -> None:
    marked(quick_ledger, NOW - timedelta(hours=1))
    url = url_of(quick_ledger).reveal()
    settings = load(environ={"BOTSWARM_DATABASE_URL": url}, folder=tmp_path).settings
    health = Swarm(settings, FileSlots(tmp_path), {}, At(NOW))
    health._look_at_ledger()
    names = {samples.family.name for samples in _told(health._known())}
    assert "botswarm_swarm_up_ratio" not in names
