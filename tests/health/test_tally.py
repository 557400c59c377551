"""Counts of a process and its children are one sum, whatever becomes of the children."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from prometheus_client.parser import text_string_to_metric_families

from botswarm import exposition, metrics
from botswarm.families import Samples
from botswarm.metrics import Described, Observed


def counted(code: str) -> dict[str, float]:
    """What the code's process tells at its end, by name and labels."""
    body = textwrap.dedent(code)
    program = (
        "import os, signal, sys, threading, time\n"
        "from botswarm import exposition, metrics, tally\n"
        "from botswarm.tally import TALLY\n"
        "def fork(work):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        work(); os._exit(0)\n"
        "    return pid\n"
        f"{body}\n"
        "sys.stdout.buffer.write(exposition.text(exposition.counted(metrics.COUNTED)))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    return {
        f"{sample.name}{dict(sorted(sample.labels.items()))}": sample.value
        for family in text_string_to_metric_families(run.stdout)
        for sample in family.samples
    }


DONE = "botswarm_tasks_total{'outcome': 'done', 'task': 'a'}"


def test_what_children_count_is_added_up_and_stays_when_they_die() -> None:
    found = counted(
        """
        mine = metrics.TASKS.labels("a", "done")
        mine.inc()
        def work():
            for _ in range(1000):
                mine.inc()
                metrics.TASK_SECONDS.labels("a").observe(0.02)
        for pid in [fork(work) for _ in range(4)]:
            os.waitpid(pid, 0)
        """
    )
    assert found[DONE] == 4001
    assert found["botswarm_task_seconds_count{'task': 'a'}"] == 4000
    assert found["botswarm_task_seconds_bucket{'le': '0.01', 'task': 'a'}"] == 0
    assert found["botswarm_task_seconds_bucket{'le': '0.05', 'task': 'a'}"] == 4000
    assert round(found["botswarm_task_seconds_sum{'task': 'a'}"], 6) == 80


def test_a_child_counts_on_a_page_of_its_own_also_what_its_parent_has_counted_before() -> None:
    found = counted(
        """
        mine = metrics.TASKS.labels("a", "done")
        mine.inc()
        os.waitpid(fork(mine.inc), 0)
        assert len(TALLY._taken()) == 2, TALLY._taken()
        """
    )
    assert found[DONE] == 2


def test_hundreds_of_short_lived_children_use_the_pages_of_those_before() -> None:
    found = counted(
        """
        for _ in range(200):
            os.waitpid(fork(lambda: metrics.TASKS.labels("a", "done").inc()), 0)
        assert len(TALLY._taken()) <= 2, TALLY._taken()
        """
    )
    assert found[DONE] == 200


def test_a_child_that_was_killed_takes_no_count_with_it() -> None:
    found = counted(
        """
        ear, mouth = os.pipe()
        def work():
            for _ in range(500):
                metrics.TASKS.labels("a", "done").inc()
            os.write(mouth, b"!")
            time.sleep(60)
        pid = fork(work)
        os.read(ear, 1)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.waitpid(fork(lambda: metrics.TASKS.labels("a", "done").inc()), 0)
        """
    )
    assert found[DONE] == 501


def test_threads_lose_no_count() -> None:
    found = counted(
        """
        def work():
            for _ in range(20_000):
                metrics.TASKS.labels("a", "done").inc()
        threads = [threading.Thread(target=work) for _ in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        """
    )
    assert found[DONE] == 80_000


def test_a_fork_in_the_middle_of_counts_and_scrapes_leaves_the_child_able_to_count() -> None:
    found = counted(
        """
        from botswarm import forks
        stop = threading.Event()
        def count():
            while not stop.is_set():
                metrics.BEAT_SENT.labels("x").inc()
        def scrape():
            while not stop.is_set():
                with forks.held_off():
                    exposition.text(exposition.counted(metrics.COUNTED))
        threads = [threading.Thread(target=each, daemon=True) for each in (count, count, scrape)]
        [t.start() for t in threads]
        def work():
            signal.alarm(30)
            with forks.held_off():
                metrics.TASKS.labels("a", "done").inc()
        for _ in range(25):
            _, status = os.waitpid(fork(work), 0)
            assert status == 0, status
        stop.set()
        [t.join() for t in threads]
        """
    )
    assert found[DONE] == 25


def test_a_page_that_is_full_says_how_much_it_left_out() -> None:
    found = counted(
        """
        for n in range(5000):
            metrics.TASKS.labels("a" * 100, str(n)).inc()
        assert TALLY.left_out > 1000, TALLY.left_out
        """
    )
    assert len(found) > 500


# --- the text -------------------------------------------------------------------------------------


def test_labels_with_quotes_and_lines_come_out_as_they_went_in() -> None:
    odd = 'a "b"\\\n€'
    family = Described("botswarm_odd", "Of odd\nlabels \\.", ("name",))
    text = exposition.text([Samples(family, [((odd,), 1.5)])]).decode()
    (found,) = text_string_to_metric_families(text)
    assert found.samples[0].labels == {"name": odd}
    assert (found.documentation, found.samples[0].value) == ("Of odd\nlabels \\.", 1.5)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), 1e300, 0.1, -3.0, 1e15])
def test_numbers_come_out_as_they_went_in(value: float) -> None:
    family = Described("botswarm_number", "One.")
    text = exposition.text([Samples(family, [((), value)])]).decode()
    (found,) = text_string_to_metric_families(text)
    assert found.samples[0].value == value


def test_one_family_from_two_sources_stands_together() -> None:
    one = Samples(metrics.FEED_LEADS, [(("binance",), 1.0)])
    other = Samples(metrics.BOTS, [(("running",), 2.0)])
    again = Samples(metrics.FEED_LEADS, [(("kraken",), 0.0)])
    text = exposition.text([one, other, again]).decode()
    assert text.count("# TYPE botswarm_feed_leads") == 1
    families = {each.name: each for each in text_string_to_metric_families(text)}
    assert len(families["botswarm_feed_leads"].samples) == 2


def test_a_histogram_is_written_as_running_sums() -> None:
    observed = Observed([1, 0, 2, *[0] * 11], 9.5)
    text = exposition.text([Samples(metrics.EVENT_LATENCY_MS, observed=[(("a", "b"), observed)])])
    (found,) = text_string_to_metric_families(text.decode())
    counts = [each.value for each in found.samples if each.name.endswith("_bucket")]
    assert counts[:4] == [1, 1, 3, 3]
    assert counts[-1] == 3


def test_every_metric_is_ours_by_name_and_says_what_it_is() -> None:
    for name, family in metrics.METRICS.items():
        assert name.startswith("botswarm_"), name
        assert family.help.rstrip().endswith((".", "…")), name
        assert family.kind != "histogram" or family.buckets, name
    assert len(metrics.NAMES) > len(metrics.METRICS)


SEEDS = (
    *("events_published_total", "events_received_total", "event_latency_ms_bucket"),
    *("memory_usage_bytes", "cpu_usage_percent", "exchange_connected"),
)


def test_the_names_that_others_dashboards_know_are_kept_under_our_prefix() -> None:
    assert [name for name in SEEDS if f"botswarm_{name}" not in metrics.NAMES] == []
