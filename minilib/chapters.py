"""Chapters as text notebooks and as modules: find, read, load, describe.

``load("cinn")`` makes a module of the cells tagged ``definition``, so that tests, other chapters
and worker processes use the very definitions the reader sees.
"""

import importlib.machinery
import importlib.util
import json
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from minilib.config import ConfigError, Plan, nearest, resolve
from minilib.paths import CHAPTERS, RESULTS

PREFIX = "minilib_chapter_"  # of the modules' names in sys.modules


def names() -> list[str]:
    """Chapters that can be loaded and run, in alphabetical order."""
    return sorted(path.stem for path in CHAPTERS.glob("*.md"))


def path_of(chapter: str) -> Path:
    """The chapter's file.

    Raises:
        ConfigError: no such chapter.
    """
    if chapter not in names():
        raise ConfigError(nearest(chapter, names(), "chapter"))
    return CHAPTERS / f"{chapter}.md"


def read(chapter: str) -> Any:
    """The chapter as an ``nbformat`` notebook, without outputs."""
    import jupytext  # here, so that the library can be imported where no Jupyter is

    notebook = jupytext.read(path_of(chapter), fmt="md:myst")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{chapter}-{number}"
    notebook.metadata.setdefault("kernelspec", {}).setdefault("language", "python")
    return notebook


def claim(chapter: str) -> str:
    """The one-line claim in the chapter's front matter."""
    return str(read(chapter).metadata.get("claim", ""))


def source(chapter: str, tag: str = "definition") -> str:
    """The code of the cells with ``tag``, each on the lines where it stands in the file.

    Line numbers in tracebacks and in ``inspect.getsource`` are thus those of the ``.md`` file.
    """
    text = path_of(chapter).read_text(encoding="utf-8")
    lines: list[str] = []
    offset = 0
    for cell in read(chapter).cells:
        if cell.cell_type != "code" or not cell.source:
            continue
        offset = text.index(cell.source, offset)
        if tag in cell.metadata.get("tags", []):
            start = text.count("\n", 0, offset)
            lines += [""] * (start - len(lines)) + cell.source.split("\n")
        offset += len(cell.source)
    return "\n".join(lines) + "\n"


class _ChapterLoader(importlib.machinery.SourceFileLoader):
    """Compiles a chapter's definitions under the name of its file."""

    def get_data(self, path: str) -> bytes:
        return source(Path(path).stem).encode()

    def path_stats(self, path: str) -> Any:
        raise OSError("chapters are not cached as bytecode")


def load(chapter: str) -> ModuleType:
    """The chapter's definitions as a module, registered in ``sys.modules`` (so it pickles).

    A second call returns the same module unless the file has changed.

    Raises:
        ConfigError: no such chapter.
    """
    path = path_of(chapter)
    name, stamp = PREFIX + chapter, path.stat().st_mtime_ns
    old = sys.modules.get(name)
    if old is not None and getattr(old, "__stamp__", None) == stamp:
        return old
    spec = importlib.util.spec_from_loader(name, _ChapterLoader(name, str(path)), origin=str(path))
    assert spec is not None
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    module.__stamp__ = stamp  # type: ignore[attr-defined]
    sys.modules[name] = module
    try:
        assert spec.loader is not None
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _Finder:
    """Lets a worker process unpickle chapter definitions: imports ``minilib_chapter_X``."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> Any:
        if not name.startswith(PREFIX) or name.removeprefix(PREFIX) not in names():
            return None
        file = str(CHAPTERS / f"{name.removeprefix(PREFIX)}.md")
        return importlib.util.spec_from_file_location(name, file, loader=_ChapterLoader(name, file))


if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
    sys.meta_path.append(_Finder())


@dataclass(frozen=True, slots=True)
class Description:
    """One task at one preset, as ``describe`` prints it."""

    chapter: str
    preset: str
    task: str
    parameters: dict[str, int]
    data: str
    config: dict[str, Any]
    hardware: str
    minutes: float
    measured: bool


def describe(chapter: str, preset: str = "toy", task: str = "") -> list[Description]:
    """What a preset trains and what it takes; networks are built on the meta device.

    Args:
        chapter: its name.
        preset: one of its presets.
        task: one of the preset's tasks; "" describes all of them.

    Raises:
        ConfigError: unknown chapter, preset or task, or a chapter that trains nothing.
    """
    module = load(chapter)
    if not hasattr(module, "PRESETS"):
        raise ConfigError(f"chapter '{chapter}' has no presets: it trains nothing")
    resolve(module.PRESETS, preset, task)  # refuses what does not exist
    tasks = [task] if task else list(module.PRESETS[preset])
    return [_describe(module, chapter, preset, t, module.PRESETS[preset][t]) for t in tasks]


def _describe(module: ModuleType, chapter: str, preset: str, task: str, plan: Plan) -> Description:
    with torch.device("meta"):
        networks = module.networks(plan.config)
    minutes, hardware, measured = cost(chapter, preset, task, plan)
    return Description(
        chapter,
        preset,
        task,
        {name: count_parameters(network) for name, network in networks.items()},
        plan.data,
        {f: getattr(plan.config, f) for f in plan.config.__dataclass_fields__},
        hardware,
        minutes,
        measured,
    )


def count_parameters(network: torch.nn.Module) -> int:
    """Number of trainable and frozen parameters, buffers not counted."""
    return sum(p.numel() for p in network.parameters())


def cost(chapter: str, preset: str, task: str, plan: Plan) -> tuple[float, str, bool]:
    """Minutes, on which hardware, and whether a committed record measured them."""
    record = _measured(chapter, preset, task)
    if record is None:
        return plan.minutes, plan.hardware, False
    return record["seconds"] / 60, record["device"], True


def _measured(chapter: str, preset: str, task: str) -> dict[str, Any] | None:
    """The newest committed record of a run of this preset without overrides."""
    found = []
    for file in RESULTS.glob("*.json"):
        record = json.loads(file.read_text())
        key = (record["chapter"], record["preset"], record["task"], bool(record["overrides"]))
        if key == (chapter, preset, task, False):
            found.append(record)
    return max(found, key=lambda record: record["finished"], default=None)


def code_tokens(text: str) -> str:
    """Python source without comments, docstrings' layout or blank lines: what a code hash reads."""
    import io

    skip = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    reader = io.StringIO(text).readline
    return " ".join(t.string for t in tokenize.generate_tokens(reader) if t.type not in skip)
