"""Teams: who may sit where, and that what is saved loads with plain transformers and PEFT."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from fakes import tiny
from fakes.borders import assert_same_answers
from fakes.tiny import CPU, chat, same, samples_of, weights
from madrigal.algorithms.group import GroupRelative
from madrigal.config import Experiment
from madrigal.policies.local import LocalPolicy, map_policies
from madrigal.policies.team import Team
from madrigal.rollouts.play import GenerationRequest
from madrigal.settings import Lora, OptimizerConfig, PolicyConfig, Sampling, TeamConfig
from madrigal.tasks.own import CustomTask
from madrigal.training.learner_factory import make_learning
from madrigal.training.saving import save_team
from madrigal.training.teams import load_saved_team, make_team
from madrigal.types import ConfigError, EngineError

AGENTS = ("ann", "bob")
SAMPLING = Sampling(max_new_tokens=8)


def shake(policy: LocalPolicy) -> None:
    """Weights that no fresh model has."""
    with torch.no_grad():
        for parameter in policy.parameters().values():
            parameter.add_(0.05)


def logits(model: object) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(40, 60)[None]).logits  # type: ignore[operator]
    return found


def wanted(count: int = 3) -> list[GenerationRequest]:
    return [GenerationRequest(agent, chat("a dog"), n) for n in range(count) for agent in AGENTS]


def test_one_trainable_model_in_two_seats_is_refused(model_folder: Path) -> None:
    ann, frozen = tiny.load(model_folder), tiny.load(model_folder, trainable=False)
    with pytest.raises(ConfigError, match="seats ann and bob hold the same trainable model"):
        Team({"ann": ann, "bob": ann})
    with pytest.raises(ConfigError, match="ann and bob"):
        Team({"ann": ann, "bob": LocalPolicy("bob", ann.model, ann.tokenizer)})
    assert Team({"ann": ann, "bob": ann}, shared=True).policies == (ann,)
    with pytest.raises(ConfigError, match="hold the same trainable model"):
        Team({"ann": ann, "bob": LocalPolicy("bob", ann.model, ann.tokenizer, trainable=False)})
    with pytest.raises(ConfigError, match="a name of its own"):
        Team({"ann": ann, "bob": tiny.load(model_folder, ann.name)})
    assert Team({"ann": frozen, "bob": frozen}).trainable == ()


def test_adapters_of_one_base_are_different_policies(model_folder: Path) -> None:
    ann = tiny.load(model_folder, "ann", lora=Lora(rank=2))
    bob = tiny.load(model_folder, "bob", lora=Lora(rank=2), base=ann.model)
    assert Team({"ann": ann, "bob": bob}).policies == (ann, bob)
    with pytest.raises(ConfigError):
        Team({"ann": ann, "bob": ann})


def test_every_agent_is_answered_by_its_own_policy_in_order(model_folder: Path) -> None:
    ann, bob = tiny.load(model_folder, "ann"), tiny.load(model_folder, "bob")
    shake(bob)
    said = Team({"ann": ann, "bob": bob}).speaker(SAMPLING)(wanted())
    for policy, mine in ((ann, said[0::2]), (bob, said[1::2])):
        alone = Team({"ann": policy, "bob": policy}, shared=True).speaker(SAMPLING)(wanted())
        assert_same_answers(policy, mine, alone[0::2], SAMPLING, range(3))


def test_a_saved_team_loads_with_plain_transformers(model_folder: Path, tmp_path: Path) -> None:
    team = make_team(TeamConfig(policy=PolicyConfig(model=str(model_folder)), device="cpu"), AGENTS, 0)
    shake(team.seats["bob"])
    save_team(team, tmp_path / "team")
    for agent in AGENTS:
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "team" / agent, dtype=torch.float32)
        assert torch.equal(logits(loaded), logits(team.seats[agent].model))
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "team" / agent)
        assert tokenizer("the cat")["input_ids"] == team.seats[agent].tokenizer("the cat")["input_ids"]
    assert not (tmp_path / ".team.draft").exists()


def test_saving_again_replaces_the_team(model_folder: Path, tmp_path: Path) -> None:
    team = Team({"ann": tiny.load(model_folder)})
    for _ in range(2):
        shake(team.seats["ann"])
        save_team(team, tmp_path / "team")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "team" / "ann", dtype=torch.float32)
    assert torch.equal(logits(loaded), logits(team.seats["ann"].model))


def lora_config(model_folder: Path) -> TeamConfig:
    return TeamConfig(policy=PolicyConfig(model=str(model_folder), lora=Lora(rank=4)), device="cpu")


def test_a_saved_lora_team_loads_with_plain_peft(model_folder: Path, tmp_path: Path) -> None:
    team = make_team(lora_config(model_folder), AGENTS, 0)
    assert team.seats["ann"].model is team.seats["bob"].model
    for n, agent in enumerate(AGENTS):
        for _ in range(n + 1):
            shake(team.seats[agent])
    save_team(team, tmp_path / "team")
    for agent in AGENTS:
        assert not list((tmp_path / "team" / agent).glob("model*")), "an adapter, not a whole model"
        assert all(path.is_file() for path in (tmp_path / "team" / agent).iterdir()), "and no other seat's"
        base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        loaded = PeftModel.from_pretrained(base, str(tmp_path / "team" / agent))
        torch.testing.assert_close(logits(loaded), logits(team.seats[agent].activate()))


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_a_loaded_team_speaks_as_the_saved_one(model_folder: Path, tmp_path: Path, lora: bool, shared: bool) -> None:
    policy = PolicyConfig(model=str(model_folder), lora=Lora(rank=4 if lora else 0))
    config = TeamConfig(policy=policy, shared=shared, device="cpu")
    team = make_team(config, AGENTS, 0)
    for seat in team.policies:
        shake(seat)
    save_team(team, tmp_path / "team")
    said = [
        [c.token_ids for c in t.speaker(SAMPLING)(wanted())]
        for t in (team, load_saved_team(tmp_path / "team", config, AGENTS))
    ]
    assert said[0] == said[1]


def test_adapters_of_a_team_start_from_seeds_of_their_own(model_folder: Path) -> None:
    one, again, other = (make_team(lora_config(model_folder), AGENTS, seed) for seed in (0, 0, 1))
    assert same(weights(one.seats["ann"]), weights(again.seats["ann"]))
    assert not same(weights(one.seats["ann"]), weights(other.seats["ann"]))
    ann, bob = (one.seats[agent].parameters() for agent in AGENTS)
    assert not any(torch.equal(a, b) for (n, a), b in zip(ann.items(), bob.values(), strict=True) if "lora_A" in n)


def test_a_folder_that_is_no_team_is_named(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="expected a folder for agent ann"):
        load_saved_team(tmp_path, lora_config(model_folder), AGENTS)


def updated(team: Team, agents: Sequence[str], run: Experiment) -> dict[str, dict[str, float]]:
    """One update from six answers, seats in turn."""
    said = team.speaker(SAMPLING)([GenerationRequest(agents[n % len(agents)], chat("a"), n) for n in range(6)])
    samples = [s for n, one in enumerate(said) for s in samples_of([one], agents[n % len(agents)])]
    learning = make_learning(replace(run, sampling=SAMPLING, steps=5), team)
    return learning.update([], [samples])


def test_a_shared_policy_learns_once_from_both_seats(model_folder: Path) -> None:
    run = Experiment("own", CustomTask("x:y"), optimizer=OptimizerConfig(lr=1e-3), algorithm=GroupRelative(width=2))
    shared = Team(dict.fromkeys(AGENTS, tiny.load(model_folder, "team")), shared=True)
    alone = Team({"ann": tiny.load(model_folder, "team")})
    assert updated(shared, AGENTS, run)["team"]["sequences"] == 6
    assert updated(alone, ("ann",), run)["team"]["sequences"] == 6
    assert shared.seats["ann"].version == 1
    assert same(weights(shared.seats["ann"]), weights(alone.seats["ann"]))


def test_what_is_not_trainable_stays(model_folder: Path) -> None:
    policy = PolicyConfig(model=str(model_folder))
    config = TeamConfig(
        policy=policy, seats={"bob": PolicyConfig(model=str(model_folder), trainable=False)}, device="cpu"
    )
    team = make_team(config, AGENTS, 0)
    before = {agent: weights(team.seats[agent]) for agent in AGENTS}
    updated(team, AGENTS, Experiment("own", CustomTask("x:y"), optimizer=OptimizerConfig(lr=1e-3)))
    assert [same(weights(team.seats[agent]), before[agent]) for agent in AGENTS] == [False, True]


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"team.device"):
        make_team(TeamConfig(device="abacus"), AGENTS, 0)
    assert CPU.type == "cpu"


def test_policies_work_side_by_side_only_where_none_shares_a_model(model_folder: Path) -> None:
    ann, bob = tiny.load(model_folder, "ann"), tiny.load(model_folder, "bob")
    twin = LocalPolicy("twin", ann.model, ann.tokenizer)
    met = threading.Barrier(2, timeout=60)

    def meet(policy: LocalPolicy) -> str:
        met.wait()  # would break if the other came only afterwards
        return policy.name

    assert map_policies(meet, [ann, bob]) == ["ann", "bob"]
    here = threading.get_ident()
    assert map_policies(lambda policy: threading.get_ident(), [ann, bob, twin]) == [here] * 3
    assert map_policies(lambda policy: threading.get_ident(), [ann, bob], in_turn=True) == [here] * 2
    assert map_policies(lambda policy: policy.name, []) == []


def test_greedy_and_sampled_requests_are_answered_in_their_order(model_folder: Path) -> None:
    team, asked = Team({"ann": tiny.load(model_folder)}), [GenerationRequest("ann", chat("a dog"), n) for n in range(4)]
    mixed = [replace(one, greedy=n % 2 == 0) for n, one in enumerate(asked)]
    speak, greedy = team.speaker(SAMPLING), team.speaker(replace(SAMPLING, greedy=True))
    said = speak(mixed)
    assert [one.text for one in said[0::2]] == [one.text for one in greedy(asked[0::2])]
    assert [one.text for one in said[1::2]] == [one.text for one in speak(asked[1::2])]
