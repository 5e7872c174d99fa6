"""The colours of the page: readable on their ground, and told apart by people who see fewer of them."""

from __future__ import annotations

import re
from itertools import combinations, pairwise
from pathlib import Path

import pytest

import madrigal.report

CSS = (Path(madrigal.report.__file__).parent / "page" / "page.css").read_text()
Colour = tuple[float, float, float]

# Machado, Oliveira and Fernandes, 2009, "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# severity 1, for linear RGB.
EYES = {
    "all cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


def themes() -> dict[str, dict[str, str]]:
    """The variables of both themes."""
    found = {}
    for name in ("light", "dark"):
        block = re.search(rf':root\[data-theme="{name}"\] {{(.*?)}}', CSS, re.DOTALL)
        assert block
        found[name] = dict(re.findall(r"--([\w-]+): (#\w{6})", block[1]))
    return found


THEMES = themes()


def linear(colour: str) -> Colour:
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    )
    return red, green, blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.2: the ratio of relative luminances."""
    light = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in map(linear, (one, other)))
    return (light[1] + 0.05) / (light[0] + 0.05)


def lab(colour: Colour) -> Colour:
    """CIE Lab under D65."""
    rows = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    white = (0.9505, 1.0, 1.089)
    x, y, z = (
        (value / scale) ** (1 / 3) if value / scale > 0.008856 else 7.787 * value / scale + 16 / 116
        for value, scale in zip((max(0.0, sum(map(float.__mul__, row, colour))) for row in rows), white, strict=True)
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def difference(one: str, other: str, eyes: str) -> float:
    """CIE76: about 2 is just seen side by side."""
    seen = []
    for colour in (one, other):
        light = [sum(a * b for a, b in zip(row, linear(colour), strict=True)) for row in EYES[eyes]]
        seen.append(lab((min(1.0, light[0]), min(1.0, light[1]), min(1.0, light[2]))))
    return float(sum((a - b) ** 2 for a, b in zip(*seen, strict=True)) ** 0.5)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("ground", ["surface", "raised"])
def test_text_has_the_contrast_of_wcag_aa(theme: str, ground: str) -> None:
    """Names of agents are written in the colours of their series, so these are text too."""
    colours = THEMES[theme]
    words = ["ink", "muted", "accent", "warn", *(name for name in colours if name.startswith("series"))]
    assert {
        name: contrast(colours[name], colours[ground])
        for name in words
        if contrast(colours[name], colours[ground]) < 4.5
    } == {}


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("eyes", EYES)
def test_the_first_series_are_told_apart_with_any_eyes(theme: str, eyes: str) -> None:
    colours = [THEMES[theme][f"series-{number}"] for number in range(1, 5)]
    near = {pair: difference(*pair, eyes) for pair in combinations(colours, 2) if difference(*pair, eyes) < 20}
    assert near == {}


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("eyes", EYES)
def test_neighbouring_areas_are_told_apart(theme: str, eyes: str) -> None:
    colours = [THEMES[theme][name] for name in ("series-1", "series-2", "series-3", "series-4", "rule")]
    assert all(difference(one, other, eyes) > 20 for one, other in pairwise(colours))


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("eyes", EYES)
def test_likelier_and_less_likely_are_told_apart(theme: str, eyes: str) -> None:
    assert difference(THEMES[theme]["up"], THEMES[theme]["down"], eyes) > 40


def test_automatic_dark_is_dark() -> None:
    """Written twice, since CSS cannot name a group of variables."""
    (automatic,) = re.findall(r"prefers-color-scheme: dark\) {.*?{(.*?)}", CSS, re.DOTALL)
    assert dict(re.findall(r"--([\w-]+): (#\w{6})", automatic)) == THEMES["dark"]
