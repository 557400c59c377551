"""What rounds remember of an account, for all processes of a machine: whichever runs the next one.

Without it each child would ask about every doubtful order as if nobody had, and a proof would take
two looks of the same one. To lose it costs time, never an order.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from botswarm.exchanges.accounts import Account
from botswarm.trading.settle import Watch

logger = logging.getLogger(__name__)

BY_ATTEMPT = ("seen", "asked", "empty")


def path_of(state_dir: Path, account: Account) -> Path:
    return state_dir / "watches" / f"{quote(str(account), safe='')}.json"


def recall(path: Path, watch: Watch, now: float) -> None:
    """Put into ``watch`` what the last round of this machine left; ``now`` is monotonic.

    What seems to come from the future was written before the machine was started.
    """
    try:
        said = json.loads(path.read_text())
        found = _read(said, now)
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("what the last round remembered cannot be read: %s", error)
        return
    for name in BY_ATTEMPT:
        setattr(watch, name, getattr(found, name))
    watch.rested_at = found.rested_at
    watch.unwanted = {**watch.unwanted, **found.unwanted}


def keep(path: Path, watch: Watch) -> None:
    """Half a file is never seen; where it cannot be written, the next round begins anew."""
    said: dict[str, Any] = {
        name: [
            [order_id, fence.isoformat(), at]
            for (order_id, fence), at in getattr(watch, name).items()
        ]
        for name in BY_ATTEMPT
    }
    said |= {
        "rested_at": watch.rested_at,
        "unwanted": [[order_id, *times] for order_id, times in watch.unwanted.items()],
    }
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(said))
        temporary.replace(path)
    except OSError as error:
        logger.warning("what this round remembers cannot be kept: %s", error)


def _read(said: Mapping[str, Any], now: float) -> Watch:
    made = Watch()
    for name in BY_ATTEMPT:
        memory = getattr(made, name)
        for order_id, fence, at in said[name]:
            if float(at) <= now:
                memory[str(order_id), datetime.fromisoformat(fence)] = float(at)
    rested_at = said["rested_at"]
    made.rested_at = rested_at if rested_at is not None and rested_at <= now else None
    made.unwanted = {
        str(order_id): (float(first), float(last))
        for order_id, first, last in said["unwanted"]
        if last <= now
    }
    return made
