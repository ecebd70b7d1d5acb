"""Tinytown's layouts: label maps of procedural street scenes, and three ways to show them.

Geometry lives in the unit square (u to the right, v downwards), so one seed gives the same scene
at every size.  Objects are painted from far to near; every shape is a comparison between something
that depends on the column and something that depends on the row, which broadcasting makes fast.
"""

import numpy as np
import torch
from torch import Tensor

from minilib.config import ConfigError

LABELS = (
    "sky",
    "mountain",
    "field",
    "water",
    "road",
    "tree",
    "house",
    "roof",
    "window",
    "car",
)
SKY, MOUNTAIN, FIELD, WATER, ROAD, TREE, HOUSE, ROOF, WINDOW, CAR = range(len(LABELS))

# One colour a label, in [0, 1], for drawing label maps: Okabe and Ito's eight, tinted so that
# neighbours in a scene differ in lightness too.
LABEL_COLOURS = torch.tensor(
    [
        [0.72, 0.87, 0.97],  # sky: pale blue
        [0.60, 0.55, 0.72],  # mountain: grey violet
        [0.94, 0.89, 0.26],  # field: yellow
        [0.00, 0.45, 0.70],  # water: blue
        [0.35, 0.35, 0.38],  # road: dark grey
        [0.00, 0.62, 0.45],  # tree: green
        [0.97, 0.93, 0.86],  # house: off-white
        [0.84, 0.37, 0.00],  # roof: vermilion
        [0.15, 0.12, 0.25],  # window: near black
        [0.80, 0.47, 0.65],  # car: pink
    ]
)

_CHUNK = 128  # scenes drawn at a time: small enough to stay in the cache
_NUMBERS = 224  # uniform numbers set aside for one scene
_FAR_AWAY = 9.0  # where a scene puts what it does not have: outside the picture
_LAYERS = (0.16, 0.45, 0.84)  # depths of houses, trees and cars: 0 at the horizon, 1 at our feet


def layouts(n: int, seed: int, size: int = 64) -> Tensor:
    """Draw ``n`` street scenes as label maps.

    Scene ``i`` depends on ``(seed, i)`` only, so the first scenes are the same whatever ``n``.

    Args:
        n: number of scenes.
        seed: any non-negative integer.
        size: height and width in pixels, a multiple of 16.

    Returns:
        (n, size, size) int64, indices into ``LABELS``.

    Raises:
        ConfigError: ``size`` is not a positive multiple of 16, or ``n`` or ``seed`` is negative.
    """
    if size <= 0 or size % 16:
        raise ConfigError(f"Tinytown wants a size that is a multiple of 16, not {size}")
    if n < 0 or seed < 0:
        raise ConfigError(f"Tinytown wants n >= 0 and seed >= 0, not n={n}, seed={seed}")
    numbers = np.random.default_rng([seed, 0]).random((n, _NUMBERS))
    out = torch.empty(n, size, size, dtype=torch.int64)
    for start in range(0, n, _CHUNK):
        chunk = torch.from_numpy(numbers[start : start + _CHUNK])
        out[start : start + _CHUNK] = _draw(_Dice(chunk), size)
    return out


class _Dice:
    """Hands out one column of prepared uniform numbers after another, one number a scene."""

    def __init__(self, numbers: Tensor) -> None:
        self.numbers, self.used = numbers, 0

    def between(self, low: float, high: float) -> Tensor:
        """(n, 1, 1) float32 in [low, high)."""
        self.used += 1
        column = self.numbers[:, self.used - 1]
        return (low + (high - low) * column).float()[:, None, None]

    def happens(self, probability: float) -> Tensor:
        """(n, 1, 1) bool, true with the given probability."""
        return self.between(0.0, 1.0) < probability

    def side(self) -> Tensor:
        """(n, 1, 1) float32, -1 (left) or 1 (right)."""
        return torch.where(self.happens(0.5), -1.0, 1.0)


class _Canvas:
    """A batch of label maps in unit coordinates, and shapes to paint on them.

    A shape is a pair ``(across, reach)``: a pixel belongs to it where ``across`` (n, 1, W), a
    distance from the shape's axis, is smaller than ``reach`` (n, H, 1), negative outside its rows.
    """

    def __init__(self, n: int, size: int) -> None:
        centres = (torch.arange(size) + 0.5) / size
        self.u, self.v = centres[None, None, :], centres[None, :, None]  # (1, 1, W), (1, H, 1)
        self.turn = torch.zeros(n, size, size, dtype=torch.uint8)  # which stroke came last
        self.strokes = [SKY]

    def paint(self, across: Tensor, reach: Tensor, label: int) -> None:
        """Cover a shape with a label; later strokes hide earlier ones."""
        stroke = (across < reach).view(torch.uint8).mul_(len(self.strokes))  # (n, H, W)
        torch.maximum(self.turn, stroke, out=self.turn)
        self.strokes.append(label)

    def labels(self) -> Tensor:
        """(n, H, W) uint8 label map of all strokes so far."""
        return torch.tensor(self.strokes, dtype=torch.uint8)[self.turn.int()]

    def rows(self, top: Tensor, bottom: Tensor, reach: Tensor) -> Tensor:
        """``reach`` between two heights, -1 (nothing) elsewhere."""
        return torch.where((self.v > top) & (self.v < bottom), reach, -1.0)

    def box(self, cx: Tensor, top: Tensor, bottom: Tensor, half: Tensor, label: int) -> None:
        self.paint((self.u - cx).abs(), self.rows(top, bottom, half), label)

    def ellipse(self, cx: Tensor, cy: Tensor, rx: Tensor, ry: Tensor, label: int) -> None:
        self.paint(((self.u - cx) / rx) ** 2, 1 - ((self.v - cy) / ry) ** 2, label)

    def wedge(
        self, cx: Tensor, top: Tensor, bottom: Tensor, narrow: Tensor, wide: Tensor, label: int
    ) -> None:
        """A symmetric trapezium: half-width ``narrow`` at the top, ``wide`` at the bottom."""
        half = narrow + (wide - narrow) * (self.v - top) / (bottom - top)
        self.paint((self.u - cx).abs(), self.rows(top, bottom, half), label)


class _Street:
    """Where the road runs: its centre and half-width at every depth t in [0, 1]."""

    def __init__(self, dice: _Dice) -> None:
        self.horizon = dice.between(0.43, 0.52)
        self.vanish, self.foot = dice.between(0.34, 0.66), dice.between(0.36, 0.64)
        self.bend = dice.between(-0.22, 0.22)

    def row(self, t: Tensor) -> Tensor:
        return self.horizon + t * (1 - self.horizon)

    def centre(self, t: Tensor) -> Tensor:
        return self.vanish + (self.foot - self.vanish) * t + self.bend * t * (1 - t)

    def half(self, t: Tensor) -> Tensor:
        return 0.012 + 0.235 * t


def _draw(dice: _Dice, size: int) -> Tensor:
    canvas = _Canvas(len(dice.numbers), size)
    street = _Street(dice)
    _mountains(canvas, dice, street)
    _land(canvas, dice, street)
    for layer, depth in enumerate(_LAYERS):
        for _ in range((3, 3, 2)[layer]):
            _tree(canvas, dice, street, depth + dice.between(-0.08, 0.02))
        for side in (-1.0, 1.0):
            _house(canvas, dice, street, depth, side, probability=(0.75, 0.7, 0.55)[layer])
        _car(canvas, dice, street, depth - 0.05, probability=(0.0, 0.55, 0.6)[layer])
    return canvas.labels()


def _mountains(canvas: _Canvas, dice: _Dice, street: _Street) -> None:
    height = torch.full((1, 1, 1), 0.03)
    for left in (-0.1, 0.25, 0.6):
        peak, place = dice.between(0.08, 0.34), dice.between(left, left + 0.5)
        ridge = peak - dice.between(0.55, 1.0) * (canvas.u - place).abs()
        height = torch.maximum(height, ridge)
    rough = torch.sin(canvas.u * 34 + dice.between(0, 6)) + torch.sin(canvas.u * 55)
    canvas.paint(street.horizon - height - 0.006 * rough, canvas.v, MOUNTAIN)


def _land(canvas: _Canvas, dice: _Dice, street: _Street) -> None:
    swell = dice.between(0.015, 0.05) * torch.sin(canvas.u * 5 + dice.between(0, 6))
    canvas.paint(street.horizon - swell.clamp(min=-0.004), canvas.v, FIELD)
    middle = 0.5 + dice.side() * dice.between(0.25, 0.5)
    middle = torch.where(dice.happens(0.55), middle, _FAR_AWAY)
    depth, width = dice.between(0.05, 0.085), dice.between(0.22, 0.42)
    canvas.ellipse(middle, street.horizon + depth + 0.015, width, depth, WATER)
    t = (canvas.v - street.horizon) / (1 - street.horizon)
    half = torch.where(t > 0, street.half(t), -1.0)  # (n, H, 1)
    canvas.paint((canvas.u - street.centre(t)).abs(), half, ROAD)


def _scale(t: Tensor) -> Tensor:
    """Size of an object at depth t, as a share of its size at our feet."""
    return 0.28 + 0.72 * t


def _tree(canvas: _Canvas, dice: _Dice, street: _Street, t: Tensor) -> None:
    grow, conifer = _scale(t), dice.happens(0.4)
    away = street.half(t) + grow * dice.between(0.12, 0.8)
    cx, base = street.centre(t) + dice.side() * away, street.row(t)
    height, radius = grow * dice.between(0.26, 0.4), grow * dice.between(0.085, 0.125)
    canvas.box(cx, base - 0.4 * height, base, 0.2 * radius, TREE)  # the trunk
    round_x = torch.where(conifer, _FAR_AWAY, cx)
    canvas.ellipse(round_x, base - 0.62 * height, radius, 0.4 * height, TREE)
    pointed_x = torch.where(conifer, cx, _FAR_AWAY)
    foot = base - 0.15 * height
    canvas.wedge(pointed_x, base - height, foot, 0 * radius, 0.95 * radius, TREE)


def _house(
    canvas: _Canvas, dice: _Dice, street: _Street, depth: float, side: float, probability: float
) -> None:
    t, there = depth + dice.between(-0.03, 0.05), dice.happens(probability)
    grow, base = _scale(t), street.row(t)
    half, wall = grow * dice.between(0.14, 0.2), grow * dice.between(0.2, 0.33)
    cx = street.centre(t) + side * (street.half(t) + half + grow * dice.between(0.04, 0.12))
    cx = torch.where(there, cx, _FAR_AWAY)
    eaves, ridge = base - wall, base - wall - grow * dice.between(0.13, 0.19)
    chimney = cx + dice.side() * 0.5 * half
    canvas.box(chimney, ridge - 0.02 * grow, eaves, 0.13 * half, ROOF)
    canvas.box(cx, eaves, base, half, HOUSE)
    narrow = half * dice.between(0.0, 0.75)  # from a gable to a hipped roof
    canvas.wedge(cx, ridge, eaves, narrow, 1.18 * half, ROOF)
    _windows(canvas, cx, eaves, base, half, three=dice.happens(0.4))


def _windows(
    canvas: _Canvas, cx: Tensor, eaves: Tensor, base: Tensor, half: Tensor, three: Tensor
) -> None:
    across = (canvas.u - cx) / (2 * half) + 0.5  # (n, 1, W), 0 to 1 from wall to wall
    down = (canvas.v - eaves) / (base - eaves)  # (n, H, 1), 0 to 1 from eaves to ground
    floors = torch.where(base - eaves > 1.45 * half, 2.0, 1.0)
    columns = torch.where(three, 3.0, 2.0)
    from_axis = ((across * columns).frac() - 0.5).abs()
    from_axis = torch.where((across > 0) & (across < 1), from_axis, 1.0)
    in_row = ((down * floors).frac() - 0.46).abs() < torch.where(floors > 1, 0.24, 0.2)
    inside = (down > 0) & (down < 1)
    width = torch.where(three, 0.24, 0.2)
    canvas.paint(from_axis, torch.where(in_row & inside, width, -1.0), WINDOW)
    door = torch.where((down > 1 - 0.55 / floors) & inside, 0.09, -1.0)
    canvas.paint((across - 0.5).abs(), door, WINDOW)


def _car(canvas: _Canvas, dice: _Dice, street: _Street, depth: float, probability: float) -> None:
    t = depth + dice.between(-0.1, 0.1)
    there, lane = dice.happens(probability), dice.side()
    cx = street.centre(t) + lane * 0.5 * street.half(t)
    half, base = 0.36 * street.half(t), street.row(t)
    cx = torch.where(there, cx, _FAR_AWAY)
    canvas.box(cx, base - 1.15 * half, base, half, CAR)
    canvas.wedge(cx, base - 2.1 * half, base - half, 0.5 * half, 0.85 * half, CAR)


def one_hot(layouts: Tensor) -> Tensor:
    """(N, H, W) labels to (N, L, H, W) float32 of zeros and ones."""
    planes = torch.nn.functional.one_hot(layouts, len(LABELS))  # (N, H, W, L)
    return planes.movedim(-1, 1).float().contiguous()


def edges(layouts: Tensor) -> Tensor:
    """Outlines of a layout: (N, 1, H, W) float32, -1 (ink) where the label changes, else 1."""
    ink = torch.zeros_like(layouts, dtype=torch.bool)
    ink[:, :-1] |= layouts[:, 1:] != layouts[:, :-1]
    ink[:, :, :-1] |= layouts[:, :, 1:] != layouts[:, :, :-1]
    return 1 - 2 * ink[:, None].float()


def draw_layout(layouts: Tensor) -> Tensor:
    """(N, H, W) labels to a coloured label map, (N, 3, H, W) float32 in [-1, 1]."""
    return (2 * LABEL_COLOURS[layouts] - 1).movedim(-1, 1).contiguous()
