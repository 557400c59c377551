"""Counts and measurements as Prometheus reads them, by the pens of its own client library."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from botswarm.families import Family, Observed, Samples
from botswarm.tally import TALLY, Key


class Asked(Collector):
    """What a function finds at each scrape."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()


def registry(*asked: Callable[[], Iterable[Metric]]) -> CollectorRegistry:
    """Of one process; the library's own is shared by all that import it."""
    made = CollectorRegistry()
    for each in asked:
        made.register(Asked(each))
    # Kept in memory already: nobody who scrapes waits for them.
    GCCollector(registry=made)
    PlatformCollector(registry=made)
    return made


def of_process() -> Iterable[Metric]:
    """What the library tells of this process alone; it reads files for that."""
    return ProcessCollector(registry=None).collect()


def page(registry: CollectorRegistry, accept: str = "") -> tuple[bytes, str]:
    """The page and its content type: OpenMetrics for whoever asks for that, else plain text."""
    try:
        write, kind = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is none
        write, kind = choose_encoder("")
    return write(registry), kind


def text(samples: Iterable[Samples]) -> bytes:
    """Only these, in plain text."""
    made = CollectorRegistry()
    made.register(Asked(lambda: families(samples)))
    return page(made)[0]


def counted(declared: Iterable[Family]) -> list[Samples]:
    """What this process and its children have counted, of every family that was."""
    by_name: dict[str, list[tuple[Key, list[float]]]] = {}
    for key, values in TALLY.totals().items():
        by_name.setdefault(key[0], []).append((key[1:], values))
    made = []
    for family in declared:
        rows = sorted(by_name.get(family.name, ()))
        if family.kind == "histogram":
            observed = [(labels, Observed(values[1:], values[0])) for labels, values in rows]
            made.append(Samples(family, observed=observed))
        else:
            made.append(Samples(family, [(labels, values[0]) for labels, values in rows]))
    return made


def families(samples: Iterable[Samples]) -> Iterable[Metric]:
    """Families of one name, from several sources, stand together as the formats want it."""
    made: dict[str, Metric] = {}
    for each in samples:
        if not each.rows and not each.observed:
            continue
        metric = _metric(each)
        before = made.setdefault(metric.name, metric)
        if before is not metric:
            before.samples += metric.samples
    return made.values()


def _metric(samples: Samples) -> Metric:
    family = samples.family
    if family.kind == "histogram":
        return _histogram(samples)
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    made = kind(family.name, family.help, labels=family.label_names)
    for labels, value in samples.rows:
        made.add_metric(_all_of(family, labels), value)
    return made


def _histogram(samples: Samples) -> Metric:
    family = samples.family
    made = HistogramMetricFamily(family.name, family.help, labels=family.label_names)
    bounds = [*map(floatToGoString, family.buckets), "+Inf"]
    for labels, observed in samples.observed:
        running = accumulate(observed.counts)
        buckets = list(zip(bounds, running, strict=True))
        made.add_metric(_all_of(family, labels), buckets, observed.sum)
    return made


def _all_of(family: Family, labels: tuple[str, ...]) -> tuple[str, ...]:
    # The library leaves out those that are missing without a word.
    if len(labels) != len(family.label_names):
        raise ValueError(f"{family.name} has the labels {', '.join(family.label_names)}")
    return labels
