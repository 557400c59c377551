"""The dashboards of those who own the swarm, trade with it, run it and guard it."""

from __future__ import annotations

from botswarm.alerts.board import Board, Line, Panel, quantile

SCORE = (
    "100 * (1 - sum(max by (check) (botswarm_health_check)) / "
    "(2 * count(max by (check) (botswarm_health_check))))"
)
SUCCESS = (
    'sum(rate(botswarm_orders_total{state=~"live|filled|partial"}[1h])) / '
    'sum(rate(botswarm_orders_total{state=~"live|filled|partial|rejected|failed"}[1h]))'
)
STATE = "max by (state) (botswarm_trading_state)"

EXECUTIVE = Board(
    uid="executive",
    title="Executive",
    says="Is all well, does it earn money, and does anything need somebody?",
    panels=(
        Panel(
            title="Health, 0 to 100",
            kind="gauge",
            unit="none",
            steps=((None, "red"), (60, "orange"), (90, "green")),
            lines=[Line(SCORE, "of all checks")],
        ),
        Panel(
            title="Alerts that fire",
            kind="stat",
            steps=((None, "green"), (1, "orange")),
            lines=[Line("sum by (severity) (botswarm_alerts_firing)", "{{severity}}", rare=True)],
        ),
        Panel(title="Trading", kind="stat", lines=[Line(STATE, "{{state}}")]),
        Panel(
            title="Won and lost today",
            kind="stat",
            unit="none",
            lines=[
                Line(
                    "sum by (venue, account, quote) (botswarm_pnl_today)",
                    "{{venue}}:{{account}} {{quote}}",
                )
            ],
        ),
        Panel(
            title="Ticks a second",
            unit="ops",
            lines=[Line("sum(rate(botswarm_events_received_total[5m]))", "received")],
        ),
        Panel(
            title="Latency of ticks (p95)",
            unit="ms",
            lines=[quantile(0.95, "botswarm_event_latency_ms_bucket", "socket to broker")],
        ),
        Panel(
            title="Orders that venues take",
            unit="percentunit",
            lines=[Line(SUCCESS, "taken")],
        ),
        Panel(
            title="Connections that succeed",
            unit="percentunit",
            lines=[Line("min by (exchange) (botswarm_connection_success_ratio)", "{{exchange}}")],
        ),
        Panel(title="Bots", lines=[Line("sum by (state) (botswarm_bots)", "{{state}}")]),
    ),
)

TRADING = Board(
    uid="trading",
    title="Trading",
    says="Orders, fills, positions and money, by account.",
    panels=(
        Panel(
            title="Orders by state",
            unit="ops",
            lines=[Line("sum by (state) (rate(botswarm_orders_total[5m]))", "{{state}}")],
        ),
        Panel(
            title="Orders that venues take",
            unit="percentunit",
            lines=[Line(SUCCESS, "taken")],
        ),
        Panel(
            title="Open orders",
            lines=[Line("sum by (state) (botswarm_orders_open)", "{{state}}", rare=True)],
        ),
        Panel(
            title="The way of an order, stage by stage (p95)",
            unit="s",
            lines=[quantile(0.95, "botswarm_order_stage_seconds_bucket", "{{stage}}", by="stage")],
        ),
        Panel(
            title="Slippage (p50, p95)",
            unit="none",
            lines=[
                quantile(share, "botswarm_order_slippage_bps_bucket", words, over="1h")
                for share, words in ((0.5, "p50, bps"), (0.95, "p95, bps"))
            ],
        ),
        Panel(
            title="Fills",
            unit="ops",
            lines=[Line("sum by (side) (rate(botswarm_fills_total[5m]))", "{{side}}")],
        ),
        Panel(
            title="Traded value",
            lines=[
                Line(
                    "sum by (quote) (rate(botswarm_filled_value_total[5m])) * 60",
                    "{{quote}} a minute",
                )
            ],
        ),
        Panel(
            title="Positions",
            lines=[
                Line("sum by (venue, account) (botswarm_positions)", "{{venue}}:{{account}}"),
            ],
        ),
        Panel(
            title="Won and lost",
            unit="none",
            lines=[
                Line("sum by (quote) (botswarm_pnl_realised)", "realised {{quote}}"),
                Line("sum by (quote) (botswarm_pnl_unrealised)", "unrealised {{quote}}"),
                Line("sum by (quote) (botswarm_pnl_today)", "today {{quote}}"),
            ],
        ),
        Panel(
            title="Equity",
            unit="none",
            lines=[
                Line(
                    "sum by (venue, account, quote) (botswarm_equity)",
                    "{{venue}}:{{account}} {{quote}}",
                )
            ],
        ),
        Panel(
            title="Exposure",
            unit="none",
            lines=[
                Line(
                    "sum by (account, side) (botswarm_exposure)",
                    "{{account}} {{side}}",
                )
            ],
        ),
        Panel(
            title="Below the peak",
            unit="percentunit",
            lines=[
                Line(
                    "max by (venue, account) (botswarm_drawdown_ratio)",
                    "{{venue}}:{{account}}",
                )
            ],
        ),
        Panel(
            title="Limits: warnings and breaches",
            lines=[
                Line(
                    "sum by (kind, severity) (increase(botswarm_risk_events_total[1h]))",
                    "{{kind}} {{severity}}",
                    rare=True,
                )
            ],
        ),
        Panel(title="Bots", lines=[Line("sum by (state) (botswarm_bots)", "{{state}}")]),
        Panel(
            title="Accounts that agree with their venue",
            kind="stat",
            steps=((None, "red"), (1, "green")),
            lines=[
                Line("min by (venue, account) (botswarm_account_agrees)", "{{venue}}:{{account}}"),
            ],
        ),
    ),
)

OPERATIONS = Board(
    uid="operations",
    title="Operations",
    says="What went wrong lately, how things are going, how much room is left, and what is due.",
    panels=(
        Panel(
            title="Checks that are not well",
            kind="bargauge",
            unit="none",
            steps=((None, "green"), (1, "orange"), (2, "red")),
            lines=[Line("max by (check) (botswarm_health_check)", "{{check}}")],
        ),
        Panel(
            title="Alerts that fire",
            lines=[Line("sum by (severity) (botswarm_alerts_firing)", "{{severity}}", rare=True)],
        ),
        Panel(
            title="Dead letters",
            steps=((None, "green"), (1, "red")),
            lines=[Line("max by (queue) (botswarm_queue_dead_letters)", "{{queue}}")],
        ),
        Panel(
            title="Tasks that failed within the hour",
            lines=[
                Line(
                    'sum by (task) (increase(botswarm_tasks_total{outcome="failed"}[1h]))',
                    "{{task}}",
                    rare=True,
                )
            ],
        ),
        Panel(
            title="Places taken, of those there are",
            unit="percentunit",
            lines=[
                Line(
                    "max by (queue) (botswarm_queue_slots_used) / "
                    "max by (queue) (botswarm_queue_cap)",
                    "{{queue}}",
                )
            ],
        ),
        Panel(
            title="Limits of venues used",
            unit="percentunit",
            lines=[
                Line(
                    "max by (server, limit) (botswarm_rate_limit_used_ratio)",
                    "{{server}} {{limit}}",
                )
            ],
        ),
        Panel(
            title="Since an entry of the schedule was last sent",
            unit="s",
            lines=[Line("min by (entry) (botswarm_schedule_age_seconds)", "{{entry}}")],
        ),
        Panel(
            title="Slots missed, runs failed",
            lines=[
                Line("sum by (entry) (botswarm_schedule_missed)", "{{entry}} missed", rare=True),
                Line(
                    "sum by (entry) (increase(botswarm_schedule_failures_total[1d]))",
                    "{{entry}} failed",
                    rare=True,
                ),
            ],
        ),
        Panel(
            title="Backups",
            unit="s",
            lines=[
                Line("max(botswarm_backup_age_seconds)", "age of the newest good one", rare=True),
                Line("max(botswarm_archive_age_seconds)", "would be lost now", rare=True),
                Line("max(botswarm_drill_rto_seconds)", "to have it back", rare=True),
            ],
        ),
        Panel(
            title="Doorbells that wait",
            lines=[
                Line("max(botswarm_doorbells_waiting)", "waiting"),
                Line("max(botswarm_doorbells_oldest_seconds)", "oldest, s"),
            ],
        ),
        Panel(
            title="Processes heard of lately",
            lines=[Line("sum by (role) (botswarm_processes)", "{{role}}")],
        ),
        Panel(
            title="Running since",
            unit="s",
            lines=[Line("min by (process) (botswarm_uptime_seconds)", "{{process}}")],
        ),
        Panel(
            title="Notices that wait",
            lines=[Line("sum by (channel) (botswarm_notices_waiting)", "{{channel}}", rare=True)],
        ),
        Panel(
            title="Since accounts were compared",
            unit="s",
            lines=[
                Line(
                    "max by (venue, account) (botswarm_account_compared_seconds)",
                    "{{venue}}:{{account}}",
                )
            ],
        ),
        Panel(
            title="Size of the ledger",
            unit="bytes",
            lines=[Line("max(botswarm_ledger_bytes)", "bytes")],
        ),
    ),
)

SECURITY = Board(
    uid="security",
    title="Security",
    says="What could be somebody's doing: strange frames, certificates, refusals, what is held.",
    panels=(
        Panel(
            title="Events that could be an attack",
            lines=[
                Line(
                    "sum by (exchange, kind) (increase(botswarm_security_events_total[1h]))",
                    "{{exchange}} {{kind}}",
                    rare=True,
                )
            ],
        ),
        Panel(
            title="Frames rejected",
            unit="ops",
            lines=[
                Line(
                    "sum by (exchange, reason) (rate(botswarm_frames_rejected_total[5m]))",
                    "{{exchange}} {{reason}}",
                    rare=True,
                )
            ],
        ),
        Panel(
            title="Requests that were turned down",
            unit="reqps",
            lines=[
                Line(
                    'sum by (page, code) (rate(botswarm_http_requests_total{code=~"4.."}[5m]))',
                    "{{page}} {{code}}",
                    rare=True,
                )
            ],
        ),
        Panel(
            title="Unusual trading",
            lines=[
                Line(
                    "sum by (kind, severity) (botswarm_risk_findings)",
                    "{{kind}} {{severity}}",
                    rare=True,
                )
            ],
        ),
        Panel(
            title="Orders refused by our own gate",
            unit="ops",
            lines=[
                Line(
                    'sum by (account) (rate(botswarm_orders_total{state="refused"}[5m]))',
                    "{{account}}",
                    rare=True,
                )
            ],
        ),
        Panel(
            title="What is held",
            lines=[
                Line(
                    "sum by (kind, state) (botswarm_trading_held)", "{{kind}} {{state}}", rare=True
                )
            ],
        ),
        Panel(
            title="Connections to the broker and the ledger",
            lines=[
                Line("max(botswarm_broker_connections)", "broker", server="management"),
                Line("sum(botswarm_database_connections)", "ledger", server="postgresql"),
            ],
        ),
        Panel(
            title="Bans by venues",
            unit="s",
            lines=[Line("max by (server) (botswarm_rate_limit_ban_seconds)", "{{server}}")],
        ),
        Panel(
            title="Versions that run",
            kind="table",
            lines=[Line("count by (version, role) (botswarm_build_info)")],
        ),
    ),
)
