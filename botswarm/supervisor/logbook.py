"""A log file for each process under supervision, and one for the supervisor itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from botswarm.logfiles import AppendingFile, Keeping


@dataclass(slots=True)
class Logbook:
    """Nobody else writes these files; the processes themselves only know their standard error."""

    folder: Path
    keeping: Keeping
    _files: dict[str, AppendingFile] = field(default_factory=dict)

    def keep(self, process: str, line: str) -> None:
        file = self._files.get(process)
        if file is None:
            file = AppendingFile(self.folder / f"{process}.log", self.keeping)
            self._files[process] = file
        file.write(line)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
