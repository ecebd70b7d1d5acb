"""Sphinx extension of this book: a cache that notices edits, and local assets.

* The execution cache of jupyter-cache looks at a notebook's cells only.  Here its folder is named
  after a hash of everything else a chapter's output depends on, so that an edit in ``minilib`` or
  in a locked version executes the chapters again.
* MathJax, require.js, the widget manager and the explorers are copied beside the pages: a built
  page asks no other host for anything.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

from minilib import chapters, notebooks

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "_build"
CACHES = BUILD / ".cache"
WEB = BUILD / "web"  # becomes _static/ of the pages, beside book/_static
KEPT_CACHES = 3


def dependencies(root: Path) -> Iterator[Path]:
    """Every file, besides its own text, that the output of a page may depend on."""
    for folder in ("minilib", "data_scripts", "book/results", "book/weights"):
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and not {"__pycache__", "static"} & set(path.parts):
                yield path
    yield from sorted((root / "book").glob("*.py"))
    yield root / "book/assets/package-lock.json"
    yield root / "requirements.lock"
    yield from loaded_chapters(root)


def loaded_chapters(root: Path) -> list[Path]:
    """Chapters whose definitions another chapter loads: their text is a dependency too."""
    pages = sorted((root / "chapters").glob("*.md"))
    names: set[str] = set()
    for page in pages:
        with contextlib.suppress(SyntaxError):  # executing the page will tell
            names |= chapters.loaded_chapters(chapters.python(page.read_text("utf-8")))
    return [page for page in pages if page.stem in names]


def cache_key(root: Path) -> str:
    """Hash of the names and bytes of all dependencies, 16 hex digits."""
    digest = hashlib.sha256()
    for path in dependencies(root):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:16]


def choose_cache(app: Sphinx, config: Config) -> None:
    """Point the execution cache at the folder of the present key; forget the oldest ones."""
    folder = CACHES / cache_key(ROOT)
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    config.nb_execution_cache_path = str(folder)
    by_age = sorted(CACHES.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in by_age[KEPT_CACHES:]:
        shutil.rmtree(old)


def quiet_kernels(app: Sphinx, config: Config) -> None:
    """Give the kernels an IPython profile of their own."""
    notebooks.quiet_kernels(BUILD / "ipython")


def assets() -> Iterator[tuple[Path, str]]:
    """Files that the pages need from elsewhere, and where they go under ``_static``."""
    import anywidget

    modules = BUILD / "npm" / "node_modules"
    yield modules / "mathjax/es5/tex-svg.js", "mathjax/tex-svg.js"
    yield modules / "requirejs/require.js", "widgets/require.js"
    manager = modules / "@jupyter-widgets/html-manager/dist"
    yield manager / "embed-amd.js", "widgets/embed-amd.js"
    for font in manager.glob("*.woff2"):
        yield font, f"widgets/{font.name}"
    yield Path(anywidget.__file__).parent / "nbextension/index.js", "widgets/anywidget.js"
    for built in (ROOT / "minilib/explore/static").glob("*"):
        yield built, f"explore/{built.name}"


def copy_assets(app: Sphinx, config: Config) -> None:
    """Copy them, and have Sphinx take the folder as a second source of static files."""
    shutil.rmtree(WEB, ignore_errors=True)
    for source, target in assets():
        if not source.is_file():
            raise ExtensionError(f"{source} is missing: build the book with `make book`")
        (WEB / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, WEB / target)
    config.html_static_path.append(str(WEB))
    # The theme copies its logo to _static even after a failed build; were the folder not there yet,
    # it would become a file of that name, and every later build would fail.
    (app.outdir / "_static").mkdir(parents=True, exist_ok=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the pieces."""
    app.connect("config-inited", choose_cache)
    app.connect("config-inited", quiet_kernels)
    app.connect("config-inited", copy_assets)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
