"""Tinytown's styles: what may vary in a picture once its layout is fixed.

A style is a time of day and a season (together one of nine *modes*, which can be counted), a
colour mode for the isoluminant palette, and five continuous numbers that no count depends on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from minilib.config import ConfigError

TIMES = ("day", "dusk", "night")
SEASONS = ("summer", "autumn", "winter")
MODE_NAMES = tuple(f"{season} {time}" for time in TIMES for season in SEASONS)  # 3*time + season

ROOF_HUES = ("red", "teal", "violet")
FIELD_HUES = ("green", "gold", "heather")
COLOUR_MODES = tuple(f"{r} roofs, {f} fields" for r in ROOF_HUES for f in FIELD_HUES)

NUISANCES = ("roof_hue", "wall_hue", "car_hue", "cloud", "sun")


@dataclass(frozen=True, slots=True)
class Styles:
    """One style for each of N pictures; every field has shape (N,).

    Args:
        time: int64, index into ``TIMES``.
        season: int64, index into ``SEASONS``.
        colour: int64, index into ``COLOUR_MODES``; only the isoluminant palette looks at it.
        roof_hue: float32 in [0, 1], brick red to slate blue.
        wall_hue: float32 in [0, 1], cream to rose.
        car_hue: float32 in [0, 1], red to blue.
        cloud: float32 in [0, 1], how strongly the clouds show.
        sun: float32 in [0, 1], where sun, moon and clouds stand, left to right.
    """

    time: Tensor
    season: Tensor
    colour: Tensor
    roof_hue: Tensor
    wall_hue: Tensor
    car_hue: Tensor
    cloud: Tensor
    sun: Tensor

    @property
    def mode(self) -> Tensor:
        """(N,) int64, ``3 * time + season``: an index into ``MODE_NAMES``."""
        return 3 * self.time + self.season

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, index: Tensor | slice | Sequence[int]) -> "Styles":
        """The styles at some positions; ``index`` keeps one dimension (a slice, list or tensor)."""
        return Styles(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def with_mode(self, mode: Tensor | int) -> "Styles":
        """The same styles at another time and season: ``mode`` is (N,) int64 or one integer."""
        chosen = _checked(mode, len(MODE_NAMES), "mode").expand(len(self))
        return replace(self, time=chosen // 3, season=chosen % 3)

    def with_colour(self, colour: Tensor | int) -> "Styles":
        """The same styles in another colour mode: ``colour`` is (N,) int64 or one integer."""
        chosen = _checked(colour, len(COLOUR_MODES), "colour mode").expand(len(self))
        return replace(self, colour=chosen)


def styles(
    n: int, seed: int, shares: Sequence[float] | Tensor | None = None, hue: bool = True
) -> Styles:
    """Draw ``n`` styles; style ``i`` depends on ``(seed, i)`` and the arguments only.

    Args:
        n: number of styles.
        seed: any non-negative integer; independent of the layouts drawn with the same seed.
        shares: (9,) probabilities of the modes, any positive scale; uniform when None.
        hue: draw the continuous numbers too; otherwise all are 0.5, and nine styles are all there
            is.

    Returns:
        Styles of length ``n``; the colour mode is uniform.

    Raises:
        ConfigError: ``shares`` is not nine non-negative numbers with a positive sum.
    """
    if n < 0 or seed < 0:
        raise ConfigError(f"Tinytown wants n >= 0 and seed >= 0, not n={n}, seed={seed}")
    numbers = np.random.default_rng([seed, 1]).random((n, 2 + len(NUISANCES)))
    weights = np.asarray(np.ones(9) if shares is None else shares, dtype=np.float64)
    if weights.shape != (9,) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise ConfigError("shares wants nine non-negative numbers, one a mode, not all zero")
    bounds = np.cumsum(weights) / weights.sum()
    mode = torch.from_numpy(np.searchsorted(bounds[:-1], numbers[:, 0], side="right"))
    colour = torch.from_numpy((numbers[:, 1] * len(COLOUR_MODES)).astype(np.int64))
    free = numbers[:, 2:] if hue else np.full_like(numbers[:, 2:], 0.5)
    nuisances = torch.from_numpy(free).float().unbind(1)
    return Styles(mode // 3, mode % 3, colour, **dict(zip(NUISANCES, nuisances, strict=True)))


def style_of_mode(mode: Tensor | int) -> Styles:
    """Styles at given modes, all else in the middle of its range.

    Args:
        mode: (N,) int64, or one integer (then N = 1).

    Raises:
        ConfigError: a mode outside 0..8.
    """
    mode = _checked(mode, len(MODE_NAMES), "mode").reshape(-1)
    middle = [torch.full((len(mode),), 0.5) for _ in NUISANCES]
    return Styles(mode // 3, mode % 3, torch.zeros_like(mode), *middle)


def style_of_colour(colour: Tensor | int) -> Styles:
    """Summer days in given colour modes, all else in the middle of its range.

    Args:
        colour: (N,) int64, or one integer (then N = 1).

    Raises:
        ConfigError: a colour mode outside 0..8.
    """
    colour = _checked(colour, len(COLOUR_MODES), "colour mode").reshape(-1)
    return replace(style_of_mode(torch.zeros_like(colour)), colour=colour)


def _checked(index: Tensor | int, count: int, what: str) -> Tensor:
    index = torch.as_tensor(index, dtype=torch.int64)
    if ((index < 0) | (index >= count)).any():
        raise ConfigError(f"a {what} is 0 to {count - 1}, not {index.min()} to {index.max()}")
    return index
