"""Measures the report page: how long it takes to make, how much it weighs, how fast it opens.

    python benchmarks/report.py
    python benchmarks/report.py --steps 1000 --episodes 10000 --words 60

Makes a synthetic run (the generator of the tests), prints one JSON object. Opening is measured in headless Chromium
where there is one: from the request to the first transcript on the screen, from the disk, with an empty profile; the
median of `--repeats` is given. The transcripts of a run this long do not all fit; `shown` says how many do.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from madrigal.commands.report import write_report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from chromium import chromium, find_chromium

from fakes.synthetic import write_run


def measure(folder: Path, steps: int, episodes: int, words: int, repeats: int) -> dict[str, Any]:
    """Makes a run and its page, and opens it."""
    examples = 100
    each = max(1, round((episodes - 2 * examples) / steps))
    run = write_run(folder / "run", steps=steps, transcripts=each, examples=examples, words=words)
    with (run / "episodes.jsonl").open() as lines:
        recorded = sum(1 for _ in lines)
    began, worked = time.perf_counter(), time.process_time()
    page = write_report([run])
    found: dict[str, Any] = {
        "steps": steps,
        "episodes": recorded,
        "words": words,
        "build_seconds": round(time.perf_counter() - began, 2),
        "build_processor_seconds": round(time.process_time() - worked, 2),
        "records_megabytes": round((run / "episodes.jsonl").stat().st_size / 1e6, 2),
        "page_megabytes": round(page.stat().st_size / 1e6, 2),
    }
    return found | (opened(page, folder, repeats) if find_chromium() else {"open_seconds": None})


def opened(page: Path, folder: Path, repeats: int) -> dict[str, Any]:
    """Seconds until the page is ready, and the count that it shows."""
    seconds = []
    for number in range(repeats):
        with chromium(folder / f"profile{number}") as tab:
            tab.screen(1280, 900)
            seconds.append(tab.open(page))
            shown = tab.ask("document.getElementById('count').textContent")
            filtering = tab.ask(
                "(async () => { const began = performance.now(); const box = document.getElementById('search');"
                "box.value = 'landlord'; box.dispatchEvent(new Event('input', {bubbles: true}));"
                "const before = document.getElementById('count').textContent;"
                "while (document.getElementById('count').textContent === before)"
                "  await new Promise((go) => setTimeout(go, 1));"
                "return (performance.now() - began) / 1000; })()"
            )
            assert not tab.errors, tab.errors
    return {"open_seconds": round(median(seconds), 2), "search_seconds": round(filtering, 2), "shown": shown}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--words", type=int, default=40, help="length of an answer; there are two to an episode")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.steps, options.episodes, options.words, options.repeats)
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
