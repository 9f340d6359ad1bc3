"""A directory of files that only their owner may touch; knows safety and integrity of files, not what is in them.

A native file holds machine code that is run, so it is read only if the directory and the file are the user's own and no
one else may write them, and only if it carries the right digest of its key and content. Whatever is wrong, it counts as
missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path

from staticad.errors import CacheWarning

MAGIC = b"staticad native 1\n"
DIGEST = hashlib.sha256().digest_size


def location() -> Path:
    """``$STATICAD_CACHE_DIR``, else ``staticad`` in the platform's directory of caches."""
    if chosen := os.environ.get("STATICAD_CACHE_DIR"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "staticad"


def own(status: os.stat_result) -> bool:
    """Whether a file or directory is the user's, and writable by no one else (where the platform tells)."""
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@cache
def opened(path: Path) -> Path | None:
    """The directory, made if missing; None, after one `CacheWarning`, if it cannot be used."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        status = path.lstat()
        problem = "" if stat.S_ISDIR(status.st_mode) else "it is no directory"
        problem = problem or ("" if own(status) else "it is not yours alone to write")
        if not problem:
            with tempfile.TemporaryFile(dir=path):
                return path
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory
        problem = str(error)
    warnings.warn(
        f"the cache directory {path} cannot be used: {problem}; code is compiled in memory, again in each process. "
        "Set STATICAD_CACHE_DIR to a directory of your own, of mode 0700",
        CacheWarning,
        stacklevel=2,
    )
    return None


def directory() -> Path | None:
    """The directory that files are kept in now, or None if there is no usable one."""
    return opened(location())


def write(path: Path, content: bytes) -> bool:
    """Replace a file in one step, so that no other process ever sees a part of it; whether that worked."""
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError:  # a full disk, a directory that went away, a file that Windows holds open: the cache is optional
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        return False
    return True


def read(path: Path) -> bytes | None:
    """The content of a file, or None if it is missing, unreadable or not the user's own."""
    try:
        with path.open("rb") as file:
            return file.read() if own(os.fstat(file.fileno())) else None
    except OSError:
        return None


def seal(key: str, payload: bytes) -> bytes:
    """The content of a native file: ``payload`` with a digest that ties it to ``key``."""
    return MAGIC + hashlib.sha256(key.encode() + b"\0" + payload).digest() + payload


def unseal(key: str, content: bytes | None) -> bytes | None:
    """The payload of a native file, or None if the content is damaged or made for another key.

    >>> unseal("a", seal("a", b"code"))
    b'code'
    >>> unseal("b", seal("a", b"code")) is None, unseal("a", seal("a", b"code")[:-1]) is None
    (True, True)
    """
    if content is None or not content.startswith(MAGIC):
        return None
    payload = content[len(MAGIC) + DIGEST :]
    return payload if seal(key, payload) == content else None
