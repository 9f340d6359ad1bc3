"""Matrix products, tensor products and einsum, all written as contractions of two operands; knows no tiles and no
libraries.

>>> import staticad as ad
>>> x, w = ad.input("x", ("batch", 64), dtype="float32"), ad.zeros((32, 10), dtype="float32")
>>> ad.matmul(x, w)
Traceback (most recent call last):
...
staticad.errors.ShapeError: matmul: f32[batch, 64] @ f32[32, 10]: 64 != 32
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable, Sequence

from staticad.dtypes import bool_, int64
from staticad.errors import GraphError, ShapeError
from staticad.functions.elementwise import astype, multiply
from staticad.functions.manipulation import diagonal, expand_dims, moveaxis, permute_dims
from staticad.functions.operands import as_axes, as_tensor, assume, promoted, same_size, types_text
from staticad.functions.reductions import sum as sum_of
from staticad.ops.products import contract
from staticad.ops.views import reshape
from staticad.shapes import Dim
from staticad.tensor import ArrayLike, Tensor, wrap


def contraction(say: Callable[[], str], x: Tensor, y: Tensor, letters_x: str, letters_y: str, out: str) -> Tensor:
    """``einsum(f"{letters_x},{letters_y}->{out}", x, y)`` for operands of one dtype and letters that each stand once in
    one.

    A letter of size 1 in one operand and another size in the other is dropped from the first: broadcast, never copied.
    Letters of one operand alone that ``out`` has not are summed first. Nothing to sum makes it a product of elements.
    """
    sizes: dict[str, Dim] = {}
    for t, letters in ((x, letters_x), (y, letters_y)):
        for letter, d in zip(letters, t.shape, strict=True):
            known = sizes.get(letter, 1)
            sizes[letter] = d if known == 1 else known if d == 1 else same_size(known, d, say)
    x, letters_x = _fitted(x, letters_x, sizes, say)
    y, letters_y = _fitted(y, letters_y, sizes, say)
    x, letters_x = _alone_summed(x, letters_x, letters_y + out)
    y, letters_y = _alone_summed(y, letters_y, letters_x + out)
    present = "".join(letter for letter in out if letter in letters_x or letter in letters_y)
    if not (set(letters_x) & set(letters_y)) - set(out):
        result = multiply(_aligned(x, letters_x, present), _aligned(y, letters_y, present))
    else:
        result = wrap(contract(x.node, y.node, spec=f"{letters_x},{letters_y}->{present}"))
    return _aligned(result, present, out)


def _fitted(x: Tensor, letters: str, sizes: dict[str, Dim], say: Callable[[], str]) -> tuple[Tensor, str]:
    """``x`` with every axis of the size that its letter has; axes that would have to stretch are dropped."""
    kept = [k for k, letter in enumerate(letters) if x.shape[k] != 1 or sizes[letter] == 1]
    shape = tuple(sizes[letters[k]] for k in kept)
    node = x.node if len(kept) == x.ndim else reshape(x.node, shape=tuple(x.shape[k] for k in kept))
    return wrap(assume(node, shape, say)), "".join(letters[k] for k in kept)


def _alone_summed(x: Tensor, letters: str, others: str) -> tuple[Tensor, str]:
    axes = tuple(k for k, letter in enumerate(letters) if letter not in others)
    return (sum_of(x, axis=axes, dtype=x.dtype) if axes else x), "".join(i for i in letters if i in others)


def _aligned(x: Tensor, letters: str, out: str) -> Tensor:
    """``x`` with its axes in the order of ``out``, and axes of size 1 for the letters that it has not."""
    order = sorted(range(len(letters)), key=lambda k: out.index(letters[k]))
    x = permute_dims(x, order)
    missing = tuple(k for k, letter in enumerate(out) if letter not in letters)
    return expand_dims(x, axis=missing) if missing else x


def _product_operands(*xs: ArrayLike) -> tuple[list[Tensor], Callable[[Tensor], Tensor]]:
    """Tensors of a dtype that products have, and what makes the result of it: booleans are counted, then compared
    with 0.
    """
    ts = promoted(*xs)
    if ts[0].dtype == bool_:
        return [astype(t, int64) for t in ts], lambda out: astype(out, bool_)
    return ts, lambda out: out


def _of_sizes(t: Tensor, sizes: dict[int, Dim], say: Callable[[], str]) -> Tensor:
    """``t`` with its axes taken to have these ``sizes``."""
    return wrap(assume(t.node, tuple(sizes.get(k, d) for k, d in enumerate(t.shape)), say))


def matmul(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """The matrix product over the last two axes, the axes before them broadcast; one axis counts as a vector.

    ``[..., m, k] @ [..., k, n] -> [..., m, n]``. `ShapeError` where the inner sizes differ, or an operand has no axes.
    """
    (x, y), finish = _product_operands(x1, x2)

    def say() -> str:
        return f"matmul: {types_text((x1, x2), ' @ ')}"

    if x.ndim == 0 or y.ndim == 0:
        raise ShapeError(f"{say()}: an operand has no axes; use multiply")
    inner_x, inner_y = x.shape[-1], y.shape[0 if y.ndim == 1 else -2]
    size = same_size(inner_x, inner_y, say)  # a 1 does not stretch here
    x = _of_sizes(x, {x.ndim - 1: size}, say)
    y = _of_sizes(y, {max(y.ndim - 2, 0): size}, say)
    batch = string.ascii_lowercase[: max(x.ndim, y.ndim, 2) - 2]
    rows, columns = "M" if x.ndim > 1 else "", "N" if y.ndim > 1 else ""
    letters_x = batch[len(batch) - max(x.ndim - 2, 0) :] + rows + "K"
    letters_y = batch[len(batch) - max(y.ndim - 2, 0) :] + "K" + columns
    return finish(contraction(say, x, y, letters_x, letters_y, batch + rows + columns))


def dot(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """NumPy's dot: the last axis of ``x1`` with the last but one of ``x2`` (the only one of a vector); a product
    with a scalar.
    """
    x, y = as_tensor(x1), as_tensor(x2)
    if x.ndim == 0 or y.ndim == 0:
        return multiply(x1, x2)
    return tensordot(x1, x2, axes=((-1,), (0 if y.ndim == 1 else -2,)))


def outer(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """The products of every element of ``x1`` with every element of ``x2``, each flattened: shape ``[x1.size,
    x2.size]``.
    """
    x, y = promoted(x1, x2)
    return multiply(x.reshape(-1, 1), y.reshape(1, -1))


def tensordot(
    x1: ArrayLike, x2: ArrayLike, /, *, axes: int | tuple[int | Sequence[int], int | Sequence[int]] = 2
) -> Tensor:
    """The product summed over pairs of axes: the last ``axes`` of ``x1`` with the first of ``x2``, or the two lists
    given.
    """
    (x, y), finish = _product_operands(x1, x2)

    def say() -> str:
        return f"tensordot: {types_text((x1, x2))} over axes {axes}"

    if isinstance(axes, int):
        if not 0 <= axes <= min(x.ndim, y.ndim):
            raise ShapeError(f"{say()}: an operand has fewer axes")
        of_x, of_y = tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes))
    else:
        of_x, of_y = (as_axes("tensordot", a, t.node.type) for a, t in zip(axes, (x, y), strict=True))
    if len(of_x) != len(of_y):
        raise ShapeError(f"{say()}: the lists of axes differ in length")
    sizes = {(i, j): same_size(x.shape[i], y.shape[j], say) for i, j in zip(of_x, of_y, strict=True)}
    x = _of_sizes(x, {i: size for (i, _), size in sizes.items()}, say)
    y = _of_sizes(y, {j: size for (_, j), size in sizes.items()}, say)
    letters = iter(string.ascii_letters)
    shared = {pair: next(letters) for pair in sizes}
    by_x, by_y = {i: s for (i, _), s in shared.items()}, {j: s for (_, j), s in shared.items()}
    letters_x = "".join(by_x[k] if k in by_x else next(letters) for k in range(x.ndim))
    letters_y = "".join(by_y[k] if k in by_y else next(letters) for k in range(y.ndim))
    out = "".join(s for s in letters_x + letters_y if s not in shared.values())
    return finish(contraction(say, x, y, letters_x, letters_y, out))


def vecdot(x1: ArrayLike, x2: ArrayLike, /, *, axis: int = -1) -> Tensor:
    """The sum of products along ``axis`` (counted from the end), the other axes broadcast."""
    (x, y), finish = _product_operands(x1, x2)

    def say() -> str:
        return f"vecdot: {types_text((x1, x2))} along axis {axis}"

    if min(x.ndim, y.ndim) == 0:
        raise ShapeError(f"{say()}: an operand has no axes; use multiply")
    x, y = (moveaxis(t, axis, -1) for t in (x, y))
    size = same_size(x.shape[-1], y.shape[-1], say)
    x, y = (_of_sizes(t, {t.ndim - 1: size}, say) for t in (x, y))
    batch = string.ascii_lowercase[: max(x.ndim, y.ndim) - 1]
    letters = [batch[len(batch) - (t.ndim - 1) :] + "K" for t in (x, y)]
    return finish(contraction(say, x, y, letters[0], letters[1], batch))


def einsum(subscripts: str, /, *operands: ArrayLike) -> Tensor:
    """Sums of products written in letters, as NumPy's: ``einsum("...ij,jk->...ik", x, y)``.

    A letter that stands twice in one operand takes its diagonal; without ``->`` the result has the letters that stand
    once, sorted. More than two operands are multiplied in an order that keeps the products small. `GraphError` where
    the string is malformed, `ShapeError` where sizes differ.
    """

    def say() -> str:
        return f"einsum: {subscripts!r} of {types_text(operands)}"

    ts, finish = _product_operands(*operands)
    terms, out = _parse(subscripts, ts, say)
    pairs = [_distinct(t, letters, say) for t, letters in zip(ts, terms, strict=True)]
    while len(pairs) > 1:
        i, j = _cheapest(pairs)
        (y, letters_y), (x, letters_x) = pairs.pop(j), pairs.pop(i)
        wanted = set(out).union(*(letters for _, letters in pairs))
        kept = "".join(dict.fromkeys(s for s in letters_x + letters_y if s in wanted))
        target = out if not pairs else kept
        pairs.append((contraction(say, x, y, letters_x, letters_y, target), target))
    ((x, letters),) = pairs
    x, letters = _alone_summed(x, letters, out)
    return finish(_aligned(x, letters, out))


def _parse(subscripts: str, ts: Sequence[Tensor], say: Callable[[], str]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, the axes of an ellipsis named by letters of their own."""
    if not isinstance(subscripts, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise GraphError(f"einsum: subscripts are text such as 'ij,jk->ik', not {subscripts!r}")
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ts):
        raise GraphError(f"{say()}: names {len(terms)} operands and is given {len(ts)}")
    for term in (*terms, right):
        if not set(term.replace("...", "", 1)) <= set(string.ascii_letters):
            raise GraphError(f"{say()}: {term!r} is not letters with at most one '...'")
    spare = [c for c in string.ascii_letters if c not in subscripts]
    hidden = [t.ndim - len(term.replace("...", "")) for t, term in zip(ts, terms, strict=True)]
    for t, term, count in zip(ts, terms, hidden, strict=True):
        if count < 0 or (count > 0 and "..." not in term):
            raise ShapeError(f"{say()}: {term!r} does not name the {t.ndim} axes of {t.node.type}")
    longest = max((count for count, term in zip(hidden, terms, strict=True) if "..." in term), default=0)
    dots = "".join(spare[:longest])
    if len(dots) < longest:
        raise GraphError(f"{say()}: needs more than the 52 letters")
    full = [term.replace("...", dots[longest - count :]) for term, count in zip(terms, hidden, strict=True)]
    if not arrow:
        right = "..." * bool(dots) + "".join(c for c in sorted(set(left) - set(",.")) if left.count(c) == 1)
    out = right.replace("...", dots)
    if len(set(out)) < len(out) or not set(out) <= set("".join(full)):
        raise GraphError(f"{say()}: the result {right!r} must have letters of the operands, each once")
    if dots and "..." not in right:
        raise GraphError(f"{say()}: the result must have the '...' of the operands")
    return full, out


def _distinct(t: Tensor, letters: str, say: Callable[[], str]) -> tuple[Tensor, str]:
    """``t`` with the diagonal taken of axes that share a letter."""
    for letter in dict.fromkeys(letters):
        while letters.count(letter) > 1:
            i = letters.index(letter)
            j = letters.index(letter, i + 1)
            size = same_size(t.shape[i], t.shape[j], say)
            t = _of_sizes(t, {i: size, j: size}, say)
            t = diagonal(t, axis1=i, axis2=j)
            letters = letters[:i] + letters[i + 1 : j] + letters[j + 1 :] + letter
    return t, letters


def _cheapest(pairs: Sequence[tuple[Tensor, str]]) -> tuple[int, int]:
    """The two operands whose product has the fewest elements, a symbolic size being taken for a large one."""

    def elements(i: int, j: int) -> int:
        sizes: dict[str, Dim] = {}
        for t, letters in (pairs[i], pairs[j]):
            sizes.update(zip(letters, t.shape, strict=True))
        others = {s for k, (_, letters) in enumerate(pairs) if k not in (i, j) for s in letters}
        shared = set(pairs[i][1]) & set(pairs[j][1])
        total = 1
        for letter, d in sizes.items():
            if letter in others or letter not in shared:
                total *= d if isinstance(d, int) else 1024
        return total

    return min(itertools.combinations(range(len(pairs)), 2), key=lambda pair: elements(*pair))
