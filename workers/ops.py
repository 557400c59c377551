"""What the ``ops`` queue runs: the small jobs that keep the swarm well."""

from __future__ import annotations

import os

from botswarm.messages import Probe
from botswarm.queueing import current_settings, task


@task(Probe)
def probe(text: str = "hello") -> dict[str, object]:
    """Harmless however often it runs: it only says who ran it."""
    return {
        "text": text,
        "instance_id": current_settings().instance_id,
        "pid": os.getpid(),
    }
