"""Rewrite chapters and pages in the form that JupyterLab would save, their code formatted by ruff.

Without arguments: rewrites what differs.  ``--check``: names what differs, and exits with 1.
A file in this form shows in ``git diff`` only what its author changed, whichever editor was used.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from jupytext.sync_contentsmanager import build_sync_jupytext_contents_manager_class

ROOT = Path(__file__).resolve().parents[2]


def pages() -> list[Path]:
    """Every text notebook of the book."""
    files = sorted([*ROOT.glob("chapters/*.md"), *ROOT.glob("book/*.md")])
    return [file for file in files if "```{code-cell}" in file.read_text("utf-8")]


def formatted(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with its code cells as ``ruff format`` writes them.

    Raises:
        subprocess.CalledProcessError: a cell that is not Python.
    """
    command = ["ruff", "format", "--quiet", "--stdin-filename", "chapters/page.ipynb", "-"]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        input=nbformat.writes(notebook),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return nbformat.reads(done.stdout, as_version=4)


def canonical(text: str) -> str:
    """A page's text after it was opened in JupyterLab, formatted, and saved."""
    manager_class = build_sync_jupytext_contents_manager_class(LargeFileManager)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(ROOT / "pyproject.toml", folder)
        page = Path(folder) / "page.md"
        page.write_text(text, "utf-8")
        manager = manager_class(root_dir=folder)
        model = manager.get("page.md", type="notebook")
        content = formatted(model["content"])
        manager.save({"type": "notebook", "format": "json", "content": content}, "page.md")
        return page.read_text("utf-8")


def main() -> int:
    """Check or rewrite all pages."""
    check, differs = "--check" in sys.argv[1:], False
    for page in pages():
        text = page.read_text("utf-8")
        wanted = canonical(text)
        if text == wanted:
            continue
        differs = True
        name = page.relative_to(ROOT).as_posix()
        print(f"{name}: not as JupyterLab and ruff save it (make format)" if check else name)
        if not check:
            page.write_text(wanted, "utf-8")
    return int(check and differs)


if __name__ == "__main__":
    sys.exit(main())
