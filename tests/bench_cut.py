"""What a training step of CUT and FastCUT costs beside CycleGAN's: ``python tests/bench_cut.py``.

The released networks (9 blocks) at 128 pixels, batch 1, CPU, one thread; each method in a process
of its own, so that peak memory is its own, and the methods in turn, so that a slow minute hits all.
Published (thesis, Table 3.6; GTX 1080 Ti, 256 pixels): 0.40 s and 4.81 GB for CycleGAN, 0.24 and
3.33 for CUT, 0.15 and 2.25 for FastCUT.  Not a test.
"""

import dataclasses
import resource
import statistics
import subprocess
import sys
import time

import torch

from minilib import chapters

STEPS, ROUNDS = 3, 2
METHODS = ("cyclegan", "cyclegan_identity", "cut", "fastcut")
PUBLISHED = {"cyclegan": (0.40, 4.81), "cut": (0.24, 3.33), "fastcut": (0.15, 2.25)}


def cyclegan_step(name: str):
    """One training step of a variant of CycleGAN on noise."""
    c = chapters.load("cyclegan")
    config = dataclasses.replace(c.RELEASED, size=128)
    nets = c.networks(config)
    batch = torch.rand(2, 1, 3, 128, 128).sub(0.5).mul(2).unbind()
    state = c.make_state(nets, config)
    return c.make_step(nets, state, lambda i: batch, c.objective_of(name, config))


def cut_step(name: str):
    """One training step of a variant of CUT on noise."""
    c = chapters.load("cut")
    config = dataclasses.replace(c.RELEASED, size=128)
    want = c.objective_of(name, config)
    nets = c.variant_networks(config, want)
    state = c.make_state(nets, config, want)
    batch = torch.rand(2, 1, 3, 128, 128).sub(0.5).mul(2).unbind()
    game = c.make_game(nets, state, config, want)
    return c.make_step(game, state, lambda i: batch, config.momentum)


def seconds(step, i: int) -> float:
    """Processor time of one step."""
    began = time.process_time()
    step(i)
    return time.process_time() - began


def one(name: str) -> None:
    """Print median seconds per step and peak memory in MB of one method."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    step = (cyclegan_step if name.startswith("cyclegan") else cut_step)(name)
    seconds(step, 0)
    median = statistics.median(seconds(step, i) for i in range(1, STEPS + 1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB on Linux
    print(f"{median} {peak}")


def main() -> None:
    """Every method in turn, several times; then the table."""
    found = {name: [] for name in METHODS}
    for _ in range(ROUNDS):
        for name in METHODS:
            command = [sys.executable, __file__, name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name].append(tuple(map(float, done.stdout.split())))
    medians = {
        n: [statistics.median(v) for v in zip(*rows, strict=True)] for n, rows in found.items()
    }
    print(f"{'':20}{'s/step':>8}{'MB':>7}   relative to CycleGAN without, with identity; published")
    for name, (cost, peak) in medians.items():
        plain, identity = medians["cyclegan"], medians["cyclegan_identity"]
        ratios = f"{cost / plain[0]:.2f} {cost / identity[0]:.2f}  memory {peak / plain[1]:.2f}"
        ours = f"{name:20}{cost:8.2f}{peak:7.0f}   {ratios} {peak / identity[1]:.2f}"
        if name in PUBLISHED:
            s, gb = (PUBLISHED[name][k] / PUBLISHED["cyclegan"][k] for k in (0, 1))
            ours += f"; {s:.2f}, memory {gb:.2f}"
        print(ours)


if __name__ == "__main__":
    one(sys.argv[1]) if len(sys.argv) > 1 else main()
