"""The colors of the page are readable on their ground, in both themes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import madrigal.report

CSS = (Path(madrigal.report.__file__).parent / "page" / "page.css").read_text()


def themes() -> dict[str, dict[str, str]]:
    """The variables of both themes."""
    colors = {}
    for name in ("light", "dark"):
        block = re.search(rf':root\[data-theme="{name}"\] {{(.*?)}}', CSS, re.DOTALL)
        assert block
        colors[name] = dict(re.findall(r"--([\w-]+): (#\w{6})", block[1]))
    return colors


THEMES = themes()


def luminance(color: str) -> float:
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.2: the ratio of relative luminances."""
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("ground", ["surface", "raised"])
def test_text_has_the_contrast_of_wcag_aa(theme: str, ground: str) -> None:
    """Names of agents are written in the colors of their series, so these are text too."""
    colors = THEMES[theme]
    words = ["ink", "muted", "accent", "warn", *(name for name in colors if name.startswith("series"))]
    ratios = {name: contrast(colors[name], colors[ground]) for name in words}
    assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}


def test_automatic_dark_is_dark() -> None:
    """Written twice, since CSS cannot name a group of variables."""
    (automatic,) = re.findall(r"prefers-color-scheme: dark\) {.*?{(.*?)}", CSS, re.DOTALL)
    assert dict(re.findall(r"--([\w-]+): (#\w{6})", automatic)) == THEMES["dark"]
