"""Generated source: names that are data, parentheses, determinism; whatever goes in, what comes out is plain Python."""

from __future__ import annotations

import ast
import builtins
import keyword
import re
import tokenize
from collections.abc import Callable
from io import StringIO
from typing import Any

import numpy as np
import pytest
import test_control
import test_scan
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import PROGRAMS, build, generate

import staticad as ad
from staticad.emit import fold
from staticad.expressions import bare, comment, fill, is_literal, literal, tidy
from staticad.function import Function
from staticad.ir import Node
from staticad.loops import Loop
from staticad.names import RESERVED, Names

GENERATED = [
    "work",
    "status",
    "main",
    "m",
    "np",
    "entry",
    "kernel",
    "f8",
    "i8",
    "b1",
    "i",
    "j",
    "k",
    "i0",
    "out",
    "out_1",
]
TEMPORARY = [
    "exp",
    "sum_",
    "sum",
    "max_",
    "at",
    "x_ij",
    "x_flat",
    "copy_kernel",
    "contract",
    "divide_1",
    "__",
    "__name__",
]
BUILTIN = ["range", "min", "max", "abs", "print", "exec", "len", "True_", "None_", "id", "object"]


def program(name: str, other: str, size: str, key: str) -> Function:
    """A program with reductions, a product, a gather and a merging reshape, with these names."""
    x, y = ad.input(name, (size, 6)), ad.input(other, (6,))
    at = ad.input("index" if "index" not in (name, other) else "index_", (3,), "int64")
    w = ad.parameter(np.ones((6, 2)), name=key)
    e = ad.exp(x + y)
    soft = ad.nn.softmax(e)
    outputs = {
        key: soft @ w,
        name: ad.reshape(ad.exp(e), (-1,)) * 2,
        size: y[at] + ad.max(x),
        "z": ad.sum(e * soft, axis=1),
    }
    return generate([x, y, at], outputs, name=other)


def statements_of(source: str) -> list[str]:
    """The lines of a source, those of a folded call as one."""
    lines: list[str] = []
    for line in source.splitlines():
        if lines and lines[-1].count("(") > lines[-1].count(")") and not lines[-1].endswith("("):
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
    return lines


def names_of(source: str) -> list[str]:
    return [t.string for t in tokenize.generate_tokens(StringIO(source).readline) if t.type == tokenize.NAME]


def arguments(source: str) -> list[str]:
    tree = ast.parse(source)
    main = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    return [a.arg for a in main.args.args]


def well_formed(source: str) -> None:
    """It parses, binds nothing reserved, reads only what is bound, and holds only loops, assignments, known calls."""
    tree = ast.parse(source)
    assert source.isascii()
    given_by_import = {
        a.asname or a.name for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom)) for a in node.names
    }
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    allowed = (ast.Expr, ast.Import, ast.ImportFrom, ast.FunctionDef)
    assert all(isinstance(node, allowed) for node in tree.body)
    for f in functions:
        own = [a.arg for a in f.args.args]
        assert len(own) == len(set(own))
        bound = set(own)
        for node in ast.walk(f):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                bound.add(node.id)
        taken = given_by_import | {g.name for g in functions} | set(dir(builtins)) | set(keyword.kwlist)
        assert not (bound - {"status"}) & taken, (bound - {"status"}) & taken
        read = {node.id for node in ast.walk(f) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        assert read <= bound | given_by_import | {g.name for g in functions} | {
            "range",
            "max",
            "min",
            "abs",
            "True",
            "False",
        }
    statements = (
        ast.Assign, ast.AugAssign, ast.For, ast.While, ast.Break, ast.If, ast.Return, ast.Expr, ast.FunctionDef,
        ast.Import, ast.ImportFrom,
    )  # fmt: skip
    assert all(isinstance(node, statements) for node in ast.walk(tree) if isinstance(node, ast.stmt))
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    calls -= {f.name for f in functions}
    assert all(re.fullmatch(r"m\.\w+|range|max|min|abs|entry|kernel|parallel|[bfiu][1248]", call) for call in calls), (
        calls
    )


# names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*GENERATED, *TEMPORARY, *BUILTIN])
def test_a_name_like_a_generated_one_is_kept_apart(name: str) -> None:
    f = program(name, "y" if name != "y" else "x", "n", "w")
    well_formed(f.source)
    if name not in RESERVED and not keyword.iskeyword(name) and name.strip("_"):
        assert name.strip("_") in f.source


def test_one_name_for_everything() -> None:
    x = ad.input("a", ("a",))
    w = ad.parameter(np.ones(3), name="a")
    f = generate([x], {"a": ad.sum(x) * w}, name="a")
    well_formed(f.source)
    assert len(set(arguments(f.source))) == 3


def test_user_names_are_used_where_they_are_free() -> None:
    f = program("signal", "offset", "frames", "weights")
    assert arguments(f.source)[:5] == ["work", "signal", "offset", "index", "weights"]
    assert "frames = signal.shape[0]" in f.source


def test_reserved_names_get_an_underscore() -> None:
    assert arguments(program("np", "range", "m", "work").source)[1:5] == ["np_", "range_", "index", "work_"]


HOSTILE = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            '"""\nimport os\n"""',
            "x); import os; (",
            "x\n    evil()",
            "\\",
            "ａｂ",
            "é",
            "a" * 500,
            "\u202e",
            "#",
            "'",
            "{x}",
            "%s",
        ]
    ),
)


@settings(max_examples=60, deadline=None)
@given(name=HOSTILE, storage=HOSTILE, key=HOSTILE)
def test_no_text_of_the_user_is_ever_code(name: str, storage: str, key: str) -> None:
    """Where a name is refused nothing is generated; else only letters, digits and underscores of it arrive."""
    try:
        x = ad.input(name, (name, 2))
    except ValueError:
        x = ad.input("x", ("n", 2))
    try:
        w = ad.parameter(np.ones(2), name=storage)
    except ValueError:
        w = ad.parameter(np.ones(2))
        w.node.name = storage
        w.storage.name = storage
    y = ad.exp(x * w)
    y.node.name = name
    f = generate([x], {key: ad.sum(y), "y": y})
    well_formed(f.source)


@settings(max_examples=200, deadline=None)
@given(hints=st.lists(st.one_of(st.none(), HOSTILE, st.sampled_from([*GENERATED, *TEMPORARY, *BUILTIN])), max_size=20))
def test_claimed_names_are_distinct_identifiers(hints: list[str | None]) -> None:
    names = Names()
    claimed = [names.claim(hint) for hint in hints]
    assert len(set(claimed)) == len(claimed)
    for name in claimed:
        assert name.isidentifier()
        assert name.isascii()
        assert not keyword.iskeyword(name)
        assert name not in RESERVED


def test_comments_are_one_line() -> None:
    assert comment("a\nimport os\r\x0b\u2028b") == "a?import os???b"


# text -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_well_formed(name: str) -> None:
    source = build(name)[1].source
    well_formed(source)
    assert max(map(len, source.splitlines())) <= 160
    imported = re.findall(r"from staticad.runtime.generated import (.*)", source)[0].split(", ")
    words = names_of(source)
    assert all(words.count(name) > 1 for name in imported), "no unused import"


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_element_is_loaded_twice_in_one_statement(name: str) -> None:
    for line in build(name)[1].source.splitlines():
        value = line.partition(" = ")[2]
        loads = re.findall(r"\b\w+\[[^\[\]]*\]", value)
        again = [x for x in set(loads) if loads.count(x) > 1]
        assert not again, line


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_parentheses_but_needed_ones(name: str) -> None:
    for line in statements_of(build(name)[1].source):
        if line.startswith("     ") or " = " in line:
            assert tidy(line) == line


@pytest.mark.parametrize("name", ["mlp", "layer_norm", "adam", "swap"])
def test_the_same_program_gives_the_same_text(name: str) -> None:
    assert build(name)[1].source == build(name)[1].source


def twice_derived(given: list[ad.Tensor], total: Callable[..., Any], program: Callable[..., Any]) -> list[str]:
    """The texts for a ``total`` of what a program gives: for its gradients, and for gradients and tangents of these."""
    value = total(ad, program(ad, *given))
    first = ad.grad(value, given)
    slope = sum((ad.sum(ad.cos(g)) for g in first), start=ad.zeros(()))
    second = [*ad.grad(slope, given), ad.jvp(slope, given, [ad.cos(x) for x in given])]
    return [generate(given, [value, *first]).source, generate(given, second).source]


# fmt: off
BUILT: dict[str, Callable[[], list[str]]] = {
    **{name: lambda name=name: [build(name)[1].source] for name in PROGRAMS},
    **{f"scan {name}": lambda f=f: twice_derived(test_scan.inputs(), test_scan.loss, f)
       for name, f in test_scan.PROGRAMS.items()},
    **{f"control {f.__name__}": lambda f=f: twice_derived(test_control.inputs(), test_control.total, f)
       for f in test_control.PROGRAMS},
}
# fmt: on


@pytest.mark.parametrize("name", BUILT)
def test_the_text_does_not_depend_on_where_nodes_lie(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets of nodes, and of loops, come in the order of their addresses: nothing that is written may follow it."""
    found: list[list[str]] = []
    for salt in (1, 0x9E3779B97F4A7C15, 0x123456789ABCDEF1):
        for kind in (Node, Loop):
            monkeypatch.setattr(kind, "__hash__", lambda x, salt=salt: id(x) // 16 * salt % (2**61 - 1))
        found.append(BUILT[name]())
    assert found[0] == found[1] == found[2]


def test_the_source_shows_types_and_origins() -> None:
    source = build("softmax")[1].source
    assert "# f32[n, 50] = exp" in source
    assert source.startswith('"""softmax(x, g) (generated by staticad; do not edit)"""')


def test_large_programs_are_split_into_functions_of_bounded_size() -> None:
    x = ad.input("x", (8,))
    y = x
    for _ in range(150):
        y = ad.sin(y) / ad.sum(y)
    f = generate([x], y)
    well_formed(f.source)
    tree = ast.parse(f.source)
    sizes = [len(ast.unparse(node).splitlines()) for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert len(sizes) > 2
    assert max(sizes) < 600


# pieces ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        ("{x} * {y}", {"x": "a + b", "y": "c"}, "(a + b) * c"),
        ("({x} + {y})", {"x": "a", "y": "b[i, j]"}, "a + b[i, j]"),
        ("m.pow({x}, {y})", {"x": "a + b", "y": "-c"}, "m.pow(a + b, -c)"),
        ("(-{x})", {"x": "-a"}, "-(-a)"),
        ("({y} if {x} else {z})", {"x": "a < b", "y": "a", "z": "0.0"}, "a if (a < b) else 0.0"),
    ],
)
def test_fill(template: str, values: dict[str, str], expected: str) -> None:
    assert fill(template, values) == expected


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.sampled_from(["a", "b[i]", "1.5", "-2.0"]), lambda x: st.tuples(x, st.sampled_from("+-*/"), x), max_leaves=12
    )
)
def test_tidy_keeps_the_meaning(tree: Any) -> None:
    def text(node: Any) -> str:
        return node if isinstance(node, str) else f"({text(node[0])} {node[1]} {text(node[2])})"

    line = f"    y = {text(tree)}"
    assert ast.dump(ast.parse(tidy(line).strip())) == ast.dump(ast.parse(line.strip()))
    assert len(tidy(line)) <= len(line)


def test_bare() -> None:
    assert bare("((a) + (b))") == "(a) + (b)"
    assert bare("(a)(b)") == "(a)(b)"


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int32", "int64", "uint8", "uint64", "bool"])
def test_literals_have_their_value_and_type(dtype: str) -> None:
    from staticad.runtime import generated

    kind = np.dtype(dtype)
    info = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind) if kind.kind != "b" else None
    values: list[Any] = [0, 1] if info is None else [0, 1, info.max, info.min]
    if kind.kind == "f":
        values += [-0.0, 0.1, -1e-30, np.inf, -np.inf, np.nan, 1e-45, 5e-324]
    for value in values:
        text = literal(kind.type(value).item(), kind)
        assert is_literal(text), text
        found = eval(text, {**vars(generated), "np": np})
        assert np.asarray(found, kind).tobytes() == np.asarray(value, kind).tobytes()


def test_conditions_of_outer_loops_stay_out_of_the_innermost() -> None:
    """Elements outside of what is padded are read from beside their place, and not used."""
    x = ad.input("x", (5, 4, 8))
    padded = ad.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=2.5)
    out = ad.exp(padded[2:, :-2]) + padded[:-2, 1:-1] * padded[1:-1, 2:]
    f = ad.compile([x], out)
    innermost = f.source[f.source.index("for k in range(m.steps(8, 8))") :]
    assert not re.search(r"0 <=|< \d", innermost)
    given = np.random.default_rng(0).normal(size=(5, 4, 8))
    p = np.pad(given, ((1, 1), (1, 1), (0, 0)), constant_values=2.5)
    np.testing.assert_allclose(f(given), np.exp(p[2:, :-2]) + p[:-2, 1:-1] * p[1:-1, 2:], rtol=1e-14)


def test_a_condition_on_an_axis_that_may_be_empty_is_kept() -> None:
    x = ad.input("x", ("n", 8))
    f = ad.compile([x], ad.exp(ad.pad(x, ((2, 1), (0, 0)))))
    for n in (0, 1, 3):
        given = np.random.default_rng(n).normal(size=(n, 8))
        np.testing.assert_allclose(f(given), np.exp(np.pad(given, ((2, 1), (0, 0)))), rtol=1e-14)


def test_a_stored_array_that_never_has_elements() -> None:
    """Its size is 0 bytes for every size of the other axis, and the workspace is there nevertheless."""
    x, lane, at = ad.input("x", ("n",)), ad.input("lane", ("k",)), ad.input("at", ("m",), "int64")
    rows = ad.pad((x[:0] * 2)[None, :] * lane[:, None], ((0, 0), (0, 3)))
    f = ad.compile([x, lane, at], ad.take(ad.reshape(rows, (-1,)), at))
    np.testing.assert_array_equal(f(np.ones(4), np.ones(2), np.array([0, 5])), [0.0, 0.0])


def test_only_a_call_is_written_on_several_lines() -> None:
    """Elsewhere a break would end the statement."""
    terms = " + ".join(f"a_{k}[i] * (b_{k}[i] + 1.0)" for k in range(20))
    for line in (f"    out[i] = {terms}", f"    x = (a + b) * {terms}", f"    x = m.exp(x) + ({terms})"):
        assert fold(line) == line
    call = f"    m.contract({', '.join(f'argument_{k}' for k in range(20))})"
    assert "\n" in fold(call) and fold(call).split() == call.split()


def looked_up(count: str) -> tuple[Function, Callable[..., Any]]:
    """What rows and values found by two arrays of indices give, in short rows and as a sum; and NumPy's."""
    x, y = ad.input("x", ("m",)), ad.input("y", ("k", 3))
    a, b, v = ad.input("a", (count,), "int64"), ad.input("b", (count,), "int64"), ad.input("v", (count,))

    def out(xp: Any, x: Any, y: Any, a: Any, b: Any, v: Any) -> tuple[Any, Any]:
        seen = [y[:, column][b] for column in range(3)]
        rows = [[f(x[a]) * s + v * k for k, s in enumerate(seen * 3)] for f in (xp.exp, xp.cos)]
        return xp.stack([xp.stack(row, axis=1) for row in rows], axis=1), xp.sum(xp.sin(x[a]) * v)

    def expected(*given: Any) -> Any:
        return out(np, *given)

    operands = [x, y, a, b, v]
    return ad.compile(operands, out(ad, *operands), parallel=False), expected


def test_indices_are_looked_at_before_a_loop_of_arithmetic() -> None:
    """So that its steps do not branch. The short rows that it makes are then local variables, by copies unrolled."""
    f, expected = looked_up("n")
    rng = np.random.default_rng(0)
    loop = f.source[f.source.index("at = m.index(") :]
    assert f.source.count("|= m.outside(") == 2 and "return" not in loop[: loop.index("for j in range(9):")]
    x, y = rng.normal(size=7), rng.normal(size=(5, 3))
    for n in (0, 1, 7, 8, 100):
        given = x, y, rng.integers(-7, 7, n), rng.integers(-5, 5, n), rng.normal(size=n)
        for found, wanted in zip(f(*given), expected(*given), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("place", [0, 13, 29])
@pytest.mark.parametrize(("which", "bad", "size"), [("a", 7, "m"), ("a", -8, "m"), ("b", 5, "k"), ("b", -(2**63), "k")])
def test_an_index_that_is_out_of_range_is_found_before_anything_is_written(
    which: str, bad: int, size: str, place: int
) -> None:
    f, _ = looked_up("n")
    rng = np.random.default_rng(1)
    at = {"a": rng.integers(-7, 7, 30), "b": rng.integers(-5, 5, 30)}
    at[which][place] = bad
    out = np.full((30, 2, 9), 7.0), np.full((), 7.0)
    with pytest.raises(ad.IndexOutOfRange, match=rf"i64\[n\] is out of range for an axis of size {size}"):
        f(np.ones(7), np.ones((5, 3)), at["a"], at["b"], np.ones(30), out=out)
    assert all((x == 7).all() for x in out)


def test_an_axis_without_elements_has_no_index() -> None:
    f, _ = looked_up("n")
    for n in (0, 30):
        given = np.ones(0), np.ones((5, 3)), np.zeros(n, int), np.zeros(n, int), np.ones(n)
        if n:
            with pytest.raises(ad.IndexOutOfRange, match="axis of size m"):
                f(*given)
        else:
            assert f(*given)[0].shape == (0, 2, 9)


def test_an_index_that_no_step_reads_may_be_anything() -> None:
    x, a = ad.input("x", ("m",)), ad.input("a", ("n",), "int64")
    values, at = np.linspace(0, 1, 9), np.array([99, 4, -9, 0, 8, -1, 3, 2, 1, 5, 7, -99])
    f = ad.compile([x, a], ad.exp(x[a[1:-1]]))
    assert "m.outside" in f.source
    np.testing.assert_allclose(f(values, at), np.exp(values[at[1:-1]]), rtol=1e-15)
    for part in (slice(None, -1), slice(1, None)):
        with pytest.raises(ad.IndexOutOfRange):
            ad.compile([x, a], ad.exp(x[a[part]]))(values, at)


def test_indices_that_the_loop_itself_makes_are_looked_at_in_it() -> None:
    x, v = ad.input("x", ("m",)), ad.input("v", ("n",))
    a = ad.astype(ad.floor(v), "int64")
    f = ad.compile([x, v], (ad.exp(x[a]), a))
    values, given = np.linspace(0, 1, 9), np.linspace(0, 8.5, 30)
    np.testing.assert_allclose(f(values, given)[0], np.exp(values[given.astype(int)]), rtol=1e-15)
    with pytest.raises(ad.IndexOutOfRange):
        f(values, given + 1)


def test_steps_written_one_after_the_other_are_one_loop() -> None:
    """`unroll` asks the compiler for it: the steps leave what they leave in place, and there is no second loop for the
    ones that are left over."""
    x, h = ad.input("x", ("t", 3)), ad.input("h", (3,))
    carry, ys = ad.scan(lambda c, t: (c * t, c + t), h, x, unroll=4)
    f = ad.compile([h, x], [carry, ys], parallel=False)
    assert f.source.count("m.unroll(4)") == 1
    assert f.stats.temporaries == 0
    for t in (0, 1, 3, 4, 5, 8):
        rows = np.random.default_rng(t).normal(size=(t, 3))
        before = np.vstack([np.ones((1, 3)), np.cumprod(rows, axis=0)])
        last, left = f(np.ones(3), rows)
        np.testing.assert_allclose(last, before[-1], rtol=1e-14)
        np.testing.assert_allclose(left, before[:-1] + rows, rtol=1e-14)
