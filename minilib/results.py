"""Run records: what was run, on what, from which code, with which result."""

import ast
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import torch

from minilib import chapters
from minilib.paths import RESULTS, ROOT

NUMBER = {"type": ["number", "null"]}
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Run record of One Input, Many Answers",
    "type": "object",
    "required": [
        "chapter", "preset", "task", "overrides", "seed", "config", "commit", "lock", "code",
        "data", "device", "torch", "python", "started", "finished", "seconds", "training",
        "peak_memory_mb", "parameters", "metrics", "checks", "targets", "protocol", "status",
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
        "torch": {"type": "string"},
        "python": {"type": "string"},
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
    """Check a record against ``SCHEMA``.

    Raises:
        RecordError: the first thing that does not fit.
    """
    try:
        jsonschema.validate(record, SCHEMA)
    except jsonschema.ValidationError as error:
        place = ".".join(str(p) for p in error.absolute_path) or "record"
        raise RecordError(f"{place}: {error.message.splitlines()[0][:200]}") from None


def read(path: Path) -> dict[str, Any]:
    """One record.

    Raises:
        RecordError: no such file, not JSON, or not a record.
    """
    try:
        record = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise RecordError(f"{path} is not a record: {error}") from None
    validate(record)
    return record


def committed(chapter: str = "") -> list[dict[str, Any]]:
    """The records in ``book/results``, oldest first; of one chapter, or of all."""
    records = [read(path) for path in sorted(RESULTS.glob("*.json"))]
    records = [record for record in records if chapter in ("", record["chapter"])]
    return sorted(records, key=lambda record: record["finished"])


def code_hashes(chapter: str) -> dict[str, str]:
    """12-digit hashes of the chapter's code and of each minilib module that it reaches.

    Comments, blank lines and layout do not count.
    """
    cells = [c.source for c in chapters.read(chapter).cells if c.cell_type == "code"]
    hashes = {f"chapters/{chapter}.md": _digest("\n".join(map(plain_python, cells)))}
    for module in sorted(reached(cells)):
        path = ROOT / "minilib" / f"{module}.py"
        hashes[f"minilib/{module}.py"] = _digest(path.read_text())
    return hashes


def plain_python(cell: str) -> str:
    """A cell without its IPython magics."""
    return "\n".join(line for line in cell.splitlines() if not line.lstrip().startswith(("%", "!")))


def _digest(text: str) -> str:
    return hashlib.sha256(chapters.code_tokens(text).encode()).hexdigest()[:12]


def reached(sources: Iterable[str]) -> set[str]:
    """The minilib modules (``"training"``, ...) that some sources import, directly or not."""
    found: set[str] = set()
    waiting = [plain_python(text) for text in sources]
    while waiting:
        for module in _imports(waiting.pop()) - found:
            path = ROOT / "minilib" / f"{module}.py"
            if path.exists():
                found.add(module)
                waiting.append(path.read_text())
    return found


def _imports(text: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {
        name.removeprefix("minilib.").replace(".", "/")
        for name in names
        if name.startswith("minilib.")
    }


def stale(record: Mapping[str, Any]) -> list[str]:
    """The files of a record whose code has changed since it was made."""
    now = code_hashes(record["chapter"])
    return sorted(file for file, digest in record["code"].items() if now.get(file) != digest)


def commit() -> str:
    """The commit that is checked out, with ``+changes`` if files differ; "" outside git."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except OSError:
        return ""
    if head.returncode:
        return ""
    return head.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")


def lock_hash() -> str:
    """First 12 digits of the SHA-256 of ``requirements.lock``; "" when it is not there."""
    path = ROOT / "requirements.lock"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.exists() else ""


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
