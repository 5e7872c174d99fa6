"""Libraries below speak only of errors; progress belongs to Madrigal's own view."""

from __future__ import annotations

import logging
import sys
import warnings


def quiet_libraries() -> None:
    """Silences the bars and warnings of transformers, datasets, PEFT and the hub."""
    for name in ("transformers", "datasets", "peft", "httpx", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # peft asks transformers by a name that the latter is about to drop.
    warnings.filterwarnings("ignore", ".*gradient_checkpointing.*", FutureWarning)
    from transformers.utils import logging as hub_logging

    hub_logging.disable_progress_bar()
    if not sys.stderr.isatty():
        from datasets.utils.logging import disable_progress_bar

        disable_progress_bar()
