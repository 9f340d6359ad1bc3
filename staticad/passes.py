"""Functions as native callables: the whole, or the two halves of its derivative; knows the pipeline, and no tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from staticad.autodiff import pull
from staticad.costs import ARRAY
from staticad.ir import ArrayType, Graph, Node, substitute
from staticad.ops import creation, sources
from staticad.parallel import Mode
from staticad.pipeline import Compiled, compile_nodes
from staticad.residuals import choose_residuals
from staticad.runtime.call import Caller, Target
from staticad.simplify import simplify


def build(
    name: str,
    inputs: Sequence[Node],
    outputs: Sequence[Node],
    updates: Mapping[Node, Node] | None = None,
    hints: Sequence[str | None] = (),
    parallel: Mode = "auto",
) -> tuple[Compiled, Caller]:
    """Compiled code and its caller from Python: arrays for ``inputs`` (input nodes) to arrays of ``outputs``."""
    compiled = compile_nodes(inputs, outputs, updates or {}, name, hints, parallel)
    target = Target(
        name=name,
        native=compiled.native,
        inputs=[(x.params["name"], x.type) for x in inputs],
        hidden=[s.array for s in compiled.hidden],
        written=[s.array for s in compiled.written],
        outputs=[x.type for x in outputs],
        failures=compiled.failures,
        work_bytes=compiled.plan.work_bytes,
    )
    return compiled, Caller(target)


class Passes:
    """The two halves of a derivative as compiled functions: forward with residuals, backward from them.

    ``backward`` takes what `forward` did and gave, but for its outputs, and cotangents of ``seeds``, which are among
    ``outputs``; it gives those of ``leaves``.
    """

    def __init__(
        self,
        name: str,
        inputs: Sequence[Node],
        outputs: Sequence[Node],
        seeds: Sequence[Node],
        leaves: Sequence[Node],
        parallel: Mode = "auto",
    ):
        given = [_input(f"gradient_{k}" if k else "gradient", x.type) for k, x in enumerate(seeds)]
        found = pull(seeds, leaves, given)
        grads = [creation.fill(x, 0) if g is None else g for x, g in zip(leaves, found, strict=True)]
        # Simplified together, so that stable forms and common subexpressions are the same nodes in both halves.
        both = simplify(Graph(tuple(inputs), (*outputs, *grads))).outputs
        values, grads = both[: len(outputs)], both[len(outputs) :]
        #: What the forward pass leaves for the backward pass.
        self.kept = kept = choose_residuals(values, grads, given, each=ARRAY)
        stand_in = {x: _input(f"kept_{k}", x.type) for k, x in enumerate(kept)}
        _, self.forward = build(f"{name}_forward", inputs, [*outputs, *kept], parallel=parallel)
        arguments = [*inputs, *stand_in.values(), *given]
        _, self.backward = build(f"{name}_backward", arguments, substitute(grads, stand_in), parallel=parallel)


def _input(name: str, t: ArrayType) -> Node:
    return sources.input_(name=name, source=object(), type=t)
