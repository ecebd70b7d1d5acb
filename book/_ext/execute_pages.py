"""Sphinx extension: execute the pages that changed, several side by side, before Sphinx reads them.

MyST-NB executes a page when Sphinx reads it, one after the other, and a small network gains little
from a second core.  Here each page gets its share of the cores and its output goes into the
execution cache (jupyter-cache), where MyST-NB finds it.
"""

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from jupyter_cache.executors.utils import single_nb_execution
from myst_nb.core.read import create_nb_reader
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import SphinxError

from minilib.notebooks import KERNEL_START, keep_memory, started

MOST_AT_ONCE = 4  # a page takes up to 2 GB
WRITING = threading.Lock()  # pages with the same cells share a folder of the cache
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal, in IPython's tracebacks


class PageFailed(SphinxError):
    """A cell of a page raised an error."""

    category = "A cell failed"


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def notebook(env: BuildEnvironment, path: Path) -> NotebookNode | None:
    """The page as MyST-NB will read it; None for a page without cells."""
    text = path.read_text("utf-8")
    reader = create_nb_reader(str(path), env.myst_config, env.mystnb_config, text)
    return reader.read(text) if reader else None


@contextlib.contextmanager
def threads_per_page(pages_at_once: int) -> Iterator[None]:
    """Have kernels started inside use their share of the cores, unless the user set a number."""
    name = "OMP_NUM_THREADS"
    before = os.environ.get(name)
    os.environ.setdefault(name, str(max(1, cores() // pages_at_once)))
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


def execute(cache: JupyterCacheAbstract, docname: str, path: Path, page: NotebookNode) -> None:
    """Execute one page in its own folder and put it into the cache.

    Raises:
        PageFailed: a cell raised; the message holds its traceback.
    """
    print(f"  executing {docname} ...", flush=True)
    result = started(
        lambda: single_nb_execution(
            page, str(path.parent), -1, allow_errors=False, startup_timeout=KERNEL_START
        )
    )
    if result.err is not None:
        raise PageFailed(f"{docname}\n{COLOURS.sub('', result.exc_string or '')}")
    bundle = CacheBundleIn(page, str(path), data={"execution_seconds": result.time})
    with WRITING:
        cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    print(f"  executed  {docname} in {result.time:.0f} s", flush=True)


def in_cache(cache: JupyterCacheAbstract, page: NotebookNode) -> bool:
    """Whether the cache has this page's output."""
    with contextlib.suppress(KeyError):
        cache.match_cache_notebook(page)
        return True
    return False


class Pages:
    """The pages of one build, and which of them it had to execute."""

    def __init__(self) -> None:
        """Nothing was executed yet."""
        self.executed: set[str] = set()
        self.wall = 0.0

    def execute(self, app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
        """Execute what is not in the cache, the longest texts first.

        Raises:
            PageFailed: of the first page that failed; those not begun are not tried.
        """
        cache = get_cache(env.mystnb_config.execution_cache_path)
        waiting: list[tuple[str, Path, NotebookNode]] = []
        for docname in docnames:
            path = Path(env.doc2path(docname))
            page = notebook(env, path)
            if page is not None and not in_cache(cache, page):
                waiting.append((docname, path, page))
        if not waiting:
            return
        waiting.sort(key=lambda item: -item[1].stat().st_size)
        at_once = min(cores(), MOST_AT_ONCE, len(waiting))
        keep_memory()
        began = time.perf_counter()
        with threads_per_page(at_once), ThreadPoolExecutor(at_once) as pool:
            futures: list[Future[None]] = [pool.submit(execute, cache, *item) for item in waiting]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            pool.shutdown(cancel_futures=True)
        for future in done:
            future.result()
        self.executed = {docname for docname, _, _ in waiting}
        self.wall = time.perf_counter() - began

    def report(self, app: Sphinx, error: Exception | None) -> None:
        """Print the seconds that each executed page took, now or when its output was cached."""
        if error or app.builder.format != "html":
            return
        print("\nSeconds to execute each page:")
        for docname, metadata in sorted(app.env.nb_metadata.items()):
            runtime = (metadata.get("exec_data") or {}).get("runtime")
            if runtime is not None:
                cached = "" if docname in self.executed else "  (from the cache)"
                print(f"  {docname:32s} {runtime:7.1f}{cached}")
        if self.executed:
            print(f"  {'all of them, side by side':32s} {self.wall:7.1f}")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the pieces."""
    pages = Pages()
    app.connect("env-before-read-docs", pages.execute)
    app.connect("build-finished", pages.report)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
