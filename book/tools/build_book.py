"""Run Jupyter Book over this repository, and keep its failures short.

A cell that fails stops the build.  Jupyter Book then prints three tracebacks of its own around the
one that matters; this prints the cell, its error, and one line that says which page it was.
"""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ["build", ".", "--toc", "book/_toc.yml", "-W", "--keep-going", "--quiet"]
FRAMES = "Traceback (most recent call last):"
END = "The full traceback has been saved in"


def what_matters(lines: Iterable[str]) -> Iterator[str]:
    """Error lines without the frames of the tools, and without all that follows Sphinx's end."""
    inside_frames = ended = False
    for line in lines:
        ended = ended or END in line
        if line.startswith(FRAMES):
            inside_frames = True
        elif inside_frames and not line.startswith((" ", "\n")):
            inside_frames = False
        if not (inside_frames or ended):
            yield line


def main() -> int:
    """Build; the exit status is Jupyter Book's."""
    command = [str(Path(sys.executable).with_name("jupyter-book")), *OPTIONS]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as build:
        assert build.stderr is not None
        for line in what_matters(build.stderr):
            print(line, end="", file=sys.stderr, flush=True)
    if build.returncode:
        print("The book was not built; the cause is above.", file=sys.stderr)
    return build.returncode


if __name__ == "__main__":
    sys.exit(main())
