"""What tests/test_processes.py runs in several processes: a small training with random parts.

Usage: process_job.py FOLDER [--stop-at STEP] [--resume] [--batch-norm] [--bad-batch]
       [--summed plain|rescaled]
"""

import argparse
import os
import signal
from pathlib import Path

import torch
from torch import nn

from minilib import processes, training


class Pool:
    """Something that differs from process to process: the last batch that it saw."""

    def __init__(self) -> None:
        self.seen = torch.zeros(4, 3)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.seen = state["seen"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stop-at", type=int, default=-1)
    for flag in ("--resume", "--batch-norm", "--bad-batch"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--summed", choices=("plain", "rescaled"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    processes.join(torch.device("cpu"))
    world = processes.world()

    data = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(world.rank)  # begin apart: process 0 decides
    norm = [nn.BatchNorm1d(16)] if args.batch_norm else []
    network = nn.Sequential(nn.Linear(3, 16), *norm, nn.Tanh(), nn.Linear(16, 3))
    descent = torch.optim.Adam(network.parameters(), lr=1e-2)
    if args.summed:  # Adam would not notice a gradient that is twice as long
        descent = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    pool = Pool()
    state = training.State(
        {"network": network}, {"network": descent}, ema={"network": 0.9}, extras={"pool": pool}
    )
    batch = 7 if args.bad_batch else 8

    def step(i: int) -> dict[str, torch.Tensor]:
        if i == args.stop_at and world.rank == world.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)  # one process hears it; all must stop
        x = data[training.batch_indices(len(data), batch, i, seed=3)]
        noise = 0.1 * pool.seen[: len(x)].mean() if args.batch_norm else 0.0
        squares = (network(x) - x.flip(1) + noise) ** 2
        parts = world.size if args.summed == "rescaled" else 1  # gradients are averaged, not summed
        loss = parts * squares.sum() if args.summed else squares.mean()
        descent.zero_grad()
        loss.backward()
        descent.step()
        pool.seen = x
        return {"loss": loss.detach()}

    folder = args.folder / "training"
    fitted = training.fit(
        step, state, 20, folder=folder, seed=3, identity="job", resume=args.resume
    )
    assert fitted.history["step"] == list(range(20))
    found = {
        "weights": network.state_dict(),
        "average": state.averages["network"].module.state_dict(),
        "loss": torch.tensor(fitted.history["loss"]),
    }
    torch.save(found, args.folder / f"found-{world.rank}.pt")


if __name__ == "__main__":
    main()
