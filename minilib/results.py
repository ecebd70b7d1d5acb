"""Run records: what was run, on what, from which code, with which result."""

import ast
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from minilib import chapters
from minilib.paths import RESULTS, ROOT

LIBRARY = Path(__file__).resolve().parent.parent  # the folder of the minilib that runs
NUMERIC = ("numpy", "torch", "torchvision")  # the packages that decide on a run's numbers
# these show, file or fetch; the checksum of the data says what came of the latter
_SHOWING = "tables plots results folders ledger compare paths archives catalogue download"
SHOWING = tuple(f"minilib/{n}.py" for n in f"{_SHOWING} install installed staging signals".split())
NUMBER = {"type": ["number", "null"]}
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Run record of One Input, Many Answers",
    "type": "object",
    "required": [
        "chapter", "preset", "task", "overrides", "seed", "config", "commit", "lock", "code",
        "data", "device", "torch", "python", "sittings", "started", "finished", "seconds",
        "training", "peak_memory_mb", "parameters", "metrics", "checks", "targets", "protocol",
        "status",
    ],
    "additionalProperties": False,
    "properties": {
        "chapter": {"type": "string"},
        "preset": {"type": "string"},
        "task": {"type": "string"},
        "overrides": {"type": "object"},
        "seed": {"type": "integer"},
        "config": {"type": "object"},
        "commit": {"type": "string"},
        "lock": {"type": "string"},
        "code": {"type": "object", "additionalProperties": {"type": "string"}},
        "data": {"type": "object", "additionalProperties": {"type": "string"}},
        "device": {"type": "string"},
        "processes": {"type": "integer"},
        "released": {"type": "object", "additionalProperties": {"type": "string"}},
        "torch": {"type": "string"},
        "python": {"type": "string"},
        "sittings": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "started": {"type": "string"},
        "finished": {"type": "string"},
        "seconds": {"type": "number", "minimum": 0},
        "training": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["steps", "seconds"],
                "properties": {"steps": {"type": "integer"}, "seconds": {"type": "number"}},
            },
        },
        "peak_memory_mb": NUMBER,
        "parameters": {"type": "object", "additionalProperties": {"type": "integer"}},
        "metrics": {"type": "object", "additionalProperties": NUMBER},
        "checks": {"type": "object", "additionalProperties": {"type": "boolean"}},
        "targets": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["value", "target", "met"],
                "properties": {
                    "value": NUMBER,
                    "target": {"type": "string"},
                    "met": {"type": "boolean"},
                },
            },
        },
        "protocol": {"type": "array", "items": {"type": "string"}},
        "status": {"enum": ["finished", "failed"]},
        "confirmed": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["date", "commit", "code", "run", "metrics", "unsteady"],
                "additionalProperties": False,
                "properties": {
                    "date": {"type": "string"},
                    "commit": {"type": "string"},
                    "code": {"type": "object", "additionalProperties": {"type": "string"}},
                    "run": {"type": "object"},
                    "metrics": {"type": "integer", "minimum": 1},
                    "unsteady": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
    },
}  # fmt: skip


class RecordError(ValueError):
    """A record that is not one; the message is one line."""


def write(record: Mapping[str, Any], path: Path) -> None:
    """Validate a record and write it (atomically).

    Raises:
        RecordError: it does not fit the schema.
    """
    validate(record)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n")
    os.replace(temporary, path)


def validate(record: Mapping[str, Any]) -> None:
    """Check a record against ``SCHEMA``; where fastjsonschema is missing, only that nothing lacks.

    Raises:
        RecordError: the first thing that does not fit.
    """
    try:
        import fastjsonschema  # here, so that a finished training fails on no machine
    except ImportError:
        lacking = [name for name in SCHEMA["required"] if name not in record]
        if lacking:
            raise RecordError(f"record: {', '.join(lacking)} missing") from None
        return
    try:
        _check()(record)
    except fastjsonschema.JsonSchemaValueException as error:
        raise RecordError(misfit(error)) from None


@functools.cache
def _check() -> Callable[[Mapping[str, Any]], Any]:
    import fastjsonschema

    return fastjsonschema.compile(SCHEMA)


def misfit(error: Any) -> str:
    """One line from fastjsonschema: where the first thing that does not fit stands, and why not."""
    place = ".".join(map(str, error.path[1:])) or "record"
    if error.rule == "required":
        lacking = [name for name in error.rule_definition if name not in error.value]
        return f"{place}: {', '.join(lacking)} missing"
    return f"{place}: {error.message.removeprefix(error.name).strip().splitlines()[0][:200]}"


def read(path: Path) -> dict[str, Any]:
    """One record.

    Raises:
        RecordError: no such file, not JSON, or not a record.
    """
    try:
        record = json.loads(path.read_text())
        validate(record)
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path} is not a record: {error}") from None
    return dict(record)


def committed(chapter: str = "") -> list[dict[str, Any]]:
    """The records in ``book/results``, oldest first; of one chapter, or of all."""
    records = [read(path) for path in sorted(RESULTS.glob("*.json"))]
    records = [record for record in records if chapter in ("", record["chapter"])]
    return sorted(records, key=lambda record: record["finished"])


def code_hashes(chapter: str) -> dict[str, str]:
    """12-digit hashes of the code of a chapter and of all of this project's that it reaches.

    Comments, blank lines and blanks at line ends do not count.
    """
    return {name: _code_digest(text) for name, text in sorted(reached(chapter).items())}


@functools.cache  # the same files are looked at for many records
def _code_digest(text: str) -> str:
    return _digest(chapters.code_text(text).encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def reached(chapter: str) -> dict[str, str]:
    """A chapter's code, and what that imports or loads, directly or not.

    Cells with the tag ``record`` only look at committed records, and are left out.

    Returns:
        {"chapters/NAME.md" or "minilib/NAME.py": source}; of the chapters that are loaded, the
        definitions only.
    """
    top = f"chapters/{chapter}.md"
    cells = chapters.cells(chapters.path_of(chapter).read_text(encoding="utf-8"))
    found = {top: "\n".join(chapters._plain(c.source) for c in cells if "record" not in c.tags)}
    waiting = [top]
    while waiting:
        name = waiting.pop()
        for other in _used(name, found[name]) - found.keys():
            found[other] = _source(other)
            waiting.append(other)
    return found


def _used(name: str, code: str) -> set[str]:
    """The files that the code of file ``name`` imports or loads itself."""
    loaded, imports = _named(name, code)
    modules = {file for module in imports for file in _module_files(module)}
    return {f"chapters/{chapter}.md" for chapter in loaded & set(chapters.names())} | modules


@functools.cache
def _named(name: str, code: str) -> tuple[frozenset[str], frozenset[str]]:
    """The chapters that the code of file ``name`` loads, and what it imports."""
    return frozenset(chapters.loaded_chapters(code)), frozenset(_imports(name, code))


def _source(name: str) -> str:
    if name.startswith("chapters/"):
        text = chapters.path_of(Path(name).stem).read_text(encoding="utf-8")
        return chapters.python(text, "definition")
    return (LIBRARY / name).read_text(encoding="utf-8")


def _imports(name: str, code: str) -> set[str]:
    """Dotted names that may be modules; relative imports are those of file ``name``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = Path(name).parts[: -node.level] if node.level else ()
            base = ".".join([*package, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def _module_files(module: str) -> set[str]:
    """The file of a minilib module, and those of the packages around it, as far as they exist.

    minilib's own ``__init__.py``, which holds nothing but the version, is left out.
    """
    parts = module.split(".")
    if parts[0] != "minilib":
        return set()
    stems = ["/".join(parts[:end]) for end in range(2, len(parts) + 1)]
    files = [file for stem in stems for file in (f"{stem}.py", f"{stem}/__init__.py")]
    return {file for file in files if (LIBRARY / file).is_file()}


def stale(record: Mapping[str, Any]) -> list[str]:
    """The files of a record whose code has changed since it was made or last confirmed.

    Those that only show or file what was measured, or fetch data, do not count: they change no
    number.
    """
    now = code_hashes(record["chapter"])
    states = [entry["code"] for entry in record.get("confirmed", [])]
    return min((_changed(code, now) for code in (*states[::-1], record["code"])), key=len)


def _changed(code: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    counted = {f: digest for f, digest in code.items() if not f.startswith(SHOWING)}
    return sorted(file for file, digest in counted.items() if now.get(file) != digest)


def commit() -> str:
    """The commit that is checked out, with ``+changes`` if files differ; "" outside a clone."""
    try:
        top, head, dirty = (
            subprocess.run(["git", "-C", str(ROOT), *command], capture_output=True, text=True)
            for command in (
                ["rev-parse", "--show-toplevel"],
                ["rev-parse", "HEAD"],
                ["status", "--porcelain"],
            )
        )
    except OSError:
        return ""
    if top.returncode or head.returncode or Path(top.stdout.strip()).resolve() != ROOT.resolve():
        return ""  # no git, or that of another project around this one
    return head.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")


def lock_hash() -> str:
    """First 12 digits of the SHA-256 of ``requirements.lock``.

    "" when it is not there, or when the installed torch, torchvision or numpy is not the locked
    one: then the lock does not say what ran.  Suffixes such as ``+cpu`` do not count.
    """
    path = ROOT / "requirements.lock"
    if not path.exists():
        return ""
    pins = re.findall(r"^([\w.-]+)==([^\s;+\\]+)", path.read_text(encoding="utf-8"), re.M)
    if all((name, _installed(name)) in pins for name in NUMERIC):
        return _digest(path.read_bytes())
    return ""


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return ""


def device_name(device: torch.device) -> str:
    """What the device is, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory of the device (GPU: allocated by torch; CPU: resident), in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """``(name, value in a, value in b)`` for every setting that differs and for every metric."""
    rows: list[tuple[str, Any, Any]] = []
    for part in ("chapter", "preset", "task", "seed", "commit", "lock", "device", "torch"):
        if a[part] != b[part]:
            rows.append((part, a[part], b[part]))
    for part in ("config", "data", "code", "metrics"):
        for name in sorted({*a[part], *b[part]}):
            left, right = a[part].get(name), b[part].get(name)
            if part == "metrics" or left != right:
                rows.append((f"{part}.{name}", left, right))
    return rows
