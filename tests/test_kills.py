"""A chapter that is killed in the midst of its trainings, and resumed, ends with the same numbers.

One chapter here; every chapter with ``MINILIB_KILL_ALL=1`` (some twenty minutes).
"""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from minilib import chapters, confirm, results

TRAINED = [name for name in chapters.names() if "run.train" in chapters.path_of(name).read_text()]
CHOSEN = TRAINED if os.environ.get("MINILIB_KILL_ALL") else ["cgml_spectral"]
KILLER = """
import os, signal
from minilib import training
fit, left = training.fit, [int(os.environ["KILL_AFTER"])]

def killed(step_fn, *arguments, **options):
    def step(i):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return step_fn(i)
    return fit(step, *arguments, **options, checkpoint_every=1)

training.fit = killed
"""


def run(chapter: str, folder: Path, *more: str, **environment: str) -> subprocess.CompletedProcess:
    """The chapter's smoke run in processes of its own."""
    command = [sys.executable, "-m", "minilib", "run", chapter, "--out", str(folder), *more]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)


def smoke(chapter: str, folder: Path) -> dict:
    """The record of an undisturbed run."""
    done = run(chapter, folder, "-p", "preset", "smoke", "-p", "device", "cpu")
    assert done.returncode == 0, done.stderr[-2000:]
    return results.read(folder / "record.json")


@pytest.mark.chapter
@pytest.mark.parametrize("chapter", CHOSEN)
def test_a_killed_chapter_resumes_to_the_same_numbers(chapter, tmp_path):
    whole = smoke(chapter, tmp_path / "whole")
    steps = sum(part["steps"] for part in whole["training"].values())
    after = random.Random(chapter).randint(1, steps - 1)
    (tmp_path / "killer").mkdir()
    (tmp_path / "killer" / "sitecustomize.py").write_text(KILLER)
    hooked = {"KILL_AFTER": str(after), "PYTHONPATH": str(tmp_path / "killer")}
    cut = tmp_path / "cut"
    died = run(chapter, cut, "-p", "preset", "smoke", "-p", "device", "cpu", **hooked)
    assert died.returncode == 130, died.stderr[-2000:]
    assert "the kernel died" in died.stderr
    assert not (cut / "record.json").exists()
    again = run(chapter, cut, "--resume")
    assert again.returncode == 0, again.stderr[-2000:]
    resumed = results.read(cut / "record.json")
    assert resumed["training"].keys() == whole["training"].keys()
    assert len(resumed["sittings"]) == 2
    if resumed["metrics"] != whole["metrics"]:  # clocks differ in any two runs
        other = smoke(chapter, tmp_path / "other")["metrics"]
        agreed, clocks = confirm.agreement(resumed["metrics"], whole["metrics"], other)
        assert agreed > len(clocks)
