"""Measures of many answers that no library has: coverage, spread, best of K.

Letters: N inputs, K samples for each, D numbers per sample.  For PSNR, SSIM, LPIPS, FID and
confusion matrices the book uses torchmetrics, lpips and torch-fidelity.
"""

import torch
from torch import Tensor


def modes_covered(mode: Tensor, modes: int) -> float:
    """How many of the known modes the samples of one input reach, averaged over inputs.

    Args:
        mode: (N, K) int64, the mode each sample belongs to; -1 = none.
        modes: number of modes there are.

    Returns:
        A number from 0 to ``modes``.
    """
    return float(_counts(mode, modes).gt(0).sum(dim=1).float().mean())


def mode_total_variation(mode: Tensor, shares: Tensor) -> float:
    """Total variation between the samples' distribution over modes and the known one.

    Samples of all inputs are pooled; those that belong to no mode form one more mode, whose known
    share is 0.

    Args:
        mode: (N, K) int64; -1 = none.
        shares: (M,) known shares, summing to 1.

    Returns:
        A number from 0 (same distribution) to 1 (no overlap).
    """
    counts = _counts(mode, len(shares)).sum(dim=0).double() / mode.numel()  # (M,)
    none = (mode < 0).double().mean()
    return float(0.5 * ((counts - shares.double()).abs().sum() + none))


def _counts(mode: Tensor, modes: int) -> Tensor:
    if mode.ndim != 2:
        raise ValueError(f"mode wants shape (N, K), not {tuple(mode.shape)}")
    if mode.numel() and int(mode.max()) >= modes:
        raise ValueError(f"mode {int(mode.max())} does not exist: there are {modes}")
    return torch.stack([(mode == m).sum(dim=1) for m in range(modes)], dim=1)  # (N, M)


def mean_pairwise_distance(samples: Tensor) -> float:
    """Mean Euclidean distance between two different samples of one input, averaged over inputs.

    Args:
        samples: (N, K, ...), K >= 2.
    """
    flat = samples.flatten(2)  # (N, K, D)
    k = flat.shape[1]
    return float(torch.cdist(flat, flat).sum(dim=(1, 2)).div(k * (k - 1)).mean())


def best_of_k_mse(samples: Tensor, truth: Tensor) -> float:
    """Mean squared error of the best whole sample for each input, averaged over inputs.

    Args:
        samples: (N, K, ...).
        truth: (N, ...).
    """
    error = (samples - truth.unsqueeze(1)).flatten(2).square().mean(dim=2)  # (N, K)
    return float(error.min(dim=1).values.mean())


def wilson_interval(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a share (95% for the default ``z``)."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return centre - half, centre + half
