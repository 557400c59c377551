"""How far servers are is told by the shortest of their answers, and only while they answer."""

from __future__ import annotations

import socket

import pytest

from botswarm.alerts import figures
from botswarm.alerts.figures import Sample
from botswarm.config import load
from botswarm.errors import Unreachable
from botswarm.health import servers
from botswarm.health.process import Health
from botswarm.health.round_trips import LIMIT_MS, LOOKS, RoundTrips
from botswarm.health.servers import VenuesLook
from botswarm.health.watch import Finding


def answers(*took_ms: float) -> RoundTrips:
    trips = RoundTrips()
    left = list(took_ms)
    look = trips.measured("broker", lambda: Finding(words="answers", value=left.pop(0)))
    for _ in took_ms:
        look()
    return trips


def test_one_slow_answer_of_a_busy_machine_is_not_the_networks() -> None:
    assert answers(0.5, 900, 900).shortest() == {"broker": 0.5}


def test_answers_that_are_slow_for_long_are() -> None:
    trips = answers(0.5, *[250.0] * LOOKS)
    assert trips.shortest() == {"broker": 250}
    assert trips.facts() == {
        "network": {"limit_ms": LIMIT_MS, "round_trip_ms": {"broker": 250}},
    }
    far = trips.measured("broker", lambda: Finding(words="answers", value=250))
    assert far().words == "answers: never within 100 ms lately"


def test_of_who_does_not_answer_nothing_is_told() -> None:
    def fails() -> Finding:
        raise Unreachable("it is away", cure="start it")

    trips = answers(3)
    with pytest.raises(Unreachable):
        trips.measured("broker", fails)()
    assert trips.shortest() == {}
    assert trips.facts() == {}


def test_a_venue_is_timed_by_its_machine_taking_the_call() -> None:
    trips = RoundTrips()
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        look = VenuesLook(lambda: [("simulated:main", url)], trips.took)
        server.settimeout(5)
        # It takes the call and never says a word: reachable it is not, near it is.
        server.listen()
        assert look().value == 1
    assert trips.shortest()["127.0.0.1"] < 1000
    assert look().value == 1
    assert trips.shortest() == {}


def test_of_a_venue_that_takes_no_orders_any_more_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(servers, "LIMIT_S", 0.3)
    trips = RoundTrips()
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        accounts = [("simulated:main", url), ("simulated:other", f"{url}/v2")]
        look = VenuesLook(lambda: accounts, trips.took)
        look()
        del accounts[0]
        look()
        assert list(trips.shortest()) == ["127.0.0.1"], "it takes those of the other account"
        accounts.clear()
        assert look().words == "no account can be reached"
    assert trips.shortest() == {}


def test_a_ledger_that_is_a_file_is_no_networks_affair() -> None:
    health = Health(load(environ={}).settings, "worker")
    health.check("ledger", lambda: Finding(words="answers", value=300))
    for each in health._watch._asked:
        if each.line.name == "ledger":
            each.look()
    assert health.round_trips.shortest() == {}


def test_a_server_far_away_is_an_alert_that_names_it() -> None:
    def seen(ms: float) -> list[tuple[str, str]]:
        samples = [Sample("botswarm_round_trip_ms", {"peer": "redis", "process": "ops"}, ms)]
        return [(each.name, each.subject) for each in figures.seen_of(samples, "production")]

    assert seen(99) == []
    assert seen(101) == [("NetworkSlow", "redis")]
