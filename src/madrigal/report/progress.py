"""Shows a run on the terminal, while it goes on and when it has ended."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from madrigal.evaluation.alarms import Alarm
from madrigal.evaluation.early import EarlyAlarms
from madrigal.runs.plain import plain, plain_text

PERCENTS = (
    "structure",
    "consistency",
    "coherence",
    "faithfulness",
    "rouge1",
    "rouge2",
    "rouge_l",
    "delimiter",
    "delimited_return",
    "syntax",
    "tests",
    "cooperation",
    "accuracy",
    "majority_accuracy",
    "return_percent",
)
# The reward itself, and parts of it that the percents above say again.
SKIPPED = {"reward", "reward_aux", "reward_main", "reward_syntax", "reward_tests", "reward_cooperation"}
SKIPPED |= {"structure_extraction", "syntax_correct"}
MOST = 11
SILENCE = 30.0  # seconds without a line, where there is no terminal
ABOVE_ALL = 100.0001  # percent: beyond the best, rounding aside
LINES, LETTERS = 6, 360  # of a prompt or an answer at the end of a run


def shown(components: Iterable[str]) -> list[str]:
    """The components worth a column: the known percents first, then the task's own; none per agent (words/ann)."""
    kept = [name for name in dict.fromkeys(components) if "/" not in name and name not in SKIPPED]
    return [*(name for name in PERCENTS if name in kept), *(name for name in kept if name not in PERCENTS)]


class Progress:
    """A `Watcher` with a live line of figures on a terminal or in a notebook's cell, and elsewhere plain lines.

    Where there is no terminal there is a line at least every half minute.
    Warnings come as soon as the records show a reason for them. `close` it when the run ends.

    Args:
        title: what the lines are of; the run's folder, say.
        best: the most that a round can return; infinity where it is not known.
        quiet: show warnings only.
        silence: the longest time without a line, in seconds, where there is no terminal.
    """

    def __init__(
        self,
        console: Console,
        steps: int,
        title: str,
        *,
        best: float = math.inf,
        quiet: bool = False,
        silence: float = SILENCE,
    ) -> None:
        self.console, self.steps, self.title, self.quiet, self.silence = console, steps, title, quiet, silence
        self.alarms = EarlyAlarms(best)
        self.recent: deque[Mapping[str, Any]] = deque(maxlen=10)
        self.live: Live | None = None
        self.cell: Any = None  # the display of a notebook that holds the line of figures
        self.began = self.spoke = self.entered = 0.0
        self.made = 0
        self.doing, self.following = "", "training"
        self.closed = threading.Event()
        self.clock: threading.Thread | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the live line, and lines about what takes long."""
        self.closed.set()
        self._still()
        if self.clock is not None:
            self.clock.join()

    def stage(self, name: str) -> None:
        self._still()
        if name.startswith("note: "):  # something to know, not something that begins
            self._say(f"{self.title}: {name}", always=True)
            return
        self._enter(name)
        self._say(f"{self.title}: {name} ...", "dim")

    def step(self, record: Mapping[str, Any]) -> None:
        now = time.perf_counter()
        if not self.recent:
            self.began = now - record["seconds"]
        self.recent.append(record)
        self.made += 1
        self._warn(self.alarms(record))
        self.following = f"step {record['step'] + 2} of {self.steps}"
        self._enter(self.following)
        if self.console.is_terminal and not self.quiet:
            if self.live is None:
                self.live = Live(console=self.console, refresh_per_second=4)
                self.live.start()
            self.live.update(self._table(record))
        elif self.console.is_jupyter and not self.quiet:
            self._show_in_cell(record)
        elif record["step"] % 10 == 0 or record["step"] + 1 == self.steps or now - self.spoke >= self.silence / 2:
            self._say(self._line(record))

    def evaluated(self, when: str, result: Any) -> None:
        self._still()
        name = f"validation return after step {step}" if (step := after_step(when)) else f"held-out return {when}"
        self._say(
            f"  {name}: {result.return_percent:.1f} % "
            f"[{result.low:.1f}, {result.high:.1f}] on {result.examples} examples"
        )
        self._enter(self.following)
        if result.return_percent > ABOVE_ALL:
            text = f"held-out examples return {result.return_percent:.4g} % of the best that the task states"
            self._warn([Alarm("return out of range", "warning", None, f"{text}; correct its best_return or reward")])

    def _enter(self, doing: str) -> None:
        """Notes what begins now; where nobody looks at a terminal, a clock says when it takes long."""
        self.doing, self.entered = doing, time.perf_counter()
        if self.clock is None and not (self.quiet or self.console.is_terminal):
            self.clock = threading.Thread(target=self._tick, daemon=True)
            self.clock.start()

    def _tick(self) -> None:
        while not self.closed.wait(self.silence / 4):
            now = time.perf_counter()
            if now - self.spoke >= self.silence * 3 / 4:
                self._say(f"  {self.doing}: {_clock(now - self.entered)} so far")

    def _warn(self, alarms: Iterable[Alarm]) -> None:
        for alarm in alarms:
            step = "" if alarm.step is None else f"step {alarm.step + 1}, "
            self._say(f"WARNING: {step}{alarm.name}: {alarm.text}", "bold red", always=True)

    def _say(self, line: str, style: str = "", *, always: bool = False) -> None:
        self.spoke = time.perf_counter()
        if always or not self.quiet:
            self.console.print(plain_text(self.console, line, style, lines=False), soft_wrap=True)

    def _show_in_cell(self, record: Mapping[str, Any]) -> None:
        """Puts the line into one display, which changes: a line each would be an output each, in the file too."""
        from IPython.display import display

        self.spoke = time.perf_counter()
        line = plain_text(self.console, self._line(record), lines=False)
        line.no_wrap, line.overflow = True, "ignore"  # the cell scrolls
        if self.cell is None:
            self.cell = display(line, display_id=True)
        else:
            self.cell.update(line)

    def _still(self) -> None:
        self.cell = None
        if self.live is not None:
            self.live.stop()
            self.live = None

    def _cells(self, record: Mapping[str, Any]) -> tuple[str, dict[str, str], str, str]:
        """The step of how many, means over recent steps by name, tokens a second, and the time left."""
        parts = shown(k.removeprefix("component/") for k in self.recent[-1] if k.startswith("component/"))
        keys = {"reward": "reward"} | {part: f"component/{part}" for part in parts}
        means = {name: fmean(r[key] for r in self.recent if key in r) for name, key in list(keys.items())[:MOST]}
        speed = fmean(r["tokens_per_second"] for r in self.recent)
        step, seconds_each = record["step"] + 1, (time.perf_counter() - self.began) / self.made
        figures = {name: f"{mean:.2f}" for name, mean in means.items()}
        return f"{step}/{self.steps}", figures, f"{speed:.0f}", _clock(seconds_each * (self.steps - step))

    def _line(self, record: Mapping[str, Any]) -> str:
        step, figures, speed, left = self._cells(record)
        return f"  step {step}  {'  '.join(map(' '.join, figures.items()))}  {speed} tokens/s  {left} left"

    def _table(self, record: Mapping[str, Any]) -> Table:
        table = Table(show_header=True, header_style="bold", box=None, padding=(0, 2))
        step, figures, speed, left = self._cells(record)
        cells = {"step": step} | figures | {"tokens/s": speed, "left": left}
        for name in cells:
            table.add_column(plain_text(self.console, name, lines=False), justify="right")
        table.add_row(*cells.values())
        return table


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def after_step(when: str) -> str:
    """The step after which the validation split was played; "" for an evaluation on the test split.

    >>> after_step("validation-40"), after_step("step-40")
    ('40', '')
    """
    return when.removeprefix("validation-") if when.startswith("validation-") else ""


def before_after(evaluations: Mapping[str, Any]) -> Table:
    """The held-out results of a run, before, after the warm start and after training, with 95 % intervals."""
    times = [when for when in ("before", "warm", "after") if when in evaluations]
    count = evaluations[times[0]]["examples"]
    table = Table(title=f"Held-out results on {count} examples, mean [95 % interval]", title_justify="left")
    table.add_column("")
    for when in times:
        table.add_column(when, justify="right")
    for name in shown(name for when in times for name in evaluations[when]["components"]):
        if name != "return_percent":
            unit = " %" if name in PERCENTS else ""
            table.add_row(
                Text(plain(f"{name}{unit}", lines=False)), *(_cell(evaluations[when], name) for when in times)
            )
    returns = [f"{e['return_percent']:.1f} [{e['low']:.1f}, {e['high']:.1f}]" for e in map(evaluations.get, times) if e]
    table.add_row("normalized return %", *returns, style="bold")
    if any(evaluations[when]["response_seconds"] for when in times):  # with evaluation.timed_examples 0, none
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
    """One episode: what each agent said, and below it, once and dim, what they were asked; long texts are cut."""
    heading = plain_text(console, title, "bold", lines=False)
    about = f" example {episode['example']}, reward {episode['reward']:.2f}"
    console.rule(heading.append_text(plain_text(console, about, "not bold", lines=False)), align="left")
    for turn in episode["turns"]:
        console.print(plain_text(console, f"{turn['agent']}:", "bold", lines=False))
        console.print(plain_text(console, _cut(turn["text"])))
    prompts = dict.fromkeys(turn["prompt"][-1]["content"] for turn in episode["turns"] if turn["round"] == 0)
    for prompt in prompts if len(prompts) == 1 else _without_repeats(list(prompts)):
        console.print(plain_text(console, f"asked: {_cut(prompt)}", "dim"))


def _without_repeats(prompts: Sequence[str]) -> list[str]:
    """Prompts that differ in their ends only: the first as it is, of the others what differs."""
    first, *others = [prompt.splitlines() for prompt in prompts]
    seen = set(first)
    news = ["\n".join(line for line in other if line not in seen) for other in others]
    return [prompts[0], *(text for text in news if text.strip())]


def pick_transcripts(episodes: Sequence[Mapping[str, Any]], count: int = 2) -> list[Mapping[str, Any]]:
    """Typical episodes after training, not the best ones: those nearest the mean reward."""
    last = [episode for episode in episodes if episode.get("evaluation") == "after"]
    mean = fmean(episode["reward"] for episode in last) if last else 0.0
    return sorted(last, key=lambda episode: abs(episode["reward"] - mean))[:count]


def _cut(text: str) -> str:
    """The beginning of a text and its end, which may hold the instruction or the answer."""
    kept = [line for line in text.strip().splitlines() if line.strip()]
    if len(kept) > LINES:
        kept = [*kept[: LINES - 2], "...", kept[-1]]
    short = "\n".join(kept)
    return short if len(short) <= LETTERS else f"{short[: LETTERS * 2 // 3]} ... {short[-LETTERS // 3 :]}"
