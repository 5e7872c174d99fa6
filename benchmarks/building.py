"""Does a critic beat group baselines as the horizon grows, at equal samples? Builders that are small networks.

    PYTHONPATH=src:benchmarks:tests OMP_NUM_THREADS=1 python benchmarks/building.py --seeds 0 1 2 3 4

    magrpo           chains; an answer is compared with the same round's answers in the other chains
    tree             MAGRPO as a tree that parts again after every round
    counterfactual   two alternatives of every decision along one episode
    collm_cc         a critic that sees what all agents see
    collm_dc         a critic for each agent, of its own history; "whole returns" are held against it in place of the
                     reward and the critic's next value (trace 1)
    magrpo, again    the first with other seeds: the A/A pair

The task is `build` on words of one letter, with its own rules, prompts and words. Builders read the grid, the turn and
the limit in their prompts and name cells one after the other, a token each; a critic is such a network with one output.
Play, branching, what a critic sees, credit and loss are the library's. For each horizon and seed all arms begin with
one warm start on novices. Updates are equal in number, one optimizer step each, and in answers: as many words an update
as a word's group leaves room for; a group too large for one update takes two. The rate of each arm is the best of RATES
with two turns, on a seed of its own.

A line for each run goes to --output; runs that are in it already are not repeated. A step of two starters takes seconds
of a core, one of these networks a tenth of one.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import fmean, pvariance
from typing import Any

import torch
from torch import Tensor, nn

from fakes.tabular import unchecked_shapes
from learning import interval_of
from madrigal.algorithms.catalog import ALGORITHMS
from madrigal.evaluation.evaluate import EvalSetup, normalized_returns, play_examples
from madrigal.learning.critics import visible_turns
from madrigal.maths.batch import PolicyOutput, make_batch
from madrigal.rollouts.play import GenerationRequest, judge_in_turn
from madrigal.rollouts.seeds import derive
from madrigal.rollouts.topology import Parallel
from madrigal.rollouts.tree import map_turns, rollout_groups, walk
from madrigal.tasks.building.grid import placements, spelled
from madrigal.tasks.building.letters import HEIGHT, WIDTH, Cell
from madrigal.tasks.building.task import Build, BuildTask
from madrigal.types import Completion, Group, Point, Sample, Turn, TurnScores

MAGRPO = replace(ALGORITHMS["magrpo"][0], width=4, updates="episode")
ARMS: dict[str, Any] = {
    "magrpo": MAGRPO,
    "tree": replace(MAGRPO, tree=True),
    "counterfactual": replace(ALGORITHMS["counterfactual"][0], width=2, fanout=(), tree=False, kl=0.0),
    "collm_cc": replace(ALGORITHMS["collm_cc"][0], width=4),
    "collm_dc": replace(ALGORITHMS["collm_dc"][0], width=4),
    "collm_dc, whole returns": replace(ALGORITHMS["collm_dc"][0], width=4, trace=1.0),
    "magrpo, again": MAGRPO,
}
TREE = {2: 3, 4: 2, 8: 2}  # width by horizon; with one turn it is the chains
EPISODES = 32  # chains an update, by which answers are counted
RATES = (3e-3, 1e-2, 3e-2)
TUNING, TUNED_AT = 500, 2  # the seed that chooses the rate, and the horizon
AGAIN = 1000  # added to the seeds of the A/A pair, which begins with the same warm start
CRITIC_RATE, CRITIC_STEPS = 3e-3, 8  # of each update; a critic that takes one step, as a language model's does, lags
NOVICES, EPOCHS, BATCH, WARM_RATE = 16, 6, 32, 3e-3  # plays of each word, and how they are learned
SAMPLES = 4  # plays of each word after training
SHOWN = "#.rybw"  # what a cell of the grid may be
COLORS = {"builder_1": "ry", "builder_2": "bw"}
CELLS: tuple[Cell, ...] = tuple((column, row) for row in range(HEIGHT) for column in range(WIDTH))
STOP = 2 * len(CELLS)
INPUTS, HIDDEN = len(CELLS) * len(SHOWN) + 2, 64
CPU = torch.device("cpu")


class Network(nn.Module):
    """Two layers: of what is shown and which cells were named so far, to a number for each output."""

    def __init__(self, inputs: int, outputs: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Linear(inputs, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, outputs))
        nn.init.zeros_(self.layers[2].weight)
        nn.init.zeros_(self.layers[2].bias)

    def forward(self, shown: Tensor) -> Tensor:
        return self.layers(shown)


@lru_cache(maxsize=100_000)
def read(prompt: str) -> tuple[Tensor, int]:
    """What a prompt shows as numbers [INPUTS], and how many cells may be named."""
    lines = prompt.splitlines()
    words = lines[0].removesuffix(".").split()
    limit = int(lines[-1].split()[3])
    grid = "".join(lines[1 : 1 + HEIGHT])
    left = int(words[-1]) - int(words[-3])
    numbers = [float(cell == kind) for cell in grid for kind in SHOWN] + [left / 8, limit / 8]
    return torch.tensor(numbers), limit


class Builder:
    """An agent that names cells one after the other, until it stops or may name no more."""

    def __init__(self, agent: str, seed: int) -> None:
        self.colors = COLORS[agent]
        self.network = Network(INPUTS + len(CELLS), STOP + 1, seed)
        self.rows: list[str] = []

    def logprobs(self, shown: Tensor, named: Tensor) -> Tensor:
        """[... STOP + 1] nats of what is named next; a cell is named once."""
        logits = self.network(torch.cat([shown, named], dim=-1))
        closed = torch.cat([named.repeat_interleave(2, dim=-1), torch.zeros_like(named[..., :1])], dim=-1)
        return logits.masked_fill(closed > 0, -1e9).log_softmax(-1)

    @torch.no_grad()
    def answer(self, wanted: Sequence[GenerationRequest]) -> list[Completion]:
        shown, limits = _stacked(one.prompt[-1].content for one in wanted)
        named, alive = torch.zeros(len(wanted), len(CELLS)), torch.ones(len(wanted), dtype=torch.bool)
        draws = torch.tensor([[rng.random() for _ in range(int(limits.max()))] for rng in _rngs(wanted)])
        said: list[list[tuple[int, float]]] = [[] for _ in wanted]
        for turn in range(int(limits.max())):
            alive &= limits > turn
            table = self.logprobs(shown, named)
            chosen = (table.exp().cumsum(-1) < draws[:, turn : turn + 1]).sum(-1).clamp(max=STOP)
            chosen = torch.where(table.gather(1, chosen[:, None])[:, 0] < -1e6, STOP, chosen)  # rounding at the end
            of_chosen = table.gather(1, chosen[:, None])[:, 0].tolist()
            for n, (going, token) in enumerate(zip(alive.tolist(), chosen.tolist(), strict=True)):
                if going:
                    said[n].append((token, of_chosen[n]))
            alive &= chosen < STOP
            named = named + _named(chosen) * alive[:, None]
        return [self._completion(one, tokens) for one, tokens in zip(wanted, said, strict=True)]

    def _completion(self, wanted: GenerationRequest, said: list[tuple[int, float]]) -> Completion:
        text = " ".join(spelled(CELLS[n // 2]) + self.colors[n % 2] for n, _ in said if n < STOP)
        self.rows.append(wanted.prompt[-1].content)
        return Completion(text, (len(self.rows) - 1,), tuple(n for n, _ in said), tuple(p for _, p in said))

    def score(self, prompts: Iterable[str], actions: Tensor) -> Tensor:
        """[B T] log-probs of answers."""
        shown, _ = _stacked(prompts)
        each = _named(actions)
        before = each.cumsum(1) - each
        table = self.logprobs(shown[:, None].expand(-1, actions.shape[1], -1), before)
        return table.gather(-1, actions[..., None])[..., 0]

    def tokens_of(self, text: str, limit: int) -> list[int]:
        """What an answer in words is in tokens."""
        said = [CELLS.index(cell) * 2 + self.colors.index(color) for cell, color in placements(text)]
        return said if len(said) == limit else [*said, STOP]


def _rngs(wanted: Sequence[GenerationRequest]) -> list[random.Random]:
    return [random.Random(one.seed) for one in wanted]


def _stacked(prompts: Iterable[str]) -> tuple[Tensor, Tensor]:
    shown, limits = zip(*map(read, prompts), strict=True)
    return torch.stack(shown), torch.tensor(limits)


def _named(tokens: Tensor) -> Tensor:
    """[... CELLS] 1 for the cell of each token, nothing for STOP."""
    return nn.functional.one_hot(tokens // 2, len(CELLS) + 1)[..., :-1].float()


class Critic:
    """The value of what one agent, or all, are shown in a turn."""

    def __init__(self, task: BuildTask, *, joint: bool, seed: int) -> None:
        self.agents, self.joint = task.agents, joint
        self.networks = {
            agent: Network(INPUTS * (len(self.agents) if joint else 1), 1, seed)
            for agent in (("all",) if joint else self.agents)
        }
        self.adam = {agent: torch.optim.Adam(one.parameters(), CRITIC_RATE) for agent, one in self.networks.items()}
        self.shown: dict[int, tuple[str, Tensor]] = {}

    @torch.no_grad()
    def read(self, groups: Sequence[Group[Any]]) -> list[Group[Any]]:
        self.shown = {turn.number: self._shown(turn, episode) for _, episode, turn in walk(groups)}
        values: dict[int, float] = {}
        for agent, network in self.networks.items():
            mine = [number for number, (whose, _) in self.shown.items() if whose == agent]
            values |= zip(mine, network(torch.stack([self.shown[n][1] for n in mine]))[:, 0].tolist(), strict=True)
        return map_turns(lambda turn: replace(turn, scores=TurnScores((values[turn.number],))), groups)

    def _shown(self, turn: Turn, episode: Any) -> tuple[str, Tensor]:
        if not self.joint:
            return turn.agent, read(turn.prompt[-1].content)[0]
        seen = visible_turns(episode, turn)
        return "all", torch.cat([read(seen[agent].prompt[-1].content)[0] for agent in self.agents])

    def learn(self, samples: Sequence[Sample]) -> float:
        """Steps towards the returns that were credited; the share of their variance that it had foretold."""
        for agent, network in self.networks.items():
            mine = [sample for sample in samples if self.shown[sample.turn.number][0] == agent]
            target = torch.tensor([sample.return_ for sample in mine])
            shown = torch.stack([self.shown[sample.turn.number][1] for sample in mine])
            for _ in range(CRITIC_STEPS):
                self.adam[agent].zero_grad()
                (network(shown)[:, 0] - target).square().mean().backward()
                self.adam[agent].step()
        return 1 - pvariance([one.advantage for one in samples]) / pvariance([one.return_ for one in samples])


@dataclass
class Team:
    """Builders and their optimizers."""

    builders: dict[str, Builder]
    adam: dict[str, torch.optim.Adam]
    spoken: int = 0

    def speak(self, wanted: Sequence[GenerationRequest]) -> list[Completion]:
        self.spoken += len(wanted)
        answers: dict[int, Completion] = {}
        for agent, builder in self.builders.items():
            mine = [n for n, one in enumerate(wanted) if one.agent == agent]
            if mine:
                answers |= zip(mine, builder.answer([wanted[n] for n in mine]), strict=True)
        return [answers[n] for n in range(len(wanted))]

    def step(self, agent: str, loss: Tensor) -> float:
        """One optimizer step; the norm of the gradient, which is clipped at 1 as in the recipe."""
        network = self.builders[agent].network
        self.adam[agent].zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        self.adam[agent].step()
        return float(norm)


@lru_cache(maxsize=1)
def novices(task: BuildTask, seed: int) -> Team:
    """A team after the warm start: fitted to novices, who play each word NOVICES times."""
    builders = {agent: Builder(agent, seed) for agent in task.agents}
    team = Team(builders, {a: torch.optim.Adam(b.network.parameters(), WARM_RATE) for a, b in builders.items()})
    shown: dict[str, list[tuple[str, list[int]]]] = {agent: [] for agent in task.agents}
    for n, example in ((n, example) for n in range(NOVICES) for example in task.examples("train")):
        said, state = task.novices(example, n), task.reset(example)
        for turn in range(len(said[task.agents[0]])):
            for agent, builder in builders.items():
                prompt = task.observe(state, agent, ())[-1].content
                shown[agent].append((prompt, builder.tokens_of(said[agent][turn], read(prompt)[1])))
            state = task.step(state, {agent: texts[turn] for agent, texts in said.items()}).state
    rng = random.Random(derive(seed, "novices"))
    for agent, rows in shown.items():
        for _ in range(EPOCHS):
            rng.shuffle(rows)
            for first in range(0, len(rows), BATCH):
                batch = rows[first : first + BATCH]
                longest = max(len(tokens) for _, tokens in batch)
                actions = torch.tensor([tokens + [STOP] * (longest - len(tokens)) for _, tokens in batch])
                mask = torch.tensor([[n < len(tokens) for n in range(longest)] for _, tokens in batch])
                said_logprobs = builders[agent].score((prompt for prompt, _ in batch), actions)
                team.step(agent, -said_logprobs[mask].mean())
    return team


def answers_of(algorithm: Any, task: BuildTask) -> int:
    """Answers that one word asks for."""
    places = range(len(task.agents))
    branching = algorithm.branching
    return sum(branching.answers(task.agents, turn, place) for turn in range(task.horizon) for place in places)


def plan_of(arm: str, task: BuildTask, updates: int) -> tuple[Any, int, int]:
    """The algorithm of an arm, words an update, and how many updates."""
    algorithm = replace(ARMS[arm], width=TREE[task.horizon]) if arm == "tree" else ARMS[arm]
    room = EPISODES * task.horizon * len(task.agents) / answers_of(algorithm, task)
    return algorithm, max(1, round(room)), round(updates * min(1.0, room))


def trained(arm: str, task: BuildTask, seed: int, updates: int, rate: float) -> dict[str, Any]:
    """A row: what a team of a seed comes to, and its way there."""
    began, team = time.process_time(), copy.deepcopy(novices(task, seed % AGAIN))
    team.adam = {agent: torch.optim.Adam(one.network.parameters(), rate) for agent, one in team.builders.items()}
    algorithm, words, updates = plan_of(arm, task, updates)
    need, memory = algorithm.needs.critic, algorithm.begin()
    critic = need and Critic(task, joint=need.sees == "joint", seed=seed)
    before, curve, norms, foretold = played(team, task), list[float](), list[float](), list[float]()
    team.spoken, judge = 0, judge_in_turn(task)
    for update in range(updates):
        chosen = random.Random(derive(seed, "words", update)).choices(task.examples("train"), k=words)
        origins = [Point(example.id, task.reset(example)) for example in chosen]
        for builder in team.builders.values():
            builder.rows.clear()
        groups = rollout_groups(task, Parallel(), origins, algorithm.branching, team.speak, judge, (seed, update))
        if critic:
            groups = critic.read(groups)
        stages, memory = algorithm.credit(groups, memory)
        ends = [episode.steps[-1] for _, episode, _ in walk(groups) if episode.steps and episode.steps[-1].ending]
        curve.append(fmean(step.metrics["return_percent"] for step in ends))
        for stage in stages:
            for agent, builder in team.builders.items():
                mine = [sample for sample in stage if sample.turn.agent == agent and sample.token_ids]
                batch = make_batch(mine, STOP, CPU, total=float(words))
                said = builder.score((sample.turn.prompt[-1].content for sample in mine), batch.actions)
                said = torch.where(batch.mask, said, 0.0)
                norms.append(team.step(agent, algorithm.loss(PolicyOutput(said, torch.zeros_like(said)), batch)))
            if critic:
                foretold.append(critic.learn(stage))
    return {
        "arm": arm,
        "turns": task.horizon,
        "feedback": task.config.feedback,
        "pays": task.config.pays,
        "seed": seed,
        "rate": rate,
        "answers": team.spoken,
        "before": before,
        "after": played(team, task),
        "curve": curve,
        "gradient_norm": fmean(norms),
        "foretold": foretold,
        "processor": time.process_time() - began,
    }


def played(team: Team, task: BuildTask) -> dict[str, Any]:
    """Returns of a team in percent: a list of each word's, of training ("seen") and of held-out letters ("new")."""
    held_out = [example for example in task.examples("test") if example.data["group"] != "longer"]
    found: dict[str, Any] = {}
    for name, examples in (("seen", list(task.examples("train"))), ("new", held_out)):
        setup = EvalSetup(task, Parallel(), examples, team.speak, judge_in_turn(task))
        episodes = play_examples(setup, samples=SAMPLES)
        returns = normalized_returns(task, episodes)
        found[name] = [fmean(returns[n : n + SAMPLES]) for n in range(0, len(returns), SAMPLES)]
        for metric in ("iou", "equal_neighbors"):
            found[f"{metric}_{name}"] = fmean(episode.steps[-1].metrics[metric] for episode in episodes)
    return found


@unchecked_shapes()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--horizons", type=int, nargs="+", default=[1, 4, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[arm for arm in ARMS if "whole" not in arm])
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="that an arm's is chosen from")
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--feedback", default="positions")
    parser.add_argument("--pays", default="each")
    parser.add_argument("--output", type=Path, default=Path("runs/building.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    known = [json.loads(line) for line in options.output.read_text().splitlines()] if options.output.exists() else []

    def row(arm: str, horizon: int, seed: int, rate: float) -> dict[str, Any]:
        wanted = {"arm": arm, "turns": horizon, "seed": seed, "rate": rate}
        wanted |= {"feedback": options.feedback, "pays": options.pays}
        task = BuildTask(Build(turns=horizon, longest=1, feedback=options.feedback, pays=options.pays))
        for one in known:
            if wanted.items() <= one.items() and len(one["curve"]) == plan_of(arm, task, options.updates)[2]:
                return one
        known.append(trained(arm, task, seed, options.updates, rate))
        with options.output.open("a") as file:
            file.write(json.dumps(known[-1]) + "\n")
        return known[-1]

    chosen = dict[str, float]()
    for arm in dict.fromkeys(["magrpo", *options.arms]):
        if not arm.endswith("again"):
            tried = {rate: fmean(row(arm, TUNED_AT, TUNING, rate)["curve"]) for rate in options.rates}
            chosen[arm] = max(tried, key=lambda rate: tried[rate])
            print(f"{arm}: rates {tried}", flush=True)
    for seed in options.seeds:
        for horizon in options.horizons:
            for arm in options.arms:
                if arm == "tree" and horizon not in TREE:
                    continue
                one = row(arm, horizon, seed + AGAIN * arm.endswith("again"), chosen[arm.removesuffix(", again")])
                before, after = (fmean(one[when]["seen"]) for when in ("before", "after"))
                print(f"{horizon} {arm} {seed}: {before:.1f} -> {after:.1f}, {one['processor']:.0f} s", flush=True)
        print(
            table(options.horizons, options.arms, options.seeds[: options.seeds.index(seed) + 1], chosen, row),
            flush=True,
        )


def table(
    horizons: Sequence[int], arms: Sequence[str], seeds: Sequence[int], chosen: Mapping[str, float], row: Any
) -> str:
    """Markdown: a row for each horizon and arm; what is paired is the word, and the seed but for the A/A pair."""
    lines = [
        "| turns | arm | rate | answers | before | return % | minus magrpo | mean of all updates, minus magrpo "
        "| held-out letters % | minus magrpo |",
        f"|{'---|' * 10}",
    ]
    for horizon in horizons:
        for arm in arms:
            if arm == "tree" and horizon not in TREE:
                continue
            rate = chosen[arm.removesuffix(", again")]
            rows, base = (
                [row(name, horizon, seed + AGAIN * name.endswith("again"), rate_of) for seed in seeds]
                for name, rate_of in ((arm, rate), ("magrpo", chosen["magrpo"]))
            )
            cells = [f"{rate:g}", f"{rows[0]['answers']}", f"{fmean(fmean(one['before']['seen']) for one in rows):.1f}"]
            for which in ("seen", "new"):
                own, other = ([one["after"][which] for one in each] for each in (rows, base))
                apart = [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(own, other, strict=True)]
                cells += [interval_of(own), "" if arm == "magrpo" else interval_of(apart)]
                if which == "seen":
                    gained = [[fmean(one["curve"]) - fmean(two["curve"])] for one, two in zip(rows, base, strict=True)]
                    cells.append("" if arm == "magrpo" else interval_of(gained))
            lines.append(f"| {horizon} | {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
