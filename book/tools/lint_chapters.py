"""Check the code cells of the chapters and pages: ruff, and the length of a cell.

ruff passes over Markdown in silence, so each file is turned into a notebook in memory first.
Prints one line per finding, with the cell's number, and exits with 1 if there is any.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat

ROOT = Path(__file__).resolve().parents[2]
LONGEST_CELL = 35  # lines
MEASURES = ("run.metric(", "run.train(", "run.parameters(", "run.target(")


def pages() -> list[Path]:
    """Every text notebook of the book."""
    files = sorted([*ROOT.glob("chapters/*.md"), *ROOT.glob("book/*.md")])
    return [file for file in files if "```{code-cell}" in file.read_text("utf-8")]


def ruff_findings(page: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    """What ruff says of the page's code."""
    name = page.relative_to(ROOT).with_suffix(".ipynb").as_posix()
    command = ["ruff", "check", "--quiet", "--output-format=concise", "--stdin-filename", name, "-"]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        input=nbformat.writes(notebook),
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    yield from (done.stdout + done.stderr).splitlines()


def long_cells(page: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Cells that no longer hold one idea."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    for number, source in enumerate(code, start=1):
        lines = source.count("\n") + 1
        if lines > LONGEST_CELL:
            name = page.relative_to(ROOT).as_posix()
            yield f"{name}: code cell {number} has {lines} lines, {LONGEST_CELL} at most"


def measuring_records(page: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Cells tagged as mere readers of records, which do more than that."""
    for number, cell in enumerate([c for c in notebook.cells if c.cell_type == "code"], start=1):
        does = [call for call in MEASURES if call in cell.source]
        if "record" in cell.metadata.get("tags", []) and does:
            name = page.relative_to(ROOT).as_posix()
            yield f"{name}: code cell {number} has the tag 'record', but calls {does[0]}...)"


def findings(page: Path) -> list[str]:
    """Everything to mend in one page."""
    notebook = jupytext.read(page, fmt="md:myst")
    looks = (ruff_findings, long_cells, measuring_records)
    return [line for look in looks for line in look(page, notebook)]


def main() -> int:
    """Check them all, or those named on the command line."""
    chosen = [Path(name).resolve() for name in sys.argv[1:]] or pages()
    lines = [line for page in chosen for line in findings(page)]
    print("\n".join(lines) or f"{len(chosen)} pages: nothing to mend in their code")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
