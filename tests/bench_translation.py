"""What a training step costs beside CycleGAN's: ``python tests/bench_translation.py``.

    python tests/bench_translation.py              CUT and FastCUT; the page on CUT shows them
    python tests/bench_translation.py bicyclegan   BicycleGAN, one pair both ways and one more real

The released networks at 128 pixels, batch 1, CPU, one thread; each method in a process of its own,
so that peak memory is its own, and the methods in turn, so that a slow minute hits all.
The result is a record in ``book/results/costs``, which the ledger shows.  Not a test.
"""

import argparse
import dataclasses
import json
import platform
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime

import torch

from minilib import chapters, ledger, results

STEPS, ROUNDS, SIZE = 3, 3, 128
YARDSTICKS = ("cyclegan", "cyclegan_identity")
GROUPS = {
    "translation": (*YARDSTICKS, "cut", "fastcut"),
    "bicyclegan": (*YARDSTICKS, "bicyclegan"),
}


def cyclegan_step(name: str):
    """The networks, and one training step, of a variant of CycleGAN on noise."""
    c = chapters.load("cyclegan")
    config = dataclasses.replace(c.RELEASED, size=SIZE)
    nets = c.networks(config)
    batch = torch.rand(2, 1, 3, SIZE, SIZE).sub(0.5).mul(2).unbind()
    state = c.make_state(nets, config)
    return nets, c.make_step(nets, state, lambda i: batch, c.objective_of(name, config))


def cut_step(name: str):
    """The networks, and one training step, of a variant of CUT on noise."""
    c = chapters.load("cut")
    config = dataclasses.replace(c.RELEASED, size=SIZE)
    want = c.objective_of(name, config)
    nets = c.variant_networks(config, want)
    state = c.make_state(nets, config, want)
    batch = torch.rand(2, 1, 3, SIZE, SIZE).sub(0.5).mul(2).unbind()
    game = c.make_game(nets, state, config, want)
    return nets, c.make_step(game, state, lambda i: batch, config.momentum)


def bicyclegan_step(name: str):
    """The networks, and one training step, of a variant of BicycleGAN on noise."""
    b = chapters.load("bicyclegan")
    config = dataclasses.replace(b.RELEASED, size=SIZE, critic_layers=2)
    nets = b.networks(config)
    state = b.make_state(nets, config)
    pairs = torch.rand(2, 2, 3, SIZE, SIZE).sub(0.5).mul(2).unbind()
    want = b.objective_of(name, config)
    return nets, b.make_step(nets, state.optimizers, lambda i: pairs, want)


def seconds(step, i: int) -> float:
    """Processor time of one step."""
    began = time.process_time()
    step(i)
    return time.process_time() - began


def one(name: str) -> None:
    """Print one method's row: median seconds per step, peak memory, parameters."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    chapter = name.removesuffix("_identity").removeprefix("fast")
    steps_of = {"cyclegan": cyclegan_step, "cut": cut_step, "bicyclegan": bicyclegan_step}
    nets, step = steps_of[chapter](name)
    seconds(step, 0)
    times = [seconds(step, i) for i in range(1, STEPS + 1)]
    row = {
        "chapter": chapter, "preset": "full", "task": name, "batch": 1, "shape": [3, SIZE, SIZE],
        "parameters": sum(map(chapters.count_parameters, nets.values())),
        "seconds": statistics.median(times), "steps": STEPS, "note": "processor time",
        "peak_memory_mb": round(results.peak_memory_mb(torch.device("cpu")), 1),
        "code": results.code_hashes(chapter),
    }  # fmt: skip
    print(json.dumps(row))


def now() -> str:
    """The time, as records say it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def main(group: str) -> None:
    """Every method of a group in turn, several times; the medians become a record of costs."""
    torch.set_num_threads(1)
    record = {
        "device": results.device_name(torch.device("cpu")), "torch": torch.__version__,
        "python": platform.python_version(), "commit": results.commit(),
        "lock": results.lock_hash(), "started": now(),
    }  # fmt: skip
    found = {name: [] for name in GROUPS[group]}
    for _ in range(ROUNDS):
        for name in found:
            command = [sys.executable, __file__, "--one", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    rows = []
    for name, measured in found.items():
        middle = {
            k: statistics.median(r[k] for r in measured) for k in ("seconds", "peak_memory_mb")
        }
        rows.append(measured[0] | middle | {"steps": STEPS * ROUNDS})
        print(f"{name:20}{rows[-1]['seconds']:8.2f} s{rows[-1]['peak_memory_mb']:8.0f} MB")
    out = ledger.COSTS / f"{group}_cpu.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record | {"finished": now(), "rows": rows}, indent=1) + "\n")
    ledger.read_costs(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("group", nargs="?", default="translation", choices=GROUPS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    one(options.one) if options.one else main(options.group)
