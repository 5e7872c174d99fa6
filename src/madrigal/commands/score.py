"""Scores given joint answers without any model: how anybody checks a reward or debugs an own one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from madrigal.commands.arguments import parse
from madrigal.rollouts.task import Task, check_step
from madrigal.tasks.catalog import ENVIRONMENTS, OWN, TASKS, Entry, environment_named
from madrigal.tasks.coding.config import Coding
from madrigal.tasks.data import read_rows, row_id
from madrigal.tasks.own import CustomTask
from madrigal.tasks.writing.task import Arxiv, Tldr
from madrigal.types import ConfigError, Example, TaskError, joint_reward, unknown


def score_command(arguments: list[str]) -> int:
    """madrigal score TASK --data FILE --answers FILE [--output FILE] [--aux-required] [--test-seconds N] ..."""
    parser = argparse.ArgumentParser(
        prog="madrigal score",
        description="Score given joint answers without any model. Answers are lines of JSON: an id of the data and "
        "answers keyed by agent; the same lines come out with reward, components and details.",
    )
    parser.add_argument(
        "task", help=f"{', '.join(TASKS)}, an environment (madrigal list), or file.py:name of an own task"
    )
    parser.add_argument("--data", required=True, help="a .jsonl, .json, .parquet or .csv file (.gz too), or embedded")
    parser.add_argument("--answers", required=True, help="a .jsonl file: id, answers")
    parser.add_argument("--output", type=Path, help="where the scored lines go; the screen by default")
    parser.add_argument("--column", help="tldr, arxiv: the column of the source; prompt or abstract_text by default")
    parser.add_argument("--reference", default="", help="tldr, arxiv: the column of a given text, for ROUGE")
    parser.add_argument("--transitions", default="", help="tldr, arxiv: a JSON file of transitions by category")
    parser.add_argument("--aux-required", action="store_true", help="coding: level 1 needs both functions")
    parser.add_argument("--test-seconds", type=float, help="coding: processor time of one test; 10 by default")
    parser.add_argument("--program-seconds", type=float, help="coding: that of all tests together; 60 by default")
    parser.add_argument("--unconfined", action="store_true", help="coding: run even where code cannot be confined")
    options = parse(parser, arguments)
    entry = _entry(options.task)
    config = entry.config
    if isinstance(config, Coding):
        config = replace(
            config,
            aux_required=options.aux_required,
            unconfined=options.unconfined,
            test_seconds=config.test_seconds if options.test_seconds is None else options.test_seconds,
            program_seconds=config.program_seconds if options.program_seconds is None else options.program_seconds,
        )
    if isinstance(config, Tldr | Arxiv):
        config = replace(
            config,
            source=replace(config.source, data=options.data),
            column=options.column or config.column,
            reference=options.reference,
            transitions=options.transitions,
        )
    with entry.open(config) as task:
        examples = _examples(task, options.data, entry.columns)
        answers = list(_answers(options.answers, examples, task))
        with ThreadPoolExecutor() as pool:
            scored = pool.map(lambda row: score(task, examples[row["id"]], row), answers)
            _write(scored, options.output)
    return 0


def score(task: Task[Any], example: Example, row: Mapping[str, Any]) -> dict[str, Any]:
    """One joint answer with its reward, its components and, for code, the verdict of every test."""
    step = check_step(task, task.step(task.reset(example), row["answers"]))
    scored = {**row, "reward": joint_reward(step), "components": dict(step.metrics)}
    if len(set(step.rewards.values())) > 1:
        scored["rewards"] = dict(step.rewards)
    return scored | dict(step.details)


def _entry(name: str) -> Entry:
    """A task of the catalog, an environment of another library, or an own task as file.py:name."""
    if (environment := environment_named(name)) is not None:
        return replace(ENVIRONMENTS[name.partition(":")[0]], config=environment)
    if ":" in name:
        return replace(OWN, config=CustomTask(name))
    if name not in TASKS:
        raise ConfigError(unknown("task", name, TASKS))
    return TASKS[name]


def _examples(task: Task[Any], data: str, columns: Sequence[str]) -> dict[str, Example]:
    """The examples by id: a row's own id, or its place in the file, also as transcripts write it: train-3, test-3.

    Raises:
        TaskError: if a row lacks one of the columns, or two rows have the same id: an answer could mean either.
    """
    if data == "embedded":
        return {e.id: e for e in (*task.examples("train"), *task.examples("test"))}
    examples: dict[str, Example] = {}
    places: dict[str, int] = {}
    for place, row in enumerate(read_rows(data)):
        name, other = row_id(row, place, "train"), row_id(row, place, "test")
        missing = [column for column in columns if column not in row]
        if missing:
            raise TaskError(
                f"{data}, row {place}: expected the columns {', '.join(missing)} for {task.name}, "
                f"found {', '.join(row)}"
            )
        names = [name] if name == other else [str(place), name, other]
        if twice := [n for n in names if n in examples]:
            raise TaskError(
                f"{data}: rows {places[twice[0]]} and {place} both go by the id {twice[0]!r}, so that an answer to it "
                "could mean either; give each row an id of its own"
            )
        examples |= dict.fromkeys(names, Example(name, row))
        places |= dict.fromkeys(names, place)
    return examples


def _answers(file: str, examples: Mapping[str, Example], task: Task[Any]) -> Iterator[dict[str, Any]]:
    for place, row in enumerate(read_rows(file), start=1):
        where = f"{file}, row {place}"
        if "id" not in row or not isinstance(row.get("answers"), dict):
            raise TaskError(f"{where}: expected an id and answers keyed by agent, found {', '.join(row) or 'nothing'}")
        row = {**row, "id": str(row["id"])}
        if row["id"] not in examples:
            raise TaskError(
                f"{where}: there is no example {row['id']!r} in the data; ids start with {next(iter(examples))!r}"
            )
        if set(row["answers"]) != set(task.agents):
            raise TaskError(
                f"{where}: expected answers of {', '.join(task.agents)}, found {', '.join(row['answers']) or 'none'}"
            )
        if not all(isinstance(text, str) for text in row["answers"].values()):
            raise TaskError(f"{where}: every answer must be a text")
        yield row


def _write(rows: Iterator[dict[str, Any]], output: Path | None) -> None:
    if output is None:
        for row in rows:
            sys.stdout.write(json.dumps(row, default=str) + "\n")
        return
    try:
        with output.open("w") as stream:
            stream.writelines(json.dumps(row, default=str) + "\n" for row in rows)
    except OSError as error:
        raise ConfigError(f"{output} could not be written: {error.strerror}") from error
