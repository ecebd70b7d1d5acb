"""Where things live: the repository, the data, the runs."""

import os
from pathlib import Path


def root() -> Path:
    """The clone of the repository: ``$MINILIB_ROOT``; or the folder of this package; or, where the
    package is installed elsewhere, the clone in which the program was started.
    """
    if os.environ.get("MINILIB_ROOT"):
        return Path(os.environ["MINILIB_ROOT"]).expanduser().resolve()
    own, here = Path(__file__).resolve().parent.parent, Path.cwd()
    clones = (p for p in (own, here, *here.parents) if (p / "chapters").is_dir())
    return next((p for p in clones if (p / "minilib").is_dir()), own)


ROOT = root()
CHAPTERS = ROOT / "chapters"
RESULTS = ROOT / "book" / "results"
BUILD = ROOT / "_build"
RUNS = ROOT / "runs"


def data_root() -> Path:
    """Folder of the prepared data sets: ``$MINILIB_DATA``, or ``data/`` in the repository."""
    named = os.environ.get("MINILIB_DATA")  # an empty one names nothing
    return Path(named).expanduser() if named else ROOT / "data"
