"""The page of figures is what Prometheus' own parsers read, in the form that is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_open_metrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_text

from botswarm import exposition, metrics
from botswarm.cli.help import metrics_page
from botswarm.config import load
from botswarm.families import Family, Observed, Samples, names_of
from botswarm.health.process import Health
from botswarm.health.server import Answer

OPEN_METRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def samples_of(family: Family) -> Samples:
    labels = tuple(f'a "{name}"' for name in family.label_names)
    if family.kind == "histogram":
        return Samples(family, observed=[(labels, Observed([1] * (len(family.buckets) + 1), 2.5))])
    return Samples(family, [(labels, 1.5)])


def page(accept: str = "") -> tuple[str, str]:
    every = [samples_of(family) for family in metrics.METRICS.values()]
    body, kind = exposition.page(exposition.registry(lambda: exposition.families(every)), accept)
    return body.decode(), kind


def test_a_page_with_every_metric_is_valid_openmetrics() -> None:
    text, kind = page(OPEN_METRICS)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    families = read_open_metrics(text)  # type: ignore[no-untyped-call]
    found = {sample.name for family in families for sample in family.samples}
    assert set(metrics.NAMES) <= found


def test_both_forms_tell_the_same_under_the_names_that_are_declared() -> None:
    found = []
    for read, accept in ((read_text, ""), (read_open_metrics, OPEN_METRICS)):
        text, _ = page(accept)
        found.append(
            {
                (sample.name, *sorted(sample.labels.items())): sample.value
                for family in read(text)
                for sample in family.samples
                if family.name.startswith("botswarm_")
            }
        )
    assert found[0] == found[1]
    assert {name for name, *_ in found[0]} == set(metrics.NAMES)


@pytest.mark.parametrize("accept", ["", "*/*", "application/openmetrics-text;version=1.x", "?;,="])
def test_whoever_asks_for_nothing_that_we_know_gets_plain_text(accept: str) -> None:
    text, kind = page(accept)
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    assert "# EOF" not in text


def test_a_label_too_few_is_a_defect_and_not_another_series() -> None:
    with pytest.raises(ValueError, match="has the labels exchange, type"):
        exposition.text([Samples(metrics.EVENTS_RECEIVED, [(("binance",), 1.0)])])


def test_a_sum_that_can_shrink_is_not_told() -> None:
    assert names_of(metrics.SLIPPAGE) == ("botswarm_order_slippage_bps_bucket",)
    assert "botswarm_order_slippage_bps_sum" not in page()[0]


def test_a_process_tells_of_itself_what_every_python_process_tells(tmp_path: Path) -> None:
    settings = load(environ={"BOTSWARM_STATE_DIR": str(tmp_path)}, folder=tmp_path).settings
    health = Health(settings, "worker")
    assert_told(health.metrics(), "python_gc_collections_total", "python_info")
    found = {sample.name for each in exposition.of_process() for sample in each.samples}
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes"} <= found


def test_what_the_library_tells_by_itself_is_on_the_page_of_metrics() -> None:
    described = metrics_page()
    families = [*exposition.registry().collect(), *exposition.of_process()]
    names = {sample.name for family in families for sample in family.samples}
    assert sorted(name for name in names if f"`{name}`" not in described) == []


def assert_told(answer: Answer, *names: str) -> None:
    told = {sample.name for family in read_text(answer.body.decode()) for sample in family.samples}
    assert {"botswarm_build_info", *names} <= told
