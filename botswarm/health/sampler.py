"""Figures that take many small looks at files, read now and then for whoever scrapes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from prometheus_client.metrics_core import Metric

from botswarm import exposition, metrics
from botswarm.families import Samples, Source
from botswarm.health.usage import SAMPLE_S, Usage
from botswarm.health.watchers import WATCHERS

logger = logging.getLogger(__name__)

STOP_S = 2.0

T = TypeVar("T")


class Sampler:
    """Looks from a thread of its own.

    Each small look lets another thread of a busy process go first, and whoever scrapes would wait
    for all of those.
    """

    def __init__(self, sources: list[Source]) -> None:
        self.sources = sources
        self._found: Sequence[Samples] = ()
        self._of_process: Sequence[Metric] = ()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = WATCHERS.start("health figures", self._keep_looking)

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def _keep_looking(self) -> None:
        while not self._stop.is_set():
            self._found = [found for source in self.sources for found in whole(source.collect)]
            self._of_process = whole(exposition.of_process)
            self._stop.wait(SAMPLE_S)

    def collect(self) -> Sequence[Samples]:
        return self._found

    def of_process(self) -> Sequence[Metric]:
        """What Prometheus' own library tells of every process."""
        return self._of_process


class Process:
    """What this process and its children take of the machine."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage

    def collect(self) -> Iterable[Samples]:
        for described, value in (
            (metrics.MEMORY_USAGE_BYTES, self._usage.memory_bytes()),
            (metrics.CPU_USAGE_PERCENT, self._usage.cpu_percent()),
            (metrics.OPEN_FILES, self._usage.open_files()),
            (metrics.CHILDREN, len(self._usage.children())),
        ):
            yield Samples(described, [((), float(value))])


def whole(collect: Callable[[], Iterable[T]]) -> Sequence[T]:
    """All that one source finds, or nothing of it: a defect must not hide the others' figures."""
    try:
        return list(collect())
    except Exception:
        logger.exception("figures are missing from /metrics")
        return []
