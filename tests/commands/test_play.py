"""madrigal play, by tiny models and scripted keyboards: what is shown when, who answers, how it ends."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes.command_line import Screen, refused
from fakes.talking import TALK, Keyboard, Types
from madrigal import cli
from madrigal.config import Experiment, to_json
from madrigal.policies.local import LocalPolicy
from madrigal.recipes import recipe
from madrigal.recipes.embedded import own
from madrigal.settings import EvaluationConfig, PolicyConfig, Sampling, TeamConfig
from madrigal.tasks.coding.config import Coding
from madrigal.training import teams as assemble
from madrigal.training.held_out import evaluate_run
from madrigal.training.teams import make_team


@pytest.fixture(autouse=True)
def folder(empty_folder: Path) -> Path:
    Path("talk.py").write_text(TALK)
    return empty_folder


@pytest.fixture
def settings(model_folder: Path) -> list[str]:
    """The tiny model, and short answers."""
    return [f"--team.policy.model={model_folder}", "--team.device=cpu", "--sampling.max-new-tokens=4"]


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Types:
    """Sits somebody at the keyboard: types(line, line, ...), without ends of lines; an exception's class raises it."""

    def sit(*lines: str | type[BaseException], terminal: bool = True, ended: str = "\n") -> Keyboard:
        def read() -> str:
            captured = capsys.readouterr()
            return captured.out + captured.err

        typed = [line + ended if isinstance(line, str) else line for line in lines]
        keyboard = Keyboard(typed, read, terminal)
        monkeypatch.setattr(sys, "stdin", keyboard)
        return keyboard

    return sit


def episodes(capsys: Screen, *arguments: str) -> list[dict[str, Any]]:
    """The lines of JSON of a play that goes well."""
    assert cli.run(["play", *arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def said(episode: dict[str, Any]) -> list[tuple[str, str]]:
    return [(turn["agent"], turn["text"]) for turn in episode["turns"]]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The seats whose models were loaded."""
    names: list[str] = []
    load: Callable[..., LocalPolicy] = assemble.load_policy

    def note(name: str, *arguments: Any, **settings: Any) -> LocalPolicy:
        names.append(name)
        return load(name, *arguments, **settings)

    monkeypatch.setattr(assemble, "load_policy", note)
    return names


def run_of(model_folder: Path, *, steps: int) -> Experiment:
    return replace(
        own("talk.py:task"),
        steps=steps,
        team=TeamConfig(PolicyConfig(model=str(model_folder)), device="cpu"),
        sampling=Sampling(max_new_tokens=4),
        evaluation=EvaluationConfig(examples=2, samples=2, timed_examples=0),
    )


def in_order(text: str, *parts: str) -> None:
    place = 0
    for part in parts:
        assert part in text[place:], part
        place = text.index(part, place) + len(part)


# Watching


def test_an_episode_is_shown_turn_by_turn(capsys: Screen, settings: list[str]) -> None:
    assert cli.run(["play", "talk.py:task", *settings]) == 0
    in_order(
        capsys.readouterr().out,
        *("talk: ann by ", " (untrained), bob by ", "test-0 (1 of 1)"),
        *("Round 1", "ann sees:\n  ann, say word0.", "bob sees:\n  bob, say word0.", "ann says", "bob says"),
        *("Joint reward 0.00 of 1\n  length=", "verdicts:\n    who ann, right False\n    who bob, right False\n"),
        *("Round 2", "ann sees now:\n  ann, the lengths were ", "bob sees now:\n  bob, the", "ann says", "bob says"),
        *("Joint reward", "Return 0.00 (horizon), normalized 0.0 %\n\n1 episode, mean return 0.00"),
    )


def test_the_validation_split_is_played_and_its_examples_are_found_by_name(capsys: Screen, settings: list[str]) -> None:
    played = episodes(capsys, "talk.py:task", *settings, "--split", "validation", "--episodes", "3")
    assert [one["example"] for one in played] == ["validation-0", "validation-1", "validation-0"]
    (named,) = episodes(capsys, "talk.py:task", *settings, "--example", "validation-0")
    assert named == played[0]


def test_every_episode_begins_afresh(capsys: Screen, settings: list[str]) -> None:
    assert cli.run(["play", "talk.py:task", *settings, "--example", "test-0", "--episodes", "2"]) == 0
    out = capsys.readouterr().out
    assert [out.count(part) for part in ("Round 1", "ann sees:\n  ann, say word0.", "ann sees now:")] == [2, 2, 2]


def test_a_turn_is_on_the_screen_before_the_next_one_is_asked_for(
    capsys: Screen, settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    screens: list[str] = []
    generate = assemble.Team.speaker

    def speaker(*arguments: Any) -> Any:
        speak = generate(*arguments)
        return lambda wanted: screens.append(capsys.readouterr().out) or speak(wanted)  # type: ignore[func-returns-value]

    monkeypatch.setattr(assemble.Team, "speaker", speaker)
    assert cli.run(["play", "talk.py:task", *settings, "--topology", "sequential"]) == 0
    first, second, third, _ = screens
    assert "ann sees:" in first and "bob" not in first.partition("Round 1")[2]
    assert "ann says" in second and "bob sees:\n  bob, say word0. ann said <" in second
    assert "bob says" in third and "Joint reward" in third and "ann sees now:" in third


def test_topologies_decide_who_hears_whom(capsys: Screen, settings: list[str]) -> None:
    start = ("talk.py:task", *settings, "--topology")
    turns = {name: episodes(capsys, *start, name)[0]["turns"] for name in ("parallel", "sequential", "discussion")}
    assert {name: len(list_) for name, list_ in turns.items()} == {"parallel": 4, "sequential": 4, "discussion": 8}
    heard = {name: [" said <" in turn["prompt"][0]["content"] for turn in of] for name, of in turns.items()}
    assert heard["parallel"] == [False] * 4
    assert heard["sequential"] == [False, True] * 2
    assert heard["discussion"] == [False, False, True, True] * 2


def test_examples_come_in_order_and_again_with_other_answers(capsys: Screen, settings: list[str]) -> None:
    played = episodes(capsys, "talk.py:task", *settings, "--episodes", "3", "--split", "train")
    assert [episode["example"] for episode in played] == ["train-0", "train-1", "train-0"]
    assert said(played[0]) != said(played[2])
    [one] = episodes(capsys, "talk.py:task", *settings, "--example", "train-1")
    assert one == played[1] | {"turns": one["turns"]} and said(one) == said(played[1])
    [other] = episodes(capsys, "talk.py:task", *settings, "--example", "train-1", "--seed", "1")
    assert said(other) != said(one)


def test_the_same_team_plays_what_an_evaluation_played(capsys: Screen, model_folder: Path) -> None:
    Path("run").mkdir()
    Path("run/experiment.json").write_text(to_json(run_of(model_folder, steps=0)))
    _, evaluated = evaluate_run(Path("run"), trust=True)
    played = episodes(capsys, "run", "--trust", "--episodes", "4")
    order = [(0, "test-0"), (0, "test-1"), (1, "test-0"), (1, "test-1")]
    expected = [next(e for e in evaluated if (e["sample"], e["example"]) == place) for place in order]
    assert [said(episode) for episode in played] == [said(episode) for episode in expected]
    assert played[0].keys() == expected[0].keys() - {"sample", "return_percent"}


def test_a_run_is_played_by_its_saved_team_or_untrained(capsys: Screen, model_folder: Path) -> None:
    run = run_of(model_folder, steps=1)
    team = make_team(run.team, ("ann", "bob"), run.seed)
    with torch.no_grad():
        for parameter in team.seats["bob"].model.parameters():
            parameter.mul_(-1.0)
    Path("run/team").mkdir(parents=True)
    Path("run/experiment.json").write_text(to_json(run))
    [untrained] = episodes(capsys, "run", "--trust", "--untrained")
    team.save(Path("run/team"))
    [trained] = episodes(capsys, "run", "--trust")
    first = dict(said(untrained)[:2]), dict(said(trained)[:2])
    assert first[0]["ann"] == first[1]["ann"] and first[0]["bob"] != first[1]["bob"]
    assert cli.run(["play", "run", "--trust"]) == 0
    assert "talk: ann by run/team/ann, bob by run/team/bob\n" in capsys.readouterr().out


def test_with_json_the_output_is_lines_of_json_and_the_rest_goes_elsewhere(capsys: Screen, settings: list[str]) -> None:
    assert cli.run(["play", "talk.py:task", *settings, "--episodes", "2", "--json"]) == 0
    captured = capsys.readouterr()
    assert [json.loads(line)["example"] for line in captured.out.splitlines()] == ["test-0", "test-1"]
    assert "2 episodes, mean return" in captured.err and "says" not in captured.err


# A seat


def test_a_seat_is_shown_its_observation_and_nothing_else_until_the_end(
    capsys: Screen, settings: list[str], types: Types
) -> None:
    keyboard = types("first line", "", "  word0 .", ".", "second", ".")
    assert cli.run(["play", "talk.py:task", *settings, "--seat", "bob"]) == 0
    round_one, *_, round_two, _ = keyboard.screens
    assert round_one.partition("────\n")[2].startswith(
        "You are bob. You see:\n  bob, say word0.\nType your answer; end it with a line that holds a single . or"
    )
    assert "ann, say" not in round_one
    in_order(
        round_two,
        *("You are bob. You see:\n  [user]\n  bob, say word0.\n  [assistant]\n  first line\n\n    word0 .\n"),
        "  [user]\n  bob, the lengths were ",
    )
    assert "ann says" not in round_two and "reward" not in round_two
    in_order(
        capsys.readouterr().out,
        *(
            "The whole episode",
            "ann sees:\n  ann, say word0.\nann says",
            "bob (you) says:\n  first line\n\n    word0 .\n",
        ),
        *("Joint reward 0.50 of 1", "who bob, right True", "Round 2", "bob (you) says:\n  second\n", "Return 0.50"),
    )


def test_a_seat_hears_what_its_agent_would_hear(capsys: Screen, settings: list[str], types: Types) -> None:
    keyboard = types("A", ".", "B", ".", "C", ".", "D", ".")
    assert cli.run(["play", "talk.py:task", *settings, "--seat", "ann", "--topology", "discussion"]) == 0
    asked = [screen for screen in keyboard.screens if "You are ann" in screen]
    assert [" said <" in screen for screen in asked] == [False, True, False, True]
    assert "  ann, say word0. ann said <A>. bob said <" in asked[1] and " ann said <C>. bob" in asked[3]


def test_an_answer_is_taken_as_it_was_typed(capsys: Screen, settings: list[str], types: Types) -> None:
    types("\tword0  ", "", " .", "..", ".", "ünï [bold]漢", ".")
    [episode] = episodes(capsys, "talk.py:task", *settings, "--seat", "ann")
    mine = [turn for turn in episode["turns"] if turn["agent"] == "ann"]
    assert [turn["text"] for turn in mine] == ["\tword0  \n\n .\n..", "ünï [bold]漢"]
    assert [(turn["finish"], turn["tokens"], turn["reward"]) for turn in mine] == [("stop", 0, 0.5), ("stop", 0, 0.0)]


def test_models_are_loaded_for_the_other_seats_only(
    capsys: Screen, settings: list[str], types: Types, loaded: list[str]
) -> None:
    types("a", ".", "b", ".")
    cli.run(["play", "talk.py:task", *settings, "--seat", "ann"])
    assert loaded == ["bob"]
    keyboard = types("word0", ".", "word0", ".", "no", ".", "word0", ".")
    [episode] = episodes(capsys, "talk.py:task", "--team.policy.model", "./none", "--seat", "ann", "bob")
    assert loaded == ["bob"] and episode["reward"] == 1.5
    assert said(episode) == [("ann", "word0"), ("bob", "word0"), ("ann", "no"), ("bob", "word0")]
    assert ["You are ann" in s for s in keyboard.screens] == [True, False, False, False] * 2


def test_a_shared_policy_plays_the_other_seats(capsys: Screen, settings: list[str], types: Types) -> None:
    types("a", ".", "b", ".")
    [episode] = episodes(capsys, "talk.py:task", *settings, "--team.shared", "--seat", "ann")
    assert [turn["tokens"] > 0 for turn in episode["turns"]] == [False, True, False, True]


def test_an_empty_answer_is_asked_about(capsys: Screen, settings: list[str], types: Types) -> None:
    keyboard = types(".", "y", " ", ".", "no", "something", ".")
    [episode] = episodes(capsys, "talk.py:task", *settings, "--seat", "ann")
    assert [text for agent, text in said(episode) if agent == "ann"] == ["", "something"]
    asked = "An empty answer? Type y to give it, anything else to write another."
    assert [asked in screen for screen in keyboard.screens] == [False, True, False, False, True, False, False]


def test_with_json_a_seat_is_asked_beside_the_output(capsys: Screen, settings: list[str], types: Types) -> None:
    def lines() -> str:
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err

    types("a", ".", "b", ".").read = lines
    assert cli.run(["play", "talk.py:task", *settings, "--seat", "ann", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["example"] == "test-0"
    assert "The whole episode" in captured.err


# How it ends


def test_the_end_of_input_ends_an_answer_and_before_one_the_play(
    capsys: Screen, settings: list[str], types: Types
) -> None:
    types("word0\n", "", "word0\n", ".\n", "word1\n", ".\n", "", ended="")
    assert cli.run(["play", "talk.py:task", *settings, "--seat", "ann", "--episodes", "9"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("\n1 episode, mean return 1.00, mean normalized return 50.0 %\n")


def test_ctrl_d_at_once_is_no_mistake_on_a_terminal(capsys: Screen, settings: list[str], types: Types) -> None:
    types()
    assert cli.run(["play", "talk.py:task", *settings, "--seat", "ann"]) == 0
    assert capsys.readouterr().err == ""


def test_ctrl_c_ends_with_what_was_played(capsys: Screen, settings: list[str], types: Types) -> None:
    types("word0", ".", "word0", ".", "half an", KeyboardInterrupt)
    assert cli.run(["play", "talk.py:task", *settings, "--seat", "bob", "--episodes", "2"]) == 130
    captured = capsys.readouterr()
    assert captured.out.endswith("\n1 episode, mean return 1.00, mean normalized return 50.0 %\n") and not captured.err


def test_ctrl_c_while_models_speak(capsys: Screen, settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("madrigal.policies.engines.local.sample", interrupt)
    assert cli.run(["play", "talk.py:task", *settings]) == 130
    captured = capsys.readouterr()
    assert captured.out.endswith("\nNo episode was finished.\n") and not captured.err


def test_a_pipe_is_read_like_a_keyboard(capsys: Screen, settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.TextIOWrapper(io.BytesIO("word0\r\n.\nnö, word1".encode()), "utf-8")
    monkeypatch.setattr(sys, "stdin", pipe)
    [episode] = episodes(capsys, "talk.py:task", *settings, "--seat", "ann")
    assert [text for agent, text in said(episode) if agent == "ann"] == ["word0", "nö, word1"]


def test_a_pipe_that_ends_too_early_is_one_line(
    capsys: Screen, settings: list[str], types: Types, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = ("talk.py:task", *settings, "--seat", "ann", "--episodes", "2")
    for lines in ((), ("word0", "."), ("word0",)):
        types(*lines, terminal=False)
        assert "the standard input ended before the first episode did" in refused(capsys, "play", *start)
    types("word0", ".", "word0", ".", "word1", terminal=False)
    assert cli.run(["play", *start]) == 0
    assert "\n1 episode, mean return 1.00" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", None)
    assert "the standard input ended" in refused(capsys, "play", *start)


def test_bytes_that_are_no_text(capsys: Screen, settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    start = ("talk.py:task", *settings, "--seat", "ann")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n.\n"), "utf-8"))
    assert "expected an answer in utf-8, got bytes that are none" in refused(capsys, "play", *start)
    pipe = io.TextIOWrapper(io.BytesIO(b"caf\xe9\n.\nx\n.\n"), "ascii", errors="surrogateescape")
    monkeypatch.setattr(sys, "stdin", pipe)
    [episode] = episodes(capsys, *start)
    assert said(episode)[0] == ("ann", "caf?")


def test_what_is_typed_does_not_act_on_the_terminal(capsys: Screen, settings: list[str], types: Types) -> None:
    types("\x1b[2J[bold red]word0[/] \r over", ".", "x", ".")
    assert cli.run(["play", "talk.py:task", *settings, "--seat", "ann", "--topology", "sequential"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\r" not in out
    assert "ann (you) says:\n  \\x1b[2J[bold red]word0[/] \\r over\n" in out
    assert "bob sees:\n  bob, say word0. ann said <\\x1b[2J[bold red]word0[/] \\r over>.\n" in out


def test_an_answer_that_makes_the_reward_fail_is_one_line(capsys: Screen, settings: list[str], types: Types) -> None:
    types("word0", ".", "word0", ".", "\x1b[2Jfail", ".")
    assert cli.run(["play", "talk.py:task", *settings, "--seat", "ann", "--episodes", "2"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "task talk: step raised ValueError: cannot judge \\x1b[2Jfail (talk.py, line " in captured.err
    assert captured.out.endswith("\n1 episode, mean return 1.00, mean normalized return 50.0 %\n")


def test_details_that_json_cannot_hold_are_one_line(capsys: Screen, settings: list[str], types: Types) -> None:
    types("word0", ".", "word0", ".")
    assert cli.run(["play", "talk.py:hidden", *settings, "--seat", "ann", "--json"]) == 2
    captured = capsys.readouterr()
    assert "task talk: step details must be JSON values" in captured.err and captured.out == ""


# Games, in some examples of which the task itself plays a seat


def test_who_is_played_by_a_script_is_told(capsys: Screen, settings: list[str], model_folder: Path) -> None:
    assert cli.run(["play", "kuhn", *settings, "--episodes", "2"]) == 0
    casts = [line for line in capsys.readouterr().out.splitlines() if line.startswith("kuhn: ")]
    model = f"{model_folder} (untrained)"
    assert casts == [
        f"kuhn: first by {model}, second by a script (random)",
        f"kuhn: first by a script (random), second by {model}",
    ]
    assert cli.run(["play", "kuhn", *settings, "--split", "train"]) == 0
    assert f"kuhn: first by {model}, second by {model}\n" in capsys.readouterr().out


def test_a_seat_is_played_where_no_script_has_it(capsys: Screen, settings: list[str], types: Types) -> None:
    types(*["2", "."] * 4)
    (episode,) = episodes(capsys, "kuhn", *settings, "--seat", "second")
    assert (episode["example"], set(said(episode))) == ("kuhn-test-0-second", {("second", "2")})


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("--seat first second", "in the test examples kuhn itself plays first or second; take one seat"),
        ("--seat first --example kuhn-test-3-second", "in example kuhn-test-3-second kuhn itself plays first"),
    ],
)
def test_a_seat_that_is_not_free_is_refused(capsys: Screen, arguments: str, hint: str) -> None:
    assert hint in refused(capsys, "play", "kuhn", *arguments.split())


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("", "play: name a recipe or a run folder; recipes are tldr"),
        ("--seat ann", "play: name a recipe or a run folder"),
        ("tldrr", "unknown recipe 'tldrr': did you mean tldr"),
        ("talk.py:other", "talk.py defines no 'other'"),
        ("talk.py:task --episodes 0", "play: --episodes: expected at least 1, got 0"),
        ("talk.py:task --episodes many", "argument --episodes: invalid int value: 'many'"),
        ("talk.py:task --split dev", "argument --split: invalid choice: 'dev'"),
        ("talk.py:task --example test-0 --split train", "argument --split: not allowed with argument --example"),
        ("talk.py:task --example test-00", "talk has no example 'test-00'; there is 'test-0' or 'test-1'"),
        ("talk.py:task --example xyzzy", "talk has no example 'xyzzy'; there is 'test-1'"),
        ("talk.py:task --seat an", "play: --seat: 'an' is no agent of talk; it has ann, bob"),
        ("talk.py:task --seat ann eve", "play: --seat: 'eve' is no agent of talk"),
        ("talk.py:task --topology ring", "argument --topology: invalid choice: 'ring'"),
        ("talk.py:task --episode 3", "unknown setting --episode: did you mean --episodes?"),
        ("talk.py:task --lr 3", "unknown setting --lr: did you mean --optimizer.lr or --critic.lr or --warm.lr?"),
        ("run --steps 3 --trust", "play: a run is played with its own settings and takes no others, got --steps"),
        ("run --topology parallel --trust", "takes no others, got --topology"),
        ("run --trust", "run run: there is no saved team yet; finish it with: madrigal train run --resume --trust, or"),
        ("run", "run asks to import and run the code of talk.py:task; look at it first, and allow it with --trust"),
        ("run/experiment.json", "experiment.json asks to import and run the code of talk.py:task"),
        ("bare --untrained", "bare asks to switch off the sandbox"),
        ("empty", "expected an experiment at empty/experiment.json, found none"),
    ],
)
def test_a_mistake_is_one_line(
    capsys: Screen, model_folder: Path, loaded: list[str], arguments: str, hint: str
) -> None:
    bare = replace(recipe("coding"), task=Coding(unconfined=True))
    for name, run in {"run": run_of(model_folder, steps=1), "bare": bare}.items():
        Path(name).mkdir()
        Path(name, "experiment.json").write_text(to_json(run))
    Path("empty").mkdir()
    assert hint in refused(capsys, "play", *arguments.split())
    assert loaded == []


def test_a_hostile_name_of_an_example_is_told_plainly(capsys: Screen) -> None:
    assert r"talk has no example '\x1b[2J'" in refused(capsys, "play", "talk.py:task", "--example", "\x1b[2J")


@pytest.mark.parametrize(
    ("what", "part"), [("", "--seat AGENT"), ("run", "--seat AGENT"), ("tldr", "--algorithm.width")]
)
def test_help(capsys: Screen, model_folder: Path, what: str, part: str) -> None:
    Path("run").mkdir()
    Path("run/experiment.json").write_text(to_json(run_of(model_folder, steps=1)))
    try:
        assert cli.run(["play", *what.split(), "--help"]) == 0
    except SystemExit as stop:  # the parser of settings ends the program by itself
        assert stop.code == 0
    assert part in capsys.readouterr().out
    cli.run([])
    assert "\n  play RECIPE|RUN " in capsys.readouterr().out
