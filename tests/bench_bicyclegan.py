"""What a step of the released BicycleGAN costs: ``python tests/bench_bicyclegan.py``.

The networks for 128 pixels, one pair both ways and one more real image (1 + 1), CPU, one thread.
Seconds mean little on another machine, so a step of the paper's 24-block cINN at batch 256, which
takes as long as FrEIA's (``bench_cinn.py``), runs in turn as the yardstick.  Not a test.
"""

import dataclasses
import resource
import statistics
import time

import torch

from minilib import chapters

STEPS = 7


def bicyclegan_step():
    """One training step of BicycleGAN at 128 pixels on noise."""
    b = chapters.load("bicyclegan")
    config = dataclasses.replace(b.RELEASED, size=128, critic_layers=2)
    nets = b.networks(config)
    state = b.make_state(nets, config)
    x, y = torch.rand(2, 2, 3, 128, 128).sub(0.5).mul(2)
    want = b.objective_of("bicyclegan", config)
    step = b.make_step(nets, state.optimizers, lambda i: (x, y), want)
    return lambda: step(0)


def cinn_step():
    """One training step of the paper's cINN for MNIST on noise."""
    cinn = chapters.load("cinn")
    flow = cinn.networks(cinn.FULL)["cinn"]
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-6, fused=True)
    y, x = torch.rand(256, cinn.FULL.size**2), cinn.one_hot(torch.arange(256) % 10)

    def step():
        optimizer.zero_grad(set_to_none=True)
        cinn.negative_log_likelihood(*flow(y, x)).backward()
        optimizer.step()

    return step


def seconds(step) -> float:
    """Processor time of one step."""
    began = time.process_time()
    step()
    return time.process_time() - began


if __name__ == "__main__":
    torch.set_num_threads(1)
    ours = bicyclegan_step()
    seconds(ours)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB on Linux
    yardstick = cinn_step()
    seconds(yardstick)
    times = [(seconds(ours), seconds(yardstick)) for _ in range(STEPS)]
    mine, other = (statistics.median(t) for t in zip(*times, strict=True))
    ratio = statistics.median(m / o for m, o in times)
    print(f"BicycleGAN {mine:.2f} s, cINN {other:.2f} s of processor time per step, one thread")
    print(f"median ratio {ratio:.2f}; peak memory before the cINN was built: {peak:.0f} MB")
