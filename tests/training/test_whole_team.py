"""A team as one folder answers as its run does, names what all can have, copies what they cannot, and is checked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from fakes.saved import AGENTS, saved_run
from madrigal import cli, load_team
from madrigal.config import read_experiment, to_json
from madrigal.policies.catalog import sha256_of
from madrigal.policies.team import places_of
from madrigal.runs.whole import check_whole, found
from madrigal.settings import EngineConfig, Lora, PolicyConfig, RecordsConfig, TeamConfig
from madrigal.types import ConfigError, EngineError

STARTER = PolicyConfig()
LORA = Lora(rank=2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """The whole team of a run with adapters on a model that only this machine has."""
    run = tmp_path_factory.mktemp("whole") / "run"
    saved_run(run, TeamConfig(policy=PolicyConfig(model=str(model_folder), lora=LORA), device="cpu"))
    return load_team(run).save(run.parent / "team")


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "elsewhere" / "team")


def team_of(kind: str, model: str) -> TeamConfig:
    policy = PolicyConfig(model=model, lora=LORA if kind == "lora" else Lora(rank=0))
    seats = {"bob": replace(policy, trainable=False)} if kind == "frozen" else {}
    rounds = 2 if kind == "rounds" else 1
    return TeamConfig(policy=policy, seats=seats, shared=kind == "shared", device="cpu", rounds=rounds)


@pytest.mark.parametrize("kind", ["full", "lora", "shared", "frozen", "rounds"])
def test_a_whole_team_answers_bit_for_bit_as_its_run(kind: str, model_folder: Path, tmp_path: Path) -> None:
    model = str(model_folder) if kind in ("lora", "frozen") else str(shutil.copytree(model_folder, tmp_path / "base"))
    saved_run(tmp_path / "run", team_of(kind, model))
    team = load_team(tmp_path / "run")
    expected = team.answer_many(["1 + 1?", "2 + 2?"], seed=3)
    folder = team.save(tmp_path / "team")
    shutil.rmtree(tmp_path / "run")  # nothing of it is needed any more, nor of a model that was trained whole
    shutil.rmtree(tmp_path / "base", ignore_errors=True)
    again = load_team(folder)
    assert again.answer_many(["1 + 1?", "2 + 2?"], seed=3) == expected
    assert len({answer.text for answer in expected}) == 2
    weights = {file.relative_to(folder).parts[:2] for file in folder.rglob("*.safetensors")}
    assert (
        weights
        == {
            "full": {("team", "ann"), ("team", "bob")},
            "lora": {("team", "ann"), ("team", "bob"), ("base", model_folder.name)},
            "shared": {("team", "ann")},
            "frozen": {("team", "ann"), ("base", model_folder.name)},
            "rounds": {("team", "ann"), ("team", "bob"), ("team", "ann_round2"), ("team", "bob_round2")},
        }[kind]
    )
    second = again.save(tmp_path / "second")  # from the folder, as from the run
    assert load_team(second).answer("1 + 1?", seed=3) == again.answer("1 + 1?", seed=3)


def test_a_seat_that_is_held_from_outside_is_pointed_to(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mate.py").write_text("def speak(messages, seed):\n    return f'{len(messages)} and {seed % 7}'\n")
    policy = PolicyConfig(model=str(model_folder), lora=LORA)
    mate = PolicyConfig(script=f"{tmp_path}/mate.py:speak", trainable=False)
    saved_run(tmp_path / "run", TeamConfig(policy=policy, seats={"bob": mate}, device="cpu"))
    team = load_team(tmp_path / "run", trust=True)
    folder, expected = team.save(tmp_path / "team"), team.answer("1 + 1?", seed=3)
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "mate.py").unlink()
    with pytest.raises(ConfigError, match=r"asks to import and run the code of .*mate\.py:speak"):
        load_team(folder)
    assert load_team(folder, trust=True).answer("1 + 1?", seed=3) == expected
    assert "mate.py:speak" in (folder / "README.md").read_text()


def test_a_base_that_everybody_has_is_named_and_not_copied(tmp_path: Path) -> None:
    seats = {"ann": replace(STARTER, lora=LORA), "bob": replace(STARTER, trainable=False)}
    saved_run(tmp_path / "run", TeamConfig(seats=seats, device="cpu"))
    folder = load_team(tmp_path / "run").save(tmp_path / "team")
    assert [file.name for file in folder.rglob("*.safetensors")] == ["adapter_model.safetensors"]
    assert json.loads((folder / "team" / "team.json").read_text())["seats"] == {
        "ann": {"policy": "ann", "folder": "ann"},
        "bob": {"policy": "bob", "base": "starter:small"},
    }
    adapter = json.loads((folder / "team/ann/adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == "starter:small"


def test_nothing_in_it_names_this_machine(whole: Path, model_folder: Path) -> None:
    texts = [file.read_text() for file in whole.rglob("*") if file.suffix in (".json", ".md")]
    assert not [text for text in texts if str(whole.parent) in text or str(model_folder) in text]


def test_servers_and_trackers_of_the_run_stay_behind(tmp_path: Path, model_folder: Path) -> None:
    policy = PolicyConfig(model=str(model_folder))
    run = saved_run(tmp_path / "run", TeamConfig(policy=policy, device="cpu"))
    served = replace(policy, engine=EngineConfig("server", "http://127.0.0.1:8000"))
    changed = replace(run, team=replace(run.team, policy=served), records=RecordsConfig(trackers=("wandb",)))
    (tmp_path / "run" / "experiment.json").write_text(to_json(changed))
    kept = read_experiment(load_team(tmp_path / "run").save(tmp_path / "team"))
    assert kept.team.servers == () and kept.records.trackers == ()


def test_the_card_says_what_it_came_to(whole: Path) -> None:
    card, prompts = (whole / "README.md").read_text(), (whole / "prompts.md").read_text()
    assert card.startswith('---\nlicense: "other"\nlibrary_name: "madrigal"\n')
    assert "| return, % of the best | 12.5 \\[5.0, 20.0\\] | 50.2 \\[40.0, 60.0\\] |" in card
    assert "| accuracy, % | 25.0 \\[10.0, 40.0\\] |" in card and "on 8 held-out examples" in card
    assert "| LoRA rank | 2 |" in card and "unknown to us" in card and "torch 2" in card and "## Limits" in card
    assert '"kind": "Parallel"' in prompts and "## 2. bob, round 1" in prompts and "{the question}" in prompts
    (whole / "README.md").write_text(card + "One more word.\n")  # the hub lets people edit it
    check_whole(whole)


@pytest.mark.parametrize("command", [["ask", "1 + 1?"], ["play", "--json"], ["evaluate", "--json"], ["report"]])
def test_commands_take_it_as_a_run(command: list[str], copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = copied / "numbers.jsonl"
    data.write_text("".join(json.dumps({"question": f"{n}?", "answer": "2"}) + "\n" for n in range(4)))
    assert cli.run([command[0], str(copied), *command[1:]]) == 0, capsys.readouterr().err


def cut(folder: Path) -> None:
    file = folder / "team" / "ann" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (cut, "team/ann/adapter_model.safetensors is missing, truncated or changed"),
    "gone": (lambda folder: shutil.rmtree(folder / "team" / "bob"), "team/bob/.* is missing"),
    "no base": (lambda folder: shutil.rmtree(folder / "base"), "base/.* is missing"),
    "pickle": (lambda folder: (folder / "team/ann/pytorch_model.bin").touch(), "pytorch_model.bin is not in its"),
    "other": (lambda folder: (folder / "manifest.json").write_text("{}"), "expected a manifest.json of a team"),
    "text": (lambda folder: (folder / "manifest.json").write_text("no"), "expected JSON"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_one_line(damage: str, copied: Path, no_model: None) -> None:
    break_it, line = DAMAGES[damage]
    break_it(copied)
    with pytest.raises(ConfigError, match=line):
        load_team(copied)


def test_weights_that_unpickle_are_refused_even_if_the_manifest_names_them(copied: Path, no_model: None) -> None:
    (copied / "team" / "ann" / "adapter_model.bin").write_bytes(b"cos\nsystem\n")
    record = json.loads((copied / "manifest.json").read_text())
    record["files"]["team/ann/adapter_model.bin"] = sha256_of(copied / "team/ann/adapter_model.bin")
    (copied / "manifest.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"adapter_model.bin is of no kind that is read here"):
        load_team(copied)


@pytest.mark.parametrize("folder", ["../../run/team/ann", "..", "a/b"])
def test_no_seat_points_out_of_the_folder(folder: str, tmp_path: Path) -> None:
    (tmp_path / "team.json").write_text(json.dumps({"seats": {"ann": {"policy": "ann", "folder": folder}}}))
    with pytest.raises(EngineError, match="expected ann to have a folder in it"):
        places_of(tmp_path)


def test_what_is_no_team_is_not_overwritten(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is no team that was saved as a whole"):
        load_team(whole).save(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


OWN = """
from madrigal import Example, SingleRound
x, y = Example("x", {"q": "1"}), Example("y", {"q": "2"})
task = SingleRound("words", ("ann", "bob"), (x,), (y,), lambda example, agent: "?", lambda example, said: 0.0)
"""


def test_an_own_task_comes_along_and_runs_only_if_it_is_trusted(empty_folder: Path, model_folder: Path) -> None:
    (empty_folder / "words.py").write_text(OWN)
    team = TeamConfig(policy=PolicyConfig(model=str(model_folder)), device="cpu")
    saved_run(empty_folder / "run", team, str(empty_folder / "words.py:task"))
    folder = load_team(empty_folder / "run", trust=True).save(empty_folder / "team")
    assert (folder / "files" / "words.py").read_text() == OWN
    (empty_folder / "words.py").write_text("raise SystemExit('not this one')")
    with pytest.raises(ConfigError, match=r"asks to import and run the code of .*files/words\.py:task"):
        load_team(folder)
    assert set(load_team(folder, trust=True).answer({"q": "1"}).answers) == set(AGENTS)


def test_export_writes_it_and_says_where(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["export", str(whole), "--whole", "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}\n" and found(tmp_path / "out") == tmp_path / "out"
    saved, given = (load_file(folder / "team/ann/adapter_model.safetensors") for folder in (tmp_path / "out", whole))
    assert all((saved[name] == given[name]).all() for name in given)
    for flags in (["--public"], ["--dtype", "float16"], ["--gguf", "--push", "a/b"], ["--push", "../x"]):
        assert cli.run(["export", str(whole), *flags]) == 2
