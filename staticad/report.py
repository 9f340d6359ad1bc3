"""What compiled code does, in numbers: kernels, flops, bytes, workspace, compile time; reads plans, changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from staticad.effort import item_flops
from staticad.ir import Node
from staticad.loops import Item, Loop, Tile, Whole, count_loops, dump
from staticad.parallel import shared
from staticad.plan import Plan, Use, item_uses
from staticad.shapes import Dim, add, known_ge, mul, product, symbols
from staticad.workspace import liveness_bound

if TYPE_CHECKING:
    from staticad.pipeline import Compiled


@dataclass(frozen=True)
class Kernel:
    """One top-level loop nest or library call: ``text`` shows its loops.

    ``flops`` counts an exp as 20, a division as 4; ``reads`` and ``writes`` are bytes of the arrays it takes from and
    leaves in memory, each once; sizes are integers, or expressions in symbolic dimensions. ``parallel``: it runs on
    several threads where there is enough work (products too, which are no loops, decide that by themselves).
    """

    text: str
    loops: int
    flops: Dim
    reads: Dim
    writes: Dim
    parallel: bool = False

    def __str__(self) -> str:
        threads = ", on several threads" if self.parallel else ""
        return f"{self.text}\n# {self.flops} flops, {self.reads} bytes read, {self.writes} bytes written{threads}"


@dataclass(frozen=True)
class Stats:
    """Costs of a compiled function; sizes are integers, or expressions in symbolic dimensions.

    ``parallel`` counts the kernels that run on several threads where there is enough work.
    ``temporaries`` are arrays in the workspace; ``workspace_bytes`` is what they share, ``liveness_bytes`` the most
    that live at one time; ``compile_seconds`` by stage; ``cache_hit``: native code came from disk;
    ``functions``: kernel functions, of which ``functions_compiled`` were known neither to the process nor on disk;
    ``peak_bytes``: the most memory that the process had until then (0 where the platform does not tell).

    What compiling takes is bounded: functions are compiled one after another, and each is of a weight (nodes, six more
    for a loop) of at most 600, or one nest of elementwise loops that reads and writes at most 4,000 elements in a step;
    longer programs, and loops that do more in a step, are functions that call others. A chain of elementwise functions
    stays one loop at any length; LLVM's time to vectorise its step grows faster than the chain.
    """

    kernels: int
    parallel: int
    loops: int
    temporaries: int
    flops: Dim
    bytes_read: Dim
    bytes_written: Dim
    workspace_bytes: Dim
    liveness_bytes: Dim
    compile_seconds: dict[str, float]
    cache_hit: bool
    functions: int
    functions_compiled: int
    peak_bytes: int


def kernels(compiled: Compiled) -> list[Kernel]:
    """A `Kernel` for every top-level item that does any work."""
    plan = compiled.plan
    storage = plan.schedule.storage
    found: list[Kernel] = []
    spread: set[Item] = {*compiled.parallel, *(x for x in plan.schedule.body if compiled.threads and shared(x))}
    for position, item in enumerate(plan.schedule.body):
        if not isinstance(item, (Loop, Tile, Whole)):
            continue
        reads, writes = traffic(plan, item, position)
        text = dump([item], lambda node: node.name or node.op.name)
        found.append(Kernel(text, count_loops([item]), item_flops(storage, item), reads, writes, item in spread))
    return found


def traffic(plan: Plan, item: Item, position: int) -> tuple[Dim, Dim]:
    """The bytes of arrays that come into and go out of a top-level item, each element once."""
    written: dict[Node, Dim] = {}
    read: dict[Node, None] = {}
    for node, use in item_uses(plan.schedule.storage, item, position):
        if not use.writes:
            read[node] = None
            continue
        size = node_bytes(node) if use.index is None else mul(touched(use), node.dtype.itemsize)
        total = add(written.get(node, 0), size)
        written[node] = total if known_ge(node_bytes(node), total) else node_bytes(node)
    into: Dim = 0
    out: Dim = 0
    for node in read:
        b = plan.buffers.get(node)
        if b is None:
            into = add(into, node_bytes(node))
        elif node not in written and b.place != "scalar":
            into = add(into, b.bytes)
    for node, size in written.items():
        b = plan.buffers[node]
        if b.place == "output" or (b.place == "work" and b.last > position):
            out = add(out, size)
    return into, out


def touched(use: Use) -> Dim:
    """How many elements a use in its loops reaches."""
    found = {s for d in use.index or () for s in symbols(d)}
    return product(loop.extent for loop in use.path if loop.var in found)


def node_bytes(node: Node) -> Dim:
    return mul(product(node.shape), node.dtype.itemsize)


def stats(compiled: Compiled) -> Stats:
    found = kernels(compiled)
    buffers = compiled.plan.buffers.values()
    flops: Dim = 0
    reads: Dim = 0
    writes: Dim = 0
    for k in found:
        flops, reads, writes = add(flops, k.flops), add(reads, k.reads), add(writes, k.writes)
    return Stats(
        kernels=len(found),
        parallel=sum(k.parallel for k in found),
        loops=sum(k.loops for k in found),
        temporaries=sum(b.place == "work" for b in buffers),
        flops=flops,
        bytes_read=reads,
        bytes_written=writes,
        workspace_bytes=compiled.plan.work_bytes,
        liveness_bytes=liveness_bound(list(buffers)),
        compile_seconds={**compiled.seconds, **compiled.native.seconds},
        cache_hit=compiled.native.cache_hit,
        functions=compiled.native.functions,
        functions_compiled=compiled.native.compiled,
        peak_bytes=compiled.native.peak_bytes,
    )
