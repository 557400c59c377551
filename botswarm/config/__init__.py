"""What an operator decides: every setting once, from wherever it was set, checked at the start."""

from __future__ import annotations

from botswarm.config.load import Configuration, load
from botswarm.config.notifying import QuietHours
from botswarm.config.secret import Secret, SecretMask, mask_urls
from botswarm.config.settings import Settings

__all__ = [
    "Configuration",
    "QuietHours",
    "Secret",
    "SecretMask",
    "Settings",
    "load",
    "mask_urls",
]
