"""The settings of running bots: how many, whether they are asked for first, what is kept."""

from __future__ import annotations

from botswarm.config.kinds import Setting, switch, whole_number

BOTS: tuple[Setting, ...] = (
    Setting(
        name="bot_enable",
        kind=switch(),
        help="Whether bots may be started, and those that run may order; false lets them decide "
        "and be recorded, and order nothing.",
        default=True,
    ),
    Setting(
        name="bot_max_concurrent",
        kind=whole_number(0, 1_000_000, "bots"),
        help="How many bots run at once at most; starting more is refused. It stops a mistake in "
        "a file or a filter, not ten thousand bots that are meant.",
        default=200_000,
        profile_defaults={"staging": 20_000, "production": 20_000},
    ),
    Setting(
        name="bot_require_confirmation",
        kind=switch(),
        help="Whether starting, editing and importing bots asks first even for a single one; "
        "several at once are always asked for. Scripts confirm with --yes.",
        default=False,
        profile_defaults={"production": True},
    ),
    Setting(
        name="bot_arm_hours_max",
        kind=whole_number(1, 720, "hours"),
        help="For how long a bot can be armed for real money at once.",
        default=24,
    ),
    Setting(
        name="evaluation_days_kept",
        kind=whole_number(0, 3650, "days"),
        help="How long evaluations that changed something are kept, for bot why --at and "
        "bot replay.",
        default=7,
    ),
    Setting(
        name="evaluations_kept_max",
        kind=whole_number(0, 100_000_000, "evaluations"),
        help="How many of them all bots together keep at most; the oldest go first.",
        default=100_000,
    ),
    Setting(
        name="history_days_kept",
        kind=whole_number(1, 3650, "days"),
        help="How long the ledger keeps runs of the schedule, events of risk and differences that "
        "have ended. Orders, fills and the audit are kept for ever.",
        default=90,
    ),
    Setting(
        name="candle_days_kept",
        kind=whole_number(8, 36_500, "days"),
        help="How long candles below an hour are kept; those of a second only as long as "
        "evaluations, longer ones for ever.",
        default=730,
    ),
    Setting(
        name="key_days_max",
        kind=whole_number(1, 3650, "days"),
        help="So old an exchange key or master key may be before people are told to change it.",
        default=90,
    ),
)
