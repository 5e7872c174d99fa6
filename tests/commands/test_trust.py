"""What a file may not do in silence: import somebody's code, or switch off the sandbox."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from madrigal import api, cli
from madrigal.commands import train as commands
from madrigal.config import to_json
from madrigal.evaluation.evaluate import Evaluation
from madrigal.recipes import recipe
from madrigal.recipes.embedded import elsewhere, own
from madrigal.recipes.trust import resumed_by, risks, with_trust_flag
from madrigal.rollouts.task import SingleRound
from madrigal.settings import EngineConfig, PolicyConfig, RemoteConfig
from madrigal.tasks.coding.config import Coding, ExpertConfig
from madrigal.tasks.data import Source
from madrigal.tasks.discussion.debate import Debate
from madrigal.tasks.discussion.verifier.config import VerifierConfig
from madrigal.tasks.editing.task import Edit
from madrigal.tasks.elsewhere import Elsewhere
from madrigal.tasks.office.task import Office
from madrigal.tasks.own import CustomTask
from madrigal.tasks.project.task import Project
from madrigal.tasks.tools.config import ToolsConfig
from madrigal.types import ConfigError, Example, MadrigalError

TASK = """
from pathlib import Path
Path("imported").write_text("yes")
from madrigal.rollouts.task import SingleRound
from madrigal.types import Example
x, y = Example("x", {}), Example("y", {})
task = SingleRound("words", ("ann",), (x,), (y,), lambda example, agent: "?", lambda example, said: 0.0)
"""
CODE = "asks to import and run the code of mine.py:task; look at it first, and allow it with --trust"
SANDBOX = "asks to switch off the sandbox around code that models write (task.unconfined); look at it first"


@pytest.fixture(autouse=True)
def folder(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder with an own task, a run of it, and a run without a sandbox; no run goes further than its task."""
    monkeypatch.setattr(commands, "_train", lambda task, run, place, **options: 0)
    monkeypatch.setattr(commands, "check_trackers", lambda names: None)
    Path("mine.py").write_text(TASK)
    coding = recipe("coding")
    assert isinstance(coding.task, Coding)
    bare = replace(coding, task=replace(coding.task, unconfined=True))
    for name, run in {"mine": own("mine.py:task"), "other": own("other.py:task"), "bare": bare}.items():
        (Path("runs") / name / "team").mkdir(parents=True)
        (Path("runs") / name / "experiment.json").write_text(to_json(run))


@pytest.mark.parametrize(
    ("arguments", "wish"),
    [
        ("train runs/mine", f"runs/mine {CODE}"),
        ("train runs/mine/experiment.json --steps 3", f"runs/mine/experiment.json {CODE}"),
        ("train runs/mine --resume", f"runs/mine {CODE}"),
        ("evaluate runs/mine", f"runs/mine {CODE}"),
        ("engine serve runs/mine --print", f"runs/mine {CODE}"),
        ("train runs/bare", f"runs/bare {SANDBOX}"),
        ("train coding --resume --name bare", f"runs/bare {SANDBOX}"),
        ("evaluate runs/bare", f"runs/bare {SANDBOX}"),
        ("train mine.py:task --resume --name other", "runs/other asks to import and run the code of other.py:task"),
    ],
)
def test_a_file_alone_runs_no_code_and_opens_no_sandbox(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: str, wish: str
) -> None:
    monkeypatch.setattr("madrigal.tasks.coding.task.Sandbox", lambda *_, **__: pytest.fail("a sandbox was opened"))
    assert cli.run(arguments.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"madrigal: error: {wish}") and err.count("\n") == 1
    assert not Path("imported").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        "train runs/mine --trust",
        "train runs/mine --resume --trust",
        "train mine.py:task",
        "train mine.py:task --resume",
        "train runs/other --task.path mine.py:task",
        "train mine.py:task --resume --name other --trust --task.path=mine.py:task",
    ],
)
def test_who_names_the_task_or_trusts_the_file_gets_it(arguments: str) -> None:
    assert cli.run(arguments.split()) == 0
    assert Path("imported").exists()


def test_a_trusted_file_may_go_without_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    class Fake:
        def __init__(self, *_: object, allow_unconfined: bool, **__: object) -> None:
            asked.append(allow_unconfined)

        def __enter__(self) -> Fake:
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr("madrigal.tasks.coding.task.Sandbox", Fake)
    for arguments in ("runs/bare --trust", "runs/bare --task.unconfined", "runs/bare --task.no-unconfined", "coding"):
        assert cli.run(["train", *arguments.split()]) == 0
    assert asked == [True, True, False, False]


def test_evaluation_of_a_trusted_run_goes_on_to_its_team(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted: list[bool] = []

    def evaluate(folder: Path, watch: object, *, trust: bool, step: int | None) -> tuple[Evaluation, list[object]]:
        trusted.append(trust)
        raise ConfigError("far enough")

    monkeypatch.setattr("madrigal.training.held_out.evaluate_run", evaluate)
    assert cli.run(["evaluate", "runs/mine", "--trust"]) == cli.run(["evaluate", "runs/mine"]) == 2
    assert trusted == [True, False]
    assert "far enough" in capsys.readouterr().err


EXPERT = ExpertConfig("http://elsewhere/v1", "m", "BANK_API_KEY")
SENT = "send the key in BANK_API_KEY and what the team writes to http://elsewhere/v1"


def test_a_file_alone_sends_nothing_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    coding, debate = recipe("coding"), recipe("debate")
    assert isinstance(coding.task, Coding) and isinstance(debate.task, Debate)
    advised = replace(coding, task=replace(coding.task, turns=2, feedback="expert_edits", expert=EXPERT))
    judged = replace(debate, task=replace(debate.task, verifier=VerifierConfig("http", url="http://127.0.0.1:1")))
    tracked = replace(coding, records=replace(coding.records, trackers=("tensorboard", "wandb")))
    both = replace(advised, task=replace(advised.task, unconfined=True))
    for name, run in {"advised": advised, "judged": judged, "tracked": tracked, "both": both}.items():
        Path(f"{name}.json").write_text(to_json(run))
        (Path("runs") / name).mkdir(parents=True)
        (Path("runs") / name / "experiment.json").write_text(to_json(run))
    for arguments, wish in {
        "train advised.json": SENT,
        "train advised.json --task.expert.model n": SENT,
        "train both.json --task.unconfined": SENT,
        "evaluate runs/advised": SENT,
        "play advised.json": SENT,
        "play runs/advised": SENT,
        "analyze runs/advised": SENT,
        "compare advised.json": SENT,
        "train judged.json": "send questions and answers to http://127.0.0.1:1",
        "train tracked.json": "send settings, numbers and transcripts to wandb;",
        "train tracked --resume": "send settings, numbers and transcripts to wandb;",
    }.items():
        assert cli.run(arguments.split()) == 2
        assert f"asks to {wish}" in capsys.readouterr().err, arguments
    assert with_trust_flag("again", tracked) == "again --trust"
    assert with_trust_flag("again", tracked, "play") == "again", "only training tracks"


def test_a_team_that_a_program_plays_goes_on_with_that_program() -> None:
    again = resumed_by(Path("runs/mine"), elsewhere("gateway", Elsewhere()))
    assert again.startswith("madrigal gateway --experiment runs/mine --resume, or madrigal.train_rollouts(")


def test_the_file_of_a_team_that_a_program_plays_sends_nothing_in_silence() -> None:
    remote = RemoteConfig("http://10.0.0.1:1/v1", "m", key_variable="AWS_SECRET")
    run = elsewhere("gateway", Elsewhere(agents=("ann", "bob"), source=Source.of([{"n": 1}, {"n": 2}])))
    run = replace(run, team=replace(run.team, seats={"bob": PolicyConfig(remote=remote)}))
    Path("runs/mine/experiment.json").write_text(to_json(run))
    rows, wish = [{"n": 1}, {"n": 2}], "asks to send prompts and the key in AWS_SECRET to http://10.0.0.1:1/v1"
    with pytest.raises(ConfigError, match=wish):
        api.train_rollouts(lambda example, client: 0.0, rows, "runs/mine", resume=True)
    with pytest.raises(ConfigError, match=wish):
        api.evaluate_rollouts(lambda example, client: 0.0, "runs/mine", rows)
    assert resumed_by(Path("runs/mine"), run).endswith("'runs/mine', resume=True, trust=True)")
    Path("runs/mine/evaluation.json").touch()
    told = dict(commands._files(run, Path("runs/mine")))
    assert told["runs/mine/experiment.json"].endswith("madrigal gateway --experiment runs/mine --trust")
    assert told["runs/mine/evaluation.json"].endswith("evaluate_rollouts(rollout, 'runs/mine', trust=True)")


def test_a_task_that_is_handed_over_is_trusted_and_the_rest_of_the_file_is_not() -> None:
    remote = RemoteConfig("http://10.0.0.1:1/v1", "m", key_variable="AWS_SECRET")
    run = own("mine.py:task")
    task = SingleRound(
        "words",
        ("ann",),
        (Example("x", {}),),
        (Example("y", {}),),
        lambda example, agent: "?",
        lambda example, said: 0.0,
    )
    for seats, wish in {
        "": "expected a folder for agent ann",
        "ann": "asks to send prompts and the key in AWS_SECRET",
    }.items():
        given = replace(run.team, seats={seats: PolicyConfig(remote=remote)} if seats else {})
        Path("runs/mine/experiment.json").write_text(to_json(replace(run, team=given)))
        with pytest.raises(MadrigalError, match=wish):
            api.load_team("runs/mine", task=task)
        with pytest.raises(MadrigalError, match=wish):
            api.evaluate("runs/mine", task=task)


@pytest.mark.parametrize(
    "settings",
    [
        "coding --task.turns 2 --task.feedback expert_edits --task.expert.model m",
        "tldr --records.trackers wandb",
        "runs/tracked --records.trackers wandb",
    ],
)
def test_what_is_typed_is_not_asked_for_by_a_file(settings: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tldr = recipe("tldr")
    Path("runs/tracked").mkdir()
    Path("runs/tracked/experiment.json").write_text(
        to_json(replace(tldr, records=replace(tldr.records, trackers=("trackio",))))
    )
    monkeypatch.setattr("madrigal.training.checks.open_checked_task", lambda run: nullcontext())
    assert cli.run(["train", *settings.split()]) == 0


def test_a_file_sends_nothing_to_a_server_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prompts, weights and the key of whatever variable it names; of any seat, unless the address was typed."""
    run, engine = recipe("tldr"), EngineConfig("server", url="http://10.0.0.1:1", key_variable="AWS_SECRET")
    seats = {"concise": replace(run.team.policy, engine=engine)}
    for team in (replace(run.team, policy=seats["concise"]), replace(run.team, seats=seats)):
        (tmp_path / "served.json").write_text(to_json(replace(run, team=team)))
        assert cli.run(["train", f"{tmp_path}/served.json"]) == 2
        said = capsys.readouterr().err
        assert "asks to send prompts, weights and the key in AWS_SECRET to http://10.0.0.1:1" in said
        assert with_trust_flag("again", replace(run, team=team), "play") == "again --trust"
    monkeypatch.setattr("madrigal.training.checks.open_checked_task", lambda run: nullcontext())
    assert cli.run(["train", f"{tmp_path}/served.json", "--team.policy.engine.url", "http://10.0.0.1:1"]) == 0
    assert cli.run(["train", "tldr", "--engine", "server", "--team.policy.engine.url", "http://127.0.0.1:1"]) == 0
    assert cli.run(["train", "tldr", "--engine", "server"]) == 2
    assert "engine.url: expected the address of a server" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tldr", "gsm8k", "coding", "ledger"])
def test_tasks_of_the_library_need_no_trust(name: str) -> None:
    run = recipe(name)
    assert risks(run) == "" and with_trust_flag("madrigal evaluate x", run) == "madrigal evaluate x"
    own = replace(run, task=CustomTask("a.py:b"))
    assert with_trust_flag("madrigal evaluate x", own) == "madrigal evaluate x --trust"


@pytest.mark.parametrize("make", [Coding, Edit, Office, Project])
def test_a_task_without_its_sandbox_needs_trust(make: Any) -> None:
    run = replace(recipe("tldr"), task=make(unconfined=True))
    assert "switch off the sandbox" in risks(run, "ask") and not risks(replace(run, task=make()))


@pytest.mark.parametrize(
    ("tools", "wish", "typed"),
    [
        (ToolsConfig(path="shop.py:tools"), "import and run the code of shop.py:tools", "--tools.path"),
        (ToolsConfig(mcp=("python a.py", "b")), "run python a.py and b", "--tools.mcp"),
    ],
)
def test_tools_of_others_need_trust_even_to_be_asked(tools: ToolsConfig, wish: str, typed: str) -> None:
    run = replace(recipe("tldr"), tools=tools)
    assert risks(run, "ask") == wish and risks(run, typed={typed}) == ""
