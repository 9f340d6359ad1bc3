"""The exceptions a user meets; knows nothing of what raises them."""

from __future__ import annotations


class StaticadError(Exception):
    """Base of every error that staticad raises on purpose."""


class ShapeError(StaticadError, ValueError):
    """Shapes, axes or sizes that do not fit; also a ``ValueError``."""


class DTypeError(StaticadError, TypeError):
    """A data type that an operation does not take; also a ``TypeError``."""


class GraphError(StaticadError, ValueError):
    """A graph that is not well formed: a foreign or missing input, a bad name, a misuse of backward."""


class SymbolicError(GraphError, TypeError):
    """A value was asked of a tensor that has none yet (truth value, iteration, ``float``, ``np.asarray``)."""


class AxisError(ShapeError, IndexError):
    """An axis or a static index out of range; also an ``IndexError``."""


class IndexOutOfRange(StaticadError, IndexError):
    """An index computed at run time fell outside the array it reads."""


class StepLimit(StaticadError, RuntimeError):
    """A loop went on after the most steps that it was given."""


class OutOfMemory(StaticadError, MemoryError):
    """What a loop of unknown length leaves for its backward pass takes more memory than there is, or than such tapes
    may take: three quarters of the machine's (or container's). Also a ``MemoryError``."""


class Interrupted(StaticadError, KeyboardInterrupt):
    """Ctrl-C while a compiled function ran inside of `@njit` code; from Python it is a plain ``KeyboardInterrupt``."""


class CustomOpError(StaticadError, RuntimeError):
    """A function of the user's that a compiled function calls raised an exception, which is the ``__cause__``."""


class CompileError(StaticadError, RuntimeError):
    """Native code could not be made of a valid graph."""


class GradcheckError(StaticadError, AssertionError):
    """Derivatives that are not those that differences of values give; also an ``AssertionError``."""


class DrawError(StaticadError, RuntimeError):
    """A picture could not be made: no Graphviz program is installed, or the graph is too large to look at."""


class CacheWarning(UserWarning):
    """The disk cache cannot be used; code is compiled in memory instead."""
