"""The seven dashboards, one for each kind of reader, and what Grafana needs to find them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from botswarm.alerts.board import Board, Line, Panel, quantile
from botswarm.alerts.boards_swarm import EXECUTIVE, OPERATIONS, SECURITY, TRADING


def quantiles(bucket: str) -> list[Line]:
    """The median, and what one in twenty and one in a hundred exceeds."""
    return [
        quantile(share, bucket, words)
        for share, words in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    ]


APPLICATION = Board(
    uid="application",
    title="Application",
    says="What is asked of the swarm and how it answers: pages, tasks, queues and their errors.",
    panels=(
        Panel(
            title="Pages asked for",
            unit="reqps",
            lines=[Line("sum by (page) (rate(botswarm_http_requests_total[5m]))", "{{page}}")],
        ),
        Panel(
            title="Time to answer",
            unit="s",
            lines=quantiles("botswarm_http_request_seconds_bucket"),
        ),
        Panel(
            title="Pages answered with an error",
            unit="percentunit",
            lines=[
                Line(
                    'sum(rate(botswarm_http_requests_total{code=~"5.."}[5m])) / '
                    "sum(rate(botswarm_http_requests_total[5m]))",
                    "5xx",
                    rare=True,
                )
            ],
        ),
        Panel(
            title="Tasks",
            unit="ops",
            lines=[Line("sum by (outcome) (rate(botswarm_tasks_total[5m]))", "{{outcome}}")],
        ),
        Panel(
            title="Tasks that fail",
            unit="percentunit",
            steps=((None, "green"), (0.02, "orange"), (0.05, "red")),
            lines=[
                Line(
                    'sum(rate(botswarm_tasks_total{outcome="failed"}[5m])) / '
                    'sum(rate(botswarm_tasks_total{outcome=~"done|failed"}[5m]))',
                    "failed",
                    rare=True,
                )
            ],
        ),
        Panel(
            title="How long tasks take (p95)",
            unit="s",
            lines=[quantile(0.95, "botswarm_task_seconds_bucket", "{{task}}", by="task")],
        ),
        Panel(
            title="Queues",
            lines=[
                Line("sum by (queue, state) (botswarm_queue_messages)", "{{queue}} {{state}}"),
            ],
        ),
        Panel(
            title="Oldest message that waits",
            unit="s",
            lines=[Line("max by (queue) (botswarm_queue_oldest_seconds)", "{{queue}}")],
        ),
        Panel(
            title="Wait for a slot (p95)",
            unit="s",
            lines=[quantile(0.95, "botswarm_slot_wait_seconds_bucket", "{{queue}}", by="queue")],
        ),
    ),
)

INFRASTRUCTURE = Board(
    uid="infrastructure",
    title="Infrastructure",
    says="The machines and servers that everything stands on, and what each process takes of them.",
    panels=(
        Panel(
            title="Processor",
            unit="percent",
            lines=[
                Line("max(botswarm_host_cpu_percent)", "all cores"),
                Line('max(botswarm_host_load{over="1m"})', "load of a minute"),
            ],
        ),
        Panel(
            title="Memory of the machine",
            unit="bytes",
            lines=[Line("max by (state) (botswarm_host_memory_bytes)", "{{state}}")],
        ),
        Panel(
            title="Disk with the state folder",
            kind="gauge",
            unit="percentunit",
            steps=((None, "green"), (0.8, "orange"), (0.9, "red")),
            lines=[Line("max(botswarm_host_disk_used_ratio)", "used")],
        ),
        Panel(
            title="Disk operations",
            unit="iops",
            lines=[
                Line(
                    "max by (direction) (rate(botswarm_host_disk_operations_total[5m]))",
                    "{{direction}}",
                )
            ],
        ),
        Panel(
            title="Disk traffic",
            unit="Bps",
            lines=[
                Line(
                    "max by (direction) (rate(botswarm_host_disk_moved_bytes_total[5m]))",
                    "{{direction}}",
                )
            ],
        ),
        Panel(
            title="Network",
            unit="Bps",
            lines=[
                Line(
                    "max by (direction) (rate(botswarm_host_network_bytes_total[5m]))",
                    "{{direction}}",
                )
            ],
        ),
        Panel(
            title="Memory of each process",
            unit="bytes",
            lines=[Line("max by (process) (botswarm_memory_usage_bytes)", "{{process}}")],
        ),
        Panel(
            title="Processor time of each process",
            unit="percent",
            lines=[Line("max by (process) (botswarm_cpu_usage_percent)", "{{process}}")],
        ),
        Panel(
            title="Processor time that watching takes",
            unit="percentunit",
            lines=[
                Line(
                    "sum by (process) (rate(botswarm_watching_cpu_seconds_total[5m]))",
                    "{{process}}",
                )
            ],
        ),
        Panel(
            title="Threads, files and children",
            lines=[
                Line("sum(botswarm_threads)", "threads"),
                Line("sum(botswarm_open_files)", "open files"),
                Line("sum(botswarm_children)", "children"),
            ],
        ),
        Panel(
            title="Connections to the ledger",
            lines=[
                Line(
                    "sum by (state) (botswarm_database_connections)",
                    "{{state}}",
                    server="postgresql",
                ),
                Line("max(botswarm_database_connections_max)", "allowed", server="postgresql"),
            ],
        ),
        Panel(
            title="Ledger",
            unit="bytes",
            lines=[Line("max(botswarm_ledger_bytes)", "size")],
        ),
        Panel(
            title="Broker",
            lines=[
                Line("max(botswarm_broker_connections)", "connections", server="management"),
                Line("max(botswarm_broker_blocked)", "blocked", server="management"),
            ],
        ),
        Panel(
            title="Redis",
            unit="bytes",
            lines=[Line("max(botswarm_redis_memory_bytes)", "memory", server="redis")],
        ),
        Panel(
            title="Lookups in Redis that find nothing",
            unit="percentunit",
            lines=[
                Line(
                    'sum(rate(botswarm_redis_lookups_total{result="miss"}[5m])) / '
                    "sum(rate(botswarm_redis_lookups_total[5m]))",
                    "missed",
                    rare=True,
                )
            ],
        ),
        Panel(
            title="The servers answer in",
            unit="ms",
            lines=[
                Line(
                    'max by (check) (botswarm_health_value{check=~"ledger|broker|redis"})',
                    "{{check}}",
                )
            ],
        ),
    ),
)

TECHNICAL = Board(
    uid="technical",
    title="Technical",
    says="Every connection to the venues: what it brings, what is lost, what goes wrong by kind.",
    panels=(
        Panel(
            title="Health of each connection",
            unit="percentunit",
            lines=[
                Line(
                    "min by (exchange, connection) (botswarm_connection_health)",
                    "{{exchange}} {{connection}}",
                )
            ],
        ),
        Panel(
            title="Attempts to connect that succeed",
            unit="percentunit",
            lines=[
                Line("min by (exchange) (botswarm_connection_success_ratio)", "{{exchange}}"),
            ],
        ),
        Panel(
            title="Reconnections, missed pings",
            lines=[
                Line(
                    "sum by (exchange) (increase(botswarm_reconnections_total[5m]))",
                    "{{exchange}} reconnected",
                ),
                Line("max by (exchange) (botswarm_missed_pings)", "{{exchange}} pings missed"),
            ],
        ),
        Panel(
            title="Ticks received",
            unit="ops",
            lines=[
                Line(
                    "sum by (exchange, type) (rate(botswarm_events_received_total[5m]))",
                    "{{exchange}} {{type}}",
                )
            ],
        ),
        Panel(
            title="Messages published",
            unit="ops",
            lines=[
                Line(
                    "sum by (exchange, type) (rate(botswarm_events_published_total[5m]))",
                    "{{exchange}} {{type}}",
                )
            ],
        ),
        Panel(
            title="From the venue's socket to the broker",
            unit="ms",
            lines=quantiles("botswarm_event_latency_ms_bucket"),
        ),
        Panel(
            title="Lost or irregular",
            unit="ops",
            lines=[
                Line(
                    "sum by (reason) (rate(botswarm_events_lost_total[5m]))",
                    "lost: {{reason}}",
                ),
                Line("sum by (kind) (rate(botswarm_events_irregular_total[5m]))", "{{kind}}"),
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
            title="Memory and processor time of the feed",
            lines=[
                Line('max(botswarm_memory_usage_bytes{instance_type="feed"}) / 1e6', "MB"),
                Line('max(botswarm_cpu_usage_percent{instance_type="feed"})', "% of a core"),
            ],
        ),
        Panel(
            title="Failed tasks by kind",
            unit="ops",
            lines=[
                Line(
                    'sum by (task) (rate(botswarm_tasks_total{outcome="failed"}[5m]))',
                    "{{task}}",
                    rare=True,
                )
            ],
        ),
        Panel(
            title="Evaluations",
            unit="ops",
            lines=[
                Line("sum by (venue) (rate(botswarm_evaluations_total[5m]))", "{{venue}}"),
            ],
        ),
        Panel(
            title="Slowest evaluation of a market",
            unit="ms",
            lines=[Line("max by (venue) (botswarm_evaluation_slowest_ms)", "{{venue}}")],
        ),
    ),
)

BOARDS: tuple[Board, ...] = (
    *(EXECUTIVE, TRADING, APPLICATION, INFRASTRUCTURE, TECHNICAL, OPERATIONS, SECURITY),
)


def files() -> Mapping[Path, str]:
    """By their place below docker/."""
    folder = Path("grafana/dashboards")
    made = {folder / f"{board.uid}.json": board.as_json(BOARDS) for board in BOARDS}
    return {
        **made,
        Path("grafana/provisioning/dashboards/botswarm.yaml"): _PROVIDER,
        Path("grafana/provisioning/datasources/botswarm.yaml"): _SOURCE,
    }


_MADE = "# Written by `botswarm alert files`; a test fails when it is stale.\n"
_PROVIDER = (
    _MADE
    + """\
apiVersion: 1
providers:
  - name: botswarm
    folder: botswarm
    type: file
    allowUiUpdates: false
    options:
      path: /etc/grafana/dashboards
"""
)
_SOURCE = (
    _MADE
    + f"""\
apiVersion: 1
datasources:
  - name: Prometheus
    uid: botswarm
    type: prometheus
    access: proxy
    url: http://prometheus:9090
    isDefault: true
    jsonData: {json.dumps({"timeInterval": "15s"})}
"""
)
