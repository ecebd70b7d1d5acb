"""Tables for chapters: HTML in the book, aligned text in a terminal."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from minilib import chapters, results
from minilib.config import rows


class Table:
    """Rows of text under a header, with a caption.

    Args:
        header: column names.
        body: rows; ``code`` cells are set in a code font.
        caption: one sentence.
        code: indices of the columns that hold names from the code.
    """

    def __init__(
        self,
        header: Sequence[str],
        body: Sequence[Sequence[Any]],
        caption: str = "",
        code: Sequence[int] = (0,),
    ) -> None:
        """Keep everything as text."""
        self.header, self.caption, self.code = list(header), caption, set(code)
        self.body = [[str(cell) for cell in row] for row in body]

    def __repr__(self) -> str:
        lines = [self.header, *self.body]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]
        text = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([*([self.caption] if self.caption else []), *map(str.rstrip, text)])

    def _repr_html_(self) -> str:
        def cell(i: int, text: str) -> str:
            inner = html.escape(text)
            return f"<td><code>{inner}</code></td>" if i in self.code else f"<td>{inner}</td>"

        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.header)
        body = "".join(
            "<tr>" + "".join(cell(i, text) for i, text in enumerate(row)) + "</tr>"
            for row in self.body
        )
        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        table = f"<table class='record'>{caption}<thead><tr>{head}</tr></thead>{body}</table>"
        return f"<div class='wide-table'>{table}</div>"


def number(value: Any) -> str:
    """A number as one reads it: 1,500; 0.001; 12.3."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def duration(minutes: float) -> str:
    """Minutes as one says them: 12 s, 4.5 min, 3.2 h, 110 h, 12 days."""
    if minutes < 1:
        return f"{60 * minutes:.0f} s"
    if minutes < 99:
        return f"{minutes:.2g} min"
    hours = minutes / 60
    if hours < 99:
        return f"{hours:.2g} h"
    return f"{10 * round(hours / 10)} h" if hours < 240 else f"{hours / 24:.0f} days"


def presets(chapter: str) -> Table:
    """What each preset of a chapter trains and costs: one row per task.

    Networks are counted on the meta device; times are those of committed records, if there are any.
    """
    module = chapters.load(chapter)
    body = []
    for preset, tasks in module.PRESETS.items():
        for task, plan in tasks.items():
            with torch.device("meta"):
                built = module.networks(plan.config)
            size = sum(chapters.count_parameters(net) for net in built.values())
            minutes, hardware, measured = chapters.cost(chapter, preset, task, plan)
            time = duration(minutes) + ("" if measured else " (estimate)")
            body.append([preset, task, plan.data, f"{size:,}", hardware, time])
    header = ["preset", "task", "data", "parameters", "hardware", "time"]
    return Table(header, body, "What each preset trains, and what it takes.", code=(0, 1))


def settings(chapter: str, *names: str) -> Table:
    """Every hyper-parameter with its unit and origin, and its value in some presets.

    Args:
        chapter: its name.
        names: presets to show (their first task); none = all.
    """
    presets = chapters.load(chapter).PRESETS
    shown = names or tuple(presets)
    configs = [next(iter(presets[name].values())).config for name in shown]
    columns = [[number(value) for _, value, _, _ in rows(config)] for config in configs]
    body = [
        [name, *values, unit, origin]
        for (name, _, unit, origin), *values in zip(rows(configs[0]), *columns, strict=True)
    ]
    caption = (
        "Hyper-parameters. The origin is that of the first column's value or, if ours, says so."
    )
    return Table(["name", *shown, "unit", "origin"], body, caption)


def records(chapter: str, metrics: Mapping[str, str]) -> Table:
    """The committed records of a chapter on real data: one row per run, newest last.

    Args:
        chapter: its name.
        metrics: column title -> name of the metric; a dash where a record has none.
    """
    body = []
    for record in results.committed(chapter):
        if record["preset"] not in ("small", "full"):
            continue
        changed = ", ".join(f"{k} {number(v)}" for k, v in record["overrides"].items())
        old = " (of older code)" if results.stale(record) else ""
        found = [record["metrics"].get(name) for name in metrics.values()]
        values = ["–" if value is None else f"{value:.3g}" for value in found]
        run = f"{record['preset']} {record['task']}"
        cost = f"{record['device']}, {duration(record['seconds'] / 60)}"
        body.append([run, changed or "as set", *values, cost + old])
    header = ["run", "changed settings", *metrics, "on"]
    return Table(header, body, "Runs on real data, from their records.")
