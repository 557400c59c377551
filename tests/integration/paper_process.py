"""``botswarm run paper`` as a process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from botswarm.exchanges.simulated import journal, record
from botswarm.testing.exchange import SimulatedExchangeServer


class PaperProcess(SimulatedExchangeServer):
    """It speaks as the simulated exchange does, of a market that is another's."""

    def __init__(self, venue: str, state_dir: Path, settings: Mapping[str, str]) -> None:
        super().__init__()
        self.name = f"paper-{venue}"
        self.venue = venue
        self.state_dir = state_dir
        self._settings = settings

    @property
    def card(self) -> record.ExchangeRecord:
        found = record.read(self.state_dir, self.name)
        assert found is not None
        return found

    @property
    def journal_path(self) -> Path:
        return journal.path_of(self.state_dir, self.name)

    def _launch(self) -> None:
        plain = {name: value for name, value in os.environ.items() if "BOTSWARM" not in name}
        words = ["run", "paper", "--venue", self.venue, "--port", str(self.port)]
        self._run(
            [sys.executable, "-m", "botswarm", *words, "--state-dir", str(self.state_dir)],
            environment={**plain, **self._settings},
        )

    def _is_ready(self) -> bool:
        found = record.read(self.state_dir, self.name)
        if found is None or found.pid != self.pid:
            return False
        try:
            return self.public("GET", "/api/v3/ping").status == 200
        except OSError:
            return False
