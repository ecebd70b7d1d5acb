"""How a run uses its hardware: number format, memory layout, compilation, micro-batches.

A chapter's ``Config`` inherits from ``Speed``, and ``run.train`` does the rest; the method as it
is printed stays the same.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from minilib.config import ConfigError, option

Step = Callable[[int], Mapping[str, Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Settings of the hardware, not of the method; the last rows of every chapter's table."""

    precision: str = option(
        "float32", "of the networks' products", "ours", choices=("float32", "bfloat16"), last=True
    )
    channels_last: bool = option(False, "a pixel's channels adjacent", "ours", last=True)
    compiled: bool = option(False, "networks through torch.compile", "ours", last=True)
    micro_batches: int = option(1, "parts in which a batch is done", "ours", low=1, last=True)


def refuse(config: Any, device: torch.device) -> None:
    """Refuse settings that do not work together.

    Raises:
        ConfigError: bfloat16 and channels_last on a CPU, where PyTorch's (2.15) weight gradients of
            dilated convolutions are not numbers.
    """
    both = getattr(config, "channels_last", False) and config.precision == "bfloat16"
    if both and device.type == "cpu":
        raise ConfigError(
            "precision 'bfloat16' and channels_last together give gradients that are not numbers "
            "on a CPU: use one of them, or a GPU"
        )


def prepare(config: Any, networks: Iterable[nn.Module]) -> None:
    """Lay out and compile networks in place, as ``config`` says (if it is a ``Speed`` at all).

    Parameters, names and state dicts stay the same, so checkpoints do not notice.
    """
    if not isinstance(config, Speed):
        return
    for network in networks:
        if config.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.compiled:
            network.compile()


def in_precision(config: Any, step: Step, device: torch.device) -> Step:
    """A step whose matrix products and convolutions run in bfloat16, if ``config`` says so.

    Weights, optimisers, losses and normalisations stay in float32 (PyTorch's autocast decides).
    """
    if not isinstance(config, Speed) or config.precision == "float32":
        return step

    def cast(i: int) -> Mapping[str, Tensor]:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            return step(i)

    return cast
