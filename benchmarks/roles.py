"""Do roles emerge? `chores` with one policy for all seats: without a word before the prompts, with one, with a bonus.

    python benchmarks/roles.py --seeds 0 1 2

    alike          one policy, the same prompts for all
    words          one policy; a word that nobody explained stands before each prompt
    information    words, and a bonus for answers that tell the word
    words, again   words, with other seeds: the A/A pair

All begin with a warm start on coin tosses, one without words and one with them, and are held near it by a KL term;
seeds differ in nothing but what is drawn in training. Held-out lists are played with both ways to deal the words.
Behavior is the cluster that an answer belongs to, of four that are found in all answers of all runs together, so that a
cluster means the same everywhere. Where there are no words an agent's role is its seat.

Then adaptation: two policies of their own, with equal prompts, divide the work; in mid-training bob is replaced by the
starter that never saw a chore, and does not learn; ann goes on. Does ann take over? "bob stays" is the same without the
replacement. Everything runs in this process, on one thread; runs that exist already are read, not repeated.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import learning
from madrigal import load_team
from madrigal.algorithms.catalog import switch_algorithm
from madrigal.config import Experiment
from madrigal.evaluation.evaluate import normalized_returns, play_examples
from madrigal.evaluation.roles import Act, RoleMeasures, acts_of, clusters, information, measure_roles, stability
from madrigal.evaluation.roles import swap_losses as losses_of
from madrigal.evaluation.statistics import bootstrap, hierarchical_bootstrap
from madrigal.policies.quiet import quiet_libraries
from madrigal.policies.starter import model_path
from madrigal.recipes import recipe
from madrigal.runs.records import transcript
from madrigal.settings import PolicyConfig, RolesConfig, WarmConfig

SAMPLES, CLUSTERS = 2, 4
KL = 0.05
AGAIN = 1000  # added to the seeds of the A/A pair


@dataclass(frozen=True, slots=True)
class Played:
    """One trained team on the held-out lists.

    Attributes:
        returns: of each list.
        losses: by the change of roles, list by list in the mean; empty without words.
        early: of each act, whether most of what was chosen stood early in the list, or late, or as much of both.
    """

    acts: list[Act]
    returns: list[float]
    losses: dict[str, float]
    early: list[int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--further", type=int, default=60, help="steps of each part of the adaptation")
    parser.add_argument("--runs", type=Path, default=Path("runs/roles"))
    options = parser.parse_args()
    quiet_libraries()
    began = time.process_time()
    arms, base = arms_of(options.runs, options.steps), options.runs
    played: dict[str, list[Played]] = {}
    for name, make in arms.items():
        for seed in options.seeds:
            run = make(seed)
            played.setdefault(name, []).append(played_of(learning.made(run, base / f"{run.recipe}-seed{seed}")))
            print(f"{name}, seed {seed}: {fmean(played[name][-1].returns):.1f} %", flush=True)
    print(table(played), flush=True)
    print(adaptation([adapted(base, seed, options.further) for seed in options.seeds]))
    print(f"\n{time.process_time() - began:.0f} s of processor time")


def arms_of(base: Path, steps: int) -> dict[str, Callable[[int], Experiment]]:
    """What is trained, by name and seed."""
    chores = replace(recipe("chores"), steps=steps)
    chores = replace(chores, evaluation=replace(chores.evaluation, timed_examples=0))
    alike = replace(chores, roles=RolesConfig())
    starts = {
        run.recipe: learning.made(replace(run, steps=0), base / run.recipe) / "team"
        for run in (replace(alike, recipe="warm-alike"), replace(chores, recipe="warm-words"))
    }
    alike, words = (
        replace(
            run,
            team=replace(run.team, start=str(starts[start])),
            warm=WarmConfig(),
            algorithm=replace(run.algorithm, kl=KL),
        )
        for run, start in ((alike, "warm-alike"), (chores, "warm-words"))
    )
    paid = replace(words, algorithm=switch_algorithm(words.algorithm, "role_information"))
    return {
        "alike": lambda seed: replace(alike, recipe="alike", seed=seed),
        "words": lambda seed: replace(words, recipe="words", seed=seed),
        "information": lambda seed: replace(paid, recipe="information", seed=seed),
        "words, again": lambda seed: replace(words, recipe="again", seed=seed + AGAIN),
    }


def played_of(folder: Path) -> Played:
    """What a team does with the held-out lists, and what changes of its roles cost."""
    seated = load_team(folder)
    setup = learning.setup_of(seated, seated.task)
    episodes = play_examples(setup, samples=SAMPLES)
    returns = normalized_returns(setup.task, episodes)
    records = [transcript(episode) for episode in episodes]
    acts, early = acts_of(records), list[int]()
    if not acts:
        acts = [Act(turn["agent"], turn["agent"], turn["text"]) for record in records for turn in record["turns"]]
    for record in records:
        shares = [record["metrics"].get(f"early/{agent}", 50.0) for agent in seated.task.agents]
        early += [(share > 50) - (share < 50) for share in shares]
    return Played(
        acts,
        [fmean(returns[n : n + SAMPLES]) for n in range(0, len(returns), SAMPLES)],
        {name: loss.difference.mean for name, loss in losses_of(setup).items()},
        early,
    )


def table(arms: dict[str, list[Played]]) -> str:
    """Markdown: a row for each arm, intervals over seeds."""
    every = [act.text for teams in arms.values() for team in teams for act in team.acts]
    found = iter(clusters(every, CLUSTERS))
    lines = [
        "| arm | return % | nats of role | chance | nats of seat | nats of order | specialization | purity | swapped "
        "| all the same | agree, by word | agree, best order |",
        f"|{'---|' * 12}",
    ]
    for name, teams in arms.items():
        measures = [measure_roles(team.acts, [next(found) for _ in team.acts]) for team in teams]
        order = [information([act.role for act in team.acts], team.early) for team in teams]
        cells = [
            _cell(hierarchical_bootstrap([team.returns for team in teams]), 1),
            _over(measures, lambda one: one.information),
            f"{fmean(one.chance for one in measures):.3f}",
            _over(measures, lambda one: one.seat_information),
            _cell(bootstrap(order)),
            _over(measures, lambda one: one.specialization),
            _over(measures, lambda one: one.purity),
            _lost(teams, lambda change: change == "roles are swapped"),
            _lost(teams, lambda change: change.startswith("all are")),
            *(
                f"{stability([one.profile for one in measures], in_order=order):.2f}" if len(teams) > 1 else "-"
                for order in (True, False)
            ),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _over(measures: Sequence[RoleMeasures], value: Callable[[RoleMeasures], float]) -> str:
    return _cell(bootstrap([value(one) for one in measures]))


def _lost(teams: Sequence[Played], wanted: Callable[[str], bool]) -> str:
    each = [[loss for change, loss in team.losses.items() if wanted(change)] for team in teams]
    return _cell(bootstrap([fmean(losses) for losses in each]), 1) if all(each) else "-"


def _cell(interval: Any, digits: int = 2) -> str:
    return f"{interval.mean:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def adapted(base: Path, seed: int, steps: int) -> dict[str, dict[str, float]]:
    """What two policies do before and after training, and then with bob replaced or not, for one seed."""
    alike = arms_of(base, steps)["alike"](seed)
    apart = replace(alike, recipe="apart", team=replace(alike.team, shared=False))
    first = learning.made(apart, base / f"apart-seed{seed}")
    weak = base / f"weak-seed{seed}"
    if not weak.is_dir():
        shutil.copytree(first / "team", weak)
        shutil.copy(model_path("small") / "model.safetensors", weak / "bob" / "model.safetensors")
    frozen = {"bob": PolicyConfig(trainable=False)}
    replaced = replace(apart, recipe="replaced", team=replace(apart.team, start=str(weak), seats=frozen))
    stays = replace(apart, recipe="stays", team=replace(apart.team, start=str(first / "team")))
    measured = {"apart": evaluated(first)}
    for run in (stays, replaced):
        measured[run.recipe] = evaluated(learning.made(run, base / f"{run.recipe}-seed{seed}"))
    return {f"{name}, {when}": row for name, rows in measured.items() for when, row in rows.items()}


def evaluated(folder: Path) -> dict[str, dict[str, float]]:
    """Return and shares of the work before and after a run, in percent."""
    filed = json.loads((folder / "evaluation.json").read_text())
    names = ("done", "twice", "left", "share/ann", "share/bob")
    return {
        when: {"return": filed[when]["return_percent"], **{name: filed[when]["components"][name] for name in names}}
        for when in ("before", "after")
    }


def adaptation(seeds: Sequence[dict[str, dict[str, float]]]) -> str:
    """Markdown: return and shares of the work at each stage, intervals over seeds."""
    titles = {
        "apart, before": "two policies, before training",
        "apart, after": "after it",
        "stays, after": "bob stays, after as much again",
        "replaced, before": "bob replaced",
        "replaced, after": "bob replaced, after as much again",
    }
    columns = list(seeds[0]["apart, after"])
    lines = [f"\n| | {' | '.join(f'{name} %' for name in columns)} |", f"|{'---|' * (len(columns) + 1)}"]
    for key, title in titles.items():
        cells = [_cell(bootstrap([seed[key][name] for seed in seeds]), 1) for name in columns]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
