"""The benchmark runs and prints its figures; how large they are is for an idle machine to say."""

from __future__ import annotations

import re

import pytest
from tests.performance import bench_ledger

LINE = r"^bench (ledger_\w+_ratio) (\d+\.\d\d) ratio (3|0\.5)  # .+ in 1 rounds, \d+ holds/s to \d+ transactions/s"


def test_the_benchmark_prints_a_line_a_figure_and_the_books_balance(capsys: pytest.CaptureFixture[str]) -> None:
    bench_ledger.main(["--rounds", "1", "--seconds", "1", "--clients", "4", "--people", "2000"])
    lines = capsys.readouterr().out.splitlines()
    figures = {match[1]: float(match[2]) for line in lines if (match := re.match(LINE, line))}
    assert set(figures) == {
        "ledger_batch_ratio", "ledger_batch_one_account_ratio", "ledger_batch_100_accounts_ratio",
        "ledger_single_ratio", "ledger_single_one_account_ratio", "ledger_single_100_accounts_ratio",
    }  # fmt: skip
    for name in ("batch", "single"):
        cases = (figures[f"ledger_{name}_one_account_ratio"], figures[f"ledger_{name}_100_accounts_ratio"])
        assert 0 < figures[f"ledger_{name}_ratio"] == min(cases)


def test_a_figure_below_its_goal_says_so() -> None:
    case = bench_ledger.Case("batch", 100, 1, ours=[200.0, 290.0, 310.0], peer=[100.0, 100.0, 100.0])
    assert case.line() == (
        "bench ledger_batch_one_account_ratio 2.90 ratio 3  # 2.00..3.10 in 3 rounds, 290 holds/s to 100"
        " transactions/s; BELOW ITS GOAL"
    )
