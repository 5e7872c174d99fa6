"""Makes an SVG file a part of a page: its colours follow the page's theme, and it needs no style of its own.

Knows: what matplotlib writes. Does not know: matplotlib, charts.

Drawings use a few colours that stand for roles, and each becomes a CSS variable. Style attributes become plain ones,
since the page's content policy forbids the former; ids get a mark, since a page holds many drawings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from madrigal.report.markup import text

INK, MUTED, RULE, SURFACE = "#010101", "#020202", "#030303", "#040404"
SERIES, QUIET = 8, -1
_ROLES = {INK: "ink", MUTED: "muted", RULE: "rule", SURFACE: "surface"}
_ROLES |= {f"#0505{number:02x}": f"series-{number}" for number in range(SERIES + 1)}
_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_REFERENCE = re.compile(r"url\(#(\w+)\)")
_KEPT = {"fill", "opacity", "text-anchor", "clip-path", "font-size"}


def series(number: int) -> str:
    """The colour that stands for a series: 0 is ink, QUIET that of rules, from 1 on they go round."""
    if number == QUIET:
        return RULE
    return f"#0505{(number - 1) % SERIES + 1 if number else 0:02x}"


def variable(colour: str) -> str:
    """The CSS variable that a colour stands for; a colour that stands for none is itself."""
    return f"var(--{_ROLES[colour]})" if colour in _ROLES else colour


def inline(svg: str, label: str, mark: str) -> str:
    """The drawing as an element of a page, with a text for those who cannot see it."""
    root = ElementTree.fromstring(svg)
    box = root.get("viewBox", "")
    body = "".join(_written(child, mark) for child in root)
    return f'<svg viewBox="{text(box)}" role="img" aria-label="{text(label)}">{body}</svg>'


def _written(node: ElementTree.Element, mark: str) -> str:
    name = node.tag.rpartition("}")[2]
    if name in {"metadata", "style"}:
        return ""
    inner = str(text((node.text or "").strip())) + "".join(_written(child, mark) for child in node)
    if name in {"g", "defs"} and not inner:
        return ""
    attributes = "".join(f' {key}="{text(value)}"' for key, value in _attributes(node, name, mark))
    return f"<{name}{attributes}>{inner}</{name}>"


def _attributes(node: ElementTree.Element, name: str, mark: str) -> Iterator[tuple[str, str]]:
    for key, value in node.attrib.items():
        key = key.rpartition("}")[2]
        if key == "style":
            yield from _plain(value)
        elif key == "id":
            if name not in {"g", "text"}:
                yield key, f"{mark}-{value}"
        elif key == "href":
            yield key, f"#{mark}-{value.removeprefix('#')}"
        elif key == "clip-path":
            yield key, _REFERENCE.sub(rf"url(#{mark}-\1)", value)
        else:
            yield key, _shorter(" ".join(value.split())) if key in {"d", "transform", "x", "y"} else value


def _plain(style: str) -> Iterator[tuple[str, str]]:
    """The declarations of a style attribute that are worth an attribute; fonts are the page's."""
    for declaration in style.split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font":
            size = re.search(r"[\d.]+px", value)
            yield "font-size", size[0] if size else "8px"
        elif key in _KEPT or key.startswith(("stroke", "fill")):
            yield key, variable(value)


def _shorter(numbers: str) -> str:
    """A tenth of a point is finer than a screen."""
    return _NUMBER.sub(lambda match: f"{float(match[0]):.1f}", numbers)
