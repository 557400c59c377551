"""Alerts on the swarm's own work: tasks, queues, schedules, backups, pages and notices."""

from __future__ import annotations

from botswarm.alerts.rule import Check, Figure, Rule, Trial
from botswarm.alerts.rule_forms import crossed, growing, when_fails
from botswarm.domain.alert import Severity

WORK, SAFETY, PAGES = "work", "safety", "pages"
FAILED = (
    'sum by (task) (rate(botswarm_tasks_total{{outcome="failed"}}[5m])) / '
    'sum by (task) (rate(botswarm_tasks_total{{outcome=~"done|failed"}}[5m])) > {}'
)
SLOW_PAGES = (
    "histogram_quantile(0.95, sum by (page, le) "
    "(rate(botswarm_http_request_seconds_bucket[5m]))) > {}"
)
STORE = ("DatabaseConnectionFailure", "BrokerDown")


def _tasks(failed: int) -> dict[str, str]:
    name = 'botswarm_tasks_total{task="workers.orders.place",outcome="%s"}'
    return growing(name, {"done": 100 - failed, "failed": failed})


def _pages(fast: int) -> dict[str, str]:
    """So many of a hundred take half a second at most, and the rest up to two."""
    name = 'botswarm_http_request_seconds_bucket{page="/health",le="%s"}'
    return growing(name, {"0.25": fast, "0.5": fast, "1": fast, "2": 100, "+Inf": 100})


RULES: tuple[Rule, ...] = (
    Rule(
        name="HighErrorRate",
        severity=Severity.HIGH,
        group=WORK,
        says="{{ $value | humanizePercentage }} of the tasks {{ $labels.task }} fail",
        expression=FAILED.format("0.05"),
        for_s=300,
        explained_by=STORE,
        trial=Trial(fires=_tasks(6), quiet=_tasks(4), labels={"task": "workers.orders.place"}),
    ),
    Rule(
        name="ElevatedErrorRate",
        severity=Severity.WARNING,
        group=WORK,
        says="{{ $value | humanizePercentage }} of the tasks {{ $labels.task }} fail",
        expression=FAILED.format("0.02"),
        for_s=900,
        explained_by=("HighErrorRate", *STORE),
        trial=Trial(fires=_tasks(3), quiet=_tasks(1), labels={"task": "workers.orders.place"}),
    ),
    Rule(
        name="SlowResponses",
        severity=Severity.HIGH,
        group=PAGES,
        says="one answer in twenty on {{ $labels.page }} takes {{ $value | humanizeDuration }}",
        expression=SLOW_PAGES.format(1),
        for_s=300,
        trial=Trial(fires=_pages(90), quiet=_pages(100), labels={"page": "/health"}),
    ),
    Rule(
        name="ElevatedResponseTime",
        severity=Severity.WARNING,
        group=PAGES,
        says="one answer in twenty on {{ $labels.page }} takes {{ $value | humanizeDuration }}",
        expression=SLOW_PAGES.format("0.5"),
        for_s=900,
        explained_by=("SlowResponses",),
        trial=Trial(fires=_pages(90), quiet=_pages(100), labels={"page": "/health"}),
    ),
    when_fails(
        Check("queues", "fail", for_s=30),
        name="QueueStuck",
        severity=Severity.CRITICAL,
        group=WORK,
        says="messages wait too long, or nobody works on their queue",
        for_s=30,
        explained_by=(
            "DatabaseConnectionFailure",
            "BrokerDown",
        ),
    ),
    Rule(
        name="QueueLagging",
        severity=Severity.WARNING,
        group=WORK,
        says="the oldest message of the queue {{ $labels.queue }} waits for "
        "{{ $value | humanizeDuration }}",
        expression="max by (queue) (botswarm_queue_oldest_seconds) > 30",
        for_s=120,
        probe=Figure(metric="botswarm_queue_oldest_seconds", above=30, by=("queue",), for_s=120),
        explained_by=("QueueStuck", "BrokerDown"),
        trial=crossed("botswarm_queue_oldest_seconds", "31x60", "30x60", queue="orders"),
    ),
    Rule(
        name="DeadLetters",
        severity=Severity.WARNING,
        group=WORK,
        says="{{ $value }} messages of the queue {{ $labels.queue }} failed and wait for a person",
        expression="max by (queue) (botswarm_queue_dead_letters) > 0",
        for_s=60,
        probe=Figure(metric="botswarm_queue_dead_letters", above=0, by=("queue",), for_s=60),
        trial=crossed("botswarm_queue_dead_letters", "1x60", "0x60", queue="orders"),
    ),
    Rule(
        name="NearCapacity",
        severity=Severity.INFO,
        group=WORK,
        says="{{ $value | humanizePercentage }} of the places of {{ $labels.queue }} are taken: "
        "more "
        "workers, or a higher cap, would make room",
        expression="max by (queue) (botswarm_queue_slots_used) / "
        "max by (queue) (botswarm_queue_cap) > 0.8",
        for_s=1800,
        trial=Trial(
            fires={
                'botswarm_queue_slots_used{queue="orders"}': "7x90",
                'botswarm_queue_cap{queue="orders"}': "8x90",
            },
            quiet={
                'botswarm_queue_slots_used{queue="orders"}': "6x90",
                'botswarm_queue_cap{queue="orders"}': "8x90",
            },
            labels={"queue": "orders"},
            at=45,
        ),
    ),
    Rule(
        name="WorkerIdle",
        severity=Severity.HIGH,
        group=WORK,
        says="the worker {{ $labels.instance }} runs and takes no tasks from its queues",
        expression='max by (job, instance) (botswarm_health_check{check="tasks"}) == 2',
        for_s=60,
        probe=Check("tasks", "fail", about="process", for_s=60),
        explained_by=("BrokerDown",),
        trial=Trial(
            fires={'botswarm_health_check{check="tasks",job="botswarm",instance="a:8080"}': "2x60"},
            quiet={'botswarm_health_check{check="tasks",job="botswarm",instance="a:8080"}': "0x60"},
            labels={"job": "botswarm", "instance": "a:8080"},
        ),
    ),
    when_fails(
        Check("leader", "fail", for_s=30),
        name="LeaderMissing",
        severity=Severity.CRITICAL,
        group=WORK,
        says="no beat leads, or no feed of a venue that is traded",
        for_s=30,
        explained_by=(
            "DatabaseConnectionFailure",
            "BrokerDown",
        ),
    ),
    when_fails(
        Check("doorbells", "fail"),
        name="DoorbellsWaiting",
        severity=Severity.HIGH,
        group=WORK,
        says="committed work has been waiting for over two minutes for somebody to tell the broker",
        for_s=0,
        explained_by=("DatabaseConnectionFailure", "BrokerDown", "QueueStuck"),
    ),
    Rule(
        name="EvaluationsLate",
        severity=Severity.HIGH,
        group=WORK,
        says="no market of {{ $labels.venue }} has been looked after for "
        "{{ $value | humanizeDuration }}",
        expression="min by (venue) (botswarm_evaluation_age_seconds) > 60 and on () "
        'sum(botswarm_bots{state="running"}) > 0',
        for_s=120,
        explained_by=("ExchangeDisconnected", "AllConnectionsFailed", *STORE),
        trial=Trial(
            fires={
                'botswarm_evaluation_age_seconds{venue="binance"}': "61x60",
                'botswarm_bots{state="running"}': "5x60",
            },
            quiet={
                'botswarm_evaluation_age_seconds{venue="binance"}': "61x60",
                'botswarm_bots{state="running"}': "0x60",
            },
            labels={"venue": "binance"},
        ),
    ),
    Rule(
        name="ScheduleMissed",
        severity=Severity.WARNING,
        group=SAFETY,
        says="something periodic was missed, or failed",
        expression='max(botswarm_health_check{check="schedules"}) > 0',
        for_s=60,
        probe=Check("schedules", "warn", for_s=60),
        explained_by=(
            "DatabaseConnectionFailure",
            "LeaderMissing",
        ),
        trial=Trial(
            fires={'botswarm_health_check{check="schedules"}': "1x60"},
            quiet={'botswarm_health_check{check="schedules"}': "0x60"},
        ),
    ),
    Rule(
        name="KeysOld",
        severity=Severity.WARNING,
        group=SAFETY,
        says="a key, or a certificate of a server, is so old that it has to be renewed",
        expression='max(botswarm_health_check{check="keys"}) > 0',
        for_s=300,
        probe=Check("keys", "warn", for_s=300),
        explained_by=("DatabaseConnectionFailure",),
        trial=Trial(
            fires={'botswarm_health_check{check="keys"}': "1x60"},
            quiet={'botswarm_health_check{check="keys"}': "0x60"},
        ),
    ),
    Rule(
        name="BackupTooOld",
        severity=Severity.HIGH,
        group=SAFETY,
        says="there is no backup that is good and young enough",
        expression='max(botswarm_health_check{check="backup_age"}) > 0',
        for_s=300,
        probe=Check("backup_age", "warn", for_s=300),
        explained_by=("DatabaseConnectionFailure",),
        trial=Trial(
            fires={'botswarm_health_check{check="backup_age"}': "2x60"},
            quiet={'botswarm_health_check{check="backup_age"}': "0x60"},
        ),
    ),
    when_fails(
        Check("archive", "fail", for_s=60),
        name="ArchiveBehind",
        severity=Severity.HIGH,
        group=SAFETY,
        says="the archive of the ledger does not go on: what came since would be lost",
        for_s=60,
        explained_by=("DatabaseConnectionFailure",),
    ),
    when_fails(
        Check("bucket", "fail", for_s=0),
        name="BucketBehind",
        severity=Severity.HIGH,
        group=SAFETY,
        says="what is archived does not reach the bucket: with this machine it would be lost",
        for_s=0,
    ),
    Rule(
        name="RestoreDrillFailed",
        severity=Severity.HIGH,
        group=SAFETY,
        says="the last restore drill did not bring the ledger back, or not in time",
        # How long it may take and what may be lost are settings: the drill holds itself to them.
        expression="min(botswarm_drill_good) == 0",
        for_s=0,
        probe=Figure(metric="botswarm_drill_good", below=0.5),
        trial=Trial(
            fires={"botswarm_drill_good": "0x60"},
            quiet={"botswarm_drill_good": "1x60", "botswarm_drill_rpo_seconds": "10800x60"},
        ),
    ),
    Rule(
        name="SeveralVersions",
        severity=Severity.HIGH,
        group=WORK,
        says="processes that are not made of the same run beside one another",
        expression='max(botswarm_health_check{check="builds"}) > 0 or '
        "count(count by (version) (botswarm_build_info)) > 1",
        for_s=300,
        probe=Check("builds", "warn", for_s=60),
        explained_by=("DatabaseConnectionFailure",),
        trial=Trial(
            fires={
                'botswarm_build_info{version="1.0",process="feed"}': "1x60",
                'botswarm_build_info{version="1.1",process="ops"}': "1x60",
            },
            quiet={
                'botswarm_build_info{version="1.0",process="feed"}': "1x60",
                'botswarm_health_check{check="builds",process="ops"}': "0x60",
            },
        ),
    ),
    when_fails(
        Check("enabling", "fail"),
        name="OpeningStandsStill",
        severity=Severity.HIGH,
        group=WORK,
        says="trading that is opened step by step is not looked at: it neither goes on nor back",
        for_s=0,
        explained_by=("LeaderMissing", *STORE),
    ),
    Rule(
        name="NoticesUndelivered",
        severity=Severity.HIGH,
        group=SAFETY,
        says="{{ $value }} notices wait for {{ $labels.channel }}: it does not take them",
        expression="max by (channel) (botswarm_notices_waiting) > 0",
        for_s=900,
        probe=Figure(metric="botswarm_notices_waiting", above=0, by=("channel",), for_s=900),
        trial=crossed("botswarm_notices_waiting", "2x60", "0x60", channel="slack"),
    ),
)
