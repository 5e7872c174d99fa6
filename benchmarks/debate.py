"""What training a debate does: MAPoRL's experiments, on starter models and embedded questions.

    python benchmarks/debate.py warm                     first: a starter model that can read a debate
    python benchmarks/debate.py alone    --seeds 0 1 2   one agent trained beside a frozen one, against both
    python benchmarks/debate.py transfer --seeds 0 1 2   trained on one kind of questions, played on the other
    python benchmarks/debate.py pay      --seeds 0 1 2   what alpha1 = 2 pays for: following a right majority

The starter models have never read a debate: shown other answers, they lose the thread (3 to 8 % right instead of 30 to
67 %). `warm` teaches them the form and nothing else: in debates made of their own answers, they learn to repeat one of
the answers shown or to solve the question again, whichever the dice say. That is the untrained debater: it reads the
others and makes no use of what it reads, so that its accuracy is flat over rounds.

Every run is a run folder; a run that exists already is read, not repeated. Prints a table in Markdown per experiment:
means over seeds, and 95 % intervals that resample seeds and questions; rows with a minus are differences, question by
question. `--quick` makes everything tiny, to see that it works.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from learning import interval_of
from madrigal.algorithms.maporl import Maporl
from madrigal.config import Experiment
from madrigal.policies.generate import generate
from madrigal.policies.local import LocalPolicy, load_policy
from madrigal.recipes import recipe
from madrigal.rollouts.seeds import derive
from madrigal.runs.log import read_lines
from madrigal.settings import CriticConfig, EvaluationConfig, Lora, PolicyConfig, RecordsConfig, Sampling, TeamConfig
from madrigal.tasks.discussion import domains
from madrigal.tasks.discussion.answers import result_of
from madrigal.tasks.discussion.debate import Debate, DebateTask
from madrigal.training.checks import open_checked_task
from madrigal.training.held_out import evaluate_on
from madrigal.training.teams import open_rollout_workers, team_of_run
from madrigal.training.train import train_experiment
from madrigal.types import Example
from pretraining.mixture import Row
from pretraining.recipe import losses, save
from pretraining.rows import collate, encode

DOMAIN, OTHER = "groups", "amounts"
TASK = Debate(rounds=2, calculations=2, domain=DOMAIN)
SAMPLING = Sampling(max_new_tokens=40)
# A critic's whole model costs as much as a policy's; an adapter on its last layer costs half of it.
LAST_LAYER = (
    "layers.3.self_attn.v_proj",
    "layers.3.self_attn.o_proj",
    "layers.3.mlp.up_proj",
    "layers.3.mlp.down_proj",
)
CRITIC = CriticConfig(lora=Lora(rank=8, targets=LAST_LAYER), lr=3e-3)
COLUMNS = ("accuracy_1", "accuracy_2", "delta0", "delta1", "kept", "first_2", "first_kept")
Figures = list[dict[str, float]]  # of each question
Played = dict[str, Figures]  # before and after training
Table = dict[str, list[Figures]]  # a row's name to the figures of each seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("warm", "alone", "transfer", "pay"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--questions", type=int, default=1200, help="of `warm`")
    parser.add_argument("--epochs", type=int, default=2, help="of `warm`")
    parser.add_argument("--model", default="starter:small", help="that `warm` starts from; another one goes on from it")
    parser.add_argument("--runs", type=Path, default=Path("runs/debate"))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warmed = options.runs / "warm"
    if options.what == "warm":
        warm(options.model, warmed, 24 if options.quick else options.questions, options.epochs, options.seeds[0])
        return
    if not warmed.is_dir():
        raise SystemExit(f"no warmed model at {warmed}; make it first: python benchmarks/debate.py warm")
    start = experiment(warmed, options.steps, quick=options.quick)
    made = {"alone": alone, "transfer": transfer, "pay": pay}[options.what](start, options)
    print(table(options.what, made))


# The runs


def experiment(model: Path, steps: int, *, quick: bool) -> Experiment:
    """The `debate` recipe on short questions, a policy for each agent; what else differs is for the sake of speed."""
    run = recipe("debate")
    assert isinstance(run.algorithm, Maporl)
    run = replace(
        run,
        task=TASK,
        team=TeamConfig(policy=PolicyConfig(model=str(model))),
        algorithm=replace(run.algorithm, width=1, epochs=1, minibatches=1, kl=0.0, penalty=-1.0),
        sampling=SAMPLING,
        optimizer=replace(run.optimizer, lr=3e-4),
        critic=CRITIC,
        evaluation=EvaluationConfig(examples=150, timed_examples=0),
        records=RecordsConfig(checkpoint_every=0, transcripts=0),
        steps=steps,
        prompts=16,
    )
    if quick:
        run = replace(run, evaluation=EvaluationConfig(examples=4, timed_examples=0), steps=1, prompts=2)
    return run


def alone(start: Experiment, options: argparse.Namespace) -> Table:
    """Both agents learn, or one beside a partner who stays the warmed model."""
    frozen = replace(start.team.policy, trainable=False)
    one = replace(start, team=replace(start.team, seats={"second": frozen}))
    both, first = list[Played](), list[Played]()
    for seed in options.seeds:
        both.append(made(start, options.runs / f"both-seed{seed}", seed))
        first.append(made(one, options.runs / f"first-seed{seed}", seed))
    return {
        "untrained": [run["before"] for run in both],
        "first alone": [run["after"] for run in first],
        "both": [run["after"] for run in both],
        "first alone - untrained": [minus(run["after"], run["before"]) for run in first],
        "both - untrained": [minus(run["after"], run["before"]) for run in both],
        "both - first alone": [minus(b["after"], f["after"]) for b, f in zip(both, first, strict=True)],
    }


def pay(start: Experiment, options: argparse.Namespace) -> Table:
    """What following a right majority earns."""
    assert isinstance(start.algorithm, Maporl)
    paid = replace(start, algorithm=replace(start.algorithm, alpha1=2.0))
    plain = [made(start, options.runs / f"both-seed{seed}", seed)["after"] for seed in options.seeds]
    found = [made(paid, options.runs / f"alpha1-seed{seed}", seed)["after"] for seed in options.seeds]
    return {"alpha1 = 0": plain, "alpha1 = 2": found, "2 - 0": list(map(minus, found, plain))}


def transfer(start: Experiment, options: argparse.Namespace) -> Table:
    """The teams of the other experiments on questions of a kind that they were not trained on."""
    away = replace(start, task=replace(TASK, domain=OTHER))
    folders = {seed: options.runs / f"both-seed{seed}" for seed in options.seeds}
    home = [made(start, folder, seed) for seed, folder in folders.items()]
    before = [played(replace(away, seed=seed, steps=0), folder) for seed, folder in folders.items()]
    after = [played(replace(away, seed=seed), folder) for seed, folder in folders.items()]
    return {
        f"{DOMAIN}, untrained": [run["before"] for run in home],
        f"{DOMAIN}, trained on {DOMAIN}": [run["after"] for run in home],
        f"{DOMAIN}, trained - untrained": [minus(run["after"], run["before"]) for run in home],
        f"{OTHER}, untrained": before,
        f"{OTHER}, trained on {DOMAIN}": after,
        f"{OTHER}, trained - untrained": list(map(minus, after, before)),
    }


def made(run: Experiment, folder: Path, seed: int) -> Played:
    """Trains a run unless it is there; the figures of every held-out question before and after."""
    if not (folder / "team").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        train_experiment(replace(run, seed=seed, recipe=folder.name), folder)
    played = read_lines(folder / "episodes.jsonl")
    return {when: [figures(one) for one in played if one.get("evaluation") == when] for when in ("before", "after")}


def played(run: Experiment, folder: Path) -> Figures:
    """A run's saved team (with 0 steps: the model that it started from) on the questions of another experiment."""
    with (
        open_checked_task(run) as task,
        open_rollout_workers(run, task, team_of_run(folder, run, task.agents)) as (speak, judge),
    ):
        return [figures(one) for one in evaluate_on(task, run, speak, judge)[1]]


def figures(debate: dict[str, Any]) -> dict[str, float]:
    """The task's own figures of a debate, in percent, and of each agent: whether it was right in each round.

    Where all came to one result, also whether it was kept in the second round: by each agent, and by how many.
    """
    results = {(turn["agent"], turn["round"]): result_of(turn["text"]) for turn in debate["turns"]}
    found = debate["metrics"] | {f"{t['agent']}_{t['round'] + 1}": 100 * t["reward"] for t in debate["turns"]}
    agreed = {results[agent, 0] for agent in TASK.agents}
    if len(agreed) > 1:
        return found
    kept = {f"{agent}_kept": 100.0 * (results[agent, 1] in agreed) for agent in TASK.agents}
    return found | kept | {"kept": fmean(kept.values())}


def minus(first: Figures, second: Figures) -> Figures:
    """Question by question, what the first has above the second, of the figures that both have."""
    pairs = zip(first, second, strict=True)
    return [{name: one[name] - other[name] for name in one if name in other} for one, other in pairs]


def table(what: str, made: Table) -> str:
    """Markdown: a line per team or difference, mean and interval over seeds and questions."""
    lines = [f"### {what}: {len(next(iter(made.values())))} seeds", "", f"| % | {' | '.join(COLUMNS)} |"]
    lines += [f"|---|{'---|' * len(COLUMNS)}"]
    for row, seeds in made.items():
        cells = [interval_of([[one[name] for one in seed if name in one] for seed in seeds]) for name in COLUMNS]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


# The warm-up


def warm(model: str, folder: Path, questions: int, epochs: int, seed: int) -> None:
    """Teaches a starter model the form of a debate, and saves it."""
    policy = load_policy("learner", PolicyConfig(model=model), torch.device("cpu"))
    rows = debates(load_policy("starter", PolicyConfig(), torch.device("cpu")), questions, seed)
    print(f"{len(rows)} rows", flush=True)
    teach(policy, rows, epochs)
    save(policy.model, policy.tokenizer, folder)
    print(f"saved to {folder}")


def debates(policy: LocalPolicy, questions: int, seed: int) -> list[Row]:
    """For every question two prompts with an answer each: of the first round, and of the second one.

    Every answer is one to the question alone. In the second round two of them are shown, and what is learned is one of
    these or a third one, whichever the dice say.
    """
    rng = random.Random(f"debates/{seed}")
    task = DebateTask(replace(TASK, domain="all"))
    drawn = [domains.problem("all", TASK.calculations, rng, "train") for _ in range(questions)]
    examples = [Example(f"warm/{n}", row) for n, row in enumerate(drawn)]
    asked = [task.observe(task.reset(example), "first", ()) for example in examples for _ in range(4)]
    said = generate(policy, asked, [derive(seed, "debates", n) for n in range(len(asked))], SAMPLING)
    rows = []
    for n, example in enumerate(examples):
        alone, *shown, again = (one.text for one in said[4 * n : 4 * n + 4])
        state, agent = task.reset(example), rng.choice(task.agents)
        rows.append(Row("arithmetic", task.observe(state, agent, ()), alone))
        state = task.step(state, dict(zip(task.agents, shown, strict=True))).state
        rows.append(Row("arithmetic", task.observe(state, agent, ()), rng.choice([*shown, again])))
    return rows


def teach(policy: LocalPolicy, rows: Sequence[Row], epochs: int, lr: float = 1e-3, tokens: int = 3000) -> None:
    """Cross-entropy on the answers, rows of similar length together."""
    encoded = sorted(encode(list(rows), policy.tokenizer), key=lambda row: len(row.ids))
    policy.model.train()
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=lr, weight_decay=0.0)
    batches = list(_cut(encoded, tokens))
    for epoch in range(epochs):
        random.Random(epoch).shuffle(batches)
        total = 0.0
        for n, batch in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 - (epoch * len(batches) + n) / (epochs * len(batches)))
            optimizer.zero_grad()
            loss, _ = losses(policy.model, collate(batch, 0.0, "cpu"))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
            optimizer.step()
            total += float(loss.detach())
        print(f"epoch {epoch + 1} of {epochs}: loss {total / len(batches):.3f} nats a token", flush=True)
    policy.model.eval()


def _cut(encoded: Sequence, tokens: int) -> Iterator[list]:
    start = 0
    while start < len(encoded):
        stop = start + 1
        while stop < len(encoded) and len(encoded[stop].ids) * (stop + 1 - start) <= tokens:
            stop += 1
        yield list(encoded[start:stop])
        start = stop


if __name__ == "__main__":
    main()
