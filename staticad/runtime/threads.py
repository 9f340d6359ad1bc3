"""Numba's threads as native code sees them: a table of C functions and of what is allowed; knows no programs.

Compiled code finds the table by the symbol `SYMBOL`. The first work worth several threads calls `START` in it, which
launches them where Numba has a threading layer that may be entered from several threads at once (OpenMP); where not,
`LIMIT` becomes 1. A program that never has such work does not pay for a thread.
"""

# Numba has no types.
# pyright: basic, reportAttributeAccessIssue=false

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import sys
import threading
from collections.abc import Iterator

import llvmlite.binding as llvm
from numba.core import config

SYMBOL = "staticad_threads"
# The words of the table. LIMIT: on how many threads work may run; BUSY: 1 while a loop is spread over threads, when all
# others run where they are; then the addresses of C functions: `start` here; `parallel_for` of Numba's layer (0 until
# `start` was called), its `get_num_threads` and `set_num_threads`, and OpenMP's `omp_in_parallel` (0: there is none).
LIMIT, BUSY, START, PARALLEL_FOR, GET_NUM_THREADS, SET_NUM_THREADS, IN_PARALLEL = range(7)

SPINS = "1000"

table = (ctypes.c_int64 * 7)()
llvm.add_symbol(SYMBOL, ctypes.addressof(table))
lock = threading.Lock()
layers = {"omp": "numba.np.ufunc.omppool"}  # those that allow for loops started from several threads at once


def start() -> None:
    """Let compiled code use Numba's threads from now on, if their layer is safe."""
    with lock:
        if table[PARALLEL_FOR] or table[LIMIT] == 1:
            return
        try:
            launch()
        finally:
            if not table[PARALLEL_FOR]:
                table[LIMIT] = 1


def launch() -> None:
    from numba.np.ufunc import parallel

    try:
        with brief_spinning():
            parallel._launch_threads()
        name = layers.get(parallel.threading_layer())
    except ValueError:  # there is no layer
        return
    if name is None:
        return
    layer = importlib.import_module(name)
    table[GET_NUM_THREADS] = layer.get_num_threads
    table[SET_NUM_THREADS] = layer.set_num_threads
    table[IN_PARALLEL] = in_parallel(layer.__file__ or "")
    table[PARALLEL_FOR] = layer.parallel_for  # the last: who sees it does not wait for the lock


@contextlib.contextmanager
def brief_spinning() -> Iterator[None]:
    """Have GNU OpenMP, which reads its settings when it is loaded, wait actively for some microseconds.

    By default threads that wait for others take their processors from them for several milliseconds where there are
    fewer processors than threads that want to run. A user's own setting stays."""
    settings = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
    if settings & os.environ.keys():
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = SPINS
    try:
        yield
    finally:
        os.environ.pop("GOMP_SPINCOUNT", None)


def in_parallel(path: str) -> int:
    """The address of ``omp_in_parallel`` in the OpenMP library that the shared object at ``path`` uses."""
    try:
        return ctypes.cast(ctypes.CDLL(path).omp_in_parallel, ctypes.c_void_p).value or 0
    except AttributeError:  # Windows does not look into the libraries that a library uses
        return 0


def alone() -> None:
    """In the child of a fork, which has none of its parent's threads: cut loops as before, but run them here.

    Threads that Numba launched for others count, too: its layer ends a child that asks for them."""
    global lock
    lock = threading.Lock()  # another thread of the parent may hold the old one
    if getattr(sys.modules.get("numba.np.ufunc.parallel"), "_is_initialized", False):
        table[BUSY] = 1


callback = ctypes.CFUNCTYPE(None)(start)
table[START] = ctypes.cast(callback, ctypes.c_void_p).value or 0
table[LIMIT] = config.NUMBA_NUM_THREADS


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=alone)
