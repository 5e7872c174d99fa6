"""madrigal engine serve: what it would start, and what it refuses."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from madrigal import cli
from madrigal.commands import engine as commands
from madrigal.config import to_json
from madrigal.recipes import recipe
from madrigal.settings import Lora


def flags_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, str], dict[str, str]]:
    """Environment and flags of the command that would be run."""
    assert cli.run(["engine", "serve", *arguments, "--print"]) == 0
    words = capsys.readouterr().out.split()
    environment = dict(word.split("=", 1) for word in words if word.startswith("VLLM_"))
    flags = {word: following for word, following in zip(words, [*words[1:], ""], strict=True) if word.startswith("--")}
    return environment, flags


def test_a_recipe_is_served_on_this_machine_with_an_adapter_for_each_agent(capsys: pytest.CaptureFixture[str]) -> None:
    environment, flags = flags_of(capsys, "tldr", "--rank", "12", "--port", "8111", "--dtype", "float32")
    assert (flags["--host"], flags["--port"], flags["--served-model-name"]) == ("127.0.0.1", "8111", "starter:small")
    assert (flags["--max-loras"], flags["--max-cpu-loras"], flags["--max-lora-rank"]) == ("2", "4", "16")
    assert (flags["--logprobs-mode"], flags["--generation-config"]) == ("processed_logprobs", "vllm")
    assert environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1" and "VLLM_SERVER_DEV_MODE" not in environment


def test_development_endpoints_are_on_for_whole_weights_alone(capsys: pytest.CaptureFixture[str]) -> None:
    environment, flags = flags_of(capsys, "starter:small", "--whole")
    assert environment["VLLM_SERVER_DEV_MODE"] == "1" and "--enable-lora" not in flags
    assert flags["--worker-extension-cls"] == "madrigal.policies.engines.vllm.WeightLoading"


def test_a_seat_of_its_own_is_served_by_its_own_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = recipe("tldr")
    other = replace(run.team.policy, model="starter:large", lora=Lora(rank=4))
    file = tmp_path / "run.json"
    file.write_text(to_json(replace(run, team=replace(run.team, seats={"concise": other}))))
    _, flags = flags_of(capsys, str(file), "--seat", "concise")
    assert (flags["--served-model-name"], flags["--max-loras"]) == ("starter:large", "1")
    _, flags = flags_of(capsys, str(file), "--rank", "4")
    assert (flags["--served-model-name"], flags["--max-loras"]) == ("starter:small", "1")


def test_the_key_goes_from_its_variable_to_the_server_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[Any] = []
    monkeypatch.setenv("MADRIGAL_ENGINE_KEY", "geheim-4711")
    monkeypatch.setattr("madrigal.policies.engines.vllm.check_vllm", lambda where: "0.32.0")
    monkeypatch.setattr(os, "execve", lambda *started: ran.append(started))
    commands.engine_command(["serve", "tldr"])
    ((_, command, environment),) = ran
    assert environment["VLLM_API_KEY"] == "geheim-4711" and "geheim-4711" not in " ".join(command)
    commands.engine_command(["serve", "tldr", "--print"])
    assert "geheim" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("start tldr", "engine: expected serve, got 'start'"),
        ("serve", "the following arguments are required: RECIPE|RUN|MODEL"),
        ("serve tldr --seat concise", "this seat has the policy of all others; leave it out"),
        ("serve tldr --rank 999", "lora.rank: vLLM takes adapters of rank 512 at most, got 999"),
        ("serve tldr --cache-gb 0", "engine.cache_gb: expected a positive number, got 0.0"),
        ("serve divide.py:task", "engine serve: divide.py:task is no model; of an own task give a run folder"),
        ("serve ./nowhere", "expected a folder with a saved model at ./nowhere, found none"),
        ("serve tldr --gpu 1", "unknown setting --gpu"),
    ],
)
def test_bad_input_is_one_line(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["engine", *arguments.split(), *(["--print"] if "serve" in arguments else [])]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_without_vllm_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(package: str) -> str:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr("madrigal.policies.engines.vllm.metadata.version", missing)
    assert cli.run(["engine", "serve", "tldr"]) == 2
    assert "engine serve: vLLM is not installed; pip install vllm" in capsys.readouterr().err
