"""Chapters under papermill: strict parameters, run folders, ``chapter://`` paths."""

import dataclasses
import os
import sys
import warnings
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat

from minilib import chapters
from minilib.config import ConfigError, resolve
from minilib.parameters import refuse_unknown, require_data
from minilib.paths import BUILD, CHAPTERS, RUNS
from minilib.tables import duration


class ChapterHandler:
    """Lets papermill read ``chapter://cinn`` (registered as an entry point of ``papermill.io``)."""

    @staticmethod
    def read(path: str) -> str:
        """The chapter as notebook JSON."""
        return nbformat.writes(chapters.read(path.removeprefix("chapter://")))

    @staticmethod
    def listdir(path: str) -> list[str]:
        """All chapters."""
        return [f"chapter://{name}" for name in chapters.names()]

    @staticmethod
    def write(buffer: str, path: str) -> None:
        """Refused: chapters are sources."""
        raise ConfigError(f"{path} is a source: give papermill an .ipynb file to write to")

    @staticmethod
    def pretty_path(path: str) -> str:
        """The path as it is."""
        return path


def quiet_kernels(folder: Path) -> None:
    """Give kernels an IPython profile of their own: no start-up warnings, no user settings."""
    profile = folder / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_kernel_config.py").write_text("c.IPKernelApp.log_level = 50\n")
    os.environ["IPYTHONDIR"] = str(folder)


def new_folder(chapter: str, preset: str) -> Path:
    """A run folder that does not exist yet: ``runs/CHAPTER/PRESET-DATE-TIME``."""
    stem = f"{preset}-{datetime.now():%Y%m%d-%H%M%S}"
    folder, number = RUNS / chapter / stem, 1
    while folder.exists():
        number += 1
        folder = RUNS / chapter / f"{stem}-{number}"
    return folder


def unfinished_folder(chapter: str, preset: str) -> Path:
    """The newest run of this chapter and preset that has no record yet.

    Raises:
        ConfigError: there is none.
    """
    folders = sorted((RUNS / chapter).glob(f"{preset}-*"), key=lambda f: f.stat().st_mtime)
    waiting = [f for f in folders if f.is_dir() and not (f / "record.json").exists()]
    if not waiting:
        raise ConfigError(f"no unfinished '{preset}' run of {chapter} to resume: name it use --out")
    return waiting[-1]


def run(
    chapter: str, parameters: Mapping[str, Any], out: Path | None = None, resume: bool = False
) -> Path:
    """Execute a chapter under papermill; the notebook and its record land in the run folder.

    Args:
        chapter: its name.
        parameters: the chapter's parameters, without ``out`` and ``resume``.
        out: run folder; None picks a new one, or with ``resume`` the newest unfinished one.
        resume: go on from the folder's checkpoints.

    Returns:
        The run folder.

    Raises:
        ConfigError: anything that would not run, before a kernel is started.
        papermill.PapermillExecutionError: a cell failed.
    """
    import papermill

    refuse_unknown(parameters)
    module = chapters.load(chapter)
    preset = parameters.get("preset", "toy")
    if not hasattr(module, "PRESETS"):
        raise ConfigError(f"chapter '{chapter}' has no presets: it trains nothing")
    _, plan = resolve(
        module.PRESETS, preset, parameters.get("task", ""), parameters.get("overrides")
    )
    require_data(plan.data)
    folder = out or (unfinished_folder(chapter, preset) if resume else new_folder(chapter, preset))
    folder = folder.resolve()
    if not resume and any(folder.rglob("checkpoint.pt")):
        raise ConfigError(f"{folder} already holds a run: add --resume, or choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{chapter} ({preset}) -> {folder}", flush=True)
    quiet_kernels(BUILD / "ipython")
    warnings.filterwarnings("ignore", "the file is not specified with any extension")
    papermill.execute_notebook(
        f"chapter://{chapter}",
        str(folder / "notebook.ipynb"),
        parameters={**parameters, "out": str(folder), "resume": resume},
        kernel_name="python3",
        cwd=str(CHAPTERS),
        progress_bar=sys.stderr.isatty(),
        log_output=False,
    )
    return folder


def description_text(item: chapters.Description) -> str:
    """A description as aligned lines for the terminal."""
    how = "measured" if item.measured else "estimate"
    lines = [f"{item.chapter} --preset {item.preset} --task {item.task}"]
    lines += [f"  network   {n:24} {count:>13,} parameters" for n, count in item.parameters.items()]
    lines += [f"  data      {item.data}", f"  hardware  {item.hardware}"]
    lines += [f"  time      {duration(item.minutes)} ({how})"]
    lines += [f"  {name:20} {value}" for name, value in item.config.items()]
    return "\n".join(lines)


def description_json(items: list[chapters.Description]) -> list[dict[str, Any]]:
    """Descriptions as plain data."""
    return [dataclasses.asdict(item) for item in items]
