"""How many cases each broker was given, printed at the end of a run.

Loaded by the conftest of all tests: where tests run in several processes, the one that prints
has read no other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

BROKERS = ("rabbitmq", "embedded")


@dataclass(slots=True)
class _Tally:
    cases: dict[str, set[str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


_tally = _Tally()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        broker = parameters.get("broker_name")
        if broker is not None:
            # On the report itself: where tests run in several processes, only that comes home.
            item.user_properties.append(("broker", broker))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    broker = dict(report.user_properties).get("broker")
    if not isinstance(broker, str):
        return
    case = report.nodeid.replace(broker, "", 1)
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _tally.skipped[report.nodeid] = reason
    elif report.when == "call":
        _tally.cases.setdefault(broker, set()).add(case)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _tally.cases:
        return
    counts = [f"{broker} {len(_tally.cases.get(broker, ()))} cases" for broker in BROKERS]
    same = "yes" if len({frozenset(_tally.cases.get(b, ())) for b in BROKERS}) == 1 else "no"
    terminalreporter.write_line(f"conformance: {', '.join(counts)}, same list: {same}")
    for case, reason in _tally.skipped.items():
        terminalreporter.write_line(f"conformance: skipped {case}: {reason}")
