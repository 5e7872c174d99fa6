"""What a person sees while a run goes on and when it has ended."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

PERCENTS = (
    "structure",
    "consistency",
    "coherence",
    "syntax",
    "tests",
    "cooperation",
    "accuracy",
    "majority_accuracy",
    "return_percent",
)
# The reward itself, and parts of it that the percents above say again.
SKIPPED = {
    "reward",
    "reward_aux",
    "reward_main",
    "reward_syntax",
    "reward_tests",
    "reward_cooperation",
    "structure_extraction",
    "syntax_correct",
}
MOST = 8


def shown(components: Iterable[str]) -> list[str]:
    """The components worth a column: the known percents first, then the task's own; none per agent (words/ann)."""
    kept = [name for name in dict.fromkeys(components) if "/" not in name and name not in SKIPPED]
    return [*(name for name in PERCENTS if name in kept), *(name for name in kept if name not in PERCENTS)]


class Progress:
    """A live line of figures on a terminal, a plain line now and then elsewhere. A `Watcher` of training."""

    def __init__(self, console: Console, steps: int, title: str) -> None:
        self.console, self.steps, self.title = console, steps, title
        self.recent: deque[Mapping[str, Any]] = deque(maxlen=10)
        self.live: Live | None = None
        self.began = self.first = 0.0
        self.made = 0

    def stage(self, name: str) -> None:
        self._close()
        self.console.print(f"[dim]{self.title}:[/dim] {name} ...")

    def step(self, record: Mapping[str, Any]) -> None:
        if not self.recent:
            self.began = time.perf_counter() - record["seconds"]
        self.recent.append(record)
        self.made += 1
        if self.console.is_terminal:
            if self.live is None:
                self.live = Live(console=self.console, refresh_per_second=4)
                self.live.start()
            self.live.update(self._table(record))
        elif record["step"] % 10 == 0 or record["step"] + 1 == self.steps:
            self.console.print(self._line(record), soft_wrap=True)

    def evaluated(self, when: str, result: Any) -> None:
        self._close()
        self.console.print(
            f"  held-out return {when}: {result.return_percent:.1f} % "
            f"[{result.low:.1f}, {result.high:.1f}] on {result.examples} examples"
        )

    def _close(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def _left(self, record: Mapping[str, Any]) -> str:
        each = (time.perf_counter() - self.began) / self.made
        left = int(each * (self.steps - record["step"] - 1))
        return f"{left // 60}:{left % 60:02d}"

    def _figures(self) -> dict[str, float]:
        parts = shown(k.removeprefix("component/") for k in self.recent[-1] if k.startswith("component/"))
        keys = {"reward": "reward"} | {part: f"component/{part}" for part in parts}
        return {name: fmean(r[key] for r in self.recent if key in r) for name, key in list(keys.items())[:MOST]}

    def _line(self, record: Mapping[str, Any]) -> str:
        figures = "  ".join(f"{name} {value:.2f}" for name, value in self._figures().items())
        speed = fmean(r["tokens_per_second"] for r in self.recent)
        return f"  step {record['step'] + 1}/{self.steps}  {figures}  {speed:.0f} tokens/s  {self._left(record)} left"

    def _table(self, record: Mapping[str, Any]) -> Table:
        table = Table(show_header=True, header_style="bold", box=None, padding=(0, 2))
        speed = fmean(r["tokens_per_second"] for r in self.recent)
        cells = {"step": f"{record['step'] + 1}/{self.steps}"}
        cells |= {name: f"{value:.2f}" for name, value in self._figures().items()}
        cells |= {"tokens/s": f"{speed:.0f}", "left": self._left(record)}
        for name in cells:
            table.add_column(name, justify="right")
        table.add_row(*cells.values())
        return table


def before_after(evaluations: Mapping[str, Any]) -> Table:
    """The held-out results of a run, before and after training, with 95 % intervals."""
    times = [when for when in ("before", "after") if when in evaluations]
    count = evaluations[times[0]]["examples"]
    table = Table(title=f"Held-out results on {count} examples, mean [95 % interval]", title_justify="left")
    table.add_column("")
    for when in times:
        table.add_column(when, justify="right")
    for name in shown(name for when in times for name in evaluations[when]["components"]):
        if name != "return_percent":
            unit = " %" if name in PERCENTS else ""
            table.add_row(f"{name}{unit}", *(_cell(evaluations[when], name) for when in times))
    returns = [f"{e['return_percent']:.1f} [{e['low']:.1f}, {e['high']:.1f}]" for e in map(evaluations.get, times) if e]
    table.add_row("normalised return %", *returns, style="bold")
    table.add_row("tokens/s", *(f"{evaluations[when]['tokens_per_second']:.0f}" for when in times))
    table.add_row("response time s", *(f"{evaluations[when]['response_seconds']:.2f}" for when in times))
    return table


def _cell(evaluation: Mapping[str, Any], name: str) -> str:
    if name not in evaluation["components"]:
        return ""
    low, high = evaluation["intervals"][name]
    digits = 1 if name in PERCENTS else 2
    return f"{evaluation['components'][name]:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def show_transcript(console: Console, title: str, episode: Mapping[str, Any]) -> None:
    """One episode: the last observation of each agent, and what it said."""
    console.rule(f"[bold]{title}[/bold] example {episode['example']}, reward {episode['reward']:.2f}", align="left")
    for turn in episode["turns"]:
        if turn["round"] == 0:
            console.print(Text(_clip(turn["prompt"][-1]["content"]), style="dim"))
        console.print(Text(f"{turn['agent']}:", style="bold"), Text(_clip(turn["text"])))


def pick_transcripts(episodes: Sequence[Mapping[str, Any]], count: int = 2) -> list[Mapping[str, Any]]:
    """Typical episodes after training, not the best ones: those nearest the mean reward."""
    held = [e for e in episodes if e.get("evaluation") == "after"]
    if not held:
        return []
    mean = fmean(e["reward"] for e in held)
    return sorted(held, key=lambda e: abs(e["reward"] - mean))[:count]


def _clip(text: str, limit: int = 700) -> str:
    return text if len(text) <= limit else text[:limit] + " ..."
