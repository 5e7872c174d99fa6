"""Pre-trains a starter model from scratch within a budget of minutes.

    PYTHONPATH=tools python -m pretraining.pretrain --size small --minutes 30 --seed 0 --out DIR

A usable model lies in DIR minutes after the start.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from madrigal.policies.starter import SIZES


def main() -> None:
    """Reads the command line and pre-trains."""
    parser = argparse.ArgumentParser(description="Pre-trains a starter model from scratch.")
    parser.add_argument("--size", choices=SIZES, required=True)
    parser.add_argument("--family", choices=["qwen3", "llama", "mistral", "gpt2"], default="qwen3")
    parser.add_argument("--domains", nargs="+", help="of the mixture; all of them unless named")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    # torch reads this when it is imported; without it, waiting threads spin and starve every other process.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from pretraining.mixture import DOMAINS
    from pretraining.recipe import pretrain

    domains = arguments.domains or DOMAINS
    if unknown := sorted({*domains} - {*DOMAINS}):
        parser.error(f"--domains: expected some of {', '.join(DOMAINS)}, got {', '.join(unknown)}")
    sized = (arguments.size, arguments.minutes, arguments.seed, arguments.out, arguments.threads)
    pretrain(*sized, arguments.family, domains)


if __name__ == "__main__":
    main()
