"""Whole runs of a tiny team that debates: what is learned where and written down; and the commands for verifiers."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fakes.runs import tiny_run, trained
from fakes.synthetic import write_lines
from madrigal import cli
from madrigal.algorithms.maporl import Maporl
from madrigal.config import Experiment
from madrigal.runs.log import read_lines
from madrigal.settings import EvaluationConfig, Lora, OptimizerConfig, PolicyConfig, Sampling, TeamConfig
from madrigal.tasks.data import Source
from madrigal.tasks.discussion.debate import Debate, DebateTask
from madrigal.tasks.discussion.verifier import Question, Scores, service
from madrigal.tasks.discussion.verifier.config import VerifierConfig
from madrigal.tasks.discussion.verifier.service import Served, open_verifier
from madrigal.training.held_out import evaluate_run
from madrigal.training.train import train_experiment
from madrigal.types import ConfigError, EngineError
from madrigal.verifier.data import Row, write_rows
from madrigal.verifier.model import load_verifier, new_verifier
from madrigal.verifier.settings import Body

LORA = Lora(4)


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten sums, short enough for the tiny model's context; the last two are for testing."""
    file = tmp_path_factory.mktemp("data") / "sums.jsonl"
    rows = [{"id": f"q{n}", "question": f"{n}+1?", "answer": f"{n}+1={n + 1}.\n#### {n + 1}"} for n in range(10)]
    write_lines(file, rows)
    return file


@pytest.fixture
def run(model_folder: Path, questions: Path) -> Experiment:
    return tiny_run(
        model_folder,
        Debate(Source(str(questions)), rounds=2, recall=1),
        Maporl(epochs=2, minibatches=2, alpha1=1.0, beta1=1.0),
        recipe="debate",
        team=TeamConfig(policy=PolicyConfig(model=str(model_folder), lora=LORA), rounds=2, device="cpu"),
        sampling=Sampling(max_new_tokens=6),
        optimizer=OptimizerConfig(lr=1e-3),
        evaluation=EvaluationConfig(examples=2, timed_examples=0),
    )


def moved(team: Path) -> dict[str, bool]:
    """Which saved adapters differ from their first weights: a fresh adapter adds nothing."""
    files = team.glob("*/adapter_model.safetensors")
    return {
        file.parent.name: any(bool(value.any()) for name, value in load_file(file).items() if "lora_B" in name)
        for file in files
    }


def test_every_round_has_a_policy_and_a_critic_that_learn(run: Experiment, tmp_path: Path) -> None:
    folder = trained(run, tmp_path / "run")
    seats = ("first", "second", "first_round2", "second_round2")
    assert moved(folder / "team") == dict.fromkeys(seats, True)
    steps = read_lines(folder / "steps.jsonl")
    for seat in seats:
        for step in steps:
            assert step[f"update/{seat}/logprob_mismatch"] < 1e-4
            assert step[f"update/critic-{seat}/loss"] > 0
            assert step[f"update/{seat}/sequences"] == 1  # two debates dealt out to two mini-batches
    for name in ("accuracy_1", "accuracy_2", "majority_2", "delta0", "delta1", "flawed"):
        assert f"component/{name}" in steps[0]
    result, _ = evaluate_run(folder)
    after = json.loads((folder / "evaluation.json").read_text())["after"]
    assert result.components == after["components"] and "accuracy_2" in result.components


def test_rebuttals_only(run: Experiment, tmp_path: Path) -> None:
    only = replace(run, algorithm=Maporl(first_round=1, epochs=1, minibatches=1, kl=0.0), steps=1)
    assert moved(trained(only, tmp_path / "run") / "team") == {
        "first": False,
        "second": False,
        "first_round2": True,
        "second_round2": True,
    }


def test_one_agent_alone(run: Experiment, model_folder: Path, tmp_path: Path) -> None:
    """The partner is frozen: it debates, and does not learn."""
    frozen = {"second": PolicyConfig(model=str(model_folder), lora=LORA, trainable=False)}
    alone = replace(run, team=replace(run.team, seats=frozen), steps=1)
    folder = trained(alone, tmp_path / "run")
    assert moved(folder / "team") == {"first": True, "first_round2": True, "second": False}
    assert not [key for key in read_lines(folder / "steps.jsonl")[0] if key.startswith("update/second")]


# A learned verifier in a process of its own


@pytest.fixture(scope="module")
def verifier_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = new_verifier(Body(str(model_folder), rank=2), torch.device("cpu"))
    with torch.no_grad():
        made.critic.head.weight += 0.1
    folder = tmp_path_factory.mktemp("verifiers") / "v"
    made.save(folder)
    return folder


def test_a_learned_verifier_scores_in_this_process(run: Experiment, verifier_folder: Path, tmp_path: Path) -> None:
    """A task that is handed one pays what it says, without any server."""
    verifier = load_verifier(verifier_folder, torch.device("cpu"))
    assert isinstance(run.task, Debate)
    task = DebateTask(run.task, verifier)
    asked = {example.id: Question(example.data["question"]) for example in task.examples("train")}
    assert train_experiment(replace(run, steps=1), tmp_path, task=task)
    (one, *_) = (line for line in read_lines(tmp_path / "episodes.jsonl") if "evaluation" not in line)
    for turn in one["turns"]:
        (score,) = verifier(asked[one["example"]], [turn["text"]])
        assert turn["reward"] == pytest.approx(score, abs=1e-6) and score not in (0.0, 1.0)


@pytest.mark.slow
def test_a_learned_verifier_is_served_and_ends_with_its_task(verifier_folder: Path) -> None:
    asked, answers = Question("1+1?"), ["1+1=2.", "the cat"]
    with open_verifier(VerifierConfig("learned", model=str(verifier_folder))) as verifier:
        scores = verifier(asked, answers)
    assert scores == pytest.approx(load_verifier(verifier_folder, torch.device("cpu"))(asked, answers), abs=1e-6)
    assert isinstance(verifier, service.HttpVerifier)
    with pytest.raises(Exception, match="could not be asked"):
        replace(verifier, pause=lambda seconds: None)(asked, answers)


SERVES = """
import json, sys
print(json.dumps({"url": "http://127.0.0.1:1"}), flush=True)
sys.stdin.read()
open(sys.argv[1] + "/ended", "w").close()
"""
FAILS = "import sys; print('reading', 'madrigal: error: the disk is gone', sep='\\n', file=sys.stderr); sys.exit(2)"


def test_the_server_ends_when_its_input_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SERVE", ("-c", SERVES))
    with closing(Served(tmp_path)) as served:
        assert served.url == "http://127.0.0.1:1" and not (tmp_path / "ended").exists()
    assert (tmp_path / "ended").exists()


SCORES = """
import json, os, sys
from http.server import BaseHTTPRequestHandler as Handler, HTTPServer

class Scores(Handler):
    def do_POST(self):
        if not os.path.exists(sys.argv[1] + "/once"):
            open(sys.argv[1] + "/once", "w").close()
            os.kill(os.getpid(), 9)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"scores": [0.5]}')

    log_message = lambda *_: None

server = HTTPServer(("127.0.0.1", int(sys.argv[3])), Scores)
print(json.dumps({"url": f"http://127.0.0.1:{server.server_port}"}), flush=True)
server.serve_forever()
"""


def test_a_server_that_was_killed_is_started_anew_at_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SERVE", ("-c", SCORES))
    monkeypatch.setattr(service, "STOP_SECONDS", 0.0)
    with open_verifier(VerifierConfig("learned", model=str(tmp_path))) as verifier:
        scores = verifier(Question("?"), ["yes"])
    assert isinstance(scores, Scores) and scores == (0.5,)
    assert scores.failed_tries in (1, 2), "at the first try after its end it may still be ending"


@pytest.mark.parametrize(
    ("program", "why"),
    [(FAILS, "the disk is gone"), ("print('hello')", "it said 'hello'"), ("print([])", r"it said '\[\]'")],
)
def test_a_server_that_does_not_start_says_why(
    program: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SERVE", ("-c", program))
    with pytest.raises(EngineError, match=f"the server did not start: {why}"):
        Served(tmp_path)
    with pytest.raises(ConfigError, match="found none"), open_verifier(VerifierConfig("learned", model="nowhere")):
        pass


# madrigal verifier


def run_cli(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = cli.run(["verifier", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_train_and_check(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Row(f"q{n}", f"{n}?", f"the cat {n}", n % 2 == 0) for n in range(8)]
    write_rows(rows, tmp_path / "train.jsonl")
    write_rows([replace(row, question=f"not {row.question}") for row in rows], tmp_path / "held.jsonl")
    made = tmp_path / "v"
    code, said = run_cli(
        capsys, "train", tmp_path / "train.jsonl", "--output", made, "--held-out", tmp_path / "held.jsonl",
        "--body.model", model_folder, "--body.rank", 2, "--device", "cpu",
    )  # fmt: skip
    assert code == 0 and "1 steps, loss 0.693" in said and "8 answers, 50.0 % right" in said
    code, said = run_cli(
        capsys, "check", made, "--data", tmp_path / "held.jsonl", "--json", "--bins", 4, "--device", "cpu"
    )
    found = json.loads(said)
    assert code == 0 and len(found["bins"]) == 4 and found["answers"] == 8 and 0 <= found["ece"] <= 1
    assert {one["score"] is None for one in found["bins"]} == {True, False}
    code, said = run_cli(capsys, "train", tmp_path / "train.jsonl", "--held-out", tmp_path / "train.jsonl")
    assert code == 2 and said.startswith("madrigal: error: verifier: 8 held-out questions are in the training data too")


def test_data_of_a_model_that_knows_nothing(
    model_folder: Path, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes on from what it is given, and babbles otherwise; whatever it says is filed by its result."""
    code, said = run_cli(
        capsys, "data", tmp_path / "rows.jsonl", "--model", model_folder, "--task.source.data", questions,
        "--gather.samples", 2, "--gather.each", 1, "--gather.tries", 6, "--gather.aid", "beginning",
        "--max-new-tokens", 4, "--device", "cpu",
    )  # fmt: skip
    if code == 0:
        rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
        assert sum(row["right"] for row in rows) == len(rows) / 2
        assert f"{len(rows)} answers, half of them right" in said
    else:
        assert "no question got both right and wrong answers" in said


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["tain"], "verifier: expected one of data, train, check, serve, got 'tain'"),
        (["train", "x.jsonl", "--training.rate", "1"], "unknown setting --training.rate"),
        (["train", "nowhere.jsonl"], "nowhere.jsonl: expected a file, found none"),
        (["check", "nowhere", "--data", "x.jsonl"], "expected the verifier.json of a learned verifier"),
        (["serve", "nowhere"], "expected the verifier.json of a learned verifier"),
        (["data"], "Missing from madrigal verifier data: PATH where the answers go"),
    ],
)
def test_mistakes_are_one_line(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run_cli(capsys, *words)
    assert code == 2 and said.startswith("madrigal: error: ") and said.count("\n") == 1
    assert complaint.lower() in said.lower()


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(capsys, "--help")[0] == 0
    with pytest.raises(SystemExit):
        cli.run(["verifier", "data", "--help"])
    shown: Any = " ".join(capsys.readouterr().out.split())
    assert "--gather.samples" in shown and "--task.source.data" in shown
