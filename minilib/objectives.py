"""What chapters with several objectives share: a variant by its name, one descent on its loss."""

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor
from torch.optim import Optimizer

from minilib.config import ConfigError, nearest

T = TypeVar("T")


def variant(known: Mapping[str, T], name: str) -> T:
    """One of several variants.

    Raises:
        ConfigError: there is no such variant.
    """
    if name not in known:
        raise ConfigError(nearest(name, known, "variant"))
    return known[name]


def descend_on(loss: Tensor, *optimizers: Optimizer) -> None:
    """One step of these optimisers down the gradient of a loss; others keep theirs."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
