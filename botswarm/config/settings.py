"""The settings as the rest of the program sees them: one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal

from botswarm.config.notifying import QuietHours
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
    worker_caps: Mapping[str, int] | None
    swarm_caps: Mapping[str, int] | None
    database_url: Secret
    database_admin_url: Secret | None
    ledger_slow_ms: int
    redis_url: Secret | None
    address_name: str
    exchange_port: int | None
    exchange_scenario: Literal["calm", "trend", "flash-crash", "feed-outage"]
    exchange_seed: int
    exchange_orders_per_10s_max: int
    paper_balances: Mapping[str, Decimal] | None
    paper_fees: Mapping[str, tuple[Decimal, Decimal]] | None
    paper_latency_ms: int
    paper_stale_s: int
    master_key: Secret | None
    binance_api_key: Secret | None
    binance_api_secret: Secret | None
    binance_rest_url: str
    binance_ws_api_url: str
    binance_order_road: Literal["rest", "websocket"]
    binance_stream_url: str
    coinbase_rest_url: str
    coinbase_stream_url: str
    coinbase_user_stream_url: str
    coinbase_exchange_rest_url: str
    coinbase_exchange_stream_url: str
    kraken_rest_url: str
    kraken_stream_url: str
    kraken_trading_url: str
    feed_markets: tuple[str, ...]
    feed_venues: tuple[str, ...]
    feed_connect_timeout_s: int
    feed_connections_max: int
    feed_streams_per_connection_max: int
    feed_connections_initial: int
    feed_check_every_s: int
    feed_idle_close_s: int
    feed_connection_age_max_s: int
    feed_ping_every_s: int
    feed_pong_timeout_s: int
    feed_pings_missed_max: int
    feed_health_every_s: int
    feed_health_good: float
    feed_health_unhealthy: float
    feed_health_alert: float
    feed_health_critical: float
    feed_reconnect: bool
    feed_reconnect_tries_max: int
    feed_reconnect_base_ms: int
    feed_reconnect_max_s: int
    feed_reconnect_multiplier: int
    feed_reconnect_jitter: float
    feed_reconnect_reset_after: int
    feed_frame_max_bytes: int
    feed_certificate_days_min: int
    feed_malformed_share_max: float
    feed_memory_max_mb: int
    feed_cpu_max_percent: int
    feed_cleanup_every_s: int
    feed_record_dir: Path | None
    feed_record_max_mb: int
    health_enable: bool
    health_host: str
    health_port: int
    health_path: str
    health_access_log: str
    metrics_port: int
    metrics_path: str
    limit_order_notional_max: Decimal
    limit_open_notional_max: Decimal
    limit_position_notional_max: Decimal
    limit_open_orders_max: int
    limit_orders_per_minute_max: int
    limit_daily_loss_max: Decimal
    limit_signal_age_max_s: int
    limit_data_age_max_s: int
    limit_price_collar_percent: Decimal
    limit_clock_offset_max_s: Decimal
    limit_losing_streak_cooldown_s: int
    limit_groups: Mapping[str, tuple[str, ...]] | None
    risk_day_begins: str
    risk_mark_age_max_s: int
    risk_order_stuck_after_s: int
    risk_close_on_breach: bool
    cancel_on_disconnect_s: int
    bot_enable: bool
    bot_max_concurrent: int
    bot_require_confirmation: bool
    bot_arm_hours_max: int
    evaluation_days_kept: int
    evaluations_kept_max: int
    history_days_kept: int
    candle_days_kept: int
    key_days_max: int
    notify_email_url: Secret | None
    notify_slack_url: Secret | None
    notify_telegram_url: Secret | None
    notify_pagerduty_url: Secret | None
    notify_webhook_url: Secret | None
    notify_routes: Mapping[str, tuple[str, ...]] | None
    notify_quiet_hours: QuietHours | None
    notify_remind_minutes: int
    notify_escalate_minutes: int
    backup_dir: Path
    backup_key: Secret | None
    backup_days_kept: int
    backup_archive: bool
    backup_archive_every_s: int
    backup_archive_days_kept: int
    backup_rto_max_s: int
    backup_rpo_max_s: int
    backup_s3_url: str | None
    backup_s3_endpoint: str
    backup_s3_region: str
    backup_s3_access_key: Secret | None
    backup_s3_secret_key: Secret | None
    flower_host: str
    flower_port: int | None
    flower_password: Secret | None
    flower_read_only: bool
    flower_tasks_max: int
    flower_url_prefix: str | None
    strategies_dir: Path | None
    log_level: Literal["debug", "info", "warning", "error"]
    log_format: Literal["auto", "json", "text"]
    log_file: Path | None
    log_max_mb: int
    log_files_kept: int
    log_days_kept: int
    log_archive: str | Path | None
    log_archive_every_s: int
    sentry_dsn: Secret | None
    otlp_url: str | None
    otlp_headers: Secret | None

    @property
    def secrets(self) -> tuple[Secret, ...]:
        candidates = (
            self.broker_url,
            self.broker_management_url,
            self.database_url,
            self.database_admin_url,
            self.redis_url,
            self.master_key,
            self.binance_api_key,
            self.binance_api_secret,
            self.notify_email_url,
            self.notify_slack_url,
            self.notify_telegram_url,
            self.notify_pagerduty_url,
            self.notify_webhook_url,
            self.backup_key,
            self.backup_s3_access_key,
            self.backup_s3_secret_key,
            self.flower_password,
            self.sentry_dsn,
            self.otlp_headers,
        )
        return tuple(secret for secret in candidates if secret is not None)
