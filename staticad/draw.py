"""Graphs as Graphviz pictures: what autograd knows of each tensor; knows no loops, and runs no code but Graphviz."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from staticad.errors import DrawError, GraphError
from staticad.ir import Graph, Node, toposort
from staticad.ops import sources
from staticad.tensor import Tensor

RENDER_LIMIT = 2_000  # boxes; layouts of more take minutes, and nobody can read them
PROGRAMS = ("dot", "graphviz-pure")  # Graphviz itself, and the one that the viz extra installs
FORMATS = ("svg", "png", "pdf")

# fmt: off
STYLE = {                        # by (is_leaf, requires_grad)
    (True,  True):  'fillcolor="#cfe8ff"',   # gradients arrive here
    (False, True):  'fillcolor="#e8f5e0"',   # gradients pass through
    (True,  False): 'fillcolor="#f4f4f4"',
}
# fmt: on


class HasGraph(Protocol):
    """A compiled function."""

    @property
    def graph(self) -> Graph: ...


Drawable: TypeAlias = "Tensor | Sequence[Tensor] | HasGraph"


@dataclass(frozen=True, eq=False)
class Drawing:
    """A picture: ``source`` is its Graphviz text, shown as SVG in a notebook."""

    source: str
    boxes: int

    def __repr__(self) -> str:
        return f"<Drawing of {self.boxes} tensors and operations; see .source, .save('graph.svg')>"

    def _repr_svg_(self) -> str | None:
        """The picture for a notebook; None, which makes it show the text, where there can be none."""
        try:
            return self.render("svg").decode()
        except DrawError:
            return None

    def render(self, format: str) -> bytes:  # noqa: A002
        """The picture as a file of ``format`` (svg, png, pdf) would hold it.

        Raises `DrawError` where no Graphviz program is found or the graph is too large.
        """
        if format not in FORMATS:
            raise DrawError(f"draw: the format {format!r} is not one of dot, {', '.join(FORMATS)}")
        if self.boxes > RENDER_LIMIT:
            raise DrawError(
                f"draw: a picture of {self.boxes} boxes cannot be read (the limit is {RENDER_LIMIT}); "
                "draw a part of the graph, or save the text with .save('graph.dot')"
            )
        command = [find_program(), f"-T{format}"]
        ran = subprocess.run(command, input=self.source.encode(), capture_output=True, check=False)
        if ran.returncode or not ran.stdout:
            raise DrawError(f"draw: {' '.join(command)} failed: {ran.stderr.decode(errors='replace').strip()}")
        return ran.stdout

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the picture to ``path``, in the format that its suffix names: .dot, .svg, .png, .pdf."""
        path = Path(path)
        ending = path.suffix.removeprefix(".").lower()
        path.write_bytes(self.source.encode() if ending in ("dot", "gv") else self.render(ending))
        return path


def find_program() -> str:
    """The Graphviz program: on the PATH, or beside this Python, where pip puts it."""
    for where in (None, sysconfig.get_path("scripts")):
        for name in PROGRAMS:
            if found := shutil.which(name, path=where):
                return found
    raise DrawError(
        "draw: no Graphviz program is found; install one with pip install 'staticad[viz]' "
        "or your system's graphviz package, or save the text with .save('graph.dot')"
    )


def draw(
    what: Drawable, path: str | PathLike[str] | None = None, *, values: Mapping[Tensor, Any] | None = None
) -> Drawing:
    """A picture of a tensor's graph, of several, or of a compiled function's; written to ``path`` if one is given.

    Every tensor is a box with its type, ``requires_grad``, ``is_leaf`` and ``grad_fn``, and with ``data`` and ``grad``
    where they are known: of parameters and constants, and with ``values`` (an array for each input) of every tensor.
    The forward part and the backward part (the chain of ``grad_fn``, or a function's derivatives) stand apart.

    >>> import staticad as ad
    >>> x = ad.input("x", (3,), requires_grad=True)
    >>> print(ad.draw(ad.sin(x)))
    <Drawing of 4 tensors and operations; see .source, .save('graph.svg')>

    Raises `DrawError` where ``path`` names a picture and no Graphviz program is found, or the graph is too large.
    """
    if isinstance(what, Tensor):
        what = [what]
    if isinstance(what, Sequence):
        nodes = toposort([t.node for t in what])
        drawing = _picture(nodes, None, values or {})
    elif isinstance(getattr(what, "graph", None), Graph):
        nodes = list(dict.fromkeys([*what.graph.inputs, *what.graph.nodes]))
        drawing = _picture(nodes, set(getattr(what, "backward_nodes", ())), values or {})
    else:
        raise GraphError(f"draw: takes a tensor, a sequence of tensors or a compiled function, not {what!r}")
    if path is not None:
        drawing.save(path)
    return drawing


def _picture(nodes: Sequence[Node], backward: Collection[Node] | None, values: Mapping[Tensor, Any]) -> Drawing:
    """The drawing of ``nodes``; ``backward`` are those of the derivative, None to draw the chain of grad_fn instead."""
    inside = _inside_leaves(nodes)
    shown = [node for node in nodes if node not in inside]
    ids = {node: f"n{k}" for k, node in enumerate(shown)}
    ids |= {node: ids[leaf] for node, leaf in inside.items()}
    data = _known(nodes, values)
    forward, derived, edges = list[str](), list[str](), list[str]()
    for node in shown:
        box = _box(ids[node], _lines(node, inside, data.get(node)), "box", _style(node))
        (derived if backward and node in backward else forward).append(box)
        edges += [f"  {ids[x]} -> {ids[node]};" for x in _operands(node, inside)]
    boxes = len(shown)
    if backward is None:
        recorded = [node for node in shown if node.requires_grad]
        for node in recorded:
            name = "AccumulateGrad" if Tensor(node).is_leaf else f"{node.op.name} backward"
            derived.append(_box(f"g{ids[node]}", [name], "ellipse", 'fillcolor="#fff0d9"'))
            edges.append(f"  {ids[node]} -> g{ids[node]} [style=dotted, arrowhead=none, constraint=false];")
            operands = () if Tensor(node).is_leaf else node.args
            edges += [f"  g{ids[node]} -> g{ids[x]};" for x in operands if x.requires_grad]
        boxes += len(recorded)
    lines = ["digraph staticad {", '  node [fontname="Courier", fontsize=10, style=filled];']
    lines += _cluster("forward", forward) + _cluster("backward", derived) + edges + ["}"]
    return Drawing("\n".join(lines) + "\n", boxes)


def _is_leaf_of(node: Node) -> bool:
    """Whether the node does nothing but stop gradients: drawn as one box with the node it is made of."""
    return node.requires_grad and Tensor(node).is_leaf and len(node.args) == 1


def _inside_leaves(nodes: Sequence[Node]) -> dict[Node, Node]:
    """The nodes that only a leaf uses, each with that leaf."""
    uses: dict[Node, int] = {}
    for node in nodes:
        for x in node.args:
            uses[x] = uses.get(x, 0) + 1
    return {leaf.args[0]: leaf for leaf in nodes if _is_leaf_of(leaf) and uses[leaf.args[0]] == 1}


def _operands(node: Node, inside: Mapping[Node, Node]) -> tuple[Node, ...]:
    while len(node.args) == 1 and node.args[0] in inside:
        node = node.args[0]
    return node.args


def _lines(node: Node, inside: Mapping[Node, Node], data: Any) -> list[str]:
    """What a box says: name, type and operation, then the five things that autograd knows of a tensor."""
    tensor, made = Tensor(node), node
    while len(made.args) == 1 and made.args[0] in inside:
        made = made.args[0]
    title = f"{node.name or made.name or made.op.name}: {node.type}"
    lines = [title, made.op.name] if node.name and made.args else [title]
    if data is not None:
        lines.append(f"data = {array_text(data)}")
    if node.requires_grad and (tensor.is_leaf or node.cell is not None):
        lines.append(f"grad = {array_text(tensor.grad)}")
    return [
        *lines,
        f"grad_fn = {tensor.grad_fn}",
        f"is_leaf = {tensor.is_leaf}",
        f"requires_grad = {tensor.requires_grad}",
    ]


def array_text(value: Any) -> str:
    """A few elements of an array, on one line.

    >>> array_text(np.arange(100.0))
    '[0. 1. ... 98. 99.]'
    """
    if value is None:
        return "None"
    text = np.array2string(np.asarray(value), precision=4, threshold=6, edgeitems=2, separator=" ")
    text = " ".join(text.split()).replace("[ ", "[")
    return text if len(text) <= 60 else f"{text[:57]}..."


def _known(nodes: Sequence[Node], values: Mapping[Tensor, Any]) -> dict[Node, Any]:
    """The values that can be told: of parameters and constants, and of all that follows from ``values``."""
    found: dict[Node, Any] = {x: x.params["storage"].array for x in nodes if sources.is_data(x)}
    given = {x for t in values for x in toposort([t.node])}
    reached: set[Node] = set()
    for node in nodes:
        known_source = node in given or not sources.is_input(node)
        if known_source and all(x in reached for x in node.args) and (values or node in found or _is_leaf_of(node)):
            reached.add(node)
    order = [node for node in nodes if node in reached]
    if values:
        from staticad.evaluate import evaluate  # only a drawing with values computes

        found |= dict(zip(order, evaluate([Tensor(node) for node in order], values), strict=True))
    for node in order:
        if _is_leaf_of(node) and node.args[0] in found:
            found.setdefault(node, found[node.args[0]])
    return found


def _style(node: Node) -> str:
    return STYLE[Tensor(node).is_leaf, node.requires_grad]


def _box(name: str, lines: Iterable[str], shape: str, style: str) -> str:
    label = "\\n".join(map(escape, lines))
    return f'  {name} [label="{label}", shape={shape}, {style}];'


def escape(text: str) -> str:
    """``text`` as it stands in a quoted string of the Graphviz language: nothing in it is read as a command.

    >>> escape('a"];\\\\N')
    'a\\\\"];\\\\\\\\N'
    """
    text = text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
    return "".join(c if c.isprintable() else " " for c in text)


def _cluster(name: str, boxes: Sequence[str]) -> list[str]:
    if not boxes:
        return []
    return [f"  subgraph cluster_{name} {{", f'  label="{name}"; color=gray;', *boxes, "  }"]
