"""Making a project together: who acts, what is shown, what a round earns, generated briefs, topologies, a run."""

from __future__ import annotations

import copy
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from fakes.briefs import DATA as PLAIN
from fakes.play import judge_of
from madrigal import api
from madrigal.compare.contenders import alone, one_round
from madrigal.policies.starter import model_path
from madrigal.recipes import recipe
from madrigal.rollouts.play import EpisodeRun, GenerationRequest, drive, play
from madrigal.rollouts.task import check_task, demonstrations_of
from madrigal.rollouts.task.asking import ask, unjudged
from madrigal.rollouts.topology import TOPOLOGIES, Sequential
from madrigal.runs.log import read_lines
from madrigal.tasks.catalog import open_task
from madrigal.tasks.coding.sandbox import CallTest, Program, Verdict
from madrigal.tasks.coordinating import coordinated
from madrigal.tasks.embedded.grammar import belongs
from madrigal.tasks.project import pages
from madrigal.tasks.project.corpus import PROGRAMS, SITES, examples
from madrigal.tasks.project.task import BUILDERS, CLIP, MAKER, PLANNER, REVIEWER, TEAM, Making, Project, ProjectTask
from madrigal.tasks.project.tree import Change, read, written
from madrigal.tasks.splits import with_validation
from madrigal.types import Completion, ConfigError, Example, Point, Split, Step, Turn


class Trusting:
    """Runs programs in this very process: for code that is written here."""

    def run(self, program: Program) -> Sequence[Verdict]:
        finders, path, space = list(sys.meta_path), list(sys.path), dict[str, Any]()
        sys.path.clear()  # a module that the project lacks is found nowhere else
        try:
            exec(program.source, space)
            return [self._one(space[program.entry_point], test) for test in program.tests if isinstance(test, CallTest)]
        finally:
            sys.meta_path[:], sys.path[:] = finders, path
            for name in space["_FILES"]:
                sys.modules.pop(name, None)

    def _one(self, function: Any, test: CallTest) -> Verdict:
        try:
            return Verdict("passed" if function(*eval(test.arguments)) == eval(test.expected) else "failed")
        except (LookupError, NameError, SyntaxError, ImportError, AttributeError) as error:
            return Verdict("error", f"{type(error).__name__}: {error}")


def made(**settings: Any) -> ProjectTask:
    return ProjectTask(Project(**settings), Trusting())


DATA = {**PLAIN, "brief": "tools.py: def double(x): Return twice x."}
ONE = """\
write tools.py
def double(x):
    return 2 * x
write run.py
from tools import double

def main(argv):
    return str(double(int(argv[0])))"""
TWO = """\
write test_tools.py
from tools import double

def test_double():
    assert double(3) == 6
write README.md
double(x), and run.py"""
START = made().reset(Example("x", DATA))


def go(state: Making, task: ProjectTask | None = None, **said: str) -> Step[Making]:
    return (task or made()).step(state, said)


def shown(state: Making, agent: str, task: ProjectTask | None = None, heard: Sequence[Turn] = ()) -> list[str]:
    (message,) = (task or made()).observe(state, agent, heard)
    return message.content.split("\n")


def planned(**settings: Any) -> Making:
    return go(START, made(**settings), planner="note builder1 writes all").state


# Rounds and rewards


def test_an_episode_by_hand() -> None:
    task = made()
    assert task.agents == TEAM and task.horizon == 3
    assert task.acting(START) == (PLANNER,)
    first = go(START, planner="note builder1 writes tools.py", builder1=ONE)
    assert first.rewards == dict.fromkeys(TEAM, 0) and not first.ending and first.state.files == {}
    assert task.acting(first.state) == BUILDERS
    second = go(first.state, builder1=ONE, builder2=TWO)
    assert second.rewards == dict.fromkeys(TEAM, 1) and not second.ending
    assert task.acting(second.state) == (REVIEWER,)
    third = go(second.state, reviewer="note done")
    assert third.rewards == dict.fromkeys(TEAM, 0) and third.ending == "solved"
    assert third.metrics == {
        "check/module": 100,
        "check/tests": 100,
        "check/command": 100,
        "check/readme": 100,
        "return_percent": 100,
        "unfinished": 0,
        "files": 4,
        "applied": 4,
        "refused": 0,
        "conflicts": 0,
        "words": sum(len(said.split()) for said in ("note builder1 writes tools.py", ONE, TWO, "note done")),
    }


def test_a_round_earns_what_it_added() -> None:
    """Module and command are worth 0.6, the tests 0.25; half a README 0.075."""
    first = go(planned(), builder1=ONE, builder2="write README.md\ndouble")
    assert first.rewards[PLANNER] == pytest.approx(0.6 + 0.075)
    second = go(first.state, reviewer=TWO)
    assert second.rewards[PLANNER] == pytest.approx(0.25 + 0.075) and second.ending == "solved"
    spoilt = go(first.state, reviewer="edit tools.py\nreplace double.return\nreturn x")
    assert spoilt.rewards[PLANNER] == pytest.approx(-0.4 * 3 / 4 - 0.2) and spoilt.ending == "horizon"
    assert spoilt.metrics["return_percent"] == pytest.approx(100 * (0.1 + 0.075))


def test_an_untouched_tree_earns_nothing() -> None:
    state = START
    for ending in ("", "", "horizon"):
        found = made().step(state, dict.fromkeys(made().acting(state), "I would rather not."))
        assert found.rewards == dict.fromkeys(TEAM, 0) and found.ending == ending
        assert found.metrics["check/module"] == found.metrics["return_percent"] == 0
        state = found.state


def test_what_costs() -> None:
    """A conflict and a file with an unfinished part cost 0.05 each, a hundred words what they are set to."""
    clash = go(planned(), builder1="write a.md\nx", builder2="write a.md\ny")
    assert clash.rewards[PLANNER] == pytest.approx(-0.05) and clash.state.files == {}
    assert clash.metrics["conflicts"] == 1 and clash.metrics["return_percent"] == 0
    assert go(clash.state, reviewer="write ../x").metrics["conflicts"] == 1, "counts are of the episode"
    todo = go(planned(), builder1=ONE, builder2=TWO + "\nTODO: more")
    assert todo.rewards[PLANNER] == pytest.approx(0.95) and todo.metrics["unfinished"] == 1
    assert go(todo.state, reviewer="note fine").ending == "horizon", "what is unfinished is not solved"
    task = made(words=0.5)
    assert go(planned(), task, builder1="one two", builder2="three").rewards[PLANNER] == pytest.approx(-0.5 * 3 / 100)


def test_more_passes_and_all_together() -> None:
    longer = made(passes=2)
    assert longer.horizon == 5
    state, acted = START, []
    for _ in range(5):
        acted.append(longer.acting(state))
        state = longer.step(state, {}).state
    assert acted == [(PLANNER,), BUILDERS, (REVIEWER,), BUILDERS, (REVIEWER,)]
    found = go(START, made(together=True), planner="note go", builder1=ONE, builder2=TWO, reviewer="note done")
    assert found.ending == "solved" and found.rewards == dict.fromkeys(TEAM, 1)


def test_one_agent_alone() -> None:
    assert alone(Project()) == Project(alone=True) and one_round(Project(passes=3)) == Project()
    task = made(alone=True)
    found = go(START, task, maker=f"{ONE}\n{TWO}")
    assert found.rewards == {MAKER: 1} and found.ending == "solved"
    assert shown(START, MAKER, task)[-1].startswith("Say it by lines: write PATH")


# What is shown


def test_what_an_agent_is_shown_at_first() -> None:
    assert shown(START, PLANNER) == [
        "tools.py: def double(x): Return twice x.",
        "missing: tools.py, run.py, test_tools.py, README.md",
        "You are the planner of builder1 and builder2. Say by lines who writes what: note TEXT.",
    ]


def test_what_is_told_between_rounds() -> None:
    """A mistake is told to who made it; files, notes, conflicts and checks to all."""
    answer = "Well.\nwrite ../x\nhello\nwrite a.md\nTODO"
    found = go(planned(passes=2), made(passes=2), builder1=answer, builder2="write b.md\n1\nnote mine is b")
    found = go(found.state, made(passes=2), reviewer="write b.md\n2\nnote b is mended")
    assert shown(found.state, BUILDERS[1], made(passes=2))[1:-1] == [
        "--- a.md",
        "TODO",
        "--- b.md",
        "2",
        "planner: builder1 writes all",
        "builder2: mine is b",
        "reviewer: b is mended",
        "missing: tools.py, run.py, test_tools.py, README.md",
        "unfinished: a.md: TODO",
    ]
    after = go(planned(), builder1=answer, builder2="write a.md\nx")
    own, other = shown(after.state, BUILDERS[0]), shown(after.state, BUILDERS[1])
    assert "not read: Well." in own and "not applied: write ../x (outside of the project)" in own
    assert not any(line.startswith("not ") for line in other)
    assert all("conflict: write a.md (builder1), write a.md (builder2)" in lines for lines in (own, other))


def test_who_speaks_later_hears_the_others() -> None:
    heard = Sequential().hears(BUILDERS[1], (Turn(BUILDERS[0], (), Completion("note I write all")),))
    assert "builder1 said: note I write all" in shown(planned(), BUILDERS[1], heard=heard)


def test_prompts_stay_short_whatever_is_said() -> None:
    """The brief, files of 1000 bytes with their names, two notes of each agent, and some ten lines of what is told."""
    task, state = made(passes=4), START
    junk = [
        "note " + "n" * 9999,
        "write ../" + "x" * 9999,
        "Well " * 999,
        "edit a.py\nrename x " + "y" * 999,
        "write a.py\nx = 1",
    ]
    junk += [f"write f{n}.html\n" + "<b>" * 99 for n in range(20)]
    for _ in range(task.horizon):
        said = {agent: "\n".join(junk * 3) + f"\nwrite own\n{agent}" for agent in TEAM}
        state = task.step(state, said).state
        assert all(len("\n".join(shown(state, agent)).encode()) < 1200 + 25 * CLIP for agent in TEAM)
    assert sum(len(path) + len(text.encode()) for path, text in state.files.items()) <= 1000


# Generated briefs


def every() -> list[Example]:
    return [each for split in ("train", "validation", "test") for each in examples(split)]  # type: ignore[arg-type]


def test_every_sort_is_there_and_kinds_are_held_out() -> None:
    splits: tuple[Split, ...] = ("train", "validation", "test")
    for split in splits:
        assert Counter(each.data["sort"] for each in examples(split)).keys() == {*PROGRAMS, *SITES}
        assert all(belongs(each.data["kind"], split) for each in examples(split))
    assert len({each.data["brief"] for each in examples("train")}) > 300
    assert {made(work="sites").examples("test")[n].data["sort"] for n in range(20)} == set(SITES)
    assert len(made(work="programs").examples("train")) + len(made(work="sites").examples("train")) == 350


def test_the_files_of_every_kind_earn_everything_and_no_files_nothing() -> None:
    task = made(together=True)
    for example in {each.data["kind"]: each for each in every()}.values():
        said = {BUILDERS[0]: written(Change("write", *file) for file in example.data["files"].items())}
        found, state = task.step(task.reset(example), said), task.reset(example)
        assert found.ending == "solved" and found.rewards[PLANNER] == pytest.approx(1), example
        assert not found.metrics["refused"] and not found.details["unfinished"], example
        if "pages" in example.data or example.id.endswith("0"):
            assert task.step(state, {}).rewards == dict.fromkeys(TEAM, 0)


def test_no_part_of_the_files_is_enough() -> None:
    task = made(together=True)
    for example in every()[::29]:
        for left_out in example.data["files"]:
            files = {path: text for path, text in example.data["files"].items() if path != left_out}
            said = {BUILDERS[0]: written(Change("write", *file) for file in files.items())}
            assert task.step(task.reset(example), said).rewards[PLANNER] < 0.9, (example, left_out)


@pytest.mark.parametrize("settings", [{}, {"together": True}, {"alone": True}, {"passes": 2}])
def test_demonstrations_make_the_whole_project(settings: Mapping[str, Any]) -> None:
    task = made(**settings)
    given = demonstrations_of(with_validation(task))
    assert given == task.demonstrations() and given.keys() == {each.id for each in task.examples("train")}
    for example in task.examples("train")[::17]:
        state, total, ending = task.reset(example), 0.0, ""
        for n in range(len(next(iter(given[example.id].values())))):
            assert not ending
            step = task.step(state, {agent: given[example.id][agent][n] for agent in task.acting(state)})
            state, total, ending = step.state, total + step.rewards[task.agents[0]], step.ending
        assert ending == "solved" and total == pytest.approx(1)
        parts = [read(text) for texts in given[example.id].values() for text in dict.fromkeys(texts)]
        assert sum(len(part.changes) for part in parts) == len(example.data["files"])


# Play


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_team_that_knows_how_is_paid_under_every_topology(name: str, together: bool) -> None:
    topology = TOPOLOGIES[name][0]
    task = coordinated(made(together=together), topology)
    chosen = [next(each for each in examples("test") if each.data["sort"] == sort) for sort in ("converter", "animal")]
    texts = {
        example.id: written(Change("write", *file) for file in example.data["files"].items()) for example in chosen
    }
    order = list(texts.values())

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [Completion(_say(one, order), seconds=1.0 + len(one.agent) / 8) for one in wanted]

    games = [EpisodeRun(play(task, topology, Point(e.id, task.reset(e))), (e.id,)) for e in chosen]
    for episode in drive(games, speak, judge_of(task)):
        assert episode.steps[-1].ending == "solved"
        assert sum(step.rewards[PLANNER] for step in episode.steps) == pytest.approx(1)


def _say(wanted: GenerationRequest, texts: Sequence[str]) -> str:
    """Builders write what the brief on top of their prompt asks for; a coordinator leaves the choice to the rules."""
    brief = wanted.prompt[0].content
    return {"builder1": texts["linked pages" in brief], "builder2": "note nothing left"}.get(wanted.agent, "note go")


def test_whatever_is_said_states_are_values() -> None:
    task, state = made(), START
    for _ in range(3):
        said = {agent: f"{ONE}\nremove tools.py\nedit run.py\ndelete main\n\x00\nwrite {agent}\nx" for agent in TEAM}
        before = copy.deepcopy(state)
        step = task.step(state, said)
        assert step == task.step(state, said) and state == before
        json.dumps(step.details)
        state = step.state


# Settings and data


def test_the_contract_and_one_example_of_each_sort_in_the_sandbox() -> None:
    with open_task(Project(together=True, unconfined=True)) as task:
        for sort in (*PROGRAMS, *SITES):
            example = next(each for each in task.examples("test") if each.data["sort"] == sort)
            said = {BUILDERS[0]: written(Change("write", *file) for file in example.data["files"].items())}
            assert task.step(task.reset(example), said).rewards[PLANNER] == pytest.approx(1), example
    with open_task(Project(unconfined=True)) as task:
        check_task(task)


def test_a_brief_of_ones_own_may_be_asked_about() -> None:
    state = ask(made(together=True), DATA)
    after = unjudged(made(together=True), state, {BUILDERS[0]: ONE, REVIEWER: "write /etc/passwd\nroot"})
    assert set(after.state.files) == {"tools.py", "run.py"} and set(after.rewards.values()) == {0.0}
    assert "not applied: write /etc/passwd (outside of the project)" in shown(after.state, REVIEWER)
    assert "missing: test_tools.py, README.md" in shown(after.state, REVIEWER)
    for changed, words in (
        ({"tests": []}, "got a brief without tests"),
        ({"module": "../tools.py"}, "expected paths inside of the project, got '../tools.py'"),
    ):
        with pytest.raises(ConfigError, match=words) as error:
            ask(made(), {**DATA, **changed})
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"passes": 0}, "task.passes: expected 1 to 4, got 0"),
        ({"files": 3}, "task.files: expected 4 to 32, got 3"),
        ({"size": 1_000_000}, "task.size: expected 800 to 10000, got 1000000"),
        ({"unfinished": -1}, "task.unfinished: expected 0 or more, got -1"),
        ({"conflict": float("inf")}, "task.conflict: expected 0 or more, got inf"),
        ({"words": float("nan")}, "task.words: expected 0 or more, got nan"),
        ({"program_seconds": 0}, "task.program_seconds: expected seconds above 0 and finite, got 0"),
        ({"memory_mb": 1}, "task.memory_mb: expected at least 64, got 1"),
    ],
)
def test_settings_that_cannot_be(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Project(**setting)


def test_without_a_parser_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"html5lib: pip install 'madrigal\[project\]'"), open_task(Project()):
        pass


def test_answers_of_the_demonstrations_fit_the_recipe() -> None:
    """In tokens of the starter models, the end token included; the longest has 156, as docs/project.md says."""
    tokenizer = Tokenizer.from_file(str(model_path("small") / "tokenizer.json"))
    texts = {text for said in made().demonstrations().values() for answers in said.values() for text in answers}
    longest = max(len(each.ids) for each in tokenizer.encode_batch(list(texts))) + 1
    assert longest == 156 <= recipe("project").sampling.max_new_tokens


def test_a_tiny_run(tmp_path: Path) -> None:
    """A step and two evaluations in words that mean nothing; in the folder are the task's own numbers."""
    api.train(
        "project",
        tmp_path / "run",
        steps=1,
        prompts=1,
        sampling={"max_new_tokens": 8},
        task={"unconfined": True},
        algorithm={"width": 2},
        evaluation={"examples": 1, "timed_examples": 0},
        warm={"demonstrations": ""},
    )
    (line,) = read_lines(tmp_path / "run" / "steps.jsonl")
    assert {"component/unfinished", "component/conflicts", "component/files", "component/refused"} <= line.keys()
    assert any(key.startswith("component/check/") for key in line)
