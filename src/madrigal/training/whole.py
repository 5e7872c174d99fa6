"""Saves a team as one folder that is all it takes to ask it: weights, prompts, settings, results, and a card.

What a base model that others can have holds is not copied: an adapter names it, and so does a seat that never learned.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import cycle
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any

import madrigal
from madrigal.config import Experiment, to_json, with_places
from madrigal.policies.catalog import CATALOG
from madrigal.policies.local import STARTER, resolve_model
from madrigal.policies.team import TEAM, places_of
from madrigal.report.card import Base, card, prompts
from madrigal.rollouts.play import EpisodeRun, GenerationRequest, StepRequest, drive, play
from madrigal.rollouts.task import Task
from madrigal.rollouts.task.asking import ASKED, ask, unjudged
from madrigal.rollouts.topology import Coordinated
from madrigal.runs.files import flush, remedy, remove_folder
from madrigal.runs.folders import EXPERIMENT
from madrigal.runs.log import EPISODES, EVALUATION, LAST, read_lines
from madrigal.runs.manifest import files_in
from madrigal.runs.provenance import FILE as ABOUT
from madrigal.runs.provenance import LIBRARIES, read_about
from madrigal.runs.read import read_run
from madrigal.runs.whole import CARD, READ, is_whole, write_manifest
from madrigal.settings import ClusterConfig, EngineConfig, PolicyConfig, RecordsConfig
from madrigal.training.teams import saved_team, seats_of, team_of_run
from madrigal.types import AgentId, Completion, ConfigError, MadrigalError, Point, Step, TrainingError

PROMPTS = "prompts.md"
STARTER_LICENSE = "Apache-2.0"  # of this package, which they come with
NEEDED = (
    "path",
    "script",
    "environment",
    "observe",
    "reworded",
    "transitions",
)  # settings of files without which a team cannot be asked


@dataclass(frozen=True, slots=True)
class Source:
    """Whose team is saved.

    Attributes:
        folder: of its run, or of a team that was saved as a whole before.
        task: what its agents are shown.
        step: of the checkpoint that is meant; None for the saved team.
    """

    folder: Path
    run: Experiment
    task: Task[Any]
    step: int | None = None


@dataclass(frozen=True, slots=True)
class _Bases:
    """The base models of a team.

    Attributes:
        pointed: those that are part of the team and have to be had: below an adapter, or in a seat that never learned.
        held: of every agent, the name of its base and what lies in the team's folder for it.
    """

    pointed: frozenset[str]
    held: Mapping[AgentId, tuple[str, str]]


def save_whole(source: Source, target: Path, *, name: str = "") -> Path:
    """Writes a team as one folder, whole or not at all, and returns the folder.

    Args:
        name: by which the hub will know it, for its card.

    Raises:
        ConfigError: if something else lies there, or a part of the team cannot be saved with it.
        TrainingError: if it cannot be written.
    """
    if target.exists() and not (target.is_dir() and (is_whole(target) or not any(target.iterdir()))):
        raise ConfigError(f"--output: {target} exists and is no team that was saved as a whole; name another folder")
    draft = target.with_name(f".{target.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        with team_on_disk(source) as team:
            _write(source, team, draft, name)
        for path in draft.rglob("*"):
            flush(path)
        remove_folder(target)
        draft.rename(target)
    except OSError as error:
        raise TrainingError(f"team {target} could not be written ({error}); {remedy(error)}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


@contextmanager
def team_on_disk(source: Source) -> Iterator[Path]:
    """A folder with the saved team that is meant; that of a checkpoint, or of what never trained, is made for now."""
    saved = saved_team(source.folder, source.run)
    if source.step is None and saved is not None:
        yield saved
        return
    with TemporaryDirectory() as made:
        team_of_run(source.folder, source.run, source.task.agents, source.step).save(Path(made))
        yield Path(made)


def _write(source: Source, team: Path, draft: Path, name: str) -> None:
    bases = _bases(source)
    inner = _Copies(draft)
    run = portable(source.run, bases.pointed, inner)
    _copy_team(team, draft / "team", source, bases, inner)
    (draft / EXPERIMENT).write_text(to_json(run))
    about = read_about(source.folder)
    sessions = [{**session, "changes": {}} for session in about.get("sessions", [])]  # they may name places
    made = about.get("team_step", run.steps) if source.step is None else source.step
    (draft / ABOUT).write_text(json.dumps(about | {"sessions": sessions, "team_step": made}, indent=2) + "\n")
    if (source.folder / EVALUATION).is_file():
        shutil.copyfile(source.folder / EVALUATION, draft / EVALUATION)
    settings = json.loads(to_json(run))
    (draft / PROMPTS).write_text(prompts(_shown_to(source), settings), encoding="utf-8", errors="replace")
    versions = {"madrigal": madrigal.__version__, **{library: version(library) for library in LIBRARIES}}
    recorded = replace(read_run(source.folder), settings=settings)
    readme = card(recorded, _listed(source, bases), versions, name=name)
    (draft / CARD).write_text(readme, encoding="utf-8", errors="replace")
    write_manifest(draft, versions)


def _bases(source: Source) -> _Bases:
    held, pointed = dict[AgentId, tuple[str, str]](), set[str]()
    for agent in source.task.agents:
        config = config_of(source.run, agent)
        if config.outside:
            held[agent] = config.speaker, "elsewhere"
            continue
        there = "adapter" if config.lora.rank else "nothing" if _stays(source.run, config) else "weights"
        held[agent] = config.model, there
        pointed |= {config.model} if there != "weights" else set()
    return _Bases(frozenset(pointed), held)


def config_of(run: Experiment, agent: AgentId) -> PolicyConfig:
    """The settings of an agent's policy."""
    return run.team.policy if run.team.shared else run.team.seats.get(agent, run.team.policy)


def _stays(run: Experiment, config: PolicyConfig) -> bool:
    """Whether the weights of a policy are those of its base model, now and forever."""
    return not (config.lora.rank or run.team.start or (config.trainable and run.trains))


class _Copies:
    """Files and models that settings name on this machine, copied into a team's folder each once."""

    def __init__(self, draft: Path) -> None:
        self.draft, self.names = draft, dict[str, str]()

    def model(self, name: str) -> str:
        """The name of a model in the folder: that of a place on this machine is copied, others are had by everybody."""
        if _is_known(name):
            return name
        return self._once(name, "base", Path(resolve_model(name)))

    def file(self, name: str) -> str:
        """The name of a file in the folder."""
        return self._once(name, "files", Path(name).expanduser())

    def _once(self, name: str, part: str, place: Path) -> str:
        if name not in self.names:
            stem = PurePath(name).name.removesuffix(".gguf")
            taken = {*self.names.values()}
            free = (f"{part}/{stem}" if n == 1 else f"{part}/{n}-{stem}" for n in range(1, len(taken) + 2))
            self.names[name] = next(each for each in free if each not in taken)
            _copy(place, self.draft / self.names[name])
        return self.names[name]


def _is_known(model: str) -> bool:
    """Whether a model is had by its name on every machine: a shipped one, one of the catalog, one of the hub."""
    place = Path(model).expanduser()
    return model.startswith(STARTER) or model in CATALOG or not (place.is_absolute() or place.exists())


def portable(run: Experiment, pointed: frozenset[str], inner: _Copies) -> Experiment:
    """The settings of a team as another machine can read them: nothing of them names a place on this one.

    What the team needs to be asked is copied. Data are not: of them, as of models that it has grown out of, the last
    part of the name stays.
    """

    def change(key: str, place: str) -> str:
        if key == "start":  # the weights came from elsewhere, and are here now
            return "team"
        if key == "model" and place in pointed:
            return inner.model(place)
        file, marked, task = place.partition(".py:")
        if key in NEEDED and Path(f"{file}{'.py' if marked else ''}").expanduser().is_file():
            return f"{inner.file(f'{file}.py')}:{task}" if marked else inner.file(place)
        return PurePath(place).name if Path(place).expanduser().is_absolute() else place

    def local(config: PolicyConfig) -> PolicyConfig:
        return replace(config, engine=EngineConfig())

    team = replace(
        run.team,
        policy=local(run.team.policy),
        seats={agent: local(config) for agent, config in run.team.seats.items()},
        device="cpu" if run.team.device == "cpu" else "auto",
    )
    return with_places(replace(run, team=team, records=RecordsConfig(), cluster=ClusterConfig(), memory=None), change)


def _copy_team(team: Path, target: Path, source: Source, bases: _Bases, inner: _Copies) -> None:
    """Copies the weights of a saved team, each policy's once, with pointers for seats that never learned."""
    target.mkdir()
    places, copied, rounds = places_of(team), dict[str, str](), list[dict[AgentId, dict[str, str]]]()
    for seats in seats_of(source.run.team, source.task.agents):
        record = dict[AgentId, dict[str, str]]()
        for agent, (policy, config, place) in seats.items():
            name, there = bases.held[agent]
            if there in ("nothing", "elsewhere"):
                record[agent] = {"policy": policy, "base": inner.model(name) if there == "nothing" else name}
                continue
            if policy not in copied:
                copied[policy] = place
                _copy(team / places[place].folder, target / place)
                _name_base(target / place / "adapter_config.json", inner, config.model)
            record[agent] = {"policy": policy, "folder": copied[policy]}
        rounds.append(record)
    later = {"later": rounds[1:]} if rounds[1:] else {}
    (target / TEAM).write_text(json.dumps({"seats": rounds[0], "shared": source.run.team.shared, **later}, indent=2))


def _name_base(file: Path, inner: _Copies, base: str) -> None:
    """PEFT has noted where the base model lay on this machine."""
    if file.is_file():
        name = CATALOG[base].hub if base in CATALOG else inner.model(base)
        file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": name}, indent=2))


def _copy(place: Path, target: Path) -> None:
    """Copies a file, or of a model's folder what is read of it.

    Raises:
        ConfigError: if it holds no weights in safetensors.
    """
    target.parent.mkdir(exist_ok=True)
    if place.is_file():
        shutil.copyfile(place, target)
        return
    names = [name for name in files_in(place) if "/" not in name and PurePath(name).suffix in READ - {".md", ".py"}]
    if not any(name.endswith(".safetensors") for name in names):
        raise ConfigError(f"team: expected safetensors in {place}, found none; save its weights with save_pretrained")
    target.mkdir()
    for name in names:
        shutil.copyfile(place / name, target / name)


def _listed(source: Source, bases: _Bases) -> list[Base]:
    """The base models for the card."""
    names = dict.fromkeys(model for model, _ in bases.held.values())
    return [_base(name, {a: there for a, (model, there) in bases.held.items() if model == name}) for name in names]


def _base(name: str, agents: Mapping[AgentId, str]) -> Base:
    if "elsewhere" in agents.values():
        return Base(name, "", "", agents)
    if name.startswith(STARTER):
        return Base(f"{name} of madrigal", "", STARTER_LICENSE, agents)
    if name in CATALOG:
        return Base(name, CATALOG[name].hub, CATALOG[name].license, agents)
    if not _is_known(name):
        return Base(PurePath(name).name, "", "", agents)
    return Base(name, name, next((model.license for model in CATALOG.values() if model.hub == name), ""), agents)


def _shown_to(source: Source) -> Sequence[Mapping[str, Any]]:
    """The turns of an episode with {braces} for the question and the answers; else those of a recorded one."""
    try:
        return _blank_turns(source)
    except (MadrigalError, LookupError, TypeError, ValueError):  # a task may read what it is given
        pass
    recorded: Iterator[Mapping[str, Any]] = (
        episode for episode in read_lines(source.folder / EPISODES) if episode.get("evaluation") == LAST
    )
    return list(next(recorded, {}).get("turns", []))


def _blank_turns(source: Source) -> list[Mapping[str, Any]]:
    task, topology = source.task, source.run.topology
    called = cycle(agent for agent in task.agents)

    def speak(requests: Sequence[GenerationRequest]) -> list[Completion]:
        calls = isinstance(topology, Coordinated)
        names = {topology.coordinator} if isinstance(topology, Coordinated) else set()
        return [
            Completion(next(called) if calls and r.agent in names else f"{{what {r.agent} answered}}") for r in requests
        ]

    def judge(requests: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
        return [unjudged(task, request.state, request.actions) for request in requests]

    start = Point(ASKED, ask(task, "{the question}"))
    (episode,) = drive([EpisodeRun(play(task, topology, start), ())], speak, judge)
    return [
        {
            "agent": turn.agent,
            "round": turn.round,
            "prompt": [{"role": message.role, "content": message.content} for message in turn.prompt],
        }
        for turn in episode.turns
    ]
