"""The short form of the campaign of storms: nobody asks within a ban, and cancels go out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign import storm


@pytest.mark.timeout(180)
def test_nobody_asks_within_a_ban_and_cancels_go_out_before_and_after_it(tmp_path: Path) -> None:
    report = storm.run(3, 5, tmp_path)
    assert report.failures == []
    assert (report.cancels_under_pressure, report.cancels_after) == (12, 12)
