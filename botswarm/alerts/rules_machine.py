"""Alerts on the machines and servers that everything stands on."""

from __future__ import annotations

from botswarm.alerts.rule import Check, Figure, Rule, Silent, Trial
from botswarm.alerts.rule_forms import crossed, when_fails
from botswarm.domain.alert import Severity
from botswarm.domain.uptime import PROMISED

MACHINE, SERVERS = "machine", "servers"


RULES: tuple[Rule, ...] = (
    Rule(
        name="ApplicationDown",
        severity=Severity.CRITICAL,
        group=MACHINE,
        says="{{ $labels.instance }} does not answer",
        expression='up{job="botswarm"} == 0',
        for_s=30,
        probe=Silent(),
        trial=crossed("up", "1x5 0x60", "1x60", job="botswarm", instance="a:8080"),
    ),
    Rule(
        name="NothingIsWatched",
        severity=Severity.CRITICAL,
        group=MACHINE,
        says="Prometheus knows of no process of botswarm at all",
        expression='absent(up{job="botswarm"})',
        for_s=120,
        trial=Trial(
            fires={'up{job="other"}': "1x60"},
            quiet={'up{job="botswarm",instance="a:8080"}': "0x60"},
            labels={"job": "botswarm"},
        ),
    ),
    Rule(
        name="ProcessStuck",
        severity=Severity.CRITICAL,
        group=MACHINE,
        says="{{ $labels.instance }} answers and does not get on with its work",
        expression='max by (job, instance) (botswarm_health_check{check="work"}) == 2',
        for_s=30,
        probe=Check("work", "fail", about="process"),
        trial=Trial(
            fires={'botswarm_health_check{check="work",job="botswarm",instance="a:8080"}': "2x60"},
            quiet={'botswarm_health_check{check="work",job="botswarm",instance="a:8080"}': "1x60"},
            labels={"job": "botswarm", "instance": "a:8080"},
        ),
    ),
    Rule(
        name="ProcessRestarted",
        severity=Severity.INFO,
        group=MACHINE,
        says="{{ $labels.instance }} was started {{ $value | humanizeDuration }} ago",
        expression="botswarm_uptime_seconds < 120 and on (job, instance) (up offset 10m) == 1",
        for_s=0,
        trial=Trial(
            fires={
                'botswarm_uptime_seconds{job="botswarm",instance="a:8080"}': "600+60x29 30x60",
                'up{job="botswarm",instance="a:8080"}': "1x90",
            },
            quiet={
                'botswarm_uptime_seconds{job="botswarm",instance="a:8080"}': "600+60x90",
                'up{job="botswarm",instance="a:8080"}': "1x90",
            },
            labels={"job": "botswarm", "instance": "a:8080"},
            at=30,
        ),
    ),
    Rule(
        name="ProcessRestartsOften",
        severity=Severity.HIGH,
        group=MACHINE,
        says="{{ $labels.instance }} was started {{ $value | humanize }} times within fifteen "
        "minutes",
        expression="resets(botswarm_uptime_seconds[15m]) > 2",
        for_s=0,
        trial=crossed(
            "botswarm_uptime_seconds",
            "600+60x17 5+60x3 5+60x3 5+60x30",
            "600+60x25 5+60x30",
            job="botswarm",
            instance="a:8080",
        ),
    ),
    Rule(
        name="UptimeLow",
        severity=Severity.WARNING,
        group=MACHINE,
        says="the swarm was up for {{ $value | humanizePercentage }} of 30 days: less than 99.9 %",
        expression="min by (environment) "
        '(botswarm_swarm_up_ratio{window="30d",environment!="development"}) < 0.999',
        for_s=0,
        probe=Figure(
            metric="botswarm_swarm_up_ratio",
            below_in={"production": PROMISED, "staging": PROMISED},
            where={"window": "30d"},
        ),
        trial=Trial(
            fires={
                'botswarm_swarm_up_ratio{window="30d",environment="production"}': "0.9989x60",
            },
            quiet={
                'botswarm_swarm_up_ratio{window="30d",environment="production"}': "0.9991x60",
                'botswarm_swarm_up_ratio{window="1d",environment="production"}': "0.9x60",
                'botswarm_swarm_up_ratio{window="30d",environment="development"}': "0.3x60",
            },
            labels={"environment": "production"},
        ),
    ),
    Rule(
        name="HighMemoryUsage",
        severity=Severity.WARNING,
        group=MACHINE,
        says="{{ $labels.instance }} takes {{ $value | humanize }} GB of memory",
        expression="botswarm_memory_usage_bytes / 1024 ^ 3 > 0.8",
        for_s=300,
        probe=Figure(
            metric="botswarm_memory_usage_bytes", above=0.8 * 1024**3, by=("process",), for_s=300
        ),
        trial=crossed(
            "botswarm_memory_usage_bytes", "900e6x60", "800e6x60", job="botswarm", instance="a:8080"
        ),
    ),
    Rule(
        name="HighHostMemory",
        severity=Severity.HIGH,
        group=MACHINE,
        says="{{ $value | humanizePercentage }} of the memory of {{ $labels.instance }} is used",
        expression='botswarm_host_memory_bytes{state="used"} / ignoring (state) '
        'botswarm_host_memory_bytes{state="total"} > 0.9',
        for_s=300,
        probe=Check("memory", "fail", about="machine", for_s=60),
        trial=Trial(
            fires={
                'botswarm_host_memory_bytes{state="used",instance="a:8080"}': "9.1e9x60",
                'botswarm_host_memory_bytes{state="total",instance="a:8080"}': "10e9x60",
            },
            quiet={
                'botswarm_host_memory_bytes{state="used",instance="a:8080"}': "8.9e9x60",
                'botswarm_host_memory_bytes{state="total",instance="a:8080"}': "10e9x60",
            },
            labels={"instance": "a:8080"},
        ),
    ),
    Rule(
        name="HighCpu",
        severity=Severity.HIGH,
        group=MACHINE,
        says="{{ $labels.instance }}'s machine is {{ $value | humanize }} % busy",
        expression="botswarm_host_cpu_percent > 85",
        for_s=300,
        probe=Check("cpu", "warn", about="machine", for_s=300),
        trial=crossed("botswarm_host_cpu_percent", "86x60", "85x60", instance="a:8080"),
    ),
    Rule(
        name="DiskFilling",
        severity=Severity.WARNING,
        group=MACHINE,
        says="{{ $value | humanizePercentage }} of the disk with the state folder is used",
        expression="botswarm_host_disk_used_ratio > 0.8",
        for_s=300,
        probe=Check("disk", "warn", about="machine", for_s=60),
        explained_by=("DiskAlmostFull",),
        trial=crossed("botswarm_host_disk_used_ratio", "0.81x60", "0.79x60", instance="a:8080"),
    ),
    Rule(
        name="DiskAlmostFull",
        severity=Severity.HIGH,
        group=MACHINE,
        says="{{ $value | humanizePercentage }} of the disk with the state folder is used: less "
        "than "
        "a tenth is free",
        expression="botswarm_host_disk_used_ratio > 0.9",
        for_s=60,
        probe=Check("disk", "fail", about="machine"),
        trial=crossed("botswarm_host_disk_used_ratio", "0.91x60", "0.89x60", instance="a:8080"),
    ),
    when_fails(
        Check("clock", "fail", about="machine"),
        name="ClockWrong",
        severity=Severity.CRITICAL,
        group=MACHINE,
        says="the clock jumps, or is too far from the venues': no order is sent until it is right",
        for_s=0,
    ),
    when_fails(
        Check("ledger", "fail"),
        name="DatabaseConnectionFailure",
        severity=Severity.CRITICAL,
        group=SERVERS,
        says="the ledger cannot be reached: no order is placed, nothing is booked",
        for_s=0,
    ),
    Rule(
        name="DatabaseSlow",
        severity=Severity.WARNING,
        group=SERVERS,
        says="the ledger takes {{ $value | humanize }} ms to answer (50 ms at most is usual)",
        expression='max(botswarm_health_value{check="ledger"}) > 50',
        for_s=300,
        probe=Check("ledger", "warn", for_s=60),
        explained_by=("DatabaseConnectionFailure",),
        trial=Trial(
            fires={'botswarm_health_value{check="ledger",unit="ms"}': "51x60"},
            quiet={'botswarm_health_value{check="ledger",unit="ms"}': "49x60"},
        ),
    ),
    Rule(
        name="DatabaseConnectionsHigh",
        severity=Severity.HIGH,
        group=SERVERS,
        says="{{ $value | humanizePercentage }} of the connections PostgreSQL allows are taken",
        expression="sum(botswarm_database_connections) / "
        "max(botswarm_database_connections_max) > 0.8",
        for_s=300,
        trial=Trial(
            fires={
                'botswarm_database_connections{state="idle"}': "81x60",
                "botswarm_database_connections_max": "100x60",
            },
            quiet={
                'botswarm_database_connections{state="idle"}': "79x60",
                "botswarm_database_connections_max": "100x60",
            },
        ),
    ),
    when_fails(
        Check("broker", "fail"),
        name="BrokerDown",
        severity=Severity.CRITICAL,
        group=SERVERS,
        says="the broker cannot be reached: orders wait in the ledger until it is back",
        for_s=0,
    ),
    Rule(
        name="BrokerBlocked",
        severity=Severity.CRITICAL,
        group=SERVERS,
        says="the broker takes no messages: its memory or its disk is short",
        expression="max(botswarm_broker_blocked) == 1",
        for_s=30,
        probe=Figure(metric="botswarm_broker_blocked", above=0.5, for_s=30),
        explained_by=("BrokerDown",),
        trial=crossed("botswarm_broker_blocked", "1x60", "0x60"),
    ),
    when_fails(
        Check("redis", "fail"),
        name="RedisConnectionLost",
        severity=Severity.CRITICAL,
        group=SERVERS,
        says="Redis cannot be reached: no live prices are shown, limits are counted by machine",
        for_s=60,
    ),
    Rule(
        name="CacheMissRateHigh",
        severity=Severity.WARNING,
        group=SERVERS,
        says="{{ $value | humanizePercentage }} of the lookups in Redis find nothing",
        expression='sum(rate(botswarm_redis_lookups_total{result="miss"}[10m])) / '
        "sum(rate(botswarm_redis_lookups_total[10m])) > 0.5",
        for_s=900,
        explained_by=("RedisConnectionLost",),
        trial=Trial(
            fires={
                'botswarm_redis_lookups_total{result="hit"}': "0+40x60",
                'botswarm_redis_lookups_total{result="miss"}': "0+60x60",
            },
            quiet={
                'botswarm_redis_lookups_total{result="hit"}': "0+60x60",
                'botswarm_redis_lookups_total{result="miss"}': "0+40x60",
            },
        ),
    ),
    when_fails(
        Check("venues", "fail"),
        name="ExchangeApiLost",
        severity=Severity.CRITICAL,
        group=SERVERS,
        says="the server of an account's venue cannot be reached: its orders cannot be sent",
        for_s=30,
        explained_by=("DatabaseConnectionFailure",),
    ),
    Rule(
        name="NetworkSlow",
        severity=Severity.WARNING,
        group=SERVERS,
        says="{{ $labels.peer }} is {{ $value | humanize }} ms away (100 ms at most is usual)",
        expression="max by (peer) (botswarm_round_trip_ms) > 100",
        for_s=300,
        probe=Figure(metric="botswarm_round_trip_ms", above=100, by=("peer",), for_s=300),
        trial=crossed("botswarm_round_trip_ms", "101x60", "99x60", peer="broker"),
    ),
    Rule(
        name="CertificateEnding",
        severity=Severity.WARNING,
        group="security",
        says="a certificate ends within days",
        expression='max(botswarm_health_check{check="certificates"}) > 0',
        for_s=600,
        probe=Check("certificates", "warn"),
        trial=Trial(
            fires={'botswarm_health_check{check="certificates",instance="a:8080"}': "1x10 2x50"},
            quiet={'botswarm_health_check{check="certificates",instance="a:8080"}': "0x60"},
        ),
    ),
)
