"""Chapters as text notebooks and as modules: find, read, load, describe.

``load("cinn")`` makes a module of the cells tagged ``definition``, so that tests, other chapters
and worker processes use the very definitions the reader sees.
"""

import ast
import importlib
import importlib.machinery
import importlib.util
import io
import json
import re
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from minilib.config import ConfigError, Plan, nearest, resolve
from minilib.paths import CHAPTERS

PREFIX = "minilib_chapter_"  # of the modules' names in sys.modules
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})([^`]*)")
TAGS = re.compile(r"^:?tags:\s*(\[[^]]*\]|(?:\n?[ \t]*- .*)+)", re.M)  # [a, b], or one a line
CLAIM = re.compile(r"^claim:[ \t]*(?:[>|]-?)?(.*(?:\n[ \t]+.*)*)", re.M)


def names() -> list[str]:
    """Chapters that can be loaded and run, in alphabetical order."""
    return sorted(path.stem for path in CHAPTERS.glob("*.md"))


def path_of(chapter: str) -> Path:
    """The chapter's file.

    Raises:
        ConfigError: no such chapter, or no chapters at all.
    """
    if not names():
        clone = "a clone of the repository"
        raise ConfigError(f"no chapters here: run from {clone}, or set MINILIB_ROOT to one")
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
    header = re.match(r"---\n(.*?)\n---[ \t]*\n", path_of(chapter).read_text("utf-8"), re.S)
    found = CLAIM.search(header[1]) if header else None
    text = " ".join(found[1].split()) if found else ""
    if text.startswith('"'):
        return str(json.loads(text))
    return text[1:-1].replace("''", "'") if text.startswith("'") else text


@dataclass(frozen=True, slots=True)
class Cell:
    """A code cell: its text, the line (from 0) of the file on which that begins, and its tags."""

    source: str
    line: int
    tags: tuple[str, ...]


def cells(text: str) -> list[Cell]:
    """The code cells of a page, as jupytext reads them (but needing neither it nor a YAML parser).

    Cells inside another fence are text, not code; blank lines at a cell's end are dropped.
    """
    found, lines = [], text.split("\n")
    fence, info, begin = "", "", 0
    for number, line in enumerate(lines):
        match = FENCE.fullmatch(line)
        if match and not fence:
            fence, info, begin = match[1], match[2].strip(), number + 1
        elif match and match[1].startswith(fence) and not match[2].strip():
            if info.startswith("{code-cell}"):
                found.append(_cell(lines[begin:number], begin))
            fence = ""
    return found


def _cell(lines: list[str], begin: int) -> Cell:
    """Split options, ``:key: value`` lines or a block between ``---``, from the code."""
    start = end = 0
    if lines and lines[0].startswith("---"):
        start = 1
        end = next(i for i, line in enumerate(lines[1:], 1) if line.startswith("---"))
    else:
        while end < len(lines) and lines[end].lstrip().startswith(":"):
            end += 1
    tags = TAGS.search("\n".join(line.lstrip() for line in lines[start:end]))
    end += start
    if end < len(lines) and not lines[end].strip():
        end += 1
    words = re.findall(r"\w[\w-]*", tags[1]) if tags else []
    return Cell("\n".join(lines[end:]).rstrip("\n"), begin + end, tuple(words))


def python(text: str, tag: str = "") -> str:
    """The code of a page's cells, or of those with ``tag``, without IPython's magics."""
    return "\n".join(_plain(c.source) for c in cells(text) if not tag or tag in c.tags)


def _plain(cell: str) -> str:
    try:
        ast.parse(cell)
    except SyntaxError:
        lines = cell.split("\n")
        return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))
    return cell


def source(chapter: str, tag: str = "definition") -> str:
    """The code of the cells with ``tag``, each on the lines where it stands in the file.

    Line numbers in tracebacks and in ``inspect.getsource`` are thus those of the ``.md`` file.
    """
    text = path_of(chapter).read_text(encoding="utf-8")
    lines: list[str] = []
    for cell in cells(text):
        if tag in cell.tags:
            lines += [""] * (cell.line - len(lines)) + cell.source.split("\n")
    return "\n".join(lines) + "\n"


class _ChapterLoader(importlib.machinery.SourceFileLoader):
    """Compiles a chapter's definitions under the name of its file."""

    def get_data(self, path: str) -> bytes:
        return source(Path(path).stem).encode()

    def path_stats(self, path: str) -> Any:
        raise OSError("chapters are not cached as bytecode")

    def exec_module(self, module: ModuleType) -> None:
        module.__stamp__ = Path(self.path).stat().st_mtime_ns  # type: ignore[attr-defined]
        super().exec_module(module)


def load(chapter: str) -> ModuleType:
    """The chapter's definitions as a module, registered in ``sys.modules`` (so it pickles).

    A second call returns the same module unless the file has changed.

    Raises:
        ConfigError: no such chapter.
    """
    path = path_of(chapter)
    name = PREFIX + chapter
    old = sys.modules.get(name)
    if old is not None and getattr(old, "__stamp__", None) != path.stat().st_mtime_ns:
        del sys.modules[name]
    return importlib.import_module(name)


class _Finder:
    """Imports ``minilib_chapter_X``: for ``load``, and for workers that unpickle definitions."""

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
    """The newest committed record of a finished run of this preset without overrides."""
    from minilib import results  # here, because it imports this module

    wanted = {"preset": preset, "task": task, "overrides": {}, "status": "finished"}
    found = [r for r in results.committed(chapter) if wanted.items() <= r.items()]
    return found[-1] if found else None


def loaded_chapters(code: str) -> set[str]:
    """The names that Python source hands to ``load``: ``chapters.load("spade")`` -> {"spade"}.

    Raises:
        SyntaxError: not Python.
    """
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name == "load" and isinstance(node.args[0].value, str):
                found.add(node.args[0].value)
    return found


def code_text(text: str) -> str:
    """Python source without comments, blank lines and blanks at line ends: what is hashed.

    Indentation stays.  Only comments are looked up as tokens, so that every Python version, however
    it cuts up f-strings, gives the same.
    """
    lines = text.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    return "\n".join(line.rstrip() for line in lines if line.strip())
