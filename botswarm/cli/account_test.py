"""What is asked of a venue before its key is trusted: its rights, the clocks, the balances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from botswarm.cli.failures import CheckFailed
from botswarm.errors import BotswarmError, Refused

if TYPE_CHECKING:
    from botswarm.clock import Clock
    from botswarm.exchanges.base import Permissions, TradingVenue


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    clock_offset_s: float
    can_trade: bool | None
    can_withdraw: bool | None
    is_address_bound: bool | None
    balances: Mapping[str, Decimal]

    @property
    def objection(self) -> BotswarmError | None:
        """Why such a key is not used."""
        from botswarm.exchanges.offset import OFFSET_MAX

        if self.can_withdraw:
            return Refused(
                "the key may withdraw money, which nothing here ever needs",
                cure="make one at the venue that may read and trade, and revoke this one",
            )
        if self.can_trade is False:
            return Refused("the key may not trade", cure="allow it at the venue, or make another")
        if abs(self.clock_offset_s) > OFFSET_MAX.total_seconds():
            return CheckFailed(
                f"the venue's clock is {self.clock_offset_s:+.3f} s away from this machine's",
                cure="set the clock right (for example with chrony or systemd-timesyncd)",
            )
        return None

    def data(self) -> dict[str, object]:
        said = asdict(self)
        return said | {"balances": {asset: f"{held:f}" for asset, held in self.balances.items()}}

    def summary(self) -> dict[str, object]:
        """What is kept of it: no amounts, which change."""
        return {name: value for name, value in self.data().items() if name != "balances"}

    def words(self) -> list[tuple[str, str]]:
        bound = {True: "yes", False: "no", None: "the venue does not say"}
        return [
            ("may trade", bound[self.can_trade]),
            ("may withdraw", bound[self.can_withdraw]),
            ("works from named addresses only", bound[self.is_address_bound]),
            ("the venue's clock", f"{self.clock_offset_s:+.3f} s"),
            ("assets", ", ".join(sorted(self.balances)) or "none"),
        ]


def ask(venue: TradingVenue, clock: Clock, *, must_know: bool = True) -> Tested:
    """Raises Unreachable and Refused in the venue's words.

    Unless it ``must_know`` what the key may do, a venue may refuse to say.
    """
    before, started = clock.now(), clock.monotonic()
    theirs = venue.server_time()
    took_s = clock.monotonic() - started
    offset_s = (theirs - before).total_seconds() - took_s / 2
    rights: Permissions | None = None
    try:
        rights = venue.permissions()
    except Refused:
        if must_know:
            raise
    return Tested(
        clock_offset_s=round(offset_s, 3),
        can_trade=None if rights is None else rights.can_trade,
        can_withdraw=None if rights is None else rights.can_withdraw,
        is_address_bound=None if rights is None else rights.is_address_bound,
        balances=venue.balances(),
    )
