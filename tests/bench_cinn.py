"""Our cINN against FrEIA's, one training step each, in one process: ``python tests/bench_cinn.py``.

24 blocks of the paper's MNIST model, batch 256, CPU, one thread.  Prints the medians and their
ratio; not a test, because a shared machine is no stopwatch.
"""

import statistics
import time

import torch
from FrEIA import framework, modules

from minilib import chapters

STEPS = 9


def frei_a(config):
    """The same network in FrEIA."""

    def subnet(inputs, outputs):
        return cinn.subnetwork(inputs, outputs, config.width, config.depth, config.dropout)

    flow = framework.SequenceINN(config.size**2)
    for k in range(config.blocks):
        flow.append(modules.PermuteRandom, seed=k)
        flow.append(
            modules.GLOWCouplingBlock, cond=0, cond_shape=(10,), clamp=config.clamp,
            subnet_constructor=subnet,
        )  # fmt: skip
    return flow


def seconds(run, flow, y, x):
    """One training step, timed."""
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-6)

    def step():
        z, log_det = run(y, x)
        optimizer.zero_grad(set_to_none=True)
        cinn.negative_log_likelihood(z, log_det).backward()
        optimizer.step()

    step()
    while True:
        began = time.perf_counter()
        step()
        yield time.perf_counter() - began


if __name__ == "__main__":
    torch.set_num_threads(1)
    cinn = chapters.load("cinn")
    config = cinn.FULL
    y, x = torch.rand(256, config.size**2), cinn.one_hot(torch.arange(256) % 10)
    ours, theirs = cinn.networks(config)["cinn"], frei_a(config)
    assert sum(p.numel() for p in theirs.parameters() if p.requires_grad) == sum(
        p.numel() for p in ours.parameters()
    )
    a, b = seconds(ours, ours, y, x), seconds(lambda y, x: theirs(y, c=[x]), theirs, y, x)
    times = [(next(a), next(b)) for _ in range(STEPS)]  # in turn: drifts cancel
    mine, other = (statistics.median(t) for t in zip(*times, strict=True))
    ratio = statistics.median(m / o for m, o in times)
    print(f"ours {mine:.2f} s, FrEIA {other:.2f} s per step; median ratio {ratio:.3f}")
