"""What a person sees while a run goes on: never silent for long, warned at once, and no foreign text acts."""

from __future__ import annotations

import io
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from madrigal.report.progress import Progress, before_after, show_transcript

HOSTILE = "[/x][red]\x1b]0;t\x07\x9b2J\u202e"
NAME = HOSTILE.replace("/", "")  # a component with a slash is an agent's own, and not shown
SPELLED = r"[/x][red]\x1b]0;t\x07\x9b2J\u202e"


def screen(*, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=400, force_terminal=terminal, color_system=None)


def output(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def record(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "seconds": 0.1, "reward": 0.5, "tokens_per_second": 10.0, **more}


def evaluation(percent: float = 50.0) -> SimpleNamespace:
    return SimpleNamespace(return_percent=percent, low=percent - 1, high=percent + 1, examples=4)


def wait_for(console: Console, words: str) -> None:
    """Until something was said twice."""
    end = time.monotonic() + 60
    while output(console).count(words) < 2:
        assert time.monotonic() < end, output(console)
        time.sleep(0.01)


def test_a_log_is_never_silent_for_long() -> None:
    """An evaluation and a step that take many times the silence allowed."""
    console = screen()
    with Progress(console, 100, "run", silence=0.02) as watch:
        watch.stage("evaluating before")
        wait_for(console, "evaluating before: 0:")
        watch.evaluated("before", evaluation())
        watch.stage("training")
        watch.step(record(1))
        wait_for(console, "step 3 of 100: 0:")
    said = output(console)
    time.sleep(0.05)
    assert output(console) == said


def test_steps_are_told_every_tenth_time_or_when_they_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds, lines in ((0.1, 3), (20.0, 20)):
        console, now = screen(), [1000.0]
        monkeypatch.setattr(time, "perf_counter", lambda now=now: now[0])
        with Progress(console, 20, "run") as watch:
            for n in range(20):
                now[0] += seconds
                watch.step(record(n))
        assert output(console).count("tokens/s") == lines


def test_warnings_come_at_once_and_also_when_quiet() -> None:
    console = screen()
    with Progress(console, 9, "run", best=1.0, quiet=True) as watch:
        watch.stage("training")
        watch.step(record(0, **{"update/ann/kl": 0.0}))
        watch.step(record(1, **{"update/ann/kl": 0.9}))
        watch.step(record(2, **{"update/ann/kl": 1.1}))
        watch.evaluated("after", evaluation(2450.0))
    first, second = output(console).splitlines()
    assert first.startswith(
        "WARNING: step 3, KL jump: policy ann: KL is 0.9 and 1.1 nats per token in two steps, from 0"
    )
    assert second.startswith("WARNING: return out of range: held-out examples return 2450 %")


@pytest.mark.parametrize("terminal", [False, True])
def test_foreign_text_neither_acts_nor_is_markup(terminal: bool) -> None:
    console = screen(terminal=terminal)
    with Progress(console, 1, HOSTILE) as watch:
        watch.stage("training")
        watch.step(record(0, **{f"component/{NAME}": 1.0}))
    figures = {"return_percent": 1.0, "low": 1.0, "high": 1.0, "examples": 1, "tokens_per_second": 1.0}
    parts = {"components": {NAME: 1.0}, "intervals": {NAME: (1.0, 1.0)}, "response_seconds": 1.0}
    console.print(before_after({"after": {**figures, **parts}}))
    turn = {"round": 0, "agent": HOSTILE, "text": HOSTILE, "prompt": [{"role": "user", "content": HOSTILE}]}
    show_transcript(console, HOSTILE, {"example": HOSTILE, "reward": 1.0, "turns": [turn]})
    said = output(console)
    # title, heading, example, agent, answer, prompt; and a component in the line or table, and in a row
    assert said.count(SPELLED) == 6 and said.count(SPELLED.replace("/", "")) >= 2
    assert not {"\x07", "\x9b", "\u202e"} & set(said) and "\x1b]" not in said


def test_what_was_not_timed_has_no_row() -> None:
    figures = {"return_percent": 1.0, "low": 1.0, "high": 1.0, "examples": 1, "components": {}, "intervals": {}}
    for seconds, rows in ((0.5, 3), (0.0, 1)):  # 0 with evaluation.timed_examples 0
        table = before_after({"after": {**figures, "tokens_per_second": 40 * seconds, "response_seconds": seconds}})
        assert table.row_count == rows


def test_answers_come_first_and_a_shared_prompt_once() -> None:
    console = screen()
    post = "\n".join(f"line {n} of the post" for n in range(40))
    turns = [
        {"round": 0, "agent": agent, "text": f"answer of {agent}", "prompt": [{"role": "user", "content": prompt}]}
        for agent, prompt in (("ann", f"{post}\nBe brief."), ("bob", f"{post}\nBe long."))
    ]
    show_transcript(console, "One", {"example": "x", "reward": 1.0, "turns": turns})
    lines = output(console).splitlines()
    assert lines[1:5] == ["ann:", "answer of ann", "bob:", "answer of bob"]
    assert sum("line 0 of the post" in line for line in lines) == 1
    assert "Be brief." in lines and "asked: Be long." in lines and len(lines) < 16


def test_a_notebook_has_one_output_for_all_steps_between_two_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve steps: a display that is made once and changed eleven times; after an evaluation there is another."""
    made, changed = list[str](), list[str]()

    def display(shown: Any, display_id: bool = False) -> Any:
        if display_id:
            made.append(str(shown))
            return SimpleNamespace(update=lambda shown: changed.append(str(shown)))
        return None

    module = SimpleNamespace(display=display)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=module))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    with Progress(Console(force_jupyter=True, color_system=None), 40, "run") as watch:
        for n in range(12):
            watch.step(record(n))
        watch.evaluated("validation-12", evaluation())
        watch.step(record(12))
    assert (len(made), len(changed)) == (2, 11)
    assert changed[-1].startswith("  step 12/40  reward 0.50  10 tokens/s")
