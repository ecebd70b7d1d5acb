"""Matching samples with real points: who is nearest to whom, and what was drawn for whom.

Introduced in ``chapters/mode_collapse.md`` (nearest, pick) and ``chapters/conditional_imle.md``
(latents that are stored as seeds).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

EXACT = "donot_use_mm_for_euclid_dist"  # the faster mode rounds, and near ties flip


def nearest(points: Tensor, others: Tensor, p: float = 2.0) -> Tensor:
    """For each of ``points`` (..., N, D), the index of the nearest of ``others`` (..., M, D).

    Returns (..., N) int64; of equally near ones the first.  Indices have no gradient: what is
    matched is decided, then pulled.  ``p`` is the norm's: 2 for Euclidean distance, 1 for sums of
    absolute differences.
    """
    return torch.cdist(points.detach(), others.detach(), p=p, compute_mode=EXACT).argmin(dim=-1)


def pick(points: Tensor, index: Tensor) -> Tensor:
    """Points (..., M, D) at indices (..., N), as (..., N, D)."""
    return points.take_along_dim(index.unsqueeze(-1), dim=-2)


def latents(seeds: Tensor, shape: Sequence[int]) -> Tensor:
    """The standard normal latent of each seed, drawn on the CPU: the same on every device.

    Args:
        seeds: (N,) int64, non-negative.
        shape: of one latent, such as (Z,) or (Z, H, W).

    Returns:
        (N, *shape) float32; row i depends on ``seeds[i]`` and the shape only.
    """
    generator = torch.Generator()
    rows = [torch.randn(*shape, generator=generator.manual_seed(s)) for s in seeds.tolist()]
    return torch.stack(rows) if rows else torch.empty(0, *shape)


def draw_seeds(*shape: int) -> Tensor:
    """Fresh seeds (int64) from PyTorch's global random state."""
    return torch.randint(2**62, shape)
