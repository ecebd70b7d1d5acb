"""What every explorer asks of its arguments, refused in one line when it does not hold."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from minilib.config import ConfigError, nearest


def latent(who: str, name: str, z: Tensor, width: int | None = None) -> Tensor:
    """``z`` (Z,) as float32 on the CPU.

    Raises:
        ConfigError: not a vector, or not ``width`` wide.
    """
    z = torch.as_tensor(z).detach().float().cpu()
    if z.ndim != 1:
        raise ConfigError(f"{who}: {name} must be one latent (Z,), got {tuple(z.shape)}")
    if width is not None and len(z) != width:
        raise ConfigError(f"{who}: {name} has width {len(z)}, it must be {width}")
    return z


def directions(who: str, given: Tensor | None, width: int, most: int) -> Tensor:
    """Directions (D, Z), D >= 2; without any, the first ``most`` coordinate axes.

    Raises:
        ConfigError: wrong shape, or directions that depend on each other.
    """
    if given is None:
        given = torch.eye(width)[:most]
    given = torch.as_tensor(given).detach().float().cpu()
    if given.ndim != 2 or given.shape[1] != width:
        raise ConfigError(f"{who}: directions must be (D, {width}), got {tuple(given.shape)}")
    if len(given) < 2:
        raise ConfigError(f"{who}: the pad needs two directions, got {len(given)}")
    if torch.linalg.matrix_rank(given) < len(given):
        raise ConfigError(f"{who}: the {len(given)} directions depend on each other")
    return given


def conditions(who: str, given: Mapping[str, Tensor] | None) -> tuple[list[str], Tensor | None]:
    """Names, and the conditions stacked (N, ...): float32, or int64 for labels.

    Raises:
        ConfigError: none at all, or shapes that differ.
    """
    if given is None:
        return [""], None
    if not given:
        raise ConfigError(f"{who}: conditions is empty; give {{name: tensor}}, or None for none")
    tensors = [torch.as_tensor(c).detach().cpu() for c in given.values()]
    if len({t.shape for t in tensors}) > 1:
        shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
        raise ConfigError(f"{who}: conditions must share one shape, got {shapes}")
    whole = not tensors[0].is_floating_point()
    return list(map(str, given)), torch.stack(tensors).to(torch.int64 if whole else torch.float32)


def one_of(who: str, value: str, allowed: Sequence[str], what: str) -> str:
    """``value`` if it is allowed.

    Raises:
        ConfigError: it is not.
    """
    if value not in allowed:
        raise ConfigError(f"{who}: {nearest(value, allowed, what)}")
    return value


def spans(
    who: str, given: tuple[float, float] | Tensor | Sequence[Sequence[float]], start: Tensor
) -> list[list[float]]:
    """[[low, high], ...] per direction, from one pair or (D, 2), widened to hold ``start`` (D,).

    Raises:
        ConfigError: wrong shape, or low not below high.
    """
    pairs = torch.as_tensor(given, dtype=torch.float32)
    if pairs.shape not in ((2,), (len(start), 2)):
        allowed = f"(low, high) or ({len(start)}, 2)"
        raise ConfigError(f"{who}: spans must be {allowed}, got {tuple(pairs.shape)}")
    pairs = pairs.expand(len(start), 2)
    if not bool((pairs[:, 0] < pairs[:, 1]).all()):
        raise ConfigError(f"{who}: every span must be (low, high) with low < high")
    low, high = torch.minimum(pairs[:, 0], start), torch.maximum(pairs[:, 1], start)
    return torch.stack([low, high], 1).tolist()
