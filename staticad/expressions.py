"""Pieces of Python source: literals, templates filled without needless parentheses, array types as text."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from string import Formatter
from typing import Any

import numpy as np

from staticad.dtypes import SHORT

ATOM = re.compile(r"-?[\w.]+(\[[^\[\]()]*\]|\([^()]*\))?")
LITERAL = re.compile(r"-?[\d.e+-]+|[fiu][1248]\(-?[\d.e+-]+\)|True|False|-?np\.(inf|nan)|[fi][48]\(-?np\.(inf|nan)\)")
#: How generated code writes the scalar type of a dtype: f4, f8, i8, b1, ...
CODE = {dtype: short[0] + str(dtype.itemsize) for dtype, short in SHORT.items()}


def literal(value: bool | int | float, dtype: np.dtype[Any]) -> str:
    """A number as Python source that has exactly this value and dtype, in Numba and in plain Python.

    >>> literal(0.5, np.dtype("float32")), literal(3, np.dtype("int64")), literal(2, np.dtype("float64"))
    ('f4(0.5)', '3', '2.0')
    """
    if dtype.kind == "f":
        text = repr(float(value)) if math.isfinite(value) else float_name(float(value))
        return text if dtype.itemsize == 8 else f"{CODE[dtype]}({text})"
    if dtype.kind == "b":
        return "True" if value else "False"
    return str(int(value)) if CODE[dtype] == "i8" else f"{CODE[dtype]}({int(value)})"


def typed(text: str, dtype: np.dtype[Any]) -> str:
    """A start value as source of exactly this dtype."""
    code = CODE[dtype]
    return text if code in ("f8", "i8", "b1") else f"{code}({text})"


def narrow(text: str, template: str, dtype: np.dtype[Any]) -> str:
    """An integer expression, which fills ``template``, brought back to its dtype: Numba computes in 64 bits."""
    code = CODE[dtype]
    if dtype.kind not in "iu" or code in ("i8", "u8") or template.startswith(("{t}(", "{value}", "m.r")):
        return text
    return f"{code}({text})"


def float_name(value: float) -> str:
    return "np.nan" if math.isnan(value) else ("np.inf" if value > 0 else "-np.inf")


def bare(text: str) -> str:
    """The expression without parentheses around all of it.

    >>> bare("((a + b))"), bare("(a) + (b)")
    ('a + b', '(a) + (b)')
    """
    while text.startswith("(") and text.endswith(")"):
        depth = 0
        for k, c in enumerate(text):
            depth += (c == "(") - (c == ")")
            if depth == 0 and k < len(text) - 1:
                return text
        text = text[1:-1]
    return text


def is_atom(text: str) -> bool:
    return ATOM.fullmatch(text) is not None and not text.startswith("-")


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its fields filled.

    A value that is more than an atom gets parentheses unless it stands as a whole argument.

    >>> fill("{x} * {y}", {"x": "a + b", "y": "c"}), fill("m.exp({x})", {"x": "a + b"})
    ('(a + b) * c', 'm.exp(a + b)')
    """
    pieces = list(Formatter().parse(template))
    out: list[str] = []
    for k, (text, field, _, _) in enumerate(pieces):
        out.append(text)
        if field is None:
            continue
        value = bare(values[field])
        after = pieces[k + 1][0] if k + 1 < len(pieces) else ""
        whole = (text.endswith(("(", ", ")) and after.startswith((")", ","))) or template == "{" + field + "}"
        if field == "t":
            out.append(value)
        else:
            out.append(value if whole or is_atom(value) else f"({value})")
    return bare("".join(out))


def is_literal(text: str) -> bool:
    return LITERAL.fullmatch(text) is not None


def tidy(line: str) -> str:
    """A line of generated code without the parentheses that it does not need.

    >>> tidy("    y = (x * x) + (a - (b - c))"), tidy("if (x[(i + 1)] < (y)):  # so")
    ('    y = x * x + (a - (b - c))', 'if x[i + 1] < y:  # so')
    """
    code, mark, note = line.partition("  #")
    body = code.lstrip()
    if not set("(*/") & set(body):
        return line
    opens = body.endswith(":")
    text = ast.unparse(ast.parse(f"{body} pass" if opens else body))
    return code[: len(code) - len(body)] + (text.split("\n")[0] if opens else text) + mark + note


def array_code(dtype: np.dtype[Any], ndim: int) -> str:
    """The type of a C-contiguous array in a signature: ``f4[:,::1]``."""
    return f"{CODE[dtype]}[{','.join([':'] * (ndim - 1) + ['::1']) if ndim else '()'}]"


def comment(text: object) -> str:
    """Text made harmless behind a ``#``: one line of printable characters."""
    return re.sub(r"[^\x20-\x7e]", "?", str(text))
