"""The pages say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from botswarm.cli.help import metrics_page
from botswarm.health.pages import ALIASES, DETAILED, HEALTH, LIVE, METRICS, READY, TARGETS
from botswarm.health.table import BY_NAME

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/health.md").read_text()


def test_the_page_of_metrics_is_what_is_declared() -> None:
    assert (ROOT / "docs/metrics.md").read_text() == metrics_page()


def test_every_check_is_described_and_none_that_there_is_not() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (?:all|workers|feed|archive)", PAGE, re.M)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(BY_NAME)


def test_every_page_and_every_other_name_of_one_is_described() -> None:
    for path in (LIVE, READY, HEALTH, DETAILED, METRICS, TARGETS, *ALIASES):
        assert f"`{path}`" in PAGE, path
