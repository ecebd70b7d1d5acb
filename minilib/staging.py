"""A temporary folder beside a data set's place, and the lock that keeps others out of it."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from minilib.download import DownloadError

if sys.platform != "win32":
    import fcntl


@contextlib.contextmanager
def staging(root: Path, name: str) -> Iterator[Path]:
    """A temporary folder beside the data set, emptied first and removed at the end.

    It is locked, so two processes never prepare the same data set at once.  What a killed process
    left there is cleared away; a data set it was about to replace is put back.

    Raises:
        DownloadError: another process is at work in it.
    """
    ours = [folder for folder in (root, *root.parents) if not folder.exists()]
    root.mkdir(parents=True, exist_ok=True)
    work = root / f".{name}.partial"
    work.mkdir(exist_ok=True)
    with locked(work):
        if (work / "old").exists() and not (root / name).exists():
            (work / "old").rename(root / name)
        for left in work.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)
            for folder in ours:
                if not any(folder.iterdir()):
                    folder.rmdir()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else is at work in this folder (unknown on Windows).

    Raises:
        DownloadError: another process is.
    """
    with contextlib.ExitStack() as stack:
        if sys.platform != "win32":
            lock = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, lock)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DownloadError("another process is getting it right now") from None
        yield
