"""Built-in strategies, plugins and files: what is found, and what a broken one does."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from botswarm.errors import NotFound, Refused
from botswarm.strategies.api import Strategy
from botswarm.strategies.grid import Grid
from botswarm.strategies.origins import GROUP, Kind, Origin
from botswarm.strategies.registry import BadParameters, Catalog, Changes, load, load_one
from botswarm.strategies.sma_cross import SmaCross
from tests.strategies.values import a_view

TEN_LINES = '''
from botswarm.strategies.api import ALL, NOTHING, Decision, Strategy, View, parameter


class BelowAverage(Strategy):
    """Holds while the price is below its average."""

    length: int = parameter(default=20, at_least=2, at_most=500, words="candles in the average")

    @property
    def history(self) -> int:
        return self.length

    def decide(self, view: View) -> Decision:
        average = view.candles.sma(self.length)[-1]
        below = view.price < average
        return Decision(
            verdict="below" if below else "above",
            indicators={"average": average},
            target=ALL if below else NOTHING,
        )
'''


def test_the_built_in_strategies_are_there() -> None:
    catalog = load()
    assert set(catalog.found) >= {"sma-cross", "rsi-reversion", "grid"}
    assert catalog.broken == {}


def test_a_file_of_a_few_lines_is_a_strategy(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(TEN_LINES)
    catalog = load(tmp_path)
    made = catalog.make("below-average", {"length": "3"})
    assert made.history == 3
    decision = made.decide(a_view([101.0, 101.0, 101.0], price=100))
    assert decision.verdict == "below"
    assert catalog.found["below-average"].source == str(tmp_path / "mine.py")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("this is no Python", "SyntaxError"),
        ("import a_module_that_is_not_there", "ModuleNotFoundError"),
        ("raise RuntimeError('just so')", "RuntimeError: just so"),
        ("x = 1", "defines no Strategy"),
        ("import sys\nsys.exit('enough')", "SystemExit: enough"),
        ("import os\nos._exit(3)", "loading it ends the process"),
        ("x = bytearray(10 * 1024**3)", "MemoryError"),
        (TEN_LINES.replace("class BelowAverage(Strategy)", "class Grid(Strategy)"), "'grid'"),
    ],
)
def test_a_broken_file_is_named_and_the_others_live(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "broken.py").write_text(text)
    (tmp_path / "mine.py").write_text(TEN_LINES)
    catalog = load(tmp_path)
    assert list(catalog.broken) == [str(tmp_path / "broken.py")]
    assert reason in catalog.broken[str(tmp_path / "broken.py")]
    assert "below-average" in catalog.found
    assert catalog.found["grid"].strategy is Grid
    with pytest.raises(NotFound, match="broken"):
        catalog.get("lost")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert list(load(tmp_path / "none").broken) == [str(tmp_path / "none")]


def test_installed_plugins_are_found_and_broken_ones_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "plugin-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(
        f"[{GROUP}]\nbelow = plugin_of_a_test:BelowAverage\nlost = nowhere_at_all:Lost\n"
    )
    (tmp_path / "plugin_of_a_test.py").write_text(TEN_LINES)
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.metadata.version("plugin") == "1.0"
    apart = load(is_apart=True)
    assert "plugin_of_a_test" not in sys.modules
    assert apart.found["below-average"].strategy is None
    assert "nowhere_at_all" in apart.broken["plugin"]
    with pytest.raises(Refused, match="not loaded in this process"):
        apart.make("below-average", {})
    catalog = load()
    assert catalog.found["below-average"].source == "plugin"
    assert "nowhere_at_all" in catalog.broken["plugin"]


def test_an_unknown_strategy_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(NotFound) as caught:
        load().get("sma-cros")
    assert caught.value.cure == "did you mean sma-cross?"


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"fast": 0}, "fast is 0, not a whole number from 1 to 500"),
        ({"fast": "501"}, "fast is '501'"),
        ({"fast": "2.5"}, "fast is '2.5'"),
        ({"fast": "NaN"}, "fast is 'NaN'"),
        ({"fast": True}, "fast is True"),
        ({"fast": None}, "fast is None"),
        ({"margin_percent": "-1"}, "margin_percent is '-1', not a number from 0 to 10"),
        ({"fasst": 3}, "no parameter 'fasst' (did you mean fast?)"),
        ({"fast": 30, "slow": 30}, "fast 30 is not under slow 30"),
        ({"fast": 0, "slow": "x"}, "slow is 'x'"),
    ],
)
def test_parameters_out_of_bounds_are_refused_by_name(
    given: dict[str, object], complaint: str
) -> None:
    with pytest.raises(BadParameters) as caught:
        load().make("sma-cross", given)
    assert complaint in caught.value.cause
    assert caught.value.exit_code == 2


def test_parameters_are_read_from_text_exactly() -> None:
    made = load().make("sma-cross", {"fast": "7", "margin_percent": "0.1"})
    assert made == SmaCross(fast=7, margin_percent=Decimal("0.1"))


def test_a_strategy_can_be_neither_changed_nor_made_without_its_methods() -> None:
    strategy = SmaCross()
    with pytest.raises(AttributeError):
        strategy.fast = 3  # type: ignore[misc]

    class Half(Strategy):
        """Forgot to decide."""

    with pytest.raises(TypeError):
        Half()  # type: ignore[abstract]


# --- where it comes from, and what becomes of it --------------------------------------------------


def test_a_strategy_says_where_it_comes_from_and_only_ours_are_trusted(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(TEN_LINES)
    catalog = load(tmp_path)
    assert catalog.found["sma-cross"].is_trusted
    mine = catalog.found["below-average"]
    assert not mine.is_trusted
    assert mine.origin == Origin(Kind.FILE, str(tmp_path / "mine.py"))
    assert Origin.read(str(mine.origin)) == mine.origin
    assert list(load_one(mine.origin).found) == ["below-average"]


def test_a_strategy_of_a_folder_nearby_is_loaded_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "mine.py").write_text(TEN_LINES)
    monkeypatch.chdir(tmp_path)
    mine = load(Path("near")).found["below-average"]
    assert mine.source == "near/mine.py"
    monkeypatch.chdir("/")
    assert load_one(mine.origin).broken == {}
    (tmp_path / "near" / "mine.py").unlink()
    [why] = load_one(mine.origin).broken.values()
    assert why.startswith("FileNotFoundError: [Errno 2] No such file")


def test_a_new_file_is_found_without_a_restart(tmp_path: Path) -> None:
    catalog = load(tmp_path)
    (tmp_path / "mine.py").write_text(TEN_LINES)
    assert catalog.refresh_now().new == {"below-average"}
    assert catalog.make("below-average", {}).history == 20
    assert not catalog.refresh_now()


def test_a_changed_file_brings_another_class_and_leaves_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(TEN_LINES)
    (tmp_path / "other.py").write_text(TEN_LINES.replace("BelowAverage", "Other"))
    catalog = load(tmp_path)
    mine, other = catalog.get("below-average"), catalog.get("other")
    (tmp_path / "mine.py").write_text(TEN_LINES.replace("default=20", "default=21"))
    assert catalog.refresh_now().changed == {"below-average"}
    assert catalog.get("below-average") is not mine
    assert catalog.make("below-average", {}).history == 21
    assert catalog.get("other") is other


def test_a_deleted_file_takes_its_strategies_along_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(TEN_LINES)
    catalog = load(tmp_path)
    (tmp_path / "mine.py").unlink()
    assert catalog.refresh_now().gone == {"below-average"}
    with pytest.raises(NotFound, match=r"mine\.py was deleted"):
        catalog.make("below-average", {})
    (tmp_path / "mine.py").write_text(TEN_LINES)
    assert catalog.refresh_now().new == {"below-average"}
    assert catalog.make("below-average", {}).history == 20


def test_a_file_that_breaks_while_it_is_edited_disables_its_own_only(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(TEN_LINES)
    (tmp_path / "other.py").write_text(TEN_LINES.replace("BelowAverage", "Other"))
    catalog = load(tmp_path)
    (tmp_path / "mine.py").write_text(TEN_LINES + "\n    def half")
    assert catalog.refresh_now().gone == {"below-average"}
    with pytest.raises(NotFound, match=r"could not be loaded: SyntaxError"):
        catalog.get("below-average")
    assert catalog.get("other").name == "other"


def test_a_name_that_is_given_up_goes_to_the_file_that_waited_for_it(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(TEN_LINES)
    (tmp_path / "b.py").write_text(TEN_LINES)
    catalog = load(tmp_path)
    assert list(catalog.broken) == [str(tmp_path / "b.py")]
    (tmp_path / "a.py").unlink()
    catalog.refresh_now()
    assert catalog.found["below-average"].source == str(tmp_path / "b.py")
    assert catalog.broken == {}


def told(catalog: Catalog, timeout_s: float = 20.0) -> Changes:
    """The first changes that refresh tells of, asked as a worker asks."""
    deadline = time.monotonic() + timeout_s
    while not (changes := catalog.refresh()):
        assert time.monotonic() < deadline, "no changes were told"
        time.sleep(0.01)
    return changes


def test_the_folder_is_looked_at_once_a_second_at_most(tmp_path: Path) -> None:
    catalog = load(tmp_path)
    moment = 10.0
    catalog.monotonic = lambda: moment
    assert not catalog.refresh()
    (tmp_path / "mine.py").write_text(TEN_LINES)
    moment = 10.5
    assert not catalog.refresh()
    assert catalog._loader is None, "it looked too soon"
    moment = 11.5
    assert told(catalog).new == {"below-average"}


def test_nobody_waits_for_a_file_that_takes_long_to_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("botswarm.strategies.probe.WALL_S", 2.0)
    catalog = load(tmp_path)
    (tmp_path / "endless.py").write_text("while True: pass")
    (tmp_path / "mine.py").write_text(TEN_LINES)
    asked = 0
    deadline = time.monotonic() + 30
    while not (changes := catalog.refresh()):
        asked += 1
        assert "below-average" not in catalog.found
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert asked > 20, "it was waited for"
    assert changes.new == {"below-average"}
    assert "takes longer than" in catalog.broken[str(tmp_path / "endless.py")]


def test_a_file_that_never_ends_loading_does_not_keep_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("botswarm.strategies.probe.WALL_S", 1.5)
    (tmp_path / "a.py").write_text("while True: pass")
    (tmp_path / "b.py").write_text(TEN_LINES)
    catalog = load(tmp_path)
    assert "takes longer than" in catalog.broken[str(tmp_path / "a.py")]
    assert "below-average" in catalog.found


def test_no_file_that_sleeps_while_it_is_loaded_outlives_who_loads_it(tmp_path: Path) -> None:
    told, folder = tmp_path / "pids", tmp_path / "strategies"
    folder.mkdir()
    (folder / "sleeps.py").write_text(
        "import os, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '300'])\n"
        f"open({str(told)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}\\n')\n"
        "time.sleep(300)\n"
    )
    load_it = (
        "import sys, pathlib; from botswarm.strategies.registry import load; "
        "load(pathlib.Path(sys.argv[1]))"
    )
    loader = subprocess.Popen([sys.executable, "-c", load_it, str(folder)])
    try:
        until(lambda: told.exists() and told.read_text().endswith("\n"), "it to be loaded")
    finally:
        loader.kill()
        loader.wait()
    pids = told.read_text().split()
    assert len(pids) == 2
    until(lambda: not any(map(lives, pids)), "both to end")


def lives(pid: str) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.02)
