"""Alerts on what comes from the venues: late, thin, or not at all."""

from __future__ import annotations

from collections.abc import Mapping

from botswarm.alerts.rule import Check, Figure, Rule, Trial
from botswarm.alerts.rule_forms import crossed, growing
from botswarm.config.table import BY_NAME
from botswarm.domain.alert import Severity

GROUP = "feed"
LATENCY = (
    "histogram_quantile(0.95, sum by (exchange, le) "
    "(rate(botswarm_event_latency_ms_bucket[5m]))) > {}"
)
RECEIVED = "sum(rate(botswarm_events_received_total[5m]))"
# A feed of a few markets never hears so much: low is what was high within the hour.
THINNED = f"{RECEIVED} < {{}} and max_over_time({RECEIVED}[1h:1m]) >= 670"
# Resident, with Python and its libraries: a feed that rests takes 82 MB of its 100.
FEED_MEMORY = (
    "botswarm_memory_usage_bytes * on (job, instance) group_left (role) "
    'botswarm_build_info{{role="feed"}} > {}e6'
)
# A count that was not there before has not grown: it begins with its first event.
BREACHES = (
    "botswarm_security_events_total"
    '{kind=~"invalid_certificate|memory_limit_exceeded|connection_leak_detected"}'
)


def _latency(fast: int, slow: int) -> dict[str, str]:
    """So many of a hundred are as fast as the bucket of the first bound, the rest as the second."""
    name = 'botswarm_event_latency_ms_bucket{exchange="binance",type="trade",le="%s"}'
    shares = {"5": fast, "10": fast, "20": fast, "50": fast, "100": slow, "+Inf": slow}
    return growing(name, shares)


def _feed(name: str, value: str) -> dict[str, str]:
    return {
        f'{name}{{job="botswarm",instance="a:8080"}}': value,
        'botswarm_build_info{job="botswarm",instance="a:8080",role="feed",process="feed"}': "1x60",
    }


def _by_environment(setting: str) -> Mapping[str, float]:
    """What the feed goes by itself where nobody has set it."""
    found = BY_NAME[setting]
    defaults = {"development": found.default, **found.profile_defaults}
    return {name: float(str(value)) for name, value in defaults.items()}


LOW = _by_environment("feed_health_alert")
CRITICAL = {"production": 0.3, "staging": 0.2, "development": 0.05}
HEALTH = "botswarm_exchange_health"


def _below(limits: Mapping[str, float]) -> str:
    """Whoever is in no environment that is known is held to what production is held to."""
    others = sorted(set(limits) - {"production"}, reverse=True)
    of = {f'environment!~"{"|".join(others)}"': limits["production"]}
    of |= {f'environment="{name}"': limits[name] for name in others}
    each = "min by (exchange, environment) ({}{{{}}}) < {:g}"
    return " or ".join(each.format(HEALTH, where, limit) for where, limit in of.items())


def _health_trial(limit: float, environment: str) -> Trial:
    """A little below its limit, and just at it."""
    labels = {"exchange": "binance"} | ({"environment": environment} if environment else {})
    series = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return Trial(
        fires={f"{HEALTH}{{{series}}}": f"{limit * 0.9:g}x60"},
        quiet={f"{HEALTH}{{{series}}}": f"{limit:g}x60"},
        labels=labels,
    )


def _more_health_trials(limits: Mapping[str, float]) -> Mapping[str, Trial]:
    others = [name for name in limits if name != "production"]
    return {
        **{f"in {name}": _health_trial(limits[name], name) for name in others},
        "in an environment nobody named": _health_trial(limits["production"], ""),
    }


RULES: tuple[Rule, ...] = (
    Rule(
        name="HighEventLatency",
        severity=Severity.WARNING,
        group=GROUP,
        says="one tick in twenty of {{ $labels.exchange }} takes {{ $value | humanize }} ms from "
        "the venue's socket to the broker (10 ms at most is usual)",
        expression=LATENCY.format(10),
        for_s=300,
        explained_by=("CriticalEventLatency",),
        trial=Trial(
            fires=_latency(90, 100), quiet=_latency(100, 100), labels={"exchange": "binance"}
        ),
    ),
    Rule(
        name="CriticalEventLatency",
        severity=Severity.CRITICAL,
        group=GROUP,
        says="one tick in twenty of {{ $labels.exchange }} takes {{ $value | humanize }} ms from "
        "the venue's socket to the broker (over 50 ms)",
        expression=LATENCY.format(50),
        for_s=120,
        trial=Trial(
            fires=_latency(90, 100), quiet=_latency(100, 100), labels={"exchange": "binance"}
        ),
    ),
    Rule(
        name="ExchangeDisconnected",
        severity=Severity.CRITICAL,
        group=GROUP,
        says="no connection to {{ $labels.exchange }} is up: its bots see no price",
        expression="max by (exchange) (botswarm_exchange_connected) == 0",
        for_s=120,
        probe=Check("feed", "fail"),
        explained_by=("AllConnectionsFailed",),
        trial=Trial(
            fires={
                'botswarm_exchange_connected{exchange="binance"}': "1x5 0x60",
                'botswarm_exchange_connected{exchange="kraken"}': "1x70",
            },
            quiet={'botswarm_exchange_connected{exchange="binance"}': "1x60"},
            labels={"exchange": "binance"},
        ),
    ),
    Rule(
        name="AllConnectionsFailed",
        severity=Severity.CRITICAL,
        group=GROUP,
        says="no connection to any venue is up: look at this machine's network first",
        expression="max(botswarm_exchange_connected) == 0",
        for_s=30,
        probe=Figure(metric="botswarm_exchange_connected", below=0.5, by_all=True, for_s=30),
        trial=Trial(
            fires={
                'botswarm_exchange_connected{exchange="binance"}': "0x60",
                'botswarm_exchange_connected{exchange="kraken"}': "0x60",
            },
            quiet={
                'botswarm_exchange_connected{exchange="binance"}': "0x60",
                'botswarm_exchange_connected{exchange="kraken"}': "1x60",
            },
        ),
    ),
    Rule(
        name="FeedHealthLow",
        severity=Severity.WARNING,
        group=GROUP,
        says="the connections to {{ $labels.exchange }} are in bad health: "
        "{{ $value | humanize }} of 1",
        expression=_below(LOW),
        for_s=60,
        probe=Check("feed", "warn", for_s=60),
        explained_by=("FeedHealthCritical", "ExchangeDisconnected"),
        trial=_health_trial(LOW["production"], "production"),
        more_trials=_more_health_trials(LOW),
    ),
    Rule(
        name="FeedHealthCritical",
        severity=Severity.CRITICAL,
        group=GROUP,
        says="the connections to {{ $labels.exchange }} hardly work: {{ $value | humanize }} of 1",
        expression=_below(CRITICAL),
        for_s=60,
        probe=Figure(
            metric=HEALTH,
            below_in=CRITICAL,
            by=("exchange",),
            for_s=60,
        ),
        explained_by=("ExchangeDisconnected",),
        trial=_health_trial(CRITICAL["production"], "production"),
        more_trials=_more_health_trials(CRITICAL),
    ),
    Rule(
        name="FeedThroughputLow",
        severity=Severity.WARNING,
        group=GROUP,
        says="only {{ $value | humanize }} ticks a second come in; within the hour it was 670 "
        "or more",
        expression=THINNED.format(500),
        for_s=300,
        explained_by=("FeedThroughputCritical", "ExchangeDisconnected", "AllConnectionsFailed"),
        trial=Trial(
            fires={
                'botswarm_events_received_total{exchange="binance",type="trade"}': (
                    "0+60000x20 1200000+24000x60"
                )
            },
            quiet={
                # A small feed that was never any bigger.
                'botswarm_events_received_total{exchange="binance",type="trade"}': "0+24000x60"
            },
            at=45,
        ),
    ),
    Rule(
        name="FeedThroughputCritical",
        severity=Severity.CRITICAL,
        group=GROUP,
        says="only {{ $value | humanize }} ticks a second come in; within the hour it was 670 "
        "or more",
        expression=THINNED.format(300),
        for_s=300,
        explained_by=("ExchangeDisconnected", "AllConnectionsFailed"),
        trial=Trial(
            fires={
                'botswarm_events_received_total{exchange="binance",type="trade"}': (
                    "0+60000x20 1200000+12000x60"
                )
            },
            quiet={
                'botswarm_events_received_total{exchange="binance",type="trade"}': (
                    "0+60000x20 1200000+24000x60"
                )
            },
            at=45,
        ),
    ),
    Rule(
        name="FeedMemoryHigh",
        severity=Severity.WARNING,
        group=GROUP,
        says="the feed takes {{ $value | humanize1024 }}B of memory, of 100 MB it should live in",
        expression=FEED_MEMORY.format(90),
        for_s=600,
        probe=Figure(
            metric="botswarm_memory_usage_bytes",
            above=90e6,
            where={"role": "feed"},
            by=("process",),
            for_s=600,
        ),
        explained_by=("FeedMemoryCritical",),
        trial=Trial(
            fires=_feed("botswarm_memory_usage_bytes", "91e6x60"),
            quiet=_feed("botswarm_memory_usage_bytes", "89e6x60"),
            labels={"job": "botswarm", "instance": "a:8080", "role": "feed"},
        ),
    ),
    Rule(
        name="FeedMemoryCritical",
        severity=Severity.CRITICAL,
        group=GROUP,
        says="the feed takes {{ $value | humanize1024 }}B of memory, of 100 MB it should live in",
        expression=FEED_MEMORY.format(95),
        for_s=600,
        probe=Figure(
            metric="botswarm_memory_usage_bytes",
            above=95e6,
            where={"role": "feed"},
            by=("process",),
            for_s=600,
        ),
        trial=Trial(
            fires=_feed("botswarm_memory_usage_bytes", "96e6x60"),
            quiet=_feed("botswarm_memory_usage_bytes", "94e6x60"),
            labels={"job": "botswarm", "instance": "a:8080", "role": "feed"},
        ),
    ),
    Rule(
        name="ConnectionSuccessLow",
        severity=Severity.WARNING,
        group=GROUP,
        says="of the attempts to connect to {{ $labels.exchange }} only "
        "{{ $value | humanizePercentage }} succeed",
        expression="min by (exchange) (botswarm_connection_success_ratio) < 0.95",
        for_s=300,
        probe=Figure(
            metric="botswarm_connection_success_ratio", below=0.95, by=("exchange",), for_s=300
        ),
        explained_by=("ConnectionSuccessCritical",),
        trial=crossed("botswarm_connection_success_ratio", "0.94x60", "0.96x60", exchange="kraken"),
    ),
    Rule(
        name="ConnectionSuccessCritical",
        severity=Severity.CRITICAL,
        group=GROUP,
        says="of the attempts to connect to {{ $labels.exchange }} only "
        "{{ $value | humanizePercentage }} succeed",
        expression="min by (exchange) (botswarm_connection_success_ratio) < 0.9",
        for_s=120,
        probe=Figure(
            metric="botswarm_connection_success_ratio", below=0.9, by=("exchange",), for_s=120
        ),
        trial=crossed("botswarm_connection_success_ratio", "0.89x60", "0.94x60", exchange="kraken"),
    ),
    Rule(
        name="TicksLost",
        severity=Severity.WARNING,
        group=GROUP,
        says="{{ $value | humanize }} ticks or messages of {{ $labels.exchange }} were lost within "
        "five minutes ({{ $labels.reason }})",
        expression="sum by (exchange, reason) (increase(botswarm_events_lost_total"
        '{reason!~"conflated_.*"}[5m])) > 0',
        for_s=0,
        trial=Trial(
            fires={
                'botswarm_events_lost_total{exchange="binance",reason="gone_trade"}': "0x25 3x60",
            },
            quiet={
                'botswarm_events_lost_total{exchange="binance",reason="gone_trade"}': "3x60",
                'botswarm_events_lost_total{exchange="binance",reason="conflated_quote"}': "0+9x60",
            },
            labels={"exchange": "binance", "reason": "gone_trade"},
            at=27,
        ),
    ),
    Rule(
        name="SecurityBreachSuspected",
        severity=Severity.CRITICAL,
        group="security",
        says="{{ $labels.kind }} at {{ $labels.exchange }}: this may be somebody's attack",
        expression=f"sum by (exchange, kind) (increase({BREACHES}[10m]) > 0 or "
        f"({BREACHES} > 0 unless {BREACHES} offset 10m))",
        for_s=0,
        trial=Trial(
            fires={
                'botswarm_security_events_total{exchange="binance",kind="invalid_certificate"}': (
                    "_x25 1x60"
                ),
            },
            quiet={
                'botswarm_security_events_total{exchange="binance",kind="invalid_certificate"}': (
                    "1x60"
                ),
                'botswarm_security_events_total{exchange="kraken",kind="message_size_exceeded"}': (
                    "0+1x60"
                ),
            },
            labels={"exchange": "binance", "kind": "invalid_certificate"},
        ),
    ),
    Rule(
        name="RateLimitBan",
        severity=Severity.HIGH,
        group=GROUP,
        says="{{ $labels.server }} wants to hear nothing for {{ $value | humanizeDuration }}",
        expression="max by (server) (botswarm_rate_limit_ban_seconds) > 0",
        for_s=0,
        probe=Figure(metric="botswarm_rate_limit_ban_seconds", above=0, by=("server",)),
        trial=crossed(
            "botswarm_rate_limit_ban_seconds", "120x60", "0x60", server="api.binance.com"
        ),
    ),
    Rule(
        name="PoolScaled",
        severity=Severity.INFO,
        group=GROUP,
        says="the feed of {{ $labels.exchange }} has another number of connections than ten "
        "minutes "
        "ago: {{ $value }}",
        expression="count by (exchange) (botswarm_connection_health) != "
        "count by (exchange) (botswarm_connection_health offset 10m)",
        for_s=0,
        trial=Trial(
            fires={
                'botswarm_connection_health{exchange="binance",connection="0"}': "1x60",
                'botswarm_connection_health{exchange="binance",connection="1"}': "_x25 1x60",
            },
            quiet={
                'botswarm_connection_health{exchange="binance",connection="0"}': "1x60",
                'botswarm_connection_health{exchange="binance",connection="1"}': "1x60",
            },
            labels={"exchange": "binance"},
        ),
    ),
)
