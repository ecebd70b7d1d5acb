"""What one training step costs, for every chapter at ``small`` and ``full``.

    python tests/bench_costs.py                          on this machine's CPU, one thread
    python tests/bench_costs.py --device cuda --batch 0  on a GPU, the preset's own batches
    python tests/bench_costs.py --only spade --limit 600

Each row is a process of its own, on images made here; the result is a record in
``book/results/costs``, which the ledger shows.  Not a test: a shared machine is no stopwatch.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
from data_trees import plant
from trials import DRIVERS, data_sets

from minilib import chapters, ledger, results, runs, training

TASKS = (  # one for each set of networks: other tasks differ in the data only
    ("bicyclegan", "small", "facades"), ("bicyclegan", "full", "facades"),
    ("cyclegan", "small", "day2dusk"), ("cyclegan", "full", "horse2zebra"),
    ("cut", "small", "day2dusk"), ("cut", "full", "horse2zebra"),
    ("cut", "full", "fast_horse2zebra"), ("cut", "full", "monet2etretat"),
    ("spade", "small", "camvid"), ("spade", "full", "ade20k"), ("spade", "full", "cityscapes"),
    ("conditional_imle", "small", "camvid"), ("conditional_imle", "full", "gta5"),
    ("swapping_autoencoder", "small", "scenes"), ("swapping_autoencoder", "full", "church"),
    ("swapping_autoencoder", "full", "afhq"), ("swapping_autoencoder", "full", "ffhq_1024"),
    ("cycada", "small", "usps2mnist"), ("cycada", "small", "day2dusk"),
    ("cycada", "full", "usps2mnist"), ("cycada", "full", "gta5"),
    ("cinn", "small", "mnist"), ("cinn", "full", "mnist"),
    ("cinn_colorization", "small", "thumbnails"), ("cinn_colorization", "small", "scenes"),
    ("cinn_colorization", "full", "bedrooms"), ("cgml", "small", "curve"),
    ("cgml_completion", "small", "mnist"), ("cgml_completion", "full", "mnist"),
    ("cgml_images", "small", "thumbnails"), ("cgml_images", "small", "scenes"),
    ("cgml_images", "full", "stl10"), ("cgml_images", "full", "celeba_hq"),
    ("cgml_images", "full", "edges2shoes"), ("cgml_spectral", "small", "meshes"),
    ("cgml_spectral", "full", "modelnet40"),
)  # fmt: skip
CHANGES = {  # weights that are not everywhere
    "spade": {"weight_perceptual": 0.0, "statistics": "batch"},
    "conditional_imle": {"distance": "pixels", "pool": 2},
    "cinn_colorization": {"test_scenes": 2},
    "swapping_autoencoder": {"held_out": 16},
    "cgml_spectral": {"shapes": 64, "class_shapes": 16, "workers": 1},
}
WITHOUT = {
    "spade": "without VGG-19's features",
    "conditional_imle": "pixels in place of VGG-19's features, no search for nearest samples",
}
SMALL_INPUTS = ("cinn", "cgml", "cgml_completion", "cgml_spectral")  # the preset's own batch
START = 60  # seconds for imports and for building the networks
STEPS = 5  # timed, after two that are not


def wrapped(n: int, batch_size: int, step: int, seed: int, rank: int = 0, world: int = 1):
    """Indices of a batch that may be larger than the data set."""
    return torch.arange(step * batch_size, (step + 1) * batch_size) % n


def measure(chapter: str, preset: str, task: str, device: str, batch: int, limit: float) -> dict:
    """One row: time the steps of one task in this process.

    batch: at most so many images; 0 = the preset's own.  limit: seconds for all steps.
    """
    training.batch_indices = wrapped
    module = chapters.load(chapter)
    plan = module.PRESETS[preset][task]
    asked = plan.config.batch
    batch = max(batch, 2) if chapter == "swapping_autoencoder" and batch else batch
    taken = min(asked, batch) if batch and chapter not in SMALL_INPUTS else asked
    needed = [name for name in data_sets(chapter, plan.data) if name != "none"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINILIB_DATA"] = f"{folder}/data"
        for name in needed:
            plant(Path(folder) / "data", name)
        overrides = {**CHANGES.get(chapter, {}), "batch": taken}
        run = runs.start(
            chapter, module.PRESETS, preset=preset, task=task, device=device,
            out=f"{folder}/run", overrides=overrides,
        )  # fmt: skip
        trial = DRIVERS[chapter](run)
        for network in trial.state.networks.values():
            network.train()
        times = timed(trial.step, run.device, limit)
        shape = list(trial.batches(0)[0].shape[1:])
    notes = [f"{taken} instead of {asked}"] if taken != asked else []
    notes += [WITHOUT[chapter]] if chapter in WITHOUT else []
    return {
        "chapter": chapter, "preset": preset, "task": task, "batch": taken, "shape": shape,
        "parameters": sum(map(chapters.count_parameters, trial.state.networks.values())),
        "seconds": statistics.median(times), "steps": len(times), "note": "; ".join(notes),
        "peak_memory_mb": round(results.peak_memory_mb(run.device), 1),
        "code": results.code_hashes(chapter),
    }  # fmt: skip


def timed(step, device: torch.device, limit: float) -> list[float]:
    """Seconds of up to ``STEPS`` steps; the first two warm up, or the first, where it is long."""
    times, began = [], time.perf_counter()
    while len(times) < STEPS + 2 and (time.perf_counter() - began < limit or len(times) < 2):
        start = time.perf_counter()
        step(len(times))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return times[2:] or times[1:]


def row_in_a_process(task: tuple[str, str, str], options: argparse.Namespace) -> dict:
    """``measure`` in a process of its own; what fails or takes too long is a row that says so."""
    command = [sys.executable, __file__, "--one", *task, "--device", options.device]
    command += ["--batch", str(options.batch), "--limit", str(options.limit)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    patience = START + 6 * options.limit
    why = f"more than {patience:.0f} s"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=patience, env=environment
        )
        if done.returncode == 0:
            return json.loads(done.stdout.splitlines()[-1])
        why = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1][:160]
    except subprocess.TimeoutExpired:
        pass
    chapter, preset, name = task
    counts = chapters.describe(chapter, preset, name)[0].parameters
    return {
        "chapter": chapter, "preset": preset, "task": name, "parameters": sum(counts.values()),
        "batch": 1, "shape": [], "seconds": None, "peak_memory_mb": None, "steps": 0, "note": why,
        "code": results.code_hashes(chapter),
    }  # fmt: skip


def main() -> None:
    """Measure, print each row as it comes, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--batch", type=int, default=1, help="images at most; 0 = as the preset")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds for a row's steps")
    parser.add_argument("--only", default="", help="one chapter")
    parser.add_argument("--out", type=Path, help="default: book/results/costs/DEVICE.json")
    parser.add_argument("--keep", action="store_true", help="keep rows whose code is as today")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        torch.set_num_threads(options.threads)
        row = measure(*options.one, options.device, options.batch, options.limit)
        print(json.dumps(row))
        return
    out = options.out or ledger.COSTS / f"{options.device}.json"
    torch.set_num_threads(options.threads)
    record = {
        "device": results.device_name(torch.device(options.device)), "torch": torch.__version__,
        "python": platform.python_version(), "commit": results.commit(),
        "lock": results.lock_hash(), "started": now(), "finished": now(), "rows": [],
    }  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    if options.keep and out.exists():
        rows = [row for row in ledger.read_costs(out)["rows"] if ledger.age(row) == "as today"]
        record["rows"] = [row for row in rows if row["seconds"]]
    done = {(row["chapter"], row["preset"], row["task"]) for row in record["rows"]}
    for task in sorted({*TASKS} - done, key=TASKS.index):
        if options.only in ("", task[0]):
            row = row_in_a_process(task, options)
            record["rows"].append(row)
            record["rows"].sort(key=place)
            print(*task, row["seconds"], "s", row["peak_memory_mb"], "MB", row["note"], flush=True)
            record["finished"] = now()
            out.write_text(json.dumps(record, indent=1) + "\n")
    ledger.read_costs(out)


def place(row: dict) -> tuple[str, int]:
    """Rows stand by chapter, then in the order of ``TASKS``."""
    return row["chapter"], TASKS.index((row["chapter"], row["preset"], row["task"]))


def now() -> str:
    """The time, for the record."""
    return datetime.now(UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    main()
