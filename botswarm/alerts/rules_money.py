"""Alerts on orders, accounts and what may be lost."""

from __future__ import annotations

from botswarm.alerts.rule import Check, Events, Figure, Rule, Trial
from botswarm.alerts.rule_forms import crossed, growing, when_fails
from botswarm.domain.alert import Severity

ORDERS, RISK = "orders", "risk"
LOSSES = ("daily_loss", "drawdown", "losing_streak")
PATTERNS = ("many_cancels", "many_rejects", "many_flips", "burst", "repeats", "unlike_itself")
"""Both lines of these are one alert: what was held because of it is in its words."""
FINDINGS = ("stale_feed", "stuck_order", "unguarded", "unreconciled", "processes")
"""What sweeps find that is no limit: each is, or belongs to, an alert of its own."""
CHANGES = ("configuration",)
"""News, of which nobody has to do anything."""


def _told(kinds: str, severity: str) -> str:
    """Of events that are counted from the first: a count that was not there has not grown."""
    count = f'botswarm_risk_events_total{{kind{kinds},severity=~"{severity}"}}'
    return f"sum by (kind) (increase({count}[15m]) > 0 or ({count} > 0 unless {count} offset 15m))"


def _one_of(kinds: tuple[str, ...]) -> str:
    return f'=~"{"|".join(kinds)}"'


def _none_of(kinds: tuple[str, ...]) -> str:
    return f'!~"{"|".join(kinds)}"'


def _events(kind: str, severity: str) -> Trial:
    name = f'botswarm_risk_events_total{{kind="{kind}",severity="%s"}}'
    other = {"breach": "warn", "warn": "info", "info": "warn"}[severity]
    return Trial(
        fires={name % severity: "_x25 1x60"},
        quiet={name % severity: "1x60", name % other: "_x25 1x60"},
        labels={"kind": kind},
    )


def _found(
    kind: str,
    *,
    name: str,
    severity: Severity,
    group: str,
    says: str,
    explained_by: tuple[str, ...],
) -> Rule:
    """Of what sweeps find of one kind, at either of its lines."""
    return Rule(
        name=name,
        severity=severity,
        group=group,
        says=says,
        expression=_told(_one_of((kind,)), "warn|breach"),
        for_s=0,
        probe=Events("any", (kind,)),
        explained_by=explained_by,
        trial=_events(kind, "warn"),
    )


def _seconds(fast: int) -> dict[str, str]:
    name = 'botswarm_order_stage_seconds_bucket{stage="total",le="%s"}'
    return growing(name, {"0.5": fast, "1": fast, "2.5": 100, "5": 100, "+Inf": 100})


def _basis_points(fast: int) -> dict[str, str]:
    name = 'botswarm_order_slippage_bps_bucket{venue="binance",le="%s"}'
    return growing(name, {"10": fast, "20": fast, "50": fast, "100": 100, "+Inf": 100})


def _orders(rejected: int) -> dict[str, str]:
    name = 'botswarm_orders_total{venue="binance",account="main",state="%s"}'
    return growing(name, {"live": 100 - rejected, "rejected": rejected})


RULES: tuple[Rule, ...] = (
    Rule(
        name="TradingLossesExceedLimit",
        severity=Severity.CRITICAL,
        group=RISK,
        says="losses have crossed a limit ({{ $labels.kind }})",
        expression=_told(_one_of(LOSSES), "breach"),
        for_s=0,
        probe=Events("breach", LOSSES),
        trial=_events("daily_loss", "breach"),
    ),
    Rule(
        name="UnusualTradingPatterns",
        severity=Severity.WARNING,
        group=RISK,
        says="a bot trades unlike itself ({{ $labels.kind }})",
        expression=_told(_one_of(PATTERNS), "warn|breach"),
        for_s=0,
        probe=Events("any", PATTERNS),
        trial=_events("many_cancels", "warn"),
    ),
    Rule(
        name="RiskLimitBreached",
        severity=Severity.HIGH,
        group=RISK,
        says="a limit was crossed, and what it forbids is refused ({{ $labels.kind }})",
        expression=_told(_none_of((*LOSSES, *PATTERNS, *FINDINGS)), "breach"),
        for_s=0,
        probe=Events("breach"),
        explained_by=("TradingLossesExceedLimit",),
        trial=_events("position", "breach"),
    ),
    Rule(
        name="RiskLimitNear",
        severity=Severity.WARNING,
        group=RISK,
        says="a limit is near: its warning line was crossed ({{ $labels.kind }})",
        expression=_told(_none_of((*PATTERNS, *FINDINGS)), "warn"),
        for_s=0,
        probe=Events("warn"),
        explained_by=("RiskLimitBreached", "TradingLossesExceedLimit"),
        trial=_events("position", "warn"),
    ),
    _found(
        "stale_feed",
        name="PricesSilent",
        severity=Severity.HIGH,
        group=RISK,
        says="a market in which bots run or positions stand has had no price for too long",
        explained_by=("ExchangeDisconnected", "AllConnectionsFailed", "LeaderMissing"),
    ),
    _found(
        "stuck_order",
        name="OrderStuck",
        severity=Severity.HIGH,
        group=ORDERS,
        says="an order has been in one state for longer than it should",
        explained_by=("OrdersInDoubt", "ExchangeApiLost", "DatabaseConnectionFailure"),
    ),
    _found(
        "unguarded",
        name="PositionUnguarded",
        severity=Severity.HIGH,
        group=RISK,
        says="a position has no stop at its venue, though it should",
        explained_by=("ExchangeApiLost",),
    ),
    Rule(
        name="RiskUnknown",
        severity=Severity.HIGH,
        group=RISK,
        says="what stands at risk was last reckoned {{ $value | humanizeDuration }} ago",
        expression="min(botswarm_standing_age_seconds) > 120",
        for_s=60,
        probe=Figure(metric="botswarm_standing_age_seconds", above=120, for_s=60),
        explained_by=("DatabaseConnectionFailure", "BrokerDown", "LeaderMissing"),
        trial=crossed("botswarm_standing_age_seconds", "121x60", "119x60"),
    ),
    Rule(
        name="TradingHalted",
        severity=Severity.HIGH,
        group=RISK,
        says="the swarm sends no orders: trading is halted",
        expression='max(botswarm_trading_state{state="halted"}) == 1',
        for_s=0,
        # To the check a halt is somebody's will and no ill health: it never fails over one.
        probe=Figure(metric="botswarm_trading_state", above=0.5, where={"state": "halted"}),
        explained_by=("DatabaseConnectionFailure",),
        trial=Trial(
            fires={'botswarm_trading_state{state="halted"}': "1x60"},
            quiet={'botswarm_trading_state{state="halted"}': "0x60"},
        ),
    ),
    Rule(
        name="TradingRestricted",
        severity=Severity.INFO,
        group=RISK,
        says="orders are held back in a part of the swarm, or only what shrinks a position passes",
        expression='max(botswarm_trading_state{state="reducing"}) == 1 or '
        "sum(botswarm_trading_held) > 0",
        for_s=0,
        probe=Check("trading", "warn"),
        explained_by=(
            "DatabaseConnectionFailure",
            "TradingHalted",
        ),
        trial=Trial(
            fires={'botswarm_trading_held{kind="bot",state="halted"}': "1x60"},
            quiet={
                'botswarm_trading_held{kind="bot",state="halted"}': "0x60",
                'botswarm_trading_state{state="reducing"}': "0x60",
            },
        ),
    ),
    Rule(
        name="ConfigurationChanged",
        severity=Severity.INFO,
        group=RISK,
        says="processes run with other settings, or of another build, than the swarm had before",
        expression=_told(_one_of(CHANGES), "info"),
        for_s=0,
        probe=Events("info", CHANGES),
        trial=_events(CHANGES[0], "info"),
    ),
    Rule(
        name="OrderErrorsHigh",
        severity=Severity.HIGH,
        group=ORDERS,
        says="{{ $labels.venue }} turns down {{ $value | humanizePercentage }} of the orders of "
        "{{ $labels.account }}",
        expression="sum by (venue, account) "
        '(rate(botswarm_orders_total{state=~"rejected|failed"}[10m])) / sum by (venue, account) '
        '(rate(botswarm_orders_total{state=~"rejected|failed|live|filled|partial"}[10m])) > 0.05',
        for_s=300,
        explained_by=("ExchangeApiLost",),
        trial=Trial(
            fires=_orders(6), quiet=_orders(4), labels={"venue": "binance", "account": "main"}
        ),
    ),
    Rule(
        name="OrderLatencyHigh",
        severity=Severity.WARNING,
        group=ORDERS,
        says="one order in twenty takes {{ $value | humanizeDuration }} from the decision to the "
        "venue's word",
        expression="histogram_quantile(0.95, sum by (le) "
        '(rate(botswarm_order_stage_seconds_bucket{stage="total"}[10m]))) > 1',
        for_s=600,
        explained_by=("DatabaseConnectionFailure", "ExchangeApiLost", "QueueStuck"),
        trial=Trial(fires=_seconds(90), quiet=_seconds(100)),
    ),
    Rule(
        name="SlippageHigh",
        severity=Severity.WARNING,
        group=ORDERS,
        says="one fill in twenty at {{ $labels.venue }} is {{ $value | humanize }} hundredths of a "
        "percent worse than what was decided on",
        expression="histogram_quantile(0.95, sum by (venue, le) "
        "(rate(botswarm_order_slippage_bps_bucket[30m]))) > 50",
        for_s=600,
        trial=Trial(
            fires=_basis_points(90),
            quiet=_basis_points(96),
            labels={"venue": "binance"},
            at=50,
        ),
    ),
    when_fails(
        Check("orders", "fail"),
        name="OrdersInDoubt",
        severity=Severity.CRITICAL,
        group=ORDERS,
        says="an order has been in doubt for longer than its proof takes: money may be in the "
        "market",
        for_s=0,
        explained_by=("ExchangeApiLost", "DatabaseConnectionFailure"),
    ),
    Rule(
        name="AccountDiffers",
        severity=Severity.CRITICAL,
        group=ORDERS,
        says="ledger and venue do not agree on {{ $labels.venue }}:{{ $labels.account }}: it "
        "does not "
        "trade",
        expression="min by (venue, account) (botswarm_account_agrees) == 0",
        for_s=120,
        probe=Check("reconciliation", "fail", for_s=60),
        explained_by=("ExchangeApiLost", "DatabaseConnectionFailure"),
        trial=crossed("botswarm_account_agrees", "0x60", "1x60", venue="binance", account="main"),
    ),
    Rule(
        name="AccountNotCompared",
        severity=Severity.WARNING,
        group=ORDERS,
        says="{{ $labels.venue }}:{{ $labels.account }} was last held against its venue "
        "{{ $value | humanizeDuration }} ago",
        expression="min by (venue, account) (botswarm_account_compared_seconds) > 300",
        for_s=60,
        probe=Check("reconciliation", "warn", for_s=60),
        explained_by=("AccountDiffers", "ExchangeApiLost", "DatabaseConnectionFailure"),
        trial=crossed(
            "botswarm_account_compared_seconds", "301x60", "299x60", venue="binance", account="main"
        ),
    ),
)
