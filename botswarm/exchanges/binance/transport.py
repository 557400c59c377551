"""Where the transport of all venues stood when Binance was the only one."""

from __future__ import annotations

from botswarm.exchanges.transport import NoAnswer, NotSent, Response, Transport

__all__ = ["NoAnswer", "NotSent", "Response", "Transport"]
