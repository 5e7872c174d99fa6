"""madrigal export: a team made of a checkpoint, or made for elsewhere: one folder, plain models, GGUF, the hub."""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from madrigal.commands.arguments import add_trust, parse
from madrigal.runs.plain import plain
from madrigal.types import ConfigError

if TYPE_CHECKING:
    from madrigal.training.whole import Source


def export_command(arguments: list[str]) -> int:
    """madrigal export RUN [--step N] [--whole | --merged | --gguf] [--push OWNER/NAME] [--output DIR] [--trust]"""
    options = parse(_parser(), arguments)
    if options.public and not options.push:
        raise ConfigError("export: --public is of a repository on the hub; name it with --push owner/name")
    if options.push and (options.merged or options.gguf):
        raise ConfigError("export: --push uploads a whole team; leave --merged and --gguf out")
    if options.dtype and not options.gguf:
        raise ConfigError("export: --dtype is of GGUF files; ask for them with --gguf")
    if not (options.whole or options.merged or options.gguf or options.push):
        from madrigal.training.saving import export

        print(export(options.run, options.step, options.output, trust=options.trust))
        return 0
    from madrigal.training.trained_team import source_of

    source = source_of(options.run, step=options.step, trust=options.trust)
    if options.push:
        print(_push(source, options))
    elif options.whole:
        from madrigal.training.whole import save_whole

        print(plain(save_whole(source, options.output or options.run / "whole"), lines=False))
    else:
        _write_models(source, options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="madrigal export", description="Make a team of a checkpoint of a run, or something that others can load."
    )
    parser.add_argument("run", type=Path, help="the folder of a run, or of a team that was saved as a whole")
    parser.add_argument("--step", type=int, help="the checkpoint's step; the newest by default, or the saved team")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--whole", action="store_true", help="one folder that is all it takes to load and ask the team")
    form.add_argument("--merged", action="store_true", help="plain models, adapters folded in: transformers, vLLM")
    form.add_argument("--gguf", action="store_true", help="GGUF files: llama.cpp, Ollama")
    parser.add_argument("--dtype", choices=("float16", "float32"), help="of GGUF files; float16 by default")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload the whole team to the Hugging Face hub")
    parser.add_argument("--public", action="store_true", help="a new repository is for everybody to see")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where to; by default RUN/whole, RUN/merged or RUN/gguf; of a checkpoint's team RUN/team where there is "
        "none yet, else RUN/team-step-N",
    )
    add_trust(parser)
    return parser


def _push(source: Source, options: argparse.Namespace) -> str:
    """Uploads the whole team, which stays on this machine where a folder was named; returns its address."""
    from madrigal.policies.hub import check_may_push, upload
    from madrigal.training.whole import save_whole

    check_may_push(options.push)
    with TemporaryDirectory() as made:
        folder = save_whole(source, options.output or Path(made) / "team", name=options.push)
        return upload(folder, options.push, public=options.public)


def _write_models(source: Source, options: argparse.Namespace) -> None:
    from madrigal.training.merging import write_ggufs, write_merged

    target = options.output or options.run / ("gguf" if options.gguf else "merged")
    written = write_ggufs(source, target, options.dtype or "float16") if options.gguf else write_merged(source, target)
    for place, agents in written.values():
        print(plain(f"{place}: {', '.join(agents)}", lines=False))
