"""Does an older record still stand?  One short run by the code of then and by that of today.

A record says which code made it.  When that code changes, the record ages, even if the change only
moved a function.  Running a study again takes an hour; this takes a minute: the commit of the
record is checked out beside the clone, the same short run is made by both, and if every number
agrees to the last digit, the record is confirmed for today's code and says by what.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from minilib import chapters, results
from minilib.paths import ROOT, data_root

STATIC = Path("minilib") / "explore" / "static"  # built, so not in a fresh checkout
Settings = Mapping[str, Any]


class NotConfirmed(results.RecordError):
    """The record does not hold for today's code; the message is one line."""


def confirm(path: Path, overrides: Settings | None = None) -> dict[str, Any]:
    """Run then's code and today's, compare, and write the agreement into the record.

    Args:
        path: the record's file.
        overrides: settings that cut the record's own run short, such as ``{"steps": 3}``; None
            runs the chapter's ``smoke`` instead.

    Returns:
        The record, with a ``confirmed`` entry more: date, commit, code, run and metrics compared.

    Raises:
        RecordError: not a record, or made from a commit that is not in this clone.
        NotConfirmed: the settings or a number differ; the message names the first.
    """
    record = results.read(path)
    same_settings(record)
    settings = short_run(record, overrides)
    with checked_out(record["commit"]) as clone, tempfile.TemporaryDirectory() as folder:
        roots = {"then": clone, "now": ROOT, "again": ROOT}
        runs = {
            name: execute(root, record["chapter"], settings, Path(folder) / name)
            for name, root in roots.items()
        }
    steady, unsteady = agreement(**{name: run["metrics"] for name, run in runs.items()})
    entry = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": runs["now"]["commit"],
        "code": runs["now"]["code"],
        "run": dict(settings),
        "metrics": steady,
        "unsteady": unsteady,
    }
    record["confirmed"] = [*record.get("confirmed", []), entry]
    results.write(record, path)
    return record


def same_settings(record: Mapping[str, Any]) -> None:
    """Check that today's preset still says what the record ran; settings that are new may be.

    Raises:
        NotConfirmed: a setting is gone or has another value now.
    """
    presets = chapters.load(record["chapter"]).PRESETS
    plan = presets.get(record["preset"], {}).get(record["task"])
    if plan is None:
        run = f"{record['preset']} {record['task']}"
        raise NotConfirmed(f"{record['chapter']} has no '{run}' any more: run it anew")
    today = json.loads(json.dumps(dataclasses.asdict(plan.config) | record["overrides"]))
    for name, value in json.loads(json.dumps(record["config"])).items():
        if today.get(name, value) != value or name not in today:
            now = f"is {today[name]!r} now" if name in today else "is gone"
            raise NotConfirmed(f"setting '{name}' was {value!r} and {now}: run it anew")


def short_run(record: Mapping[str, Any], overrides: Settings | None) -> dict[str, Any]:
    """The parameters of the run to compare by."""
    if overrides is None:
        tasks = chapters.load(record["chapter"]).PRESETS["smoke"]
        task = record["task"] if record["task"] in tasks else next(iter(tasks))
        return {"preset": "smoke", "task": task, "seed": record["seed"]}
    changed = {**record["overrides"], **overrides}
    names = ("preset", "task", "seed")
    return {**{name: record[name] for name in names}, "overrides": changed}


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A checkout of a commit beside the clone, removed afterwards.

    Raises:
        RecordError: no such commit here, or the record was made with changes on top of it.
    """
    if not commit or commit.endswith("+changes"):
        raise results.RecordError(
            f"made from {'no commit' if not commit else 'files that were not committed'}: "
            "its code cannot be brought back, so run it anew"
        )
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "then"
        made = git("worktree", "add", "--detach", str(clone), commit)
        if made.returncode:
            raise results.RecordError(f"commit {commit[:12]} is not in this clone")
        try:
            if (ROOT / STATIC).is_dir():
                shutil.copytree(ROOT / STATIC, clone / STATIC, dirs_exist_ok=True)
            yield clone
        finally:
            git("worktree", "remove", "--force", str(clone))


def git(*command: str) -> subprocess.CompletedProcess[str]:
    """Run git in the clone."""
    return subprocess.run(["git", "-C", str(ROOT), *command], capture_output=True, text=True)


def execute(root: Path, chapter: str, settings: Settings, folder: Path) -> dict[str, Any]:
    """Run a chapter with the library and the chapters under ``root``; its record.

    Raises:
        NotConfirmed: it failed; the message ends with the last line it printed.
    """
    command = [sys.executable, "-m", "minilib", "run", chapter, "--out", str(folder)]
    for name, value in settings.items():
        command += ["-p", name, json.dumps(value)]
    places = {"PYTHONPATH": str(root), "MINILIB_DATA": str(data_root().resolve())}
    environment = {n: v for n, v in os.environ.items() if n != "MINILIB_ROOT"} | places
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
        which = "today's code" if root == ROOT else "the code of then"
        raise NotConfirmed(f"{chapter}: the short run by {which} failed: {last}")
    return results.read(folder / "record.json")


def agreement(then: Settings, now: Settings, again: Settings) -> tuple[int, list[str]]:
    """How many metrics agree to the last digit, and the names of those that are never the same.

    Args:
        then, now, again: metrics of the old code's run and of two runs of today's.

    Returns:
        The number that agree in all three; the names of those, such as seconds, in which two runs
        of today's code differ, and which therefore say nothing.

    Raises:
        NotConfirmed: a metric is gone, or has another value; or nothing was measured.
    """
    unsteady = sorted(name for name in now if now[name] != again.get(name))
    compared = sorted((then.keys() | now.keys()) - set(unsteady))
    for name in compared:
        if name in then and then[name] != now.get(name):
            raise NotConfirmed(f"'{name}' was {then[name]!r} and is {now.get(name)!r}: run it anew")
    if not then.keys() & set(compared):
        raise NotConfirmed("the short run measures nothing: there is nothing to compare")
    return len(then.keys() & set(compared)), unsteady
