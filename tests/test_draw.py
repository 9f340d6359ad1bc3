"""Pictures say what autograd knows, for any graph, and names in them are data."""

from __future__ import annotations

import importlib
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import staticad as ad
from staticad.draw import Drawing, escape

drawing_module = importlib.import_module("staticad.draw")  # the name staticad.draw is the function's


def box(drawing: Drawing, title: str) -> list[str]:
    """The lines of the box whose first line is ``title``."""
    labels = [
        line.split('label="')[1].split('", shape=')[0] for line in drawing.source.splitlines() if "shape=box" in line
    ]
    (found,) = [label for label in labels if label.split("\\n")[0] == title]
    return found.split("\\n")[1:]


def test_product_of_two_scalars() -> None:
    a, b = ad.input("a", (), requires_grad=True), ad.input("b", ())
    c = a * b
    c.name = "c"
    f = ad.compile([a, b], c)
    f(2.0, 3.0)
    f.backward()
    drawing = ad.draw(c, values={a: 2.0, b: 3.0})
    assert box(drawing, "a: f64") == [
        "data = 2.",
        "grad = 3.",
        "grad_fn = None",
        "is_leaf = True",
        "requires_grad = True",
    ]
    assert box(drawing, "b: f64") == ["data = 3.", "grad_fn = None", "is_leaf = True", "requires_grad = False"]
    assert box(drawing, "c: f64") == [
        c.grad_fn.name,
        "data = 6.",
        f"grad_fn = {c.grad_fn}",
        "is_leaf = False",
        "requires_grad = True",
    ]
    assert "AccumulateGrad" in drawing.source
    assert drawing.source.index("cluster_forward") < drawing.source.index("cluster_backward")


def test_without_values_only_what_is_held_has_data() -> None:
    x, w = ad.input("x", (2,)), ad.parameter(np.array([1.0, 2.0]), name="w")
    drawing = ad.draw(x * w)
    assert box(drawing, "w: f64[2]")[:2] == ["data = [1. 2.]", "grad = None"]
    assert not any(line.startswith("data") for line in box(drawing, "x: f64[2]"))


def test_some_values_show_what_follows_from_them() -> None:
    x, y = ad.input("x", ("n",)), ad.input("y", ("n",))
    u = x + x
    u.name = "u"
    drawing = ad.draw(u * y, values={x: np.array([1.0, 2.0])})
    assert "data = [2. 4.]" in box(drawing, "u: f64[n]")
    assert not any(line.startswith("data") for line in box(drawing, "y: f64[n]"))


def test_a_leaf_is_one_box() -> None:
    a, b = ad.input("a", ()), ad.input("b", ())
    c = a * b
    c.requires_grad = True
    c.name = "c"
    drawing = ad.draw(c**2)
    assert "is_leaf = True" in box(drawing, "c: f64")
    assert "multiply: f64" not in drawing.source


def test_several_tensors_and_functions() -> None:
    x = ad.input("x", (3,), requires_grad=True)
    y = ad.sin(x)
    assert ad.draw([y, y * 2]).source.count("x: f64[3]") == 1
    function = ad.compile([x], [ad.sum(y), ad.grad(ad.sum(y), [x])[0]])
    assert "x: f64[3]" in ad.draw(function).source


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(ad.GraphError, match="draw: takes a tensor, a sequence of tensors or a compiled function"):
        ad.draw(3)  # type: ignore[arg-type]


def test_names_are_data() -> None:
    assert escape('x"]; evil [label="\\N\n') == 'x\\"]; evil [label=\\"\\\\N '
    assert escape("<b>&lt;</b>") == "<b>&amp;lt;</b>"


def test_dot_text_is_saved_without_graphviz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing_module, "PROGRAMS", ())
    drawing = ad.draw(ad.input("x", (3,)), tmp_path / "x.dot")
    assert (tmp_path / "x.dot").read_text() == drawing.source
    assert drawing._repr_svg_() is None
    with pytest.raises(ad.errors.DrawError, match=r"pip install 'staticad\[viz\]'"):
        drawing.save(tmp_path / "x.svg")
    with pytest.raises(ad.errors.DrawError, match="'gif' is not one of"):
        drawing.save(tmp_path / "x.gif")


def needs_graphviz() -> None:
    try:
        drawing_module.find_program()
    except ad.errors.DrawError:
        pytest.skip("no Graphviz program; install the viz extra")


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_pictures(tmp_path: Path, ending: str) -> None:
    needs_graphviz()
    x = ad.input("x", (3,), requires_grad=True)
    ad.draw(ad.sum(x * x), tmp_path / f"x.{ending}", values={x: [1.0, 2.0, 3.0]})
    content = (tmp_path / f"x.{ending}").read_bytes()
    if ending == "png":
        assert content.startswith(b"\x89PNG")
    else:
        text = "".join(ElementTree.fromstring(content).itertext())
        assert all(part in text for part in ("x: f64[3]", "requires_grad = True", "forward", "backward", "data = 14."))


def test_svg_in_a_notebook() -> None:
    needs_graphviz()
    assert "<svg" in ad.draw(ad.sin(ad.input("x", ())))._repr_svg_()


def test_a_failing_program_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failed = subprocess.CompletedProcess([], 1, b"", b"out of paper")
    monkeypatch.setattr(drawing_module, "find_program", lambda: "dot")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(ad.errors.DrawError, match="out of paper"):
        ad.draw(ad.input("x", ())).save(tmp_path / "x.svg")


def test_large_graphs_have_text_and_no_picture() -> None:
    x = ad.input("x", (), requires_grad=True)
    for _ in range(100_000):
        x = ad.sin(x)
    drawing = ad.draw(x)
    assert drawing.source.count("shape=box") == 100_001
    with pytest.raises(ad.errors.DrawError, match="cannot be read"):
        drawing.render("svg")
