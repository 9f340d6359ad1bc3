"""Threads that wait for work: the memory that native code shares with them, and how they start; knows no work.

Compiled code finds the memory by the symbol `SYMBOL`. The first work worth several threads calls `START` in it; a
program that never has such work does not pay for a thread. There are as many threads as Numba's, but they are ours:
those of Numba's layers are all waited for at the end of a loop, also one that has not begun because its core is another
program's, whose part the caller could have done by then.
"""

# Numba has no types.
# pyright: basic, reportAttributeAccessIssue=false

from __future__ import annotations

import ctypes
import importlib
import os
import threading

from staticad.runtime import settings

SYMBOL = "staticad_threads"
LINE = 8  # words of a line of the cache: what different threads write to stands on different ones
# What stands in the words. LIMIT: on how many threads work may run; STARTED: 1 after `start`; WORKERS: how many threads
# wait; then addresses of C functions: `start` here, Numba's `get_num_threads` and `set_num_threads`, OpenMP's
# `omp_in_parallel` (0: there is none), Python's to acquire and release a lock.
LIMIT, STARTED, WORKERS, START, GET_NUM_THREADS, SET_NUM_THREADS, IN_PARALLEL, ACQUIRE = range(LINE)
RELEASE = (
    LINE  # and what only the thread that calls looks at: BUSY, 1 while it has the threads, when others do without;
)
BUSY, CALLER, ALONE, DOUBT = range(LINE + 1, LINE + 5)  # its lock; for how long it does without, see `kernels.team`
# C functions: on which processor a thread runs, and on which it may, asked and said (0: the system does not tell).
SCHED_GETCPU, SCHED_GETAFFINITY, PTHREAD_SETAFFINITY_NP = range(LINE + 5, LINE + 8)
# The job, see there.
TICKET, FUNCTION, DATA, STATUSES, NUM_THREADS = range(2 * LINE, 2 * LINE + 5)
DONE, WAITING = range(3 * LINE, 3 * LINE + 2)
# Python's number of the thread that calls, while others work for it; 1 where the user wants that to end (Ctrl-C), which
# Python tells the main thread alone: see `kernels.signals`.
OWNER, STOP = range(3 * LINE + 2, 3 * LINE + 4)
WORKER = 4 * LINE  # the line of the first worker: whether it sleeps, its lock,
ASLEEP, LOCK, THREAD, AVOIDED = range(4)  # the system's name of it, and one more than the processor that it avoids

MOST = 4000  # threads
FAILED = ctypes.c_ulong(-1).value  # where Python cannot start a thread
limit = min(settings.threads(), MOST)
python = ctypes.pythonapi
python.PyThread_allocate_lock.restype = ctypes.c_void_p
python.PyThread_acquire_lock.argtypes = [ctypes.c_void_p, ctypes.c_int]
python.PyThread_start_new_thread.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
python.PyThread_start_new_thread.restype = ctypes.c_ulong
lock = threading.Lock()


def kept(thing: object) -> None:
    """Never free it: a thread may look at it when the interpreter has ended."""
    python.Py_IncRef(ctypes.py_object(thing))


def words(count: int) -> ctypes.Array[ctypes.c_int64]:
    """So many zeros from the beginning of a line on."""
    memory = ctypes.create_string_buffer(8 * (count + LINE))
    kept(memory)
    start = ctypes.addressof(memory)
    return (ctypes.c_int64 * count).from_address(start + -start % (8 * LINE))


def address(function: object) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]


table = words(WORKER + LINE * limit)


def start() -> None:
    """Have threads wait for work from now on."""
    with lock:
        if table[STARTED]:
            return
        try:
            if numbers():
                table[WORKERS] = launch()
        finally:
            if not table[GET_NUM_THREADS]:
                table[LIMIT] = 1
            table[STARTED] = 1  # the last: who sees it does not wait for the lock


def numbers() -> bool:
    """Ask Numba from now on for how many threads; False if it has none."""
    from numba.np.ufunc import parallel

    try:
        parallel._launch_threads()
        layer = parallel.threading_layer()
    except ValueError:  # there is no layer
        return False
    if layer == "omp":
        table[IN_PARALLEL] = in_parallel(importlib.import_module("numba.np.ufunc.omppool").__file__ or "")
    table[SET_NUM_THREADS] = address(parallel._set_num_threads)
    table[GET_NUM_THREADS] = address(parallel._get_num_threads)
    return True


def launch() -> int:
    """Start a thread for each but the one that calls. Returns how many could be."""
    from staticad.runtime.kernels import team

    work = team.worker()
    table[ACQUIRE], table[RELEASE] = address(python.PyThread_acquire_lock), address(python.PyThread_release_lock)
    table[CALLER] = taken()
    placing()
    for number in range(limit - 1):
        line = WORKER + LINE * number
        table[line + ASLEEP], table[line + LOCK], table[line + AVOIDED] = 0, taken(), 0
        thread = python.PyThread_start_new_thread(work, number)
        if thread == FAILED:
            return number
        table[line + THREAD] = ctypes.c_int64(thread).value
    return limit - 1


def placing() -> None:
    """Find the C functions that tell and say where threads run, all or none."""
    if os.name != "posix":
        return
    library = ctypes.CDLL(None)
    names = ("sched_getcpu", "sched_getaffinity", "pthread_setaffinity_np")
    if all(hasattr(library, name) for name in names):
        places = (SCHED_GETCPU, SCHED_GETAFFINITY, PTHREAD_SETAFFINITY_NP)
        for at, name in zip(places, names, strict=True):
            table[at] = address(getattr(library, name))


def taken() -> int:
    """A lock of Python's, which native code may wait for, taken."""
    made = python.PyThread_allocate_lock()
    if not made:
        raise MemoryError
    python.PyThread_acquire_lock(made, 1)
    return made


def in_parallel(path: str) -> int:
    """The address of ``omp_in_parallel`` in the OpenMP library that the shared object at ``path`` uses."""
    try:
        return address(ctypes.CDLL(path).omp_in_parallel)
    except AttributeError:  # Windows does not look into the libraries that a library uses
        return 0


def forked() -> None:
    """In the child of a fork, which has none of its parent's threads: forget them and their job."""
    global lock
    lock = threading.Lock()  # another thread of the parent may hold the old one
    for at in (STARTED, WORKERS, BUSY, ALONE, DOUBT, TICKET, DONE, WAITING):
        table[at] = 0


callback = ctypes.CFUNCTYPE(None)(start)
kept(callback)
table[START] = address(callback)
table[LIMIT] = limit


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forked)
