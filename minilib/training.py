"""The training loop: a pure function of (seed, step, rank), so it resumes to the bit.

A chapter writes ``step(i)``: one optimisation step that returns its loss terms by name.  ``fit``
calls it, and adds what every method needs: seeding, learning-rate schedules, moving averages,
checkpoints, history, a progress bar, and a stop at the first loss that is not a number.
"""

import functools
import math
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from minilib import processes
from minilib.checkpoints import Saver, State, TrainingError
from minilib.history import History
from minilib.micro_batches import Accumulation
from minilib.processes import World

__all__ = ["Fitted", "State", "TrainingError", "batch_indices", "fit", "step_seed"]


StepFunction = Callable[[int], Mapping[str, Tensor]]


@dataclass(slots=True)
class Fitted:
    """What ``fit`` returns: losses by name, snapshots, seconds in all and before a resume."""

    history: dict[str, list[float]]
    snapshots: list[tuple[int, dict[str, Any]]]
    seconds: float
    earlier: float
    steps: int


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """One 63-bit seed per (seed, step, rank), well mixed (splitmix64)."""
    x = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) % 2**64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
    return (x ^ (x >> 31)) >> 1


@lru_cache(maxsize=8)
def _permutation(n: int, epoch: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(step_seed(seed, epoch, rank=10_007))
    return torch.randperm(n, generator=generator)


def batch_indices(
    n: int, batch_size: int, step: int, seed: int, world: World | None = None
) -> Tensor:
    """The data indices of one batch: shuffled epochs without their last, incomplete batch.

    Args:
        n: size of the data set.
        batch_size: of all processes together; at most ``n``.
        step: optimiser step, from 0.
        seed: of the run.
        world: whose share; None = this process's, or in micro-batches that of the current part.

    Returns:
        (B,) int64, that share of the batch; a pure function of the arguments.

    Raises:
        TrainingError: the data set is smaller than one batch.
        ConfigError: the batch cannot be split evenly over the processes.
    """
    per_epoch = n // batch_size
    if per_epoch == 0:
        raise TrainingError(f"a batch of {batch_size} does not fit a data set of {n}")
    epoch, within = divmod(step, per_epoch)
    batch = _permutation(n, epoch, seed)[within * batch_size : (within + 1) * batch_size]
    return batch[(world or processes.sharer()).share(batch_size)].clone()


@contextmanager
def deferred_signals() -> Iterator[Callable[[], int | None]]:
    """Hold SIGINT and SIGTERM back until the step in flight is done.

    Yields:
        A function that returns the number of the signal that came, or None.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    old = {
        number: signal.signal(number, lambda n, _: came.append(n))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: came[0] if came else None
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _finite(terms: Mapping[str, Tensor | float], step: int) -> dict[str, float]:
    values = {name: torch.as_tensor(value).item() for name, value in terms.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise TrainingError(f"loss '{name}' is {value} at step {step}; training stopped")
    return values


def fit(
    step_fn: StepFunction,
    state: State,
    steps: int,
    *,
    folder: Path,
    seed: int,
    identity: str,
    resume: bool = False,
    description: str = "training",
    snapshot: Callable[[int], dict[str, Any]] | None = None,
    snapshot_every: int = 0,
    checkpoint_every: int = 0,
    checkpoint_seconds: float = 60.0,
    log_every: int = 1,
    micro_batches: int = 1,
    tensorboard: bool = False,
) -> Fitted:
    """Train for ``steps`` steps, or go on where a killed run stopped.

    Args:
        step_fn: does one optimisation step and returns its loss terms.  The global random state is
            set from (seed, step, rank) before each call: plain ``torch.randn`` is reproducible.
        state: everything that changes.
        steps: steps in all, those before a resume included.
        folder: for ``checkpoint.pt``, ``history.jsonl`` and ``snapshots/``.
        seed: of the run.
        identity: fingerprint of the configuration; a checkpoint of another one is refused.
        resume: go on from the folder's checkpoint, if there is one.
        description: what the progress bar says.
        snapshot: called before every step that is a multiple of ``snapshot_every`` (0 = before the
            first and after the last); the dict of tensors it returns is kept on disk and handed
            back in ``Fitted.snapshots``.
        checkpoint_every: steps between checkpoints; 0 = by the clock alone.
        checkpoint_seconds: a checkpoint is also written when the last is older than this.
        log_every: steps between entries of the history; losses are looked at (and, on a GPU,
            waited for) only then, and only then do several processes agree to save or to stop.
        micro_batches: parts in which a step does its batch, one after another, for a device too
            small for the whole; see ``minilib.micro_batches``.
        tensorboard: write the history to ``folder/tensorboard`` as well.

    Raises:
        TrainingError: a loss is not finite, a checkpoint does not fit, the disk is full.
        KeyboardInterrupt, SystemExit: a signal came; the step was finished and saved first.
    """
    world = processes.world()
    saver = Saver(folder / "checkpoint.pt", state, identity, checkpoint_every, checkpoint_seconds)
    start = saver.restore() if resume else 0
    keep = _Snapshots(state.networks, folder, snapshot, snapshot_every or steps, seed)
    keep.begin(start)
    processes.wait()  # all have read what was there
    history = History(folder / "history.jsonl", start, tensorboard, write=world.first)
    hidden = {} if world.first else {"disable": True}
    bar = tqdm(total=steps, initial=start, desc=description, mininterval=1.0, **hidden)
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    for network in state.networks.values():
        network.train()
    random_state, together = torch.random.fork_rng(devices), _together(state, start)
    parts = Accumulation(state.optimizers.values(), micro_batches)
    with deferred_signals() as stopped, random_state, closing(history), bar, together, parts:
        for step in range(start, steps):
            keep(step)
            terms = _one_step(step_fn, parts, state, step, seed)
            last = step == steps - 1
            logged = step % log_every == 0 or last
            save, number = _asked(saver.due(step + 1), stopped() or 0, logged)
            save = save or last or number > 0
            values = _finite(processes.average_terms(terms), step) if logged or save else {}
            if logged:
                history.add(step, values)
                bar.set_postfix({k: f"{v:.3f}" for k, v in values.items()}, refresh=False)
            bar.update()
            if save:
                saver.save(step + 1)
            if number:
                raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        keep(steps)
    processes.wait()  # the first has written
    seconds = saver.seconds()
    return Fitted(history.columns(), load_snapshots(folder), seconds, saver.spent, steps)


def _asked(due: bool, number: int, logged: bool) -> tuple[bool, int]:
    """Whether to save, and the signal to stop for (0 = none): what one process wants, all do."""
    if processes.world().size == 1:
        return due, number
    save, signal_number = processes.largest([due, number]) if logged else (0, 0)
    return bool(save), signal_number


@contextmanager
def _together(state: State, start: int) -> Iterator[None]:
    """Meanwhile each optimiser averages its gradients over the processes.

    Networks begin and end equal everywhere, statistics of normalisation layers included.
    """
    networks = [*state.networks.values(), *state.averages.values()]
    hooks = []
    if processes.world().size > 1:
        average = processes.average_gradients
        hooks = [o.register_step_pre_hook(average) for o in state.optimizers.values()]
    if start == 0:
        processes.broadcast(networks)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    processes.broadcast(networks)  # not after an error: others may not come


def _one_step(
    step_fn: StepFunction, parts: Accumulation, state: State, step: int, seed: int
) -> Mapping[str, Tensor]:
    def seeded(i: int) -> Mapping[str, Tensor]:
        torch.manual_seed(step_seed(seed, i, processes.sharer().rank))
        return step_fn(i)

    state.schedule(step)
    terms = parts(seeded, step)
    for name, average in state.averages.items():
        average.update_parameters(state.networks[name])
    return terms


@dataclass(slots=True)
class _Snapshots:
    """Calls a snapshot function when it is due, with a random state of its own."""

    networks: dict[str, nn.Module]
    folder: Path
    function: Callable[[int], dict[str, Any]] | None
    every: int
    seed: int

    def begin(self, start: int) -> None:
        """Forget the snapshots of an earlier run."""
        if start == 0 and processes.world().first:
            shutil.rmtree(self.folder / "snapshots", ignore_errors=True)

    def __call__(self, step: int) -> None:
        if self.function is None or step % max(1, self.every) or not processes.world().first:
            return
        torch.manual_seed(step_seed(self.seed, step))
        modules = [m for network in self.networks.values() for m in network.modules()]
        modes = [module.training for module in modules]
        _save_snapshot(self.folder, step, self.function(step))
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode  # a snapshot may call eval(); training goes on as before


def _save_snapshot(folder: Path, step: int, values: dict[str, Any]) -> None:
    target = folder / "snapshots" / f"{step:08d}.pt"
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".tmp")
    torch.save(values, temporary)
    os.replace(temporary, target)


def load_snapshots(folder: Path) -> list[tuple[int, dict[str, Any]]]:
    """``(step, values)`` of every snapshot in a training folder, in order."""
    files = sorted((folder / "snapshots").glob("*.pt"))
    load = functools.partial(torch.load, map_location="cpu", weights_only=True)
    return [(int(file.stem), load(file)) for file in files]


def linear_decay(constant: int, decay: int) -> Callable[[int], float]:
    """Factor 1 for ``constant`` steps, then a line that would reach 0 one step after the end."""
    return lambda step: 1.0 - max(0, step + 1 - constant) / (decay + 1)


def exponential_decay(final: float, steps: int) -> Callable[[int], float]:
    """Factor that falls exponentially from 1 at step 0 to ``final`` at ``steps``."""
    return lambda step: final ** (step / max(1, steps))


def cosine_decay(steps: int, warmup: int = 0) -> Callable[[int], float]:
    """Linear warm-up over ``warmup`` steps, then half a cosine down to 0 at ``steps``."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return factor
