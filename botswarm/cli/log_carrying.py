"""What botswarm up does beside its swarm: log lines go to a place that outlives this machine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botswarm.backup.reach import Reach
    from botswarm.config import Settings
    from botswarm.health.watch import Finding

Say = Callable[[str, str], None]
NAME = "up"
CURE = "try botswarm logs archive; see BOTSWARM_LOG_ARCHIVE, and the rights of the bucket's keys"


@contextmanager
def carried(settings: Settings, say: Say) -> Iterator[None]:
    """While this lasts, and once at its end; nothing is done where no place is named."""
    if settings.log_archive is None:
        yield
        return
    from botswarm.backup.log_carrying import Carrying
    from botswarm.health.process import Health

    carrying = Carrying(settings)
    _log_to(settings, say)
    health = Health(settings, NAME)
    health.check("bucket", lambda: _finding_of(carrying.reach))
    with health:
        carrying.start()
        try:
            yield
        finally:
            carrying.stop()


def _finding_of(reach: Reach) -> Finding:
    from botswarm.cli.backup_archive import finding_of

    return replace(finding_of(reach), cure=CURE)


class _Said(logging.Handler):
    def __init__(self, say: Say) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(NAME, self.format(record))


def _log_to(settings: Settings, say: Say) -> None:
    """To the same screen and file as all else that is said by ``botswarm up``."""
    from botswarm.config import SecretMask
    from botswarm.logs import JsonFormatter

    handler = _Said(say)
    handler.setFormatter(JsonFormatter(settings.instance_id, SecretMask(settings.secrets)))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
