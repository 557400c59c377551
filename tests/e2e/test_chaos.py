"""Some minutes of the fault campaign, every fault once, and proof that it can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from botswarm.chaos.campaign.main import FAULTS, Options, run
from botswarm.chaos.campaign.report import as_text

ROOT = Path(__file__).parents[2]
ABOUT_TIME = ("I28", "I30")
"""Held to seconds by the campaign; a machine that runs tests may stall for as long."""


@pytest.mark.timeout(1500)
def test_every_promise_holds_while_each_fault_strikes_once(tmp_path: Path) -> None:
    report = run(Options(rounds=1, seconds=200, seed=7, per_s=2, folder=tmp_path, drain_max_s=500))
    broken = [name for name, found in report.breaches.items() if found and name not in ABOUT_TIME]
    assert broken == [], as_text(report)
    assert report.counts["executed"] > 60, as_text(report)
    assert report.counts["recovered"] > 20, as_text(report)
    assert len(report.faults) + len(report.impossible) == len(FAULTS)
    # Between other tests a server may take longer to come back than a strike waits for it.
    assert sum(each.done for each in report.faults.values()) >= 20, as_text(report)
    told = json.loads(json.dumps(report.as_data(), default=str))
    assert all(sum(each["did"].values()) == each["done"] for each in told["faults"].values())


@pytest.mark.timeout(600)
def test_a_claim_that_is_missing_is_caught() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.campaign.plant", "claim", "--drain", "5"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert "caught by I1: doubled" in done.stdout, done.stdout + done.stderr[-3000:]
