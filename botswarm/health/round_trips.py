"""How long the network takes to a process's servers and back, by looks that are made anyway."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from botswarm import metrics
from botswarm.families import Rows, Samples
from botswarm.health.watch import Finding, Look

LIMIT_MS = 100.0
LOOKS = 5
"""The shortest of so many counts: whatever a busy machine adds is not the network's."""


class RoundTrips:
    """Written by the threads of checks, read by whoever asks for a page."""

    def __init__(self) -> None:
        self._took: dict[str, deque[float]] = {}

    def took(self, peer: str, took_ms: float | None) -> None:
        """None where there was no answer: what was is no news of what is."""
        if took_ms is None:
            self._took.pop(peer, None)
        else:
            self._took.setdefault(peer, deque(maxlen=LOOKS)).append(took_ms)

    def measured(self, peer: str, look: Look) -> Look:
        """A look whose value is how many milliseconds its answer took."""

        def looked() -> Finding:
            finding: Finding | None = None
            try:
                finding = look()
            finally:
                self.took(peer, finding.value if finding is not None else None)
            far_ms = self.shortest().get(peer, 0.0)
            if far_ms <= LIMIT_MS:
                return finding
            words = f"{finding.words}: never within {LIMIT_MS:g} ms lately"
            return dataclasses.replace(finding, words=words)

        return looked

    def shortest(self) -> Mapping[str, float]:
        """In milliseconds, by peer."""
        return {peer: min(took) for peer, took in list(self._took.items()) if took}

    def facts(self) -> Mapping[str, Any]:
        found = {peer: round(ms, 1) for peer, ms in sorted(self.shortest().items())}
        return {"network": {"limit_ms": LIMIT_MS, "round_trip_ms": found}} if found else {}

    def collect(self) -> Iterable[Samples]:
        rows: Rows = [((peer,), ms) for peer, ms in self.shortest().items()]
        yield Samples(metrics.ROUND_TRIP_MS, rows)
