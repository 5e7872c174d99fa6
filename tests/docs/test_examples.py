"""Every Python block of the pages runs, in order, one page after the other in its own folder."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import madrigal
from madrigal import api
from madrigal.algorithms.catalog import ALGORITHMS
from madrigal.cli import run
from madrigal.config import Experiment, from_json, to_json
from madrigal.recipes import RECIPES
from madrigal.recipes.embedded import own
from madrigal.rollouts.branching import Branching
from madrigal.rollouts.play import GenerationRequest, judge_in_threads
from madrigal.rollouts.task import check_task
from madrigal.rollouts.topology import Parallel
from madrigal.rollouts.tree import rollout_groups
from madrigal.tasks.catalog import open_task
from madrigal.training.checks import open_checked_task
from madrigal.types import Completion, Point
from pretraining.mixture import DOMAINS, WEIGHTS

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")


def blocks(page: str) -> list[str]:
    return BLOCK.findall((ROOT / page).read_text())


def write_files(page: str, folder: Path) -> list[Path]:
    """A block that begins with the name of a file is that file."""
    named = [(FILE.match(block), block) for block in blocks(page)]
    files = [(folder / match[1], block) for match, block in named if match]
    for file, block in files:
        file.write_text(block)
    return [file for file, _ in files]


def train_a_little(what: Any, folder: str | None = None, **settings: Any) -> madrigal.TrainingResult:
    """What the pages train, in a second."""
    least = {"steps": 1, "prompts": 1, "algorithm": {"width": 2}, "evaluation": {"examples": 1, "timed_examples": 0}}
    return api.train(what, folder, **settings | least | {"sampling": {"max_new_tokens": 8}})


TUTORIAL = "docs/tutorial-own-team.md"  # its blocks and commands run together: test_tutorial.py


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page) and page != TUTORIAL])
def test_python_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(madrigal, "train", train_a_little)
    if page in ("README.md", "docs/use.md"):  # they ask a team that was trained before
        train_a_little("tldr")
    # Dataclasses look up their module, so the blocks of a page need one.
    module = type(sys)(f"page_{Path(page).stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for number, block in enumerate(blocks(page), start=1):
        exec(compile(block, f"{page}, block {number}", "exec"), vars(module))


@pytest.mark.parametrize("page", ["README.md", "docs/own-task.md"])
def test_task_files_keep_the_contract_and_play(page: str, tmp_path: Path) -> None:
    files = write_files(page, tmp_path)
    assert files
    for file in files:
        experiment = own(f"{file}:task")
        assert from_json(to_json(experiment)) == experiment
        with open_checked_task(experiment) as task, ThreadPoolExecutor(1) as pool:
            check_task(task)
            origin = Point("one", task.reset(task.examples("train")[0]))
            judge = judge_in_threads(task, pool)
            (group,) = rollout_groups(task, Parallel(), [origin], Branching(width=2), say_nothing, judge)
            assert len(group.episodes) == 2


def say_nothing(wanted: Sequence[GenerationRequest]) -> list[Completion]:
    return [Completion("one two three") for _ in wanted]


def test_divide_pays_for_division_and_not_for_repetition(tmp_path: Path) -> None:
    (file,) = write_files("README.md", tmp_path)
    with open_task(own(f"{file}:task").task) as task:
        example = task.examples("test")[0]
        half = example.data["post"].split()
        one, two = " ".join(half[: len(half) // 2]), " ".join(half[len(half) // 2 :])
        divided = task.step(task.reset(example), {"beginning": one, "end": two}).rewards["end"]
        repeated = task.step(task.reset(example), {"beginning": one, "end": one}).rewards["end"]
    assert repeated == 0.0
    assert divided > 0.5


def test_settings_that_only_a_file_can_say(tmp_path: Path) -> None:
    """The three that docs/quickstart.md names."""
    held = json.loads(to_json(RECIPES["tldr"]()))
    held["topology"] = {"order": [], "kind": "Sequential"}
    held["team"]["seats"] = {"detailed": {"model": "starter:large"}}
    held["team"]["policy"]["lora"] = {"rank": 16}
    read = from_json(json.dumps(held))
    assert read.team.policy.lora is not None
    assert read.team.policy.lora.rank == 16
    assert read.team.seats["detailed"].model == "starter:large"
    assert type(read.topology).__name__ == "Sequential"


def test_every_recipe_and_command_is_in_the_pages() -> None:
    text = "\n".join((ROOT / page).read_text() for page in PAGES)
    assert [name for name in RECIPES if f"`{name}`" not in text] == []
    assert set(re.findall(r"\bmadrigal (train|evaluate|score|list)\b", text)) == {"train", "evaluate", "score", "list"}


def test_flags_in_the_pages_exist() -> None:
    """Every flag of an indented `madrigal train RECIPE` line is one that the recipe has."""
    text = "\n".join((ROOT / page).read_text() for page in PAGES)
    used = set(re.findall(r"--((?:task|team|algorithm|sampling|optimizer|evaluation|records)\.[\w.-]+\w)", text))
    used = {re.sub(r"^team\.seats\.\w+\.", "team.policy.", flag) for flag in used}
    known = "".join(
        help_of(recipe)
        for recipe in (
            "tldr",
            "arxiv",
            "coding",
            "gsm8k",
            "debate",
            "tictactoe",
            "kuhn",
            "office",
            "build",
            "relay",
            "taboo",
            "edit",
            "project",
            "consult",
            "chores",
            "pettingzoo:fakes.zoo:Sum",
        )
    )
    known += "".join(help_of(f"tldr --algorithm {name}") for name in ALGORITHMS)
    assert sorted(flag for flag in used if f"--{flag} " not in known and f"--{flag}," not in known) == []


def help_of(recipe: str) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
        run(["train", *recipe.split(), "--help"])
    return re.sub(r"\s+", " ", shown.getvalue())


TABLE: dict[str, Callable[[Experiment], float]] = {
    "width G": lambda run: run.algorithm.width,
    "examples a step": lambda run: run.prompts,
    "steps": lambda run: run.steps,
    "new tokens": lambda run: run.sampling.max_new_tokens,
    "KL weight": lambda run: run.algorithm.kl,
    "reward shift": lambda run: run.algorithm.reward_shift,
    "evaluated on": lambda run: run.evaluation.examples,
    "learning rate": lambda run: run.optimizer.lr,
}


def test_tables_of_recipes_hold_the_recipes_numbers() -> None:
    """A cell that begins with a number is the setting of its column's recipe."""
    checked, columns = 0, list[str]()
    for line in (ROOT / "docs/recipes.md").read_text().splitlines():
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells and not name:
            columns = [cell.strip("`") for cell in cells if cell.startswith("`")]
        if name in TABLE:
            for recipe, cell in zip(columns, cells, strict=False):
                number = re.match(r"-?[0-9][0-9.e-]*", cell)
                if number:
                    assert float(number[0]) == pytest.approx(TABLE[name](RECIPES[recipe]())), (name, recipe)
                    checked += 1
    assert checked >= 60


def test_shares_of_the_starter_corpora() -> None:
    rows = re.findall(r"^\| (\w+) \| (\d+) % \|", (ROOT / "docs/starter.md").read_text(), re.MULTILINE)
    assert {name: int(share) for name, share in rows} == dict(zip(DOMAINS, WEIGHTS, strict=True))
