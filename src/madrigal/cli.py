"""The command line: what is typed, and what becomes of an error."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from collections.abc import Callable

Command = Callable[[list[str]], int]

USAGE = """usage: madrigal <command> ...

  train RECIPE [--name N] [--runs DIR] [--resume] [--overwrite] [--from RUN] [--trust] [--quiet]
               [--cluster local|auto|HOST:PORT] [--any.setting value]
                       train a team; RECIPE is a name (madrigal list), a run folder, an experiment.json, an own
                       task as file.py:name or an environment (textarena:SimpleTak-v0); every setting can be
                       overridden (madrigal train RECIPE --help)
  plan RECIPE [--any.setting value]           what training would take of this machine: memory, tokens, seconds
  evaluate RUN [--step N] [--json] [--trust]  repeat the held-out evaluation of a saved team, or of a checkpoint
  evaluate RECIPE [--json] [--any.setting value]   evaluate the models that a recipe starts from
  ask RUN|OWNER/NAME "TEXT" | --input FILE | - [--json] [--seed N] [--greedy] [--trust]
                       a trained team answers something new; no reference is needed
  serve RUN|OWNER/NAME [--port N] [--name NAME] [--step N] [--ignore-history] [--trust]
                       a trained team behind OpenAI's interface, on this machine
  gateway --agents A,B --examples FILE [--sessions G] [--port N] [--resume] [--any.setting value]
                       train a team that programs of your own play, by OpenAI's interface, on this machine
  export RUN [--step N] [--output DIR] [--trust]   make a team of a checkpoint
  export RUN --whole|--merged|--gguf|--push OWNER/NAME   a team for elsewhere: one folder, plain models, GGUF, the hub
  compare RECIPE [--seeds N ...] [--samples N] [--only NAME ...] [--json] [--any.setting value]
                       train and play the team and its baselines on equal budget; or compare RUN RUN... as they are
  play RECIPE|RUN [--example ID | --split NAME] [--episodes N] [--seat AGENT ...] [--untrained] [--json]
                       watch episodes turn by turn, or answer for an agent yourself
  analyze RUN... [--examples N] [--json]      does the team cooperate? what is lost without an agent; alarms
  report RUN... [--output FILE]               one page about runs: results, curves, alarms, transcripts
  view RUN... [--port N]                      the same page in a browser, up to date while runs go on
  score TASK --data FILE --answers FILE       score given joint answers without any model
  verifier data|train|check|serve             a learned verifier of answers: its data, training, calibration, server
  models [fetch NAME]                         models by a short name; bring one onto this machine
  engine serve RECIPE|RUN|MODEL               vLLM's server on this machine, to train with
  list [--json]                               tasks, recipes, algorithms, topologies
  version                                     what this is

--trust lets a file or run folder import own code, switch off the sandbox, or send to an endpoint or tracker

start with: madrigal train tldr
"""


COMMANDS = (
    "train",
    "plan",
    "evaluate",
    "ask",
    "serve",
    "gateway",
    "export",
    "compare",
    "play",
    "analyze",
    "report",
    "view",
    "score",
    "verifier",
    "models",
    "engine",
    "list",
)


def main() -> None:
    """Entry point of `madrigal`; errors that a user can mend are one line and exit code 2."""
    for name, value in environment().items():
        os.environ.setdefault(name, value)
    from madrigal.runs.signals import ending_cleanly

    with ending_cleanly():
        sys.exit(run(sys.argv[1:]))


def environment() -> dict[str, str]:
    """What libraries read when they are imported: they speak only of errors, since progress is shown by Madrigal."""
    quiet = dict.fromkeys(("TRANSFORMERS_VERBOSITY", "DATASETS_VERBOSITY", "HF_HUB_VERBOSITY"), "error")
    bars = {} if sys.stderr.isatty() else {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    # Spinning OpenMP threads make runs on shared cores many times slower.
    threads = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
    return {**threads, **quiet, **bars, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def run(arguments: list[str]) -> int:
    """Runs one command and returns the exit code."""
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(USAGE, end="")
        return 0 if arguments else 2
    if arguments[0] in {"--version", "version"}:
        from madrigal import __version__

        print(f"madrigal {__version__}")
        return 0
    from madrigal.types import MadrigalError

    try:
        return command(arguments[0])(arguments[1:])
    except MadrigalError as error:
        from madrigal.runs.plain import plain  # an error may quote what a model wrote

        print(f"madrigal: error: {plain(' '.join(str(error).split()))}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        print("madrigal: stopped; what the last checkpoint holds is safe, go on with --resume", file=sys.stderr)
        return 130
    except OSError as error:
        from madrigal.runs.plain import plain

        print(f"madrigal: error: {plain(error, lines=False)}", file=sys.stderr)
        return 2


def command(name: str) -> Command:
    """A command by name; its module is imported only now, so that none waits for what another one needs.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in COMMANDS:
        from madrigal.types import ConfigError, unknown

        raise ConfigError(unknown("command", name, COMMANDS))
    if name != "train" and int(os.environ.get("WORLD_SIZE", "1")) > 1 and "TORCHELASTIC_RUN_ID" in os.environ:
        from madrigal.types import ConfigError

        raise ConfigError(f"{name}: only madrigal train shares its work among the processes of torchrun; leave it out")
    _quiet()
    found: Command = getattr(importlib.import_module(f"madrigal.commands.{name}"), f"{name}_command")
    return found


def _quiet() -> None:
    for name in ("peft", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # peft asks transformers by a name that the latter is about to drop.
    warnings.filterwarnings("ignore", ".*gradient_checkpointing.*", FutureWarning)
