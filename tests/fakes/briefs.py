"""A brief of a small program, for tests of the project task."""

from __future__ import annotations

from typing import Any

DATA: dict[str, Any] = {
    "brief": "tools.py: def double(x)",
    "module": "tools.py",
    "function": "double(x)",
    "tests": [["(1,)", "2"], ["(2,)", "4"], ["(3,)", "6"], ["(0,)", "0"]],
    "broken": "def double(x):\n    return x + 2",
    "test_file": "test_tools.py",
    "command": "run.py",
    "calls": [[["2"], "4"], [["5"], "10"]],
    "readme": "README.md",
}
