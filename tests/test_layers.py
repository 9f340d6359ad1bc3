"""Dependencies point one way, Numba stays in the runtime, and importing staticad is cheap."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import staticad

PACKAGE = Path(staticad.__file__).parent

# Each part may import from the parts above it, and from itself. Parts on one line stand beside each other and may not
# import each other, but for those joined by "+", which are one. A part is a module or a subpackage of staticad; "" is
# staticad/__init__.py.
LAYERS = """
    errors names progress
    dimensions
    shapes dtypes nests
    foreign
    ir
    lowering
    ops
    interpret patterns view_rules small_products small_matrices
    stable
    forms
    closed_forms
    autodiff power_rules unit_lanes sparsity reads
    batching
    simplify needs
    numbering
    twins joined
    bodies
    costs
    loops expressions
    store
    tiles interchange division effort
    lanes placing
    schedule residuals workspace
    plan
    parallel products carries scopes runs straight
    arrays
    elements
    leaves
    body
    calling
    kernels
    outline
    emit report
    runtime
    colouring
    pipeline
    passes
    tensor+functions
    creation linalg evaluate derivatives
    nn optim random numpy_protocol transforms implicit
    special
    function directions
    sparse tracing
    stand_ins
    func draw testing
    ""
"""
LINES = [line.replace('"', "").split(" ") for line in LAYERS.strip("\n").split("\n")]
RANK = {part: rank for rank, line in enumerate(LINES) for joined in line for part in joined.split("+")}
JOINED = {part: joined for line in LINES for joined in line for part in joined.split("+")}

# What a part may not see, whatever stands above it.
# fmt: off
PROGRAMS = {"tensor", "functions", "creation", "linalg", "evaluate", "derivatives", "nn", "optim", "random", "special",
            "implicit"}
LOWERED  = {"costs", "loops", "expressions", "store", "tiles", "interchange", "lanes", "placing", "division",
            "schedule", "residuals", "effort", "workspace", "plan", "parallel", "products", "carries", "scopes",
            "runs", "straight", "arrays", "elements", "leaves", "body", "calling", "kernels", "outline", "emit",
            "report"}
BLIND: dict[str, set[str]] = {
    "lowering": {"ops"},
    "ops":      {"autodiff"},
    "runtime":  {"ops", "lowering", "loops", "schedule", "plan"},
    **{part: {"ops"} for part in LOWERED},                         # op.lower is all they know of an op
    **{part: LOWERED | {"runtime", "pipeline", "passes"} for part in PROGRAMS},   # programs know nothing of loops
}
# fmt: on

# The families of ops, in the order in which they may build on each other; rules may look ahead in function bodies.
# fmt: off
OPS = [
    "rules", "sources", "pointwise", "creation", "logic", "arithmetic", "transcendental", "special",
    "views", "reductions", "products", "indexing", "scatter", "closures", "control", "branches", "calls", "foreign",
    "matrices", "linear_algebra", "determinants", "table",
]
# fmt: on


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    """``ops.views`` for ``staticad/ops/views.py``; "" for ``staticad/__init__.py``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, lazy: bool) -> set[str]:
    """The absolute names of what a module imports; with ``lazy``, inside function bodies too."""
    found: set[str] = set()
    package = ["staticad", *module_name(path).split(".")] if module_name(path) else ["staticad"]
    if path.name != "__init__.py":
        package = package[:-1]

    class Finder(ast.NodeVisitor):
        def visit_Import(self, node: ast.Import) -> None:
            found.update(alias.name for alias in node.names)

        def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
            base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
            base = base if node.level else node.module or ""
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)

        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            if lazy:
                self.generic_visit(node)

        def visit_If(self, node: ast.If) -> None:
            if ast.unparse(node.test) != "TYPE_CHECKING":
                self.generic_visit(node)

    Finder().visit(ast.parse(path.read_text()))
    return found


def own(names: set[str]) -> set[str]:
    """Those of ``names`` that are modules of staticad, without the package's name."""
    known = {module_name(p) for p in modules()}
    found = {name.removeprefix("staticad.") for name in names if name.startswith("staticad.")}
    return found & known


@pytest.mark.parametrize("path", modules(), ids=module_name)
def test_each_module_imports_only_from_above(path: Path) -> None:
    here = module_name(path)
    part = here.split(".")[0]
    assert part in RANK, f"staticad/{part} has no place in LAYERS"
    for other in own(imports(path, lazy=False)):
        there = other.split(".")[0]
        above = RANK[there] < RANK[part] or JOINED[there] == JOINED[part]
        assert above, f"{here} imports {other}, which stands beside or below it"
        assert there not in BLIND.get(part, ()), f"{here} must not know {other}"


def test_autodiff_knows_no_op() -> None:
    used = own(imports(PACKAGE / "autodiff.py", lazy=True))
    assert {name for name in used if name.startswith("ops.")} <= {"ops.rules"}


@pytest.mark.parametrize("path", [PACKAGE / "ops" / f"{name}.py" for name in OPS], ids=module_name)
def test_op_families_import_downwards(path: Path) -> None:
    for other in own(imports(path, lazy=False)):
        if other.startswith("ops."):
            assert OPS.index(other.removeprefix("ops.")) < OPS.index(path.stem), f"{path.stem} imports {other}"


@pytest.mark.parametrize("path", modules(), ids=module_name)
def test_only_the_runtime_imports_numba(path: Path) -> None:
    used = {name.split(".")[0] for name in imports(path, lazy=True)} & {"numba", "llvmlite"}
    assert not used or module_name(path).split(".")[0] == "runtime", f"{path} imports {used}"


@pytest.mark.parametrize("path", modules(), ids=module_name)
def test_each_module_says_what_it_knows(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """``python(code)`` runs code in a fresh process and gives what it prints.

    Modules have bytecode files there, as those of an installed package have.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(tmp_path_factory.mktemp("bytecode"))

    def run(code: str) -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=PACKAGE.parent, env=environment
        ).stdout

    return run


def test_importing_staticad_loads_nothing_heavy(python: Callable[[str], str]) -> None:
    loaded = set(python("import sys, staticad; print(*sorted({m.split('.')[0] for m in sys.modules}))").split())
    assert not loaded & {"numba", "llvmlite", "scipy", "matplotlib", "graphviz", "torch", "jax"}


def test_importing_staticad_is_quick(python: Callable[[str], str]) -> None:
    code = "import numpy, time; t = time.perf_counter(); import staticad; print(time.perf_counter() - t)"
    # A busy machine only ever makes it slower, so the least of a few runs is what the import costs.
    fastest = float("inf")
    for _ in range(10):
        fastest = min(fastest, float(python(code)))
        if fastest < 0.15:
            return
    pytest.fail(f"import staticad takes {fastest:.3f} s beyond NumPy; at most 0.15 s")
