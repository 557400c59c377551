"""Processes that are made of the same do not differ, and those that are not are named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from botswarm import build
from botswarm.config import load
from botswarm.config.alike import alike, compared
from botswarm.config.table import BY_NAME
from botswarm.domain.processes import Made, Process, differences, in_words

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
SETTINGS = {"limit_order_notional_max": "500", "env": "development"}


def a_process(
    name: str,
    *,
    made_of: str = "aaa",
    settings: Mapping[str, str] = SETTINGS,
    strategies: str | None = None,
    age_s: int = 60,
) -> Process:
    began = NOW - timedelta(seconds=age_s)
    return Process(
        id=name,
        name=name,
        role="worker",
        host="here",
        pid=7,
        made=Made(version="1", build=made_of, strategies=strategies, settings=settings),
        started_at=began,
        changed_at=began,
        seen_at=NOW,
    )


def test_processes_of_the_same_build_and_settings_do_not_differ() -> None:
    assert differences([], NOW) == []
    assert differences([a_process("one")], NOW) == []
    assert differences([a_process("one"), a_process("two", strategies="s")], NOW) == []


def test_the_one_of_another_build_is_named_and_not_the_many() -> None:
    all_ = [a_process("one"), a_process("two"), a_process("odd", made_of="bbb")]
    (found,) = differences(all_, NOW)
    assert found.words == "odd (pid 7 on here) runs build bbb, the others aaa"


def test_of_two_the_younger_is_named() -> None:
    all_ = [a_process("young", made_of="bbb", age_s=5), a_process("old", age_s=500)]
    assert [each.process_id for each in differences(all_, NOW)] == ["young"]


def test_every_setting_that_differs_is_named_with_both_its_values() -> None:
    other = {**SETTINGS, "limit_order_notional_max": "900", "bot_enable": "off"}
    found = differences([a_process("one"), a_process("two", settings=other, age_s=5)], NOW)
    assert {(each.what, each.value, each.others) for each in found} == {
        ("limit_order_notional_max", "900", "500"),
        ("bot_enable", "off", "(not known there)"),
    }
    assert "has limit_order_notional_max = 900, the others 500" in in_words(found)


def test_files_of_strategies_differ_only_after_everybody_had_time_to_take_them_in() -> None:
    old, new = a_process("one", strategies="s"), a_process("two", strategies="t")
    just = replace(new, changed_at=NOW - timedelta(seconds=20))
    assert differences([old, just, a_process("feed")], NOW) == []
    (found,) = differences([old, just, a_process("feed")], NOW + timedelta(seconds=15))
    assert found.what == "strategies"


def test_many_differences_are_counted_and_not_all_told() -> None:
    all_ = [a_process("one", age_s=900)]
    all_ += [a_process(f"odd{n}", made_of=str(n), age_s=9) for n in range(8)]
    words = in_words(differences(all_, NOW))
    assert words.count(" runs build ") == 5
    assert words.endswith("and 3 more")


# --- of what a process is made --------------------------------------------------------------------


def settings_of(folder: Path, **environ: str) -> dict[str, str]:
    found = load(environ={"BOTSWARM_STATE_DIR": str(folder), **environ}, folder=folder)
    return compared(found.settings)


def test_what_may_differ_from_machine_to_machine_is_not_compared(tmp_path: Path) -> None:
    names = alike()
    assert {"env", "limit_order_notional_max", "binance_rest_url", "bot_enable"} < set(names)
    assert not {"state_dir", "instance_id", "database_url", "worker_caps", "log_level"} & set(names)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert settings_of(tmp_path / "a") == settings_of(tmp_path / "b")


def test_no_secret_is_shown_and_yet_another_one_is_another_value(tmp_path: Path) -> None:
    secrets = [each for each in alike() if BY_NAME[each].secret]
    assert secrets == ["binance_api_key"]
    given = {"BOTSWARM_BINANCE_API_SECRET": "what-nobody-sees"}
    one = settings_of(tmp_path, BOTSWARM_BINANCE_API_KEY="the-first-key", **given)
    two = settings_of(tmp_path, BOTSWARM_BINANCE_API_KEY="the-other-key", **given)
    assert one["binance_api_key"] != two["binance_api_key"]
    assert "first" not in str(one)
    assert "nobody" not in str(one)


def test_the_same_amount_written_otherwise_is_the_same(tmp_path: Path) -> None:
    name = "BOTSWARM_LIMIT_ORDER_NOTIONAL_MAX"
    assert settings_of(tmp_path, **{name: "500.00"}) == settings_of(tmp_path)
    assert settings_of(tmp_path, **{name: "500.01"}) != settings_of(tmp_path)


def test_a_build_is_another_with_every_file_that_is_changed_added_or_renamed(
    tmp_path: Path,
) -> None:
    assert build.folder(None) == build.folder(tmp_path / "nowhere") == build.NOTHING
    seen = {build.folder(tmp_path)}
    (tmp_path / "one.py").write_text("x = 1\n")
    seen.add(build.folder(tmp_path))
    (tmp_path / "one.py").write_text("x = 2\n")
    seen.add(build.folder(tmp_path))
    (tmp_path / "one.py").rename(tmp_path / "two.py")
    seen.add(build.folder(tmp_path))
    (tmp_path / "one.py").write_text("")
    seen.add(build.folder(tmp_path))
    assert len(seen) == 5
    (tmp_path / "note.txt").write_text("no code")
    assert build.folder(tmp_path) in seen
    assert build.program() == build.program() != build.NOTHING
