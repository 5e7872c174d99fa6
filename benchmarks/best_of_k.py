"""pass@k, acc@k and coop@k of trained coding teams: how good is the best of k tries.

    python benchmarks/best_of_k.py runs/coding --k 1 5 10

Reads the transcripts of the evaluation after training (`evaluation.samples` tries of each held-out example) and prints
one JSON row per run and k. By default the expected best of k tries drawn from all of them; `--first` takes the best of
the first k, as the tables of the paper do, which wastes the others.

| measure | value of a try |
|---|---|
| pass@k | 1 if it passes every test, else 0 |
| acc@k | share of its tests that pass |
| coop@k | its cooperation bonus |

References:
    Liu et al., 2025, arXiv:2508.04652, and its code: acc@k, coop@k.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from madrigal.evaluation.metrics import check_k
from madrigal.runs.log import read_lines
from madrigal.types import ConfigError

MEASURES = {"pass": ("full_test_pass", 1.0), "acc": ("tests", 0.01), "coop": ("reward_cooperation", 1.0)}


def best_at_k(values: Sequence[float], k: int, *, first: bool = False) -> float:
    """The expected best of k values drawn without replacement; or, with `first`, the best of the first k.

        E[max] = sum_{i = k}^{n} v_(i) * C(i-1, k-1) / C(n, k)          v_(1) <= ... <= v_(n)

    v_(i) is the best where the other k-1 come from the i-1 below it. For values of 0 and 1 this is pass@k.

    Raises:
        ConfigError: if k is not between 1 and the number of values.
    """
    check_k(len(values), k)
    if first:
        return float(max(values[:k]))
    ordered, weight, expected = sorted(values), k / len(values), 0.0
    for i in range(len(ordered), k - 1, -1):
        expected += weight * ordered[i - 1]
        weight *= (i - k) / (i - 1) if i > 1 else 0.0
    return expected


def coding_at_k(transcripts: Sequence[Mapping[str, Any]], k: int, *, first: bool = False) -> dict[str, float]:
    """The three measures, mean over examples; several transcripts of one example are its tries.

    Raises:
        ConfigError: if there are none, they are of another task, or an example has fewer than k.
    """
    tries: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    for record in transcripts:
        tries[record["example"]].append(record["metrics"])
    if not tries or not all("full_test_pass" in row for rows in tries.values() for row in rows):
        raise ConfigError(f"pass@{k}: expected transcripts of a coding task, with full_test_pass among their metrics")
    columns = {
        name: [[row.get(metric, 0.0) * scale for row in rows] for rows in tries.values()]
        for name, (metric, scale) in MEASURES.items()
    }
    return {f"{name}@{k}": fmean(best_at_k(row, k, first=first) for row in rows) for name, rows in columns.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--k", type=int, nargs="+", default=[1])
    parser.add_argument("--first", action="store_true", help="the best of the first k tries")
    options = parser.parse_args()
    for run in options.runs:
        tries = [line for line in read_lines(run / "episodes.jsonl") if line.get("evaluation") == "after"]
        row: dict[str, object] = {"run": run.name, "examples": len({line["example"] for line in tries})}
        for k in options.k:
            row |= coding_at_k(tries, k, first=options.first)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
