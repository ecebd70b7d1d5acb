"""Run folders: new ones, unfinished ones, and the one a chapter uses when none is named."""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from minilib.config import ConfigError
from minilib.paths import BUILD, RUNS

SCRATCH = ("smoke", "toy")  # presets whose default folder is wiped; longer runs are kept
RECORD, EARLIER = "record.json", "earlier-record.json"
PARAMETERS, ORIGIN, LOCK = "parameters.json", "run.json", ".lock"
KEPT = (RECORD, "notebook.ipynb", PARAMETERS)  # what a new run would overwrite
DEFAULTS: Mapping[str, Any] = {"preset": "toy", "task": "", "seed": 0, "overrides": {}}
Settings = Mapping[str, Any]


def new_folder(chapter: str, preset: str) -> Path:
    """A run folder that does not exist yet: ``runs/CHAPTER/PRESET-DATE-TIME``."""
    stem = f"{preset}-{datetime.now():%Y%m%d-%H%M%S}"
    folder, number = RUNS / chapter / stem, 1
    while folder.exists():
        number += 1
        folder = RUNS / chapter / f"{stem}-{number}"
    return folder


def unfinished_folder(chapter: str, preset: str = "") -> Path:
    """The newest run of this chapter (and preset) that waits to be resumed.

    It has a checkpoint but no finished record, and no process is at work in it.

    Raises:
        ConfigError: there is none.
    """
    folders = sorted((RUNS / chapter).glob(f"{preset}*"), key=lambda f: f.stat().st_mtime)
    waiting = [f for f in folders if holds_training(f) and not (_finished(f) or _in_use(f))]
    if not waiting:
        kind = f"'{preset}' " if preset else ""
        raise ConfigError(f"no unfinished {kind}run of {chapter} to resume: use --out")
    return waiting[-1]


def holds_training(folder: Path) -> bool:
    """Whether some training has left a checkpoint in the folder."""
    return any(folder.rglob("checkpoint.pt"))


def _finished(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / RECORD).read_text())["status"] == "finished")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def refuse_used(folder: Path, files: Sequence[str] = KEPT) -> None:
    """Refuse to start afresh where a run already is, or something else of the same name.

    Raises:
        ConfigError: the folder holds a checkpoint or one of ``files``.
    """
    found = [name for name in files if (folder / name).exists()]
    if found or holds_training(folder):
        what = found[0] if found else "a checkpoint"
        raise ConfigError(
            f"{folder} already holds a run ({what}): resume it with --resume, "
            "or choose another folder"
        )


def open_folder(chapter: str, preset: str, out: str, resume: bool) -> Path:
    """The folder of a run, made; an old record in it is put aside, as it is no longer true.

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
            refuse_used(folder, (RECORD,))
    elif preset in SCRATCH:
        folder = BUILD / "runs" / chapter
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
    else:
        folder = unfinished_folder(chapter, preset) if resume else new_folder(chapter, preset)
        print(f"run folder: {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / RECORD).exists():
        os.replace(folder / RECORD, folder / EARLIER)
    return folder


def make(folder: Path) -> None:
    """Make a run folder.

    Raises:
        ConfigError: a file of that name is there, or it may not be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {folder}: {error.strerror}; name a folder") from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep the folder to this process, and clear away what a killed one was writing.

    The lock goes with the process, however it ends.

    Raises:
        ConfigError: another run is at work in the folder.
    """
    make(folder)
    with (folder / LOCK).open("w") as file:
        if not _take(file):
            raise ConfigError(f"{folder} is in use by another run: wait for it, or stop it first")
        for left in folder.rglob(".checkpoint*.tmp"):
            left.unlink(missing_ok=True)
        yield


def _take(file: IO[str]) -> bool:
    """Whether an open file could be locked; on Windows there is no such lock."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _in_use(folder: Path) -> bool:
    if not (folder / LOCK).exists():
        return False
    with (folder / LOCK).open() as file:
        return not _take(file)


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a crash leaves the old file or the new one."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")
    os.replace(temporary, path)


def note_start(folder: Path, chapter: str, data: Mapping[str, str], released: Settings) -> None:
    """Keep in the folder which chapter runs here, on which data, with which released weights.

    Args:
        folder: of the run.
        chapter: its name.
        data: {name: checksum}.
        released: {network: (file, part)}.
    """
    write_json(folder / ORIGIN, {"chapter": chapter, "data": dict(data), "released": released})


def released_there(folder: Path) -> dict[str, tuple[str, str]]:
    """The released weights that the run in this folder was started with, as ``note_start`` kept."""
    origin = _read(folder / ORIGIN) if (folder / ORIGIN).exists() else {}
    return {name: (file, part) for name, (file, part) in origin.get("released", {}).items()}


def read_parameters(folder: Path) -> dict[str, Any]:
    """The parameters that the run in this folder was started with.

    Raises:
        ConfigError: no run was started here, or its file is damaged.
    """
    path = folder / PARAMETERS
    if not path.exists() and not holds_training(folder):
        raise ConfigError(f"{folder} holds no run to resume")
    return _read(path) if path.exists() else {}


def refuse_other(folder: Path, chapter: str, given: Settings, data: Mapping[str, str]) -> None:
    """Refuse to resume a run with what is not its own: chapter, parameters or data.

    Args:
        folder: of the run.
        chapter: that is to run.
        given: parameters of this start; the device may be another.
        data: {name: checksum} of what lies here now.

    Raises:
        ConfigError: one of them differs; nothing was changed.
    """
    origin = _read(folder / ORIGIN) if (folder / ORIGIN).exists() else {}
    if origin.get("chapter", chapter) != chapter:
        raise ConfigError(f"{folder} holds a run of {origin['chapter']}, not of {chapter}")
    if not (folder / PARAMETERS).exists():
        return
    then = _read(folder / PARAMETERS)
    for name, value in given.items():
        if name != "device" and then.get(name, DEFAULTS.get(name, value)) != value:
            had = then.get(name, DEFAULTS.get(name))
            raise ConfigError(
                f"{folder} was started with {name} {had!r}, not {value!r}: "
                "resume without it, or choose another folder"
            )
    for name, checksum in data.items():
        if origin.get("data", {}).get(name, checksum) != checksum:
            raise ConfigError(
                f"{folder} was started on other files of '{name}' (checksum "
                f"{origin['data'][name][:12]}, now {checksum[:12]}): put those back, or start anew"
            )


def _read(path: Path) -> dict[str, Any]:
    """A JSON file of a run folder.

    Raises:
        ConfigError: it is damaged.
    """
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError(f"it holds {type(found).__name__}")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): start anew elsewhere") from None
    return found


def add_sitting(folder: Path, sitting: Mapping[str, str]) -> list[dict[str, str]]:
    """Note that a run was started or resumed; all sittings so far.

    Raises:
        ConfigError: the file of the earlier ones is damaged.
    """
    path = folder / "sittings.json"
    try:
        sittings = list(json.loads(path.read_text())) if path.exists() else []
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): start anew elsewhere") from None
    sittings.append(dict(sitting))
    write_json(path, sittings)
    return sittings
