"""The broker's management API as commands ask it: what is wrong with it has a code of its own."""

from __future__ import annotations

from botswarm.cli.failures import ManagementUnreachable
from botswarm.health import management
from botswarm.health.management import reason

__all__ = ["Management", "reason"]


class Management(management.Management):
    unreachable = ManagementUnreachable
