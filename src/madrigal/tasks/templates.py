"""Prompts as settings: texts with placeholders like {post}, which stand for what an example holds.

A placeholder is one word in braces. Other braces are themselves, so that a prompt may show JSON or code.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from madrigal.tasks.fields import check_characters
from madrigal.types import ConfigError, unknown

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def check_templates(templates: Any, needed: str, *others: str) -> None:
    """Refuses a placeholder that stands for nothing, and a prompt that shows nothing of its example.

    Args:
        templates: a record of task.prompts, each field a template.
        needed: what every template must show.
        others: what it may show beside.

    Raises:
        ConfigError: naming template and placeholder.
        TaskError: if there is half a character in it.
    """
    for name, template in asdict(templates).items():
        where, shown = f"task.prompts.{name}", _PLACEHOLDER.findall(template)
        check_characters(template, where)
        for placeholder in shown:
            if placeholder not in (needed, *others):
                raise ConfigError(f"{where}: {unknown('placeholder', placeholder, (needed, *others))}")
        if needed not in shown:
            raise ConfigError(f"{where}: expected the placeholder {{{needed}}} in it, got {template!r:.80}")


def fill(template: str, **values: str) -> str:
    """The template with its placeholders replaced; what stands in the values is not looked at.

    >>> fill('{post} Answer as {"title": ...}.', post="A {post}!")
    'A {post}! Answer as {"title": ...}.'
    """
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)
