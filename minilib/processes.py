"""Several processes, one run: each trains on its share of every batch, and gradients are averaged.

Every process executes the whole chapter: ``python -m minilib run NAME --processes 8`` or torchrun
starts them, and Hugging Face Accelerate joins them.  Inside ``training.fit`` the gradients are
averaged just before each optimiser step, which gives what one process would get from the whole
batch (where a loss is a mean over the batch), and leaves the chapters' own steps as they are.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from minilib.config import ConfigError

BUCKET = 2**25  # numbers averaged at once


@dataclass(frozen=True, slots=True)
class World:
    """This process among those of a run.

    Args:
        rank: its number, from 0; process 0 alone writes.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes what all share."""
        return self.rank == 0

    def share(self, batch_size: int) -> slice:
        """The part of a batch of ``batch_size`` that is this process's.

        Raises:
            ConfigError: the batch cannot be split evenly.
        """
        if batch_size % self.size:
            raise ConfigError(
                f"a batch of {batch_size} cannot be split over {self.size} processes "
                f"(or micro-batches): use a number that divides it"
            )
        part = batch_size // self.size
        return slice(self.rank * part, (self.rank + 1) * part)


def world() -> World:
    """This process among those of its run, as torchrun's environment variables tell it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    return World(int(os.environ.get("RANK", "0")), size) if size > 1 else World()


_part: ContextVar[World] = ContextVar("part")


@contextmanager
def in_part(part: int, parts: int) -> Iterator[None]:
    """Meanwhile this process works on one of several parts of its share of the batch."""
    token = _part.set(World(part, parts))
    try:
        yield
    finally:
        _part.reset(token)


def sharer() -> World:
    """Whose share of a batch is worked on: this process's, or its current part's among all."""
    process, part = world(), _part.get(World())
    return World(process.rank * part.size + part.rank, process.size * part.size)


def join(device: torch.device) -> torch.device:
    """Meet the other processes, if there are any.

    Args:
        device: what the run was asked to use.

    Returns:
        The device of this process: with several GPUs, its own.

    Raises:
        ConfigError: fewer GPUs than processes on this machine.
    """
    if world().size == 1:
        return device
    from accelerate import PartialState  # slow to import, seldom needed

    gpus, local = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device.type == "cuda" and gpus < local:
        raise ConfigError(f"{local} processes, but {gpus} GPUs: start at most {max(1, gpus)}")
    state = PartialState(cpu=device.type != "cuda")
    return state.device if device.type == "cuda" else device


def _reduce(values: Tensor, operation: Any) -> Tensor:
    where = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    moved = values.to(where)
    torch.distributed.all_reduce(moved, op=operation)
    return moved.to(values.device)


def wait() -> None:
    """Wait until all processes are here."""
    if world().size > 1:
        torch.distributed.barrier()


def largest(values: Sequence[int]) -> list[int]:
    """The largest over all processes of each number: what one of them asks for, all do."""
    if world().size == 1:
        return list(values)
    maximum = torch.distributed.ReduceOp.MAX
    return [int(v) for v in _reduce(torch.tensor(list(values), dtype=torch.int64), maximum)]


def average_terms(terms: Mapping[str, Tensor | float]) -> dict[str, Tensor]:
    """Loss terms averaged over the processes; every process must bring the same names."""
    values = {name: torch.as_tensor(value).detach() for name, value in terms.items()}
    if world().size == 1 or not values:
        return values
    total = _reduce(
        torch.stack([value.double().cpu() for value in values.values()]),
        torch.distributed.ReduceOp.SUM,
    )
    return dict(zip(values, total / world().size, strict=True))


def average_gradients(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Replace the gradients of an optimiser's parameters by their mean over the processes.

    It has the form of a hook for ``Optimizer.register_step_pre_hook``.
    """
    if world().size == 1:
        return
    gradients = [
        parameter.grad
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]
    for bucket in _buckets(gradients):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        torch.distributed.all_reduce(flat)
        flat /= world().size
        for gradient, mean in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def _buckets(tensors: Sequence[Tensor]) -> Iterable[list[Tensor]]:
    """Consecutive tensors of one type, together at most ``BUCKET`` numbers (or one tensor)."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        size = sum(t.numel() for t in bucket) + tensor.numel()
        if bucket and (size > BUCKET or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


@torch.no_grad()
def broadcast(networks: Iterable[nn.Module]) -> None:
    """Give every process the parameters and buffers of process 0."""
    if world().size == 1:
        return
    for network in networks:
        for tensor in (*network.parameters(), *network.buffers()):
            torch.distributed.broadcast(tensor, src=0)
