"""No full run ever tried is no full run: every ``full`` task on three images in its real layout.

The preset's own networks, at full width and size, take one step, save, are measured, write a
record, and resume to the bit.  What takes too long for every day is skipped with its reason;
``MINILIB_FULL_STEPS=1`` runs it all.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from data_trees import WRITERS, plant
from trials import DRIVERS, data_sets

from minilib import chapters, data, results, runs
from minilib.catalogue import catalogue

ALL = os.environ.get("MINILIB_FULL_STEPS") == "1"


SMALLER = {  # only what three images, or weights that are not here, do not allow
    "cyclegan": {"held_out": 8},
    "spade": {"batch": 1, "weight_perceptual": 0.0, "statistics": "batch"},
    "conditional_imle": {"pool": 2, "draws": 2, "distance": "pixels"},
    "cinn": {"batch": 64},
    "cgml_completion": {"batch": 64},
    "cgml_images": {"batch": 2, "inner": 2},
    "cgml_spectral": {"shapes": 64, "class_shapes": 16, "batch": 16, "inner": 2, "workers": 1},
    "swapping_autoencoder": {"batch": 2},
    "cinn_colorization": {"batch": 2, "test_scenes": 2},
}
EVERY_DAY = (
    "bicyclegan-facades", "cinn-mnist", "cinn_colorization-bedrooms", "cgml_completion-mnist",
    "cut-monet2etretat", "cgml_spectral-shapenet",
)  # fmt: skip
TURNS = {"swapping_autoencoder": 2}  # its critics and its codec take turns, a batch each
SLOW = "a step at full size and width takes too long for every day: MINILIB_FULL_STEPS=1 runs it"


def full_tasks() -> list[tuple[str, str]]:
    """Every ``full`` task of every chapter."""
    plans = {name: getattr(chapters.load(name), "PRESETS", {}) for name in chapters.names()}
    return [(name, task) for name, presets in plans.items() for task in presets.get("full", {})]


TASKS = full_tasks()


def begin(chapter: str, task: str, folder: Path, resume: bool):
    """The run as its chapter starts it, and a fresh trial."""
    presets = chapters.load(chapter).PRESETS
    run = runs.start(
        chapter, presets, preset="full", task=task, device="cpu", out=str(folder), resume=resume,
        overrides=SMALLER.get(chapter, {}),
    )  # fmt: skip
    torch.manual_seed(99 if resume else run.seed)  # resumed networks start from something else
    return run, DRIVERS[chapter](run)


def equal(a: Any, b: Any) -> bool:
    """Whether two nests of dicts, lists and tensors are the same to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


@pytest.mark.parametrize(("chapter", "task"), TASKS, ids=["-".join(t) for t in TASKS])
def test_full_size_step_checkpoint_resume_and_record(chapter, task, tmp_path, monkeypatch):
    plan = chapters.load(chapter).PRESETS["full"][task]
    needed = data_sets(chapter, plan.data)
    if chapter not in DRIVERS or not set(needed) <= WRITERS.keys():
        pytest.skip(f"no tree of three images is written here for {chapter}, {plan.data}")
    if not ALL and f"{chapter}-{task}" not in EVERY_DAY:
        pytest.skip(SLOW)
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path / "data"))
    for name in needed:
        plant(tmp_path / "data", name)
    run, trial = begin(chapter, task, tmp_path / "run", resume=False)
    described = chapters.describe(chapter, "full", task)[0].parameters
    for name, network in trial.state.networks.items():
        if name in described:  # the preset's own networks, nothing narrower
            assert chapters.count_parameters(network) == described[name]
    nets, steps = trial.state.networks, TURNS.get(chapter, 1)
    before = {n: [p.detach().clone() for p in net.parameters()] for n, net in nets.items()}
    fitted = run.train("main", trial.step, trial.state, steps)
    assert fitted.steps == steps
    assert all(torch.isfinite(torch.tensor(v)).any() for v in fitted.history.values())
    assert all(torch.isfinite(p).all() for net in nets.values() for p in net.parameters())
    after = {name: list(network.parameters()) for name, network in nets.items()}
    moved = {name for name in nets if not equal(before[name], after[name])}
    assert moved == set(nets) if steps > 1 else moved
    trial.evaluate()
    run.finish()
    record = results.read(tmp_path / "run" / "record.json")
    assert (record["status"], record["preset"], record["task"]) == ("finished", "full", task)
    assert record["training"]["main"]["steps"] == steps
    assert record["data"][plan.data] == data.checksum(plan.data)
    assert all(value is not None for value in record["metrics"].values())
    again, resumed = begin(chapter, task, tmp_path / "run", resume=True)
    assert again.train("main", resumed.step, resumed.state, steps).steps == steps
    for (name, old), (_, new) in zip(trial.state.parts(), resumed.state.parts(), strict=True):
        assert equal(old.state_dict(), new.state_dict()), name
    assert equal(list(trial.batches(steps)), list(resumed.batches(steps)))  # the next batch, too


def test_every_data_set_of_a_full_task_can_be_had():
    known = {*catalogue(), "tinytown", "digits", "none"}
    wanted = {chapters.load(c).PRESETS["full"][t].data for c, t in TASKS}
    assert wanted <= known


@pytest.mark.parametrize("name", [name for name in WRITERS if name in catalogue()])
def test_trees_have_the_layout_of_the_manifest(name, tmp_path):
    plant(tmp_path, name)
    if name == "small_samples":
        pytest.skip("only the single images are written")
    for pattern in catalogue()[name].expect:
        assert list((tmp_path / name).glob(pattern)), pattern
