"""The benchmark runs from end to end and prints its figures; how large they are is for an idle machine to say."""

from __future__ import annotations

import re

import pytest
from tests.performance import bench_admission

LINE = r"^bench (\w+) (\d+\.\d\d) (1/s|ratio|writes|MB) [\d.]+  # "


def test_a_small_campaign_runs_through_and_every_figure_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong books, or anybody called not exactly once, would end it with an error."""
    sizes = ["--sessions", "40", "--jobs", "10", "--bare", "10", "--arrivals", "0", "--restart", "0", "--failover", "0"]
    bench_admission.main([*sizes, "--workers", "4", "--part", "k8s"])
    lines = capsys.readouterr().out.splitlines()
    figures = {match[1]: float(match[2]) for line in lines if (match := re.match(LINE, line))}
    assert set(figures) == {
        "sessions_per_s_40", "ratio_vs_jobs", "ratio_vs_bare", "writes_per_session", "operator_rss_mb",
    }  # fmt: skip
    assert all(figures.values())


def test_a_figure_that_misses_its_goal_says_so() -> None:
    assert bench_admission.line("bind_p99_ms", 600.0, "at 20/s") == (
        "bench bind_p99_ms 600.00 ms 500  # at 20/s; MISSES ITS GOAL"
    )
    assert bench_admission.line("ratio_vs_jobs", 3.5, "ok") == "bench ratio_vs_jobs 3.50 ratio 3.5  # ok"
