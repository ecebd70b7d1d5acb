"""What a training step of CUT and FastCUT costs beside CycleGAN's: ``python tests/bench_cut.py``.

The released networks (9 blocks) at 128 pixels, batch 1, CPU, one thread; each method in a process
of its own, so that peak memory is its own, and the methods in turn, so that a slow minute hits all.
The result is a record in ``book/results/costs``, which the page on CUT and the ledger show.
Not a test.
"""

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
METHODS = ("cyclegan", "cyclegan_identity", "cut", "fastcut")


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


def seconds(step, i: int) -> float:
    """Processor time of one step."""
    began = time.process_time()
    step(i)
    return time.process_time() - began


def one(name: str) -> None:
    """Print one method's row: median seconds per step, peak memory, parameters."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    nets, step = (cyclegan_step if name.startswith("cyclegan") else cut_step)(name)
    seconds(step, 0)
    times = [seconds(step, i) for i in range(1, STEPS + 1)]
    chapter = "cyclegan" if name.startswith("cyclegan") else "cut"
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


def main() -> None:
    """Every method in turn, several times; the medians become a record of costs."""
    torch.set_num_threads(1)
    record = {
        "device": results.device_name(torch.device("cpu")), "torch": torch.__version__,
        "python": platform.python_version(), "commit": results.commit(),
        "lock": results.lock_hash(), "started": now(),
    }  # fmt: skip
    found = {name: [] for name in METHODS}
    for _ in range(ROUNDS):
        for name in METHODS:
            command = [sys.executable, __file__, name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    rows = []
    for name, measured in found.items():
        middle = {
            k: statistics.median(r[k] for r in measured) for k in ("seconds", "peak_memory_mb")
        }
        rows.append(measured[0] | middle | {"steps": STEPS * ROUNDS})
        print(f"{name:20}{rows[-1]['seconds']:8.2f} s{rows[-1]['peak_memory_mb']:8.0f} MB")
    out = ledger.COSTS / "translation_cpu.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record | {"finished": now(), "rows": rows}, indent=1) + "\n")
    ledger.read_costs(out)


if __name__ == "__main__":
    one(sys.argv[1]) if len(sys.argv) > 1 else main()
