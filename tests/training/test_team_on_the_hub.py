"""A team on the hub: what is pushed is what is loaded again, and the token goes nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from fakes.hub import Hub, open_hub
from fakes.saved import saved_run
from madrigal import cli, load_team
from madrigal.policies.hub import is_hub_name
from madrigal.settings import Lora, PolicyConfig, TeamConfig
from madrigal.types import ConfigError, EngineError

TOKEN = "hf_secretsecretsecret"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.chdir(tmp_path)
    with open_hub(TOKEN) as opened:
        monkeypatch.setenv("HF_ENDPOINT", opened.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        yield opened


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "run"
    saved_run(folder, TeamConfig(policy=PolicyConfig(lora=Lora(rank=2)), device="cpu"))
    return folder


def test_what_is_pushed_is_what_is_loaded(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    team = load_team(run)
    assert team.push("ann/sums") == f"{hub.address}/ann/sums"
    assert hub.private == {"ann/sums": True}
    card = hub.files["ann/sums"]["README.md"].decode()
    assert 'load_team("ann/sums")' in card and TOKEN not in json.dumps([*map(str, hub.files["ann/sums"].values())])
    again = load_team("ann/sums")
    assert again.answer("1 + 1?", seed=2) == team.answer("1 + 1?", seed=2)
    hub.seen.clear()
    assert cli.run(["ask", "ann/sums", "1 + 1?", "--seed", "2"]) == 0
    said = capsys.readouterr()
    assert team.answer("1 + 1?", seed=2).answers["ann"].strip() in said.out and TOKEN not in said.out + said.err
    assert not [path for method, path, _ in hub.seen if path.endswith(".safetensors") and method == "GET"]  # kept


def test_the_command_pushes_and_may_say_public(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["export", str(run), "--push", "ann/open", "--public"]) == 0
    assert capsys.readouterr().out == f"{hub.address}/ann/open\n" and hub.private == {"ann/open": False}


def test_what_goes_wrong_is_one_line_without_the_token(
    hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.files["ann/model"] = {"config.json": b"{}", "model.safetensors": b"no"}
    hub.files["ann/other"] = {"manifest.json": b"{}"}
    with pytest.raises(EngineError, match="ann/model could not be had from the hub"):
        load_team("ann/model")
    with pytest.raises(ConfigError, match=r"expected a manifest\.json of a team"):
        load_team("ann/other")
    with pytest.raises(EngineError, match="ann/none could not be had"):
        load_team("ann/none")
    assert not [path for _, path, _ in hub.seen if path.endswith(".safetensors")]
    monkeypatch.setenv("HF_TOKEN", wrong := "hf_wrongwrongwrong")
    assert cli.run(["export", str(run), "--push", "ann/sums"]) == 2
    error = capsys.readouterr().err
    assert "could not be pushed to ann/sums" in error and error.count("\n") == 1 and wrong not in error
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", "/nowhere")
    with pytest.raises(ConfigError, match="set HF_TOKEN or run: hf auth login"):
        load_team(run).push("ann/sums")
    for name in ("sums", "a/b/c", "../sums", "ann/sums@main"):
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        with pytest.raises(ConfigError, match="expected a name like owner/name"):
            load_team(run).push(name)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EngineError, match="the hub is not reached from here"):
        load_team("ann/never")


def test_a_folder_that_is_here_is_never_looked_for_on_the_hub(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert not is_hub_name("runs/tldr") and not is_hub_name("./a/b") and is_hub_name("ann/sums@v1.0")
    with pytest.raises(ConfigError, match="expected an experiment at runs/tldr"):
        load_team("runs/tldr")
    assert hub.seen == []
