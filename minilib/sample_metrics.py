"""Measures that compare two sets of pictures through their features: no input, no pairs.

Fréchet and kernel distance, precision and recall are torch-fidelity's; density and coverage are
ours, because no kept library has them.  The published numbers use features of an Inception network
whose weights must be downloaded; ``colour_features`` needs nothing, and the measures are the same.
Introduced in ``chapters/many_answers.md``.

Letters: features are (N, F), one row per picture.  ``fake`` are samples, ``real`` true answers.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric


def colour_features(images: Tensor, side: int = 8) -> Tensor:
    """Mean colours of a ``side`` x ``side`` grid of squares.

    Args:
        images: (N, C, H, W).
        side: squares in a row; H and W must be multiples of it.

    Returns:
        (N, C * side * side), in the images' range.

    Raises:
        ValueError: H or W is not a multiple of ``side``.
    """
    height, width = images.shape[-2:]
    if height % side or width % side:
        raise ValueError(f"images of {height}x{width} cannot be cut into {side}x{side} squares")
    return F.adaptive_avg_pool2d(images, side).flatten(1)


def frechet_distance(fake: Tensor, real: Tensor) -> float:
    """Squared Fréchet distance between normal distributions fitted to two sets; 0 is best.

    Source: Heusel et al. 2017 (FID), computed by torch-fidelity.

    Raises:
        ValueError: features that do not belong together.
    """
    _check(fake, real, least=2)
    fitted = [fid_features_to_statistics(f.double()) for f in (fake, real)]
    found = fid_statistics_to_metric(*fitted, verbose=False)["frechet_inception_distance"]
    return max(0.0, float(found))  # of equal sets, rounding leaves it just below


def kernel_distance(fake: Tensor, real: Tensor) -> float:
    """Squared maximum mean discrepancy with the kernel (a·b / F + 1)^3, unbiased; 0 is best.

    One estimate from as many rows of each set as the smaller one has (so it may be below 0).

    Source: Bińkowski et al. 2018 (KID), computed by torch-fidelity.

    Raises:
        ValueError: features that do not belong together.
    """
    _check(fake, real, least=2)
    size = min(len(fake), len(real))
    options = {"kid_subsets": 1, "kid_subset_size": size, "verbose": False}
    found = kid_features_to_metric(fake.double(), real.double(), **options)
    return float(found["kernel_inception_distance_mean"])


def precision_recall(fake: Tensor, real: Tensor, neighbours: int = 5) -> tuple[float, float]:
    """Share of samples in the neighbourhood of a real picture, and the reverse; 1 is best.

    A picture's neighbourhood is the ball that reaches to its ``neighbours``-th nearest in its own
    set.

    Source: Kynkäänniemi et al. 2019, computed by torch-fidelity.

    Raises:
        ValueError: features that do not belong together, or too few of them.
    """
    _check(fake, real, least=neighbours + 1)
    options = {"prc_neighborhood": neighbours, "verbose": False}
    found = prc_features_to_metric(fake, real, **options)
    return float(found["precision"]), float(found["recall"])


def density_coverage(fake: Tensor, real: Tensor, neighbours: int = 5) -> tuple[float, float]:
    """How many real neighbourhoods a sample lies in, and how many of them hold a sample.

    Only neighbourhoods of *real* pictures count, so that odd samples cannot inflate them.

    Returns:
        Density, about 1 for equal distributions and not bounded above; coverage, from 0 to 1.

    Source: Naeem et al. 2020, equations 3 and 4.

    Raises:
        ValueError: features that do not belong together, or too few of them.
    """
    _check(fake, real, least=neighbours + 1)
    radius = torch.cdist(real, real).kthvalue(neighbours + 1, dim=1).values  # (N,), itself is first
    distance = torch.cdist(real, fake)  # (N, M)
    density = (distance < radius[:, None]).sum(dim=0).float().mean() / neighbours
    coverage = (distance.min(dim=1).values < radius).float().mean()
    return float(density), float(coverage)


def _check(fake: Tensor, real: Tensor, least: int) -> None:
    if fake.ndim != 2 or real.ndim != 2 or fake.shape[1] != real.shape[1]:
        shapes = f"{tuple(fake.shape)} and {tuple(real.shape)}"
        raise ValueError(f"features want shapes (N, F) and (M, F), not {shapes}")
    if min(len(fake), len(real)) < least:
        few = min(len(fake), len(real))
        raise ValueError(f"{few} pictures are too few: at least {least} of each are needed")
