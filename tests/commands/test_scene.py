"""What is shown of an episode, and that nothing in it acts on the terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping

import pytest
from rich.console import Console

from fakes.play import judge_of
from madrigal.commands.scene import Scene, news, outline, shown
from madrigal.rollouts.play import EpisodeRun, drive, play
from madrigal.rollouts.task import SingleRound
from madrigal.rollouts.topology import Discussion, Parallel, Topology
from madrigal.runs.plain import plain
from madrigal.types import Completion, Example, Message, Messages, Point, RewardError

AT_ONCE = Parallel()
OWN = re.compile(r"\x1b\[[0-9;]*m")  # what rich writes itself: styles
HOSTILE = (
    "\x1b[2J\x1b]0;title\x07\x9b31m\rover\x08\u202e\u2028[bold red]x[/] [/nothing] :smile: \udc80 \x00end\ttab\u200d"
)
SPELLED = r"\x1b[2J\x1b]0;title\x07\x9b31m\rover\x08\u202e\u2028[bold red]x[/] [/nothing] :smile: \udc80 \x00end"


def screen(*, encoding: str = "utf-8", width: int = 400, terminal: bool = True) -> tuple[Console, io.BytesIO]:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding, newline="", write_through=True)
    return Console(
        file=stream, force_terminal=terminal, color_system="truecolor" if terminal else None, width=width
    ), raw


def watch(
    console: Console,
    said: Mapping[str, str],
    topology: Topology = AT_ONCE,
    text: str = "Hello.",
    reward: float = 0.5,
) -> Scene:
    """One episode of a single round, shown."""
    example = Example("one", {})
    task = SingleRound("t", tuple(said), (example,), (example,), lambda e, agent: text, lambda e, actions: reward)
    scene = Scene(console)
    scene.begin(text)
    moves = shown(play(task, topology, Point("one", task.reset(example))), scene)
    drive(
        [EpisodeRun(moves, ())],
        lambda wanted: [Completion(said[u.agent]) for u in wanted],
        judge_of(task),
    )
    return scene


def test_what_acts_is_spelled_out_and_what_does_not_stays() -> None:
    assert plain("é 漢 🎉 \u200d\u200c\n\tend [b]x[/b]") == "é 漢 🎉 \u200d\u200c\n\tend [b]x[/b]"
    assert plain(HOSTILE) == SPELLED + "\ttab\u200d"
    assert plain("\u200e\u2066\ufeff\U000e0041\x7f\r\n") == r"\u200e\u2066\ufeff\U000e0041\x7f\r" + "\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_that_a_model_or_the_data_says_acts(terminal: bool) -> None:
    console, raw = screen(terminal=terminal)
    watch(console, {"ann": HOSTILE}, text=HOSTILE)
    text = OWN.sub("", raw.getvalue().decode())
    assert not set(text) & {chr(n) for n in (*range(9), *range(11, 32), *range(127, 160))}
    assert "\u202e" not in text and "\u2028" not in text
    title, prompt, answer = (line for line in text.splitlines() if SPELLED in line)
    assert title.startswith(SPELLED) and prompt.startswith("  ") and answer.startswith("  ")


def test_details_and_metrics_are_shown_plainly_too() -> None:
    assert list(outline({"a\x1b": "[b]\nc", "list": ["x", 1], "empty": [], "none": None, "zero": 0})) == [
        *("a\x1b:", "  [b]", "  c", "list: ['x', 1]", "zero: 0")
    ]
    console, raw = screen()
    scene = Scene(console)
    scene.lines("\n".join(outline({HOSTILE: [{HOSTILE: HOSTILE}]})))
    assert "\x1b]" not in raw.getvalue().decode() and raw.getvalue().decode().count(r"\x1b]0;title") == 3


def test_a_terminal_that_knows_few_letters_gets_the_others_spelled_out() -> None:
    console, raw = screen(encoding="ascii")
    watch(console, {"ann": "café 🎉"})
    assert r"caf\xe9 \U0001f389" in raw.getvalue().decode("ascii")


@pytest.mark.parametrize(
    ("terminal", "expected"),
    [
        (True, ["  one two three four", "  five", "", "    six seven eight nine", "    ten", "      tab"]),
        (False, ["  one two three four five", "", "    six seven eight nine ten", "        tab"]),
    ],
)
def test_lines_wrap_on_a_terminal_below_their_own_beginning(terminal: bool, expected: list[str]) -> None:
    console, raw = screen(width=24, terminal=terminal)
    Scene(console).lines("one two three four five\n\n  six seven eight nine ten\n\ttab")
    assert [line.rstrip() for line in raw.getvalue().decode().splitlines()] == expected


def test_all_see_then_all_speak_then_it_is_judged() -> None:
    console, raw = screen(terminal=False)
    watch(console, {"ann": "Yes", "bob": ""})
    assert raw.getvalue().decode().splitlines()[2:] == [
        *(
            "ann and bob see:",
            "  Hello.",
            "ann says:",
            "  Yes",
            "bob says:",
            "  (nothing)",
            "Joint reward 0.50 of 1",
        )
    ]


def test_in_a_discussion_only_what_is_new_is_shown_again() -> None:
    console, raw = screen(terminal=False)
    watch(console, {"ann": "Yes", "bob": "No"}, Discussion())
    text = raw.getvalue().decode()
    assert text.count("Hello.") == 2  # the title, and the first prompt
    assert "ann and bob see now:\n  ann said: Yes\n  bob said: No\nann says:\n" in text


def test_a_step_that_play_refuses_is_not_shown() -> None:
    console, raw = screen(terminal=False)
    with pytest.raises(RewardError, match="finite number, got nan"):
        watch(console, {"ann": "Yes"}, reward=float("nan"))
    assert "Yes" in raw.getvalue().decode() and "reward" not in raw.getvalue().decode()


def chat(*texts: str) -> Messages:
    return tuple(Message("assistant" if n % 2 else "user", text) for n, text in enumerate(texts))


def test_news_is_what_follows_the_known_and_never_nothing() -> None:
    assert news(chat("a", "b", "c"), chat("a", "b")) == chat("a", "b", "c")[2:]
    assert news(chat("a", "b", "c"), ()) == chat("a", "b", "c")
    assert news(chat("a"), chat("a", "b")) == chat("a")
    assert news(chat("a, and more"), chat("a", "b")) == chat(", and more")
    assert news(chat("other"), chat("a", "b")) == chat("other")
    assert news(chat("a", "x", "c"), chat("a", "b")) == chat("a", "x", "c")[1:]


def test_an_answer_that_was_cut_off_and_roles_are_told() -> None:
    console, raw = screen(terminal=False)
    scene = Scene(console)
    scene.answered({"ann": Completion("Yes", finish="length")})
    scene.messages((Message("system", "Be brief."),))
    assert raw.getvalue().decode().splitlines() == [
        *("ann says, cut off by the length limit:", "  Yes", "  [system]", "  Be brief.")
    ]


def test_the_summary_is_the_mean_of_what_was_finished() -> None:
    console, raw = screen(terminal=False)
    scene = Scene(console)
    scene.summary()
    scene.ended(1.0, 50.0, "solved")
    scene.ended(2.0, 100.0, "horizon")
    scene.summary()
    lines = [line for line in raw.getvalue().decode().splitlines() if line]
    assert lines[0] == "No episode was finished."
    assert lines[1] == "Return 1.00 (solved), normalized 50.0 %"
    assert lines[-1] == "2 episodes, mean return 1.50, mean normalized return 75.0 %"
