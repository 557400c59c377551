"""The settings as the rest of the program sees them: one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from botswarm.config.secret import Secret

Env = Literal["development", "staging", "production"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What each one means stands in ``botswarm.config.table``, beside how it is read."""

    env: Env
    state_dir: Path
    instance_id: str
    broker_url: Secret | None
    broker_management_url: Secret | None
    broker_port: int | None
    broker_management_port: int | None
    broker_fsync: Literal["always", "interval", "never"]
    broker_memory_high_mb: int
    broker_disk_free_low_mb: int
    broker_consumer_timeout_s: int
    database_url: Secret
    redis_url: Secret | None
    log_level: Literal["debug", "info", "warning", "error"]
    log_format: Literal["auto", "json", "text"]
    log_file: Path | None

    @property
    def secrets(self) -> tuple[Secret, ...]:
        candidates = (
            self.broker_url,
            self.broker_management_url,
            self.database_url,
            self.redis_url,
        )
        return tuple(secret for secret in candidates if secret is not None)
