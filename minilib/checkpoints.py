"""What changes during training, and checkpoints of it that survive a crash at any moment."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from minilib import processes

FORMAT = 1  # of the checkpoint file


class TrainingError(RuntimeError):
    """Training cannot go on; the message is one line."""


def ema_update(decay: float) -> Callable[[Any, Any, Any], None]:
    """Move floating-point tensors towards the current ones; copy integers, as they are indices.

    (PyTorch's own update averages integer buffers too, and rounds.)
    """

    @torch.no_grad()
    def update(averages: Any, current: Any, _: Any) -> None:
        for average, now in zip(averages, current, strict=True):
            if average.is_floating_point():
                average.lerp_(now, 1 - decay)
            else:
                average.copy_(now)

    return update


class Stateful(Protocol):
    """Anything with a state dict: an image pool, a queue of negatives."""

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Go on from there."""


@dataclass(slots=True)
class State:
    """All that changes during training, by name.

    Args:
        networks: the networks that are trained (or whose buffers change).
        optimizers: their optimisers.
        schedules: {optimiser: f(step) -> factor on its base learning rate}.
        ema: {network: decay} of exponential moving averages; ``averages`` holds the networks.
        extras: anything else with a state dict.
    """

    networks: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]
    schedules: dict[str, Callable[[int], float]] = field(default_factory=dict)
    ema: dict[str, float] = field(default_factory=dict)
    extras: dict[str, Stateful] = field(default_factory=dict)
    averages: dict[str, AveragedModel] = field(init=False)

    def __post_init__(self) -> None:
        for what, names, known in (
            ("schedule", self.schedules, self.optimizers),
            ("moving average", self.ema, self.networks),
        ):
            for name in names:
                if name not in known:
                    raise TrainingError(f"a {what} names '{name}'; there are: {', '.join(known)}")
        self.averages = {
            name: AveragedModel(
                self.networks[name], multi_avg_fn=ema_update(decay), use_buffers=True
            )
            for name, decay in self.ema.items()
        }
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])

    def parts(self) -> Iterator[tuple[str, Any]]:
        """``(name, object)`` of everything that has a state dict."""
        for kind in ("networks", "optimizers", "averages", "extras"):
            for name, part in getattr(self, kind).items():
                yield f"{kind}.{name}", part

    def schedule(self, step: int) -> None:
        """Set every scheduled learning rate for ``step``."""
        for name, factor in self.schedules.items():
            for group in self.optimizers[name].param_groups:
                group["lr"] = group["initial_lr"] * factor(step)


def save_checkpoint(path: Path, state: State, step: int, identity: str, seconds: float) -> None:
    """Write a checkpoint so that a crash at any moment leaves the old one or the new one."""
    payload = {
        "format": FORMAT,
        "identity": identity,
        "step": step,
        "seconds": seconds,
        "state": {name: part.state_dict() for name, part in state.parts()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save(payload, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise TrainingError(f"cannot save {path}: {error.strerror}; the last one is kept") from None
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path, state: State, identity: str) -> tuple[int, float]:
    """Restore ``state`` from a checkpoint of the same run.

    Returns:
        The number of steps done, and the seconds they took.

    Raises:
        TrainingError: unreadable file, or a checkpoint of another configuration.
    """
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
        saved, parts = payload["identity"], payload["state"]
    except Exception as error:
        reason = str(error).splitlines()[0][:120]
        raise TrainingError(f"{path} is not a readable checkpoint ({reason})") from None
    if payload["format"] != FORMAT:
        raise TrainingError(f"{path} has checkpoint format {payload['format']}, not {FORMAT}")
    if saved != identity:
        raise TrainingError(
            f"{path} belongs to another configuration ({saved}, this run is {identity}): "
            "use its preset, seed and overrides, or another --out"
        )
    expected = {name for name, _ in state.parts()}
    if expected != set(parts):
        odd = ", ".join(sorted(expected ^ set(parts)))
        raise TrainingError(f"{path} and this run differ in: {odd}; use another --out")
    for name, part in state.parts():
        try:
            part.load_state_dict(parts[name])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:160]
            raise TrainingError(f"{path} does not fit '{name}' ({reason})") from None
    return payload["step"], payload["seconds"]


class Saver:
    """Writes checkpoints of one training when they are due, and adds up its seconds.

    Of several processes each keeps what is its own (an image pool, statistics of normalisation):
    the others write ``checkpoint-RANK-STEP.pt`` before the first writes ``checkpoint.pt``, whose
    step tells which of them belong to it.
    """

    def __init__(self, path: Path, state: State, identity: str, every: int, seconds: float) -> None:
        """Save ``every`` so many steps (0 = never) and when the last is ``seconds`` old."""
        self.path, self.state, self.identity = path, state, identity
        self.every, self.patience = every, seconds
        self.spent, self.began = 0.0, time.perf_counter()
        self.last = self.began
        self.world = processes.world()
        if self.world.size > 1:
            self.identity += f"-{self.world.size} processes"

    def own(self, steps: int) -> Path:
        """The file of this process, if it is not the first."""
        return self.path.with_name(f"{self.path.stem}-{self.world.rank}-{steps}.pt")

    def restore(self) -> int:
        """Steps done by the run that is resumed; 0 if it had saved nothing."""
        if not self.path.exists():
            return 0
        steps, self.spent = load_checkpoint(self.path, self.state, self.identity)
        if not self.world.first:
            load_checkpoint(self.own(steps), self.state, self.identity)
        return steps

    def seconds(self) -> float:
        """Time spent in this training, earlier sittings included."""
        return self.spent + time.perf_counter() - self.began

    def due(self, steps: int) -> bool:
        """Whether to save after so many steps."""
        by_count = self.every > 0 and steps % self.every == 0
        return by_count or time.perf_counter() - self.last >= self.patience

    def save(self, steps: int) -> None:
        """Write the checkpoint."""
        seconds = self.seconds()
        if not self.world.first:
            save_checkpoint(self.own(steps), self.state, steps, self.identity, seconds)
        processes.wait()
        if self.world.first:
            save_checkpoint(self.path, self.state, steps, self.identity, seconds)
        processes.wait()
        if not self.world.first:
            for old in self.path.parent.glob(f"{self.path.stem}-{self.world.rank}-*.pt"):
                if old != self.own(steps):
                    old.unlink()
        self.last = time.perf_counter()
