"""Whether the clocks of venues and of this machine agree well enough to trade."""

from __future__ import annotations

from botswarm.cli.checks import Finding, Subject


def venue_clocks(subject: Subject) -> Finding:
    """Of every account that the settings or the simulated exchange give."""
    if subject.configuration is None:
        return Finding("skip", "the configuration is invalid", "mend it first")
    from botswarm.errors import BotswarmError
    from botswarm.exchanges import accounts
    from botswarm.exchanges.offset import OFFSET_MAX
    from botswarm.exchanges.simulated import record

    settings = subject.configuration.settings
    found = accounts.accounts(settings)
    if settings.binance_api_key is None and record.read(settings.state_dir) is None:
        return Finding("skip", "no account is configured, and no exchange was started here")
    said, worst = [], 0.0
    for account in found:
        try:
            venue = accounts.trading_venue(settings, subject.clock, account)
            before, started = subject.clock.now(), subject.clock.monotonic()
            theirs = venue.server_time()
            took_s = subject.clock.monotonic() - started
            venue.close()
        except BotswarmError as error:
            return Finding("warn", f"{account}: {error.cause}", error.cure)
        offset_s = (theirs - before).total_seconds() - took_s / 2
        worst = max(worst, abs(offset_s))
        said.append(f"{account} {offset_s:+.3f} s")
    words = ", ".join(said)
    if worst > OFFSET_MAX.total_seconds():
        cure = "set the clock right (chrony, systemd-timesyncd): until then no order is sent"
        return Finding("fail", words, cure)
    return Finding("ok", words)
