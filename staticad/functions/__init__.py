"""The array functions: the forgiving edge, where operands are promoted and broadcast; knows no loops.

They and `staticad.tensor` are one layer, which is always entered through the tensor's module.
"""

import staticad.tensor  # noqa: F401  # pyright: ignore[reportUnusedImport]
