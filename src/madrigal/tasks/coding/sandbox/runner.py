"""Turns a forked process into a candidate, which answers calls, or a checker, which makes them.

Messages, in the order of a conversation:

    parent -> candidate   ("candidate", prelude, source, entry point)
    candidate -> parent   ("ready",) | ("unconfined", why)           sent before any foreign code runs
                          ("loaded",) | ("raised", type, text)
    parent -> candidate   (number, arguments, keywords, watch)
    candidate -> parent   (number, "value", value, changed) | (number, "items", [...], changed)
                          (number, "foreign", text) | (number, "raised", type, text)
    parent -> checker     ("checker", prelude, entry point)           answered like a candidate's first message
                          (number, check)
    checker -> parent     ("call", arguments, keywords)               answered by (number, "value", ...) and so on
                          ("verdict", number, outcome, text)

`watch` is true for checks alone. Then `changed` are arguments and keywords as the candidate left them, or None where
it left them as they were, and an iterator, which cannot cross, comes as the "items" that it yields.

Only the standard library: the confined processes import this file.
"""

from __future__ import annotations

import os
import random
import sys
from typing import Never

from .candidate import serve_candidate
from .channel import receive_frame, send_frame
from .checker import serve_checker
from .guards import Settings, confine_child

RECURSION = 5000


def serve(settings: Settings, server: int, result: int) -> Never:
    """Turns a fork of the server into a confined candidate or checker; never returns."""
    try:
        confine_child(settings, server, result)
    except OSError as error:
        send_frame(result, ("unconfined", str(error)))
    else:
        send_frame(result, ("ready",))
        _converse(result, settings["output_bytes"])
    finally:
        os._exit(1)


def _converse(descriptor: int, most: int) -> None:
    sys.setrecursionlimit(RECURSION)
    random.seed(0)  # the same program must get the same verdict
    role, *texts = receive_frame(descriptor)
    if role == "candidate":
        serve_candidate(descriptor, most, *map(str, texts))
    else:
        serve_checker(descriptor, *map(str, texts))
