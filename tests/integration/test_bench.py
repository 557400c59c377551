"""The bench measures what it says it measures, on both brokers."""

from __future__ import annotations

import json
import math
from pathlib import Path

from botswarm.bench.broker import Size, main
from botswarm.bench.figures import MEASURES, table
from botswarm.errors import NotFound
from botswarm.testing.servers import RabbitMQServer

TINY = Size(rounds=1, tasks=300, trips=5, messages=600, confirmed=20, full=600)


class NoRabbitMQ(RabbitMQServer):
    """A machine on which RabbitMQ was never installed."""

    def _program(self, name: str) -> Path:
        raise NotFound(
            f"{name} is not installed", cure="install the Debian package rabbitmq-server"
        )


def test_every_figure_is_measured_on_both_brokers() -> None:
    figures = json.loads(json.dumps(main(size=TINY)))
    assert [row["measure"] for row in figures["rows"]] == [measure.key for measure in MEASURES]
    for row in figures["rows"]:
        for side in ("embedded", "rabbitmq"):
            assert row[side]["low"] <= row[side]["median"] <= row[side]["high"], row
            assert math.isfinite(row[side]["median"]), row
            assert row[side]["median"] > 0, row
    assert figures["missing"] == ""
    text = table(figures)
    assert all(measure.text in text for measure in MEASURES)
    assert figures["machine"]["versions"]["RabbitMQ"] in text


def test_without_rabbitmq_one_line_says_what_to_install() -> None:
    figures = main(size=TINY, rabbitmq=NoRabbitMQ)
    assert all(row["rabbitmq"] is None and row["ratio"] is None for row in figures["rows"])
    assert all(row["embedded"]["median"] > 0 for row in figures["rows"])
    assert "install the Debian package rabbitmq-server" in table(figures).splitlines()[-1]


def test_every_figure_is_defined_in_its_document() -> None:
    document = (Path(__file__).parent.parent.parent / "docs" / "bench.md").read_text()
    assert [measure.key for measure in MEASURES if f"`{measure.key}`" not in document] == []
