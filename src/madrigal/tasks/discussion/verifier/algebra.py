"""Whether answers equal a reference by algebra: a small program that `symbolic` runs in a process of its own.

Knows: math_verify, which is imported here alone. Does not know: questions, who asks.

One line of JSON in, one out: {"reference": "1/2", "answer": "0.5"} -> {"equal": true}, or {"error": "..."}.
math_verify stops what takes too long by signals, which reach only a main thread; hence a program.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    """Answers requests until the input ends; the argument is how many seconds one comparison may take."""
    seconds = int(sys.argv[1])
    from math_verify import parse, verify  # type: ignore[import-not-found,unused-ignore]

    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(compare(parse, verify, asked["reference"], asked["answer"], seconds)), flush=True)


def compare(parse: Any, verify: Any, reference: str, answer: str, seconds: int) -> dict[str, Any]:
    """Whether the answer was shown to equal the reference in time."""
    gold = parse(reference, parsing_timeout=seconds) or parse(f"${reference}$", parsing_timeout=seconds)
    if not gold:
        return {"error": f"expected a reference answer that can be read as mathematics, got {reference[:60]!r}"}
    read = parse(answer, parsing_timeout=seconds)
    return {"equal": bool(read) and bool(verify(gold, read, timeout_seconds=seconds))}


if __name__ == "__main__":
    main()
