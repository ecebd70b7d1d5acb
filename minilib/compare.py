"""Two run records side by side: what was set differently, what came out, and how sure that is."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minilib import chapters, results
from minilib.tables import Table, duration, number

Record = Mapping[str, Any]
SPREADS = (".std", ".deviation")  # metrics that are the spread of the one named before the dot
FEWEST_DEVIATIONS = 2.0  # a difference below so many is called within the spread


def read(path: Path) -> dict[str, Any]:
    """A record from its file, or from the folder of its run.

    Raises:
        results.RecordError: no such file, or not a record; the line names the file.
    """
    file = path / "record.json" if path.is_dir() else path
    try:
        return results.read(file)
    except UnicodeDecodeError:
        raise results.RecordError(f"{file} is not a record: it is not text") from None
    except results.RecordError as error:
        line = " ".join(str(error).split())
        named = line if str(file) in line else f"{file} is not a record: {line}"
        raise results.RecordError(named) from None


def compare(a: Record, b: Record) -> list[Table]:
    """Up to four tables: the runs, settings that differ, metrics with spread, checks and targets.

    A table without rows is left out, except that of the metrics.
    """
    rows = results.compare(a, b)
    settings = [
        [name.removeprefix("config."), _text(left), _text(right)]
        for name, left, right in rows
        if name.startswith(("config.", "data."))
    ]
    found = [
        runs(a, b),
        Table(["setting", "A", "B"], settings, "Settings and data that differ."),
        metrics(a, b),
        verdicts(a, b),
    ]
    return [table for table in found if table.body or table.header[0] == "metric"]


def runs(a: Record, b: Record) -> Table:
    """What ran, when, on what; whether the code is the same, and still that of today."""
    plain = ("chapter", "preset", "task", "seed", "status", "device", "torch", "python", "lock")
    body = [[name, _text(a[name]), _text(b[name])] for name in plain]
    body.append(["commit", a["commit"][:12] or "–", b["commit"][:12] or "–"])
    body += [
        ["finished", a["finished"][:16], b["finished"][:16]],
        ["time", *(duration(r["seconds"] / 60) for r in (a, b))],
        ["memory", *(f"{r['peak_memory_mb'] or math.nan:.0f} MB" for r in (a, b))],
        ["code since", *(_age(r) for r in (a, b))],
    ]
    return Table(["run", "A", "B"], body, f"Code: {code(a, b)}.")


def code(a: Record, b: Record) -> str:
    """One phrase: the same code, or the files in which the two runs' code differs."""
    files = [
        name.removeprefix("code.")
        for name, _, _ in results.compare(a, b)
        if name.startswith("code.")
    ]
    return f"differs in {', '.join(files)}" if files else "the same in both"


def _age(record: Record) -> str:
    if record["chapter"] not in chapters.names():
        return "no such chapter now"
    changed = len(results.stale(record))
    return f"changed in {changed} file{'s' * (changed > 1)}" if changed else "unchanged"


def metrics(a: Record, b: Record) -> Table:
    """Every metric of either run, with its spread where the run measured one.

    The last column says by how many standard deviations the two are apart, or that this is within
    the spread; it is empty where a spread is not known on both sides.
    """
    names = sorted({*a["metrics"], *b["metrics"]})
    body = []
    for name in names:
        if name.endswith(SPREADS):
            continue
        left, right = a["metrics"].get(name), b["metrics"].get(name)
        both = left is not None and right is not None
        change = f"{right - left:+.3g}" if both else "–"
        body.append([name, _pm(a, name), _pm(b, name), change, _apart(a, b, name)])
    return Table(["metric", "A", "B", "B - A", "apart"], body, "What was measured.")


def spread(record: Record, metric: str) -> float | None:
    """The standard deviation that a record gives for a metric, or None."""
    values = (record["metrics"].get(metric + ending) for ending in SPREADS)
    return next((float(value) for value in values if value is not None), None)


def _pm(record: Record, name: str) -> str:
    value, deviation = record["metrics"].get(name), spread(record, name)
    if value is None:
        return "–"
    return f"{value:.4g}" + (f" ± {deviation:.2g}" if deviation is not None else "")


def _apart(a: Record, b: Record, name: str) -> str:
    values = [r["metrics"].get(name) for r in (a, b)]
    spreads = [spread(r, name) for r in (a, b)]
    if None in values or None in spreads:
        return ""
    joint = math.hypot(*spreads)  # type: ignore[arg-type]
    gap = abs(values[0] - values[1])
    if gap < FEWEST_DEVIATIONS * joint or gap == 0:
        return "within the spread"
    return f"{gap / joint:.1f} deviations" if joint else "differ"


def verdicts(a: Record, b: Record) -> Table:
    """Checks and targets: held or failed, met or not."""
    body = []
    for name in sorted({*a["checks"], *b["checks"]}):
        body.append([name, *(_verdict(r["checks"].get(name), "held", "failed") for r in (a, b))])
    for name in sorted({*a["targets"], *b["targets"]}):
        goals = [r["targets"].get(name) for r in (a, b)]
        words = [
            _verdict(g and g["met"], f"met ({g['target']})", f"not met ({g['target']})")
            if g
            else "–"
            for g in goals
        ]
        body.append([f"target {name}", *words])
    return Table(["check or target", "A", "B"], body, "Checks and targets.")


def _verdict(value: bool | None, good: str, bad: str) -> str:
    return "–" if value is None else good if value else bad


def _text(value: Any) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    text = number(value)
    return f"{text[:12]}…" if len(text) == 64 else text  # a checksum
