"""The settings of what processes tell about themselves: health, metrics, and where."""

from __future__ import annotations

import re

from botswarm.config.kinds import Kind, Setting, choice, switch, whole_number
from botswarm.errors import Problem


def _page(text: str) -> object:
    if re.fullmatch(r"(/[A-Za-z0-9_.~-]+){1,4}", text):
        return text
    return Problem(f"is {text!r}, not a path", "write it as /metrics")


def _address(text: str) -> object:
    if re.fullmatch(r"[A-Za-z0-9.:-]{1,128}", text):
        return text
    return Problem(f"is {text!r}, not an address", "write 127.0.0.1, ::1 or 0.0.0.0")


_PATH = Kind(read=_page, schema={"type": "string"}, words="a path, such as /metrics")

WATCHED: tuple[Setting, ...] = (
    Setting(
        name="health_enable",
        kind=switch(),
        help="Whether every process answers how it is, and what it has counted, on a port of its "
        "own.",
        default=True,
        conventional=("HEALTH_CHECK_ENABLE",),
    ),
    Setting(
        name="health_host",
        kind=Kind(read=_address, schema={"type": "string"}, words="an address of this machine"),
        help="Where processes listen for such questions; whoever reaches it may read the answers, "
        "so keep it on loopback, or in a network that only your monitoring is in.",
        default="127.0.0.1",
    ),
    Setting(
        name="health_port",
        kind=whole_number(1, 65_535, ""),
        help="The port on which a process answers; where it is taken, the next free one. Each "
        "writes its own into its card in the state folder, and botswarm health lists them.",
        default=8080,
        conventional=("HEALTH_CHECK_PORT",),
    ),
    Setting(
        name="health_path",
        kind=_PATH,
        help="A further name for the page of health.",
        default="/health",
        conventional=("HEALTH_CHECK_PATH",),
    ),
    Setting(
        name="health_access_log",
        kind=choice("off", "refused", "all"),
        help="Which questions are lines of the log, with who asked, for what, the code and how "
        "long it took: those that got no page, or all, monitoring's included.",
        default="refused",
    ),
    Setting(
        name="metrics_port",
        kind=whole_number(0, 65_535, ""),
        help="A further port for the same pages, where monitoring wants metrics on one of their "
        "own; where it is taken, the next free one. 0 opens none: metrics are at health_port.",
        default=0,
        conventional=("METRICS_PORT",),
    ),
    Setting(
        name="metrics_path",
        kind=_PATH,
        help="A further name for the page of metrics.",
        default="/metrics",
        conventional=("METRICS_PATH",),
    ),
)
