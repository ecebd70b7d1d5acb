"""The ledger of results: every committed run, the papers' numbers beside ours, measured costs.

All numbers come from ``book/results`` (ours) and ``book/paper_numbers.json`` (the papers', each
with the place where it is printed).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from minilib import chapters, results
from minilib.compare import spread
from minilib.config import PRESET_NAMES
from minilib.parameters import BUNDLED
from minilib.paths import RESULTS, ROOT
from minilib.tables import Table, duration, number

PAPERS = ROOT / "book" / "paper_numbers.json"
COSTS = RESULTS / "costs"
SCHEMAS = RESULTS / "schema"
SHOWN = 4  # names in a cell before the rest is counted
FIELDS = ("chapter", "measure", "paper", "place", "protocol", "ours", "gap")
MAYBE = ("preset", "task", "overrides", "unit")  # which records may stand there; "%"
NEAREST = tuple(reversed(PRESET_NAMES))  # full is nearest to the paper, smoke farthest


class LedgerError(ValueError):
    """A file of the ledger is not what it should be; the message is one line."""


def paper_numbers(path: Path = PAPERS) -> list[dict[str, str]]:
    """The papers' numbers: chapter, measure, paper, place, protocol, ours (a metric) and gap.

    A row whose gap speaks of one kind of run may name its ``preset``, ``task`` and settings; where
    the paper prints per cent and we record shares, ``unit`` is "%".

    Raises:
        LedgerError: a field is missing or unknown.
    """
    entries = json.loads(path.read_text(encoding="utf-8"))
    for entry in entries:
        odd = sorted(set(FIELDS) ^ (entry.keys() - set(MAYBE)))
        if odd:
            raise LedgerError(f"{path.name}: '{entry.get('measure', '?')}': {', '.join(odd)}?")
    return list(entries)


def age(record: Mapping[str, Any]) -> str:
    """Whether a record's code is still that of today, in words."""
    if record["chapter"] not in chapters.names():
        return "of a chapter that is gone"
    states = [record["code"], *(entry["code"] for entry in record.get("confirmed", []))]
    changed = _changed(record["chapter"], json.dumps(states))
    if changed:
        return f"of older code: {few(changed)}"
    if len(states) == 1 or not _changed(record["chapter"], json.dumps(states[:1])):
        return "as today"
    return f"confirmed {record['confirmed'][-1]['date'][:10]}"


@lru_cache(maxsize=256)
def _changed(chapter: str, states: str) -> tuple[str, ...]:
    """``results.stale``, which reads and hashes many files, once for each record."""
    code, *later = json.loads(states)
    confirmed = [{"code": state} for state in later]
    return tuple(results.stale({"chapter": chapter, "code": code, "confirmed": confirmed}))


def changes(record: Mapping[str, Any]) -> str:
    """The settings that a run changed from its preset, the first few by name."""
    named = [f"released weights for {name}" for name in record.get("released", {})]
    named += [f"{name} {number(v)}" for name, v in record["overrides"].items()]
    return few(named) or "none"


def few(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN + 1 else ""
    return ", ".join(names[:SHOWN] if more else names) + more


def runs(records: Iterable[Mapping[str, Any]] | None = None) -> Table:
    """Every run there is, one row each, oldest first; None takes the committed records."""
    body = []
    for r in results.committed() if records is None else records:
        steps = sum(part["steps"] for part in r["training"].values())
        cost = f"{steps:,} steps, {duration(r['seconds'] / 60)}, {r['peak_memory_mb'] or 0:,.0f} MB"
        checks = f"{sum(r['checks'].values())} of {len(r['checks'])}"
        targets = f"{sum(t['met'] for t in r['targets'].values())} of {len(r['targets'])}"
        run = f"{r['preset']} {r['task']}, seed {r['seed']}"
        made = f"{r['finished'][:10]}, {r['commit'][:8] or 'no commit'}"
        cost = f"{cost}; {r['device']}"
        body.append([r["chapter"], run, changes(r), cost, checks, targets, made, age(r)])
    header = ["chapter", "run", "changed settings", "cost", "checks held", "targets met"]
    header += ["made", "code"]
    return Table(header, body, "Every run of which the repository holds a record.")


def best_record(chapter: str, entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record that is shown beside a number of the paper.

    That of the preset nearest to the paper; of those the one that holds most of the chapter's
    numbers, so that rivals come from one run where they can; of those the newest.

    Args:
        chapter: its name.
        entry: a row of ``paper_numbers``.
    """
    metrics = {e["ours"] for e in paper_numbers() if e["chapter"] == chapter} | {entry["ours"]}

    def fits(record: Mapping[str, Any]) -> bool:
        settings = {**record["config"], **record["overrides"]}
        return (
            record["metrics"].get(entry["ours"]) is not None
            and all(entry.get(k, record[k]) == record[k] for k in ("preset", "task"))
            and all(settings.get(k) == v for k, v in entry.get("overrides", {}).items())
        )

    def rank(record: Mapping[str, Any]) -> tuple[int, int]:
        held = sum(record["metrics"].get(metric) is not None for metric in metrics)
        return NEAREST.index(record["preset"]), -held

    found = [r for r in results.committed(chapter) if fits(r)] if entry["ours"] else []
    return min(reversed(found), key=rank, default=None)


def paper(chapter: str) -> Table:
    """Paper beside this book: one row per number of the paper, with both protocols and the gap.

    Args:
        chapter: its name; a dash stands where no record holds the measure.
    """
    body: list[list[Any]] = []
    shown: list[str] = []
    for entry in paper_numbers():
        if entry["chapter"] != chapter:
            continue
        row = [entry["measure"], entry["paper"], entry["place"], entry["protocol"]]
        ours = _ours(best_record(chapter, entry), entry)
        same = bool(body) and ours[1:] == shown[1:] and ours[2] != "–"
        shown = ours
        body.append([*row, *ours[:2], "as above" if same else ours[2], entry["gap"]])
    header = ["measure", "paper", "where", "how the paper measured"]
    header += ["this book", "run", "how this book measured", "what lies between"]
    return Table(header, body, f"Paper beside this book: {chapter}.", code=())


def _ours(record: Mapping[str, Any] | None, entry: Mapping[str, Any]) -> list[str]:
    if record is None:
        return ["–", "–", "–"]
    metric, unit = entry["ours"], entry.get("unit", "")
    value, deviation = record["metrics"][metric], spread(record, metric)
    if unit == "%":
        value, deviation = 100 * value, None if deviation is None else 100 * deviation
    text = f"{value:.4g}" + (f" ± {deviation:.2g}" if deviation is not None else "")
    text += f" {unit}" if unit else ""
    changed = len(record["overrides"])
    run = f"{record['preset']} {record['task']}, {changed or 'no'} settings changed"
    old = " (of older code)" if age(record).startswith("of ") else ""
    return [text, run + old, "; ".join(record["protocol"]) or "see the chapter"]


def with_numbers() -> list[str]:
    """The chapters of this book for which there are numbers of a paper, in their order."""
    here = chapters.names()
    return [c for c in dict.fromkeys(e["chapter"] for e in paper_numbers()) if c in here]


def without_records() -> list[str]:
    """The chapters with a ``small`` or ``full`` task on real data, but no record of one."""
    bare = []
    for name in chapters.names():
        presets = getattr(chapters.load(name), "PRESETS", {})
        plans = [plan for p in ("small", "full") for plan in presets.get(p, {}).values()]
        real = {"small", "full"} if any(plan.data not in BUNDLED for plan in plans) else set()
        if real and not any(r["preset"] in real for r in results.committed(name)):
            bare.append(name)
    return bare


def read_costs(path: Path) -> dict[str, Any]:
    """One record of measured costs, as ``tests/bench_costs.py`` writes it.

    Raises:
        LedgerError: not JSON, or it does not fit ``book/results/schema/costs.json``.
    """
    import fastjsonschema

    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        fastjsonschema.validate(json.loads((SCHEMAS / "costs.json").read_text("utf-8")), found)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise LedgerError(f"{path.name} is not a record of costs: {error}") from None
    except fastjsonschema.JsonSchemaValueException as error:
        raise LedgerError(f"{path.name}: {results.misfit(error)}") from None
    return dict(found)


def costs(folder: Path = COSTS) -> list[Table]:
    """Measured costs, one table per machine: seconds a step, images a second, peak memory."""
    tables = []
    for path in sorted(folder.glob("*.json")):
        record = read_costs(path)
        body = []
        for row in record["rows"]:
            name = [row["chapter"], f"{row['preset']} {row['task']}", f"{row['parameters']:,}"]
            size = "x".join(map(str, row["shape"]))
            if row["seconds"] is None:
                body.append([*name, row["batch"], size, "–", "–", "–", row["note"]])
                continue
            speed = [f"{row['seconds']:.3g}", f"{row['batch'] / row['seconds']:.3g}"]
            memory = f"{row['peak_memory_mb']:,.0f}"
            batch = f"{row['batch']} ({row['note']})" if row["note"] else row["batch"]
            body.append([*name, batch, size, *speed, memory, age(row)])
        header = ["chapter", "preset and task", "parameters", "batch", "one input"]
        header += ["s a step", "images a s", "MB at most", "code"]
        caption = f"One training step on synthetic input: {record['device']}, "
        caption += f"PyTorch {record['torch']}, {record['finished'][:10]}."
        tables.append(Table(header, body, caption))
    return tables
