"""Where things live: the repository, the data, the runs."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"
RESULTS = ROOT / "book" / "results"
BUILD = ROOT / "_build"
RUNS = ROOT / "runs"


def data_root() -> Path:
    """Folder of the prepared data sets: ``$MINILIB_DATA``, or ``data/`` in the repository."""
    return Path(os.environ.get("MINILIB_DATA", ROOT / "data"))
