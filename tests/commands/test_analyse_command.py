"""madrigal analyze on run folders made by hand: what is printed, what is refused, and that nothing is written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from fakes import relay
from fakes.command_line import Screen, refused
from fakes.synthetic import write_lines
from madrigal import cli
from madrigal.commands import analyze as analyze
from madrigal.config import Experiment, to_json
from madrigal.policies.local import LocalPolicy
from madrigal.policies.team import Team
from madrigal.recipes import recipe
from madrigal.recipes.embedded import own
from madrigal.rollouts.play import Generate, GenerationRequest
from madrigal.rollouts.topology import Parallel, Sequential
from madrigal.settings import EvaluationConfig, Lora, PolicyConfig, RolesConfig, Sampling, TeamConfig
from madrigal.tasks.chores.task import Chores
from madrigal.tasks.games.rules import PLAYERS
from madrigal.training import teams
from madrigal.training.held_out import evaluate_run
from madrigal.types import Completion

HOSTILE = "[/bold]\x1b[2J\u202e"


@pytest.fixture
def folder(empty_folder: Path) -> Path:
    (empty_folder / "relay.py").write_text(Path(relay.__file__).read_text())
    return empty_folder


def experiment(model_folder: Path, task: str = "relay.py:task") -> Experiment:
    return replace(
        own(task),
        topology=Sequential(),
        team=TeamConfig(PolicyConfig(model=str(model_folder), lora=Lora(rank=0)), device="cpu"),
        sampling=Sampling(max_new_tokens=4),
        evaluation=EvaluationConfig(examples=2, timed_examples=0),
        steps=18,
    )


def episode(step: int, **advantages: float | None) -> dict[str, Any]:
    """A transcript as training writes it, as far as it is read here."""
    turns = [{"agent": agent, "text": agent, "advantage": a} for agent, a in advantages.items()]
    return {"step": step, "reward": 1.0, "turns": turns}


def make_run(name: str, run: Experiment, model_folder: Path, *agents: str) -> Path:
    """A finished run: 18 quiet steps, in which ann was credited with three times as much as bob."""
    place = Path("runs", name)
    for agent in agents or relay.AGENTS:
        shutil.copytree(model_folder, place / "team" / agent)
    (place / "experiment.json").write_text(to_json(run))
    write_lines(place / "steps.jsonl", [{"step": n, "reward": 1.0} for n in range(18)])
    held_out = {"evaluation": "after", **episode(18, ann=None, bob=None, cat=None)}
    write_lines(place / "episodes.jsonl", [episode(0, ann=-1.5, bob=0.5, cat=0.0), held_out])
    result = {"return_percent": 50.0, "low": 40.0, "high": 60.0, "examples": 12, "components": {}}
    (place / "evaluation.json").write_text(json.dumps({"before": result, "after": result}))
    return place


@pytest.fixture
def run(folder: Path, model_folder: Path) -> Path:
    return make_run("a", experiment(model_folder), model_folder)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved teams speak by the script of relay.py; one in a folder called mirrored, as a mirrored team."""
    mirrored: set[int] = set()
    load: Callable[..., Team] = teams.load_saved_team

    def noted(place: Path, *settings: Any) -> Team:
        team = load(place, *settings)
        mirrored.update(id(policy) for policy in team.policies if place.parent.name == "mirrored")
        return team

    def say(policy: LocalPolicy, request: GenerationRequest) -> Completion:
        content, seed = request.prompt[-1].content, request.seed
        return relay.answer(policy.name, content, seed, mirrored=id(policy) in mirrored)

    monkeypatch.setattr(teams, "load_saved_team", noted)
    speaks(monkeypatch, say)


def speaks(monkeypatch: pytest.MonkeyPatch, say: Callable[[LocalPolicy, GenerationRequest], Completion]) -> None:
    """Every team answers by a function."""

    def speaker(team: Team, *_: object) -> Generate:
        return lambda requests: [say(team.policy_of(one.agent, one.round), one) for one in requests]

    monkeypatch.setattr(Team, "speaker", speaker)


def printed(capsys: Screen, *arguments: str) -> list[str]:
    """The lines of an analysis that goes well, blanks reduced to one."""
    assert cli.run(["analyze", *arguments, "--trust"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return [" ".join(line.split()) for line in captured.out.splitlines()]


def as_json(capsys: Screen, *arguments: str) -> dict[str, Any]:
    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is not JSON")

    assert cli.run(["analyze", *arguments, "--trust", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=refuse)
    return found


# What is printed


def test_every_number_of_a_scripted_team(capsys: Screen, run: Path, scripted: None) -> None:
    unmeasured = [
        f"The influence of {speaker} on {listener} cannot be measured: {listener} never acts after {speaker}; play one "
        "after the other, or several rounds, or take examples that the first round does not end."
        for speaker, listener in (("bob", "ann"), ("cat", "ann"), ("cat", "bob"))
    ]
    assert printed(capsys, "runs/a") == [
        "On 12 held-out examples the normalized return is 100.0 [100.0, 100.0] %.",
        "What the return loses, in points",
        "agent change loss [95 %] p (Holm)",
        "ann says nothing 100.0 [100.0, 100.0] 0.00439",  # 9 tests, of p = 2 / 2 ** 12
        "bob says nothing 100.0 [100.0, 100.0] 0.00439",
        "cat says nothing 0.0 [0.0, 0.0] 1",
        "ann speaks of another example 100.0 [100.0, 100.0] 0.00439",
        "bob speaks of another example 100.0 [100.0, 100.0] 0.00439",
        "cat speaks of another example 0.0 [0.0, 0.0] 1",
        "ann does not hear the others 0.0 [0.0, 0.0] 1",
        "bob does not hear the others 100.0 [100.0, 100.0] 0.00439",
        "cat does not hear the others 0.0 [0.0, 0.0] 1",
        # 0.3 ln 2.4 + 0.7 ln 0.8
        "Influence of ann on bob: 0.106 [0.106, 0.106] nats; a listener that repeats the message has 0.106.",
        "Influence of ann on cat: 0.000 [0.000, 0.000] nats; a listener that repeats the message has 0.106.",
        "Influence of bob on cat: 0.000 [0.000, 0.000] nats; a listener that repeats the message has 0.106.",
        "Share of tokens: ann 25 %, bob 50 %, cat 25 %",
        "Share of credit: ann 75 %, bob 25 %, cat 0 %",
        *unmeasured,
        "No alarms.",
    ]


def test_runs_play_with_each_others_agents(capsys: Screen, run: Path, model_folder: Path, scripted: None) -> None:
    shutil.copytree(run, "runs/copy")
    make_run("mirrored", experiment(model_folder), model_folder)
    told = "With agents of other runs the return is {} %, among themselves 100.0 %: a gap of {} points."
    assert told.format("100.0", "0.0 [0.0, 0.0]") in printed(capsys, "runs/a", "runs/copy")
    strangers = printed(capsys, "runs/a", "runs/mirrored", "--examples", "2")
    assert told.format("0.0", "100.0 [100.0, 100.0]") in strangers


def test_alarms_are_shown(capsys: Screen, run: Path, scripted: None) -> None:
    """A third of 18 steps is a window; the first one ends with step 5."""
    write_lines(run / "steps.jsonl", [{"step": n, "group/zero_advantage_fraction": 1.0} for n in range(18)])
    alarm = printed(capsys, "runs/a", "--examples", "2")[-1]
    assert alarm.startswith("warning: no signal (step 5): 100% of answers have advantage 0, above 80%; ")


def test_json_holds_everything(capsys: Screen, run: Path, scripted: None) -> None:
    shutil.copytree(run, "runs/copy")
    write_lines(run / "steps.jsonl", [{"step": n, "group/zero_advantage_fraction": 1.0} for n in range(18)])
    found = as_json(capsys, "runs/a", "runs/copy")
    team, training = found["team"], found["training"]
    all_points = {"mean": 100.0, "low": 100.0, "high": 100.0}
    assert found.keys() >= {"runs", "team", "training"} and found["runs"] == ["runs/a", "runs/copy"]
    assert (team["examples"], team["return_percent"]) == (12, all_points)
    assert [(drop["agent"], drop["change"]) for drop in team["drops"]] == [
        (agent, change) for change in ("silent", "borrowed", "deaf") for agent in relay.AGENTS
    ]
    first = {"agent": "ann", "change": "silent", "loss": all_points, "p": 2 / 2**12, "corrected": 18 / 2**12}
    assert team["drops"][0] == first
    bob = team["influence"]["ann"]["bob"]
    assert bob.keys() == {"nats", "contexts", "ceiling", "copied"} and len(bob["contexts"]) == 12
    assert team["cross_play"]["teams"] == ["runs/a", "runs/copy"]
    assert team["cross_play"]["returns"] == [[100.0, 100.0], [100.0, 100.0]]
    assert team["cross_play"].keys() == {"teams", "returns", "own", "crossed", "gap"}
    assert team["tokens"] == {"ann": 0.25, "bob": 0.5, "cat": 0.25} and len(team["notices"]) == 3
    assert (training["credit"], training["notices"]) == ({"ann": 0.75, "bob": 0.25, "cat": 0.0}, [])
    assert training["alarms"][0].keys() == {"name", "level", "step", "text"} and training["alarms"][0]["step"] == 5


def test_as_many_examples_are_played_as_were_asked_for(capsys: Screen, run: Path, scripted: None) -> None:
    """And not as many as training evaluated, which were 2."""
    found = as_json(capsys, "runs/a", "--examples", "5")
    assert found["team"]["examples"] == 5 and len(found["team"]["influence"]["ann"]["bob"]["contexts"]) == 5


# Games, and credit


def test_two_runs_of_a_game_play_each_other(
    capsys: Screen, folder: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who always passes loses every bet, one chip a hand; against its like it wins what its cards win."""
    kuhn = recipe("kuhn").task
    for name in ("a", "b"):
        make_run(name, replace(experiment(model_folder), task=kuhn, topology=Parallel()), model_folder, *PLAYERS)
    speaks(monkeypatch, lambda policy, request: Completion("1", token_ids=(1,)))
    lines = printed(capsys, "runs/a", "runs/b")
    assert "Exploitability: 1.000 chips a hand; 100 % of its answers are legal." in lines

    assert any(
        re.match(r"Against runs/b: payoff 0.00 \[.*\], 50 % won, 0 % drawn of 100 games", line) for line in lines
    )


def test_whether_credit_is_true_is_measured_where_it_is_asked_for(capsys: Screen, run: Path, scripted: None) -> None:
    lines = printed(capsys, "runs/a", "--examples", "2", "--fidelity", "ann")
    assert any(line.startswith("Fidelity of credit: ") for line in lines)
    assert not any("Fidelity" in line for line in printed(capsys, "runs/a", "--examples", "2"))
    line = refused(capsys, "analyze", "runs/a", "--fidelity", "eve", "--trust")
    assert "expected one of ann, bob, cat, got eve" in line


# Real models


def test_a_tiny_team(capsys: Screen, run: Path, model_folder: Path) -> None:
    """The examples are those of an evaluation, word for word; two copies are one team; twice the same is printed."""
    shutil.copytree(run, "runs/copy")
    found = as_json(capsys, "runs/a", "runs/copy", "--examples", "2")
    result, _ = evaluate_run(run, trust=True)
    assert found["team"]["return_percent"]["mean"] == result.return_percent
    assert found["team"]["cross_play"]["gap"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert sum(found["team"]["tokens"].values()) == pytest.approx(1.0, abs=1e-12)
    again = as_json(capsys, "runs/a", "runs/copy", "--examples", "2")
    assert again == found


def test_base_models_are_taken_apart_where_nothing_was_trained(capsys: Screen, run: Path, model_folder: Path) -> None:
    (run / "experiment.json").write_text(to_json(replace(experiment(model_folder), steps=0)))
    shutil.rmtree(run / "team")
    assert "On 2 held-out examples" in printed(capsys, "runs/a", "--examples", "2")[0]


def test_nothing_is_written_into_run_folders(capsys: Screen, run: Path, scripted: None) -> None:
    shutil.copytree(run, "runs/copy")

    def files() -> dict[Path, tuple[int, bytes]]:
        held = Path("runs").rglob("*")
        return {path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in held}

    before = files()
    printed(capsys, "runs/a", "runs/copy", "--examples", "2")
    assert files() == before and len(before) > 20


# Records that are not whole


def test_what_cannot_be_read_of_the_records_is_told_and_left_out(capsys: Screen, run: Path, scripted: None) -> None:
    lines = (run / "episodes.jsonl").read_text()
    odd = [episode(1, ann=float("nan")), {"step": 1, "reward": 1.0, "turns": [{"agent": "ann", "text": ""}]}, [7]]
    broken = "".join(json.dumps(record) + "\n" for record in odd)
    (run / "episodes.jsonl").write_text(lines + broken + '{"step": 2, "rew')
    write_lines(run / "steps.jsonl", [{"step": True, "reward": 1}, {"step": 1, "reward": "high"}, {"reward": 2}])
    (run / "evaluation.json").write_text('{"after": 7}')
    shown = printed(capsys, "runs/a", "--examples", "2")
    assert "Share of credit: ann 75 %, bob 25 %, cat 0 %" in shown
    for notice in (
        "episodes.jsonl: a step or an advantage is no number in 2 of 4 transcripts, first in line 3",
        "episodes.jsonl: line 5 is not a JSON object and is left out.",
        "episodes.jsonl: line 6 was cut off while it was written and is left out.",
        "steps.jsonl: line 3 names no step and is left out.",
        "evaluation.json: 'after' is not an evaluation and is left out.",
    ):
        assert any(line.startswith(notice) for line in shown), notice
    found = as_json(capsys, "runs/a", "--examples", "2")
    assert found["training"]["credit"] == {"ann": 0.75, "bob": 0.25, "cat": 0.0}


def test_a_run_without_records_is_still_taken_apart(capsys: Screen, run: Path, scripted: None) -> None:
    for name in ("steps.jsonl", "episodes.jsonl", "evaluation.json"):
        (run / name).unlink()
    shown = printed(capsys, "runs/a", "--examples", "2")
    assert "ann says nothing 100.0 [100.0, 100.0] 1" in shown and "episodes.jsonl is missing." in shown
    assert not any(line.startswith("Share of credit") for line in shown)


def test_hostile_names_reach_the_terminal_as_text(capsys: Screen, run: Path, scripted: None) -> None:
    write_lines(run / "episodes.jsonl", [episode(0, **{HOSTILE: 1.0})])
    write_lines(
        run / "steps.jsonl",
        [{"step": n, f"agent/{HOSTILE.replace('/', '')}/truncated_fraction": 1.0} for n in range(18)],
    )
    (run / "evaluation.json").write_text(json.dumps({HOSTILE: 7}))
    assert cli.run(["analyze", "runs/a", "--examples", "2", "--trust"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\u202e" not in shown
    assert "Share of credit: [/bold]\\x1b[2J\\u202e 100 %" in shown
    assert "notice: length drift (step 5): agent [bold]\\x1b[2J\\u202e: 100% of answers are cut off" in shown


# What is refused


def test_mistakes_are_one_line_before_any_model(
    capsys: Screen, run: Path, model_folder: Path, no_model: None, folder: Path
) -> None:
    going = make_run("going", experiment(model_folder), model_folder)
    shutil.rmtree(going / "team")
    make_run("other", replace(recipe("tldr"), topology=Sequential()), model_folder)
    make_run("parallel", replace(experiment(model_folder), topology=Parallel()), model_folder)
    make_run("one", experiment(model_folder, "relay.py:one_example"), model_folder)
    (folder / "runs/empty").mkdir()
    trusted = {
        "runs/none": "expected an experiment at runs/none, found none",
        "runs/empty": "expected an experiment at runs/empty/experiment.json, found none",
        "runs/a/experiment.json": "analyze: expected a run folder, got the file runs/a/experiment.json",
        "runs/a runs/../runs/a": "analyze: expected every run once, got one of them twice",
        "runs/going": "run runs/going: there is no saved team yet; finish it with: madrigal train runs/going --resume "
        "--trust",
        "runs/a runs/going": "run runs/going: there is no saved team yet",
        "runs/a runs/other": "analyze: runs/other cannot play with runs/a: task.path is not set there, relay.py:task "
        "here",
        "runs/a runs/parallel": "topology.kind is Parallel there, Sequential here",
        "runs/one": "task relay: expected at least 2 held-out examples to compare, got 1",
        "runs/a --examples 1": "--examples: expected at least 2, got 1",
        "runs/a --examples few": "argument --examples: invalid int value: 'few'",
        "runs/a --exampels 3": "unknown setting --exampels: did you mean --examples?",
    }
    for arguments, hint in trusted.items():
        assert hint in refused(capsys, "analyze", *arguments.split(), "--trust"), arguments
    assert "the following arguments are required: RUN" in refused(capsys, "analyze")
    assert "runs/a asks to import and run the code of relay.py:task" in refused(capsys, "analyze", "runs/a")


def test_a_team_without_a_seat_is_one_line(capsys: Screen, run: Path) -> None:
    shutil.rmtree(run / "team" / "cat")
    assert "expected a folder for agent cat, found none" in refused(capsys, "analyze", "runs/a", "--trust")


def test_a_prompt_that_is_too_long_for_any_team_is_one_line_before_anything_is_played(
    capsys: Screen, run: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run("wide", replace(experiment(model_folder), sampling=Sampling(max_new_tokens=510)), model_folder)
    monkeypatch.setattr(analyze, "analyze_team", lambda *_: pytest.fail("something was about to be played"))
    assert "example sun, agent ann: its prompt of " in refused(capsys, "analyze", "runs/a", "runs/wide", "--trust")


def test_a_normalized_return_that_is_no_number_is_one_line(capsys: Screen, run: Path, scripted: None) -> None:
    text = Path("relay.py").read_text()
    Path("relay.py").write_text(text + NAN)
    (run / "experiment.json").write_text(run.joinpath("experiment.json").read_text().replace(":task", ":nameless"))
    line = refused(capsys, "analyze", "runs/a", "--trust", "--json")
    assert "the metric 'return_percent' must be a finite number, got nan" in line


NAN = """
class Nameless(SingleRound):
    def step(self, state, actions):
        step = super().step(state, actions)
        value = float("nan") if "hm" in actions["cat"] else 0.0
        return type(step)(step.state, step.rewards, step.ending, {"return_percent": value})

nameless = Nameless("nameless", AGENTS, task.train, task.test, prompt, reward)
"""


def test_errors_cannot_move_the_cursor(capsys: Screen, run: Path, model_folder: Path) -> None:
    evil = experiment(model_folder, f"{HOSTILE}.py:task")
    (run / "experiment.json").write_text(to_json(evil))
    line = refused(capsys, "analyze", "runs/a")
    assert "\x1b" not in line and "\\x1b[2J\\u202e.py:task" in line


def test_roles_are_swapped_and_measured_where_a_run_has_them(
    capsys: Screen, folder: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is red sees to the house, and the other one to the garden."""
    run = replace(experiment(model_folder), task=Chores(), topology=Parallel(), roles=RolesConfig(("red", "blue")))
    make_run("chores", replace(run, team=replace(run.team, shared=True)), model_folder, "ann", "bob")
    said = {"red": "house", "blue": "garden"}
    speaks(monkeypatch, lambda policy, one: Completion(said[one.prompt[0].content.split()[0]], token_ids=(0,)))
    lines = printed(capsys, "runs/chores", "--examples", "8")
    assert "Role and behavior share 0.693 nats of 0.693, seat and behavior 0.000; by chance" in " ".join(lines)
    assert "Where roles are swapped the return loses 0.0 [0.0, 0.0] points (p 1)." in lines
    assert "Where all are red the return loses 100.0 [100.0, 100.0] points (p 0.00781)." in lines
    assert as_json(capsys, "runs/chores", "--examples", "8")["roles"]["specialization"] == pytest.approx(1.0)
