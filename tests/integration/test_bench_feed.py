"""The feed's bench measures a real feed, counts by numbers, and says what it could not measure."""

from __future__ import annotations

from botswarm.bench import feed
from botswarm.bench.feed_sides import quantile_ms
from botswarm.errors import NotFound
from botswarm.testing.servers import AmqpServer


def no_rabbitmq() -> AmqpServer:
    raise NotFound("rabbitmq-server is not installed", cure="apt-get install rabbitmq-server")


def test_a_small_run_loses_nothing_and_says_what_it_could_not_measure() -> None:
    size = feed.Size(warm_s=0.5, quiet_s=1, busy_s=1, markets=40)
    answer = feed.main(size=size, rabbitmq=no_rabbitmq)
    ours = answer["embedded"]
    assert ours["arrived"]["trades"] > 1000
    assert (ours["arrived"]["never"], ours["arrived"]["twice"]) == (0, 0)
    assert ours["quiet"]["received_per_s"] > 0
    assert ours["busy"]["cores"] > 0
    assert answer["ceiling"]["flat_out"]["frames_per_s"] > 0
    assert "rabbitmq" not in answer
    assert "apt-get install rabbitmq-server" in answer["missing"][0]
    text = feed.table(answer)
    assert "embedded busy" in text
    assert "embedded_no_loss" in text


def test_a_quantile_is_reckoned_within_its_bucket() -> None:
    def buckets(*counts: float) -> dict[str, float]:
        bounds = ("5.0", "10.0", "+Inf")
        name = 'botswarm_event_latency_ms_bucket{{exchange="v",le="{}",type="trade"}}'
        return {name.format(bound): count for bound, count in zip(bounds, counts, strict=True)} | {
            'botswarm_event_latency_ms_bucket{exchange="v",le="5.0",type="digest"}': 1e9
        }

    before, after = buckets(10, 10, 10), buckets(60, 110, 110)
    assert quantile_ms(before, after, 0.5) == 5.0
    assert quantile_ms(before, after, 0.75) == 7.5
    assert quantile_ms(before, buckets(10, 10, 20), 0.5) == float("inf")
    assert quantile_ms(before, before, 0.5) == 0.0
