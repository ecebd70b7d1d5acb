"""Run folders: new ones, unfinished ones, and the one a chapter uses when none is named."""

import json
import os
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from minilib.config import ConfigError
from minilib.paths import BUILD, RUNS

SCRATCH = ("smoke", "toy")  # presets whose default folder is wiped; longer runs are kept


def new_folder(chapter: str, preset: str) -> Path:
    """A run folder that does not exist yet: ``runs/CHAPTER/PRESET-DATE-TIME``."""
    stem = f"{preset}-{datetime.now():%Y%m%d-%H%M%S}"
    folder, number = RUNS / chapter / stem, 1
    while folder.exists():
        number += 1
        folder = RUNS / chapter / f"{stem}-{number}"
    return folder


def unfinished_folder(chapter: str, preset: str = "") -> Path:
    """The newest run of this chapter (and preset) that has a checkpoint but no finished record.

    Raises:
        ConfigError: there is none.
    """
    folders = sorted((RUNS / chapter).glob(f"{preset}*"), key=lambda f: f.stat().st_mtime)
    waiting = [f for f in folders if holds_training(f) and not _finished(f)]
    if not waiting:
        kind = f"'{preset}' " if preset else ""
        raise ConfigError(f"no unfinished {kind}run of {chapter} to resume: use --out")
    return waiting[-1]


def holds_training(folder: Path) -> bool:
    """Whether some training has left a checkpoint in the folder."""
    return any(folder.rglob("checkpoint.pt"))


def _finished(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "record.json").read_text())["status"] == "finished")
    except (OSError, ValueError, KeyError):
        return False


def refuse_used(folder: Path) -> None:
    """Refuse to start afresh where a run already is.

    Raises:
        ConfigError: the folder holds a checkpoint.
    """
    if holds_training(folder):
        raise ConfigError(f"{folder} already holds a run: resume it, or choose another folder")


def open_folder(chapter: str, preset: str, out: str, resume: bool) -> Path:
    """The folder of a run, made; an old record in it is removed, as it is no longer true.

    Args:
        chapter, preset: of the run.
        out: the folder; "" = ``_build/runs/CHAPTER``, wiped, for the scratch presets, and a new
            folder (or with ``resume`` the newest unfinished one) for the others.
        resume: go on from what the folder holds.

    Raises:
        ConfigError: the folder holds a run and ``resume`` is off, or there is nothing to resume.
    """
    if out:
        folder = Path(out)
        if not resume:
            refuse_used(folder)
    elif preset in SCRATCH:
        folder = BUILD / "runs" / chapter
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
    else:
        folder = unfinished_folder(chapter, preset) if resume else new_folder(chapter, preset)
        print(f"run folder: {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").unlink(missing_ok=True)
    return folder


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a crash leaves the old file or the new one."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")
    os.replace(temporary, path)


def read_parameters(folder: Path) -> Mapping[str, Any]:
    """The parameters that the run in this folder was started with; {} if it kept none."""
    try:
        return dict(json.loads((folder / "parameters.json").read_text()))
    except (OSError, ValueError):
        return {}


def add_sitting(folder: Path, sitting: Mapping[str, str]) -> list[dict[str, str]]:
    """Note that a run was started or resumed; all sittings so far."""
    path = folder / "sittings.json"
    sittings = json.loads(path.read_text()) if path.exists() else []
    sittings.append(dict(sitting))
    write_json(path, sittings)
    return sittings
