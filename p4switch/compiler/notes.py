"""What annotations mean to the compiler."""

from __future__ import annotations

import re
from collections.abc import Iterable

from p4switch.compiler import ast

_STRING = re.compile(r'\s*"((?:[^"\\]|\\.)*)"\s*$', re.DOTALL)


def find(annotations: Iterable[ast.Annotation], name: str) -> ast.Annotation | None:
    """The first annotation of this name."""
    return next((a for a in annotations if a.name == name), None)


def string_body(annotation: ast.Annotation) -> str | None:
    """The string of ``@x("string")``; None when the body is not one string."""
    match = _STRING.match(annotation.body or "")
    return re.sub(r"\\(.)", r"\1", match[1]) if match else None


def name_of(annotations: Iterable[ast.Annotation]) -> str | None:
    """The string of ``@name("...")``."""
    annotation = find(annotations, "name")
    return string_body(annotation) if annotation is not None else None
