"""What the pixels of a Tinytown scene are made of: labels refined, and coloured by season and time.

A label says *house*; the material says wall, or shadow under the eaves.  Materials follow from
the layout alone: from how long the run of equal labels is in which a pixel lies, and where in it.
Nothing here is random, so a painted layout is rendered as faithfully as a drawn one.
"""

import functools

import torch
from torch import Tensor

from minilib.tinytown_layouts import (
    CAR,
    FIELD,
    HOUSE,
    LABELS,
    MOUNTAIN,
    ROAD,
    ROOF,
    SKY,
    TREE,
    WATER,
    WINDOW,
)

# (material, its label, then its colour in summer, autumn and winter daylight, as "far near":
# the colour at the horizon and at the bottom of the picture; one colour if both are the same)
_TABLE = (
    ("sky", SKY, "", "", ""),
    ("mountain", MOUNTAIN, "88a3da 88a3da", "b59aa8 b59aa8", "b4c6e4 b4c6e4"),
    ("mountain shade", MOUNTAIN, "6482c2 6482c2", "937c96 937c96", "8ba4d0 8ba4d0"),
    ("snow cap", MOUNTAIN, "eef1fb", "efe4ee", "dbe6fa"),
    ("field", FIELD, "a9cf62 5da944", "e6b75c c58a3a", "f6f5f3 dfe5ee"),
    ("tuft", FIELD, "98c356 4c9a3e", "d9a54c b0752f", "eceff4 cfd9e8"),
    ("water", WATER, "7cc4e0 2f8fc4", "86aebb 4b7f9a", "b5e2e6 8cc9d6"),
    ("glint", WATER, "a4d9ea 5fb0d8", "a9c6cc 6f9cb0", "cdeef0 abdce4"),
    ("tree", TREE, "459748 368639", "ec8a35 e0752b", "8fb5b3 7ba8a8"),
    ("tree shade", TREE, "276f40 1c5c35", "c4552a b34420", "5d8f92 4a7f84"),
    ("tree top", TREE, "6cb654 58a84c", "f6a94a f0993c", "c3dcdc b6d3d5"),
    ("trunk", TREE, "75543d", "6b4a38", "5a4a48"),
    ("wall", HOUSE, "", "", ""),
    ("wall shade", HOUSE, "", "", ""),
    ("roof", ROOF, "", "", ""),
    ("roof top", ROOF, "", "", ""),
    ("window", WINDOW, "3d5a78", "3d5a78", "3d5a78"),
    ("lit window", WINDOW, "47688a", "47688a", "47688a"),
    ("door", WINDOW, "5b3a2a", "5b3a2a", "5b3a2a"),
    ("road", ROAD, "8b8791 6b6873", "908380 6f6362", "a3a4b0 838593"),
    ("kerb", ROAD, "b3afb5 98949c", "b5a9a3 9c8f8a", "c2c4cd a9acb8"),
    ("road line", ROAD, "c9c5c2 c9c5c2", "c9bdb4 c9bdb4", "cccdd4 cccdd4"),
    ("car", CAR, "", "", ""),
    ("car glass", CAR, "31404f", "31404f", "31404f"),
    ("wheel", CAR, "2b2830", "2b2830", "2b2830"),
    ("tail light", CAR, "c8392f", "c8392f", "c8392f"),
)
MATERIALS = tuple(row[0] for row in _TABLE)
MATERIAL_LABEL = torch.tensor([row[1] for row in _TABLE])  # (M,) the label of each material


def materials(layouts: Tensor) -> Tensor:
    """Refine labels into materials.

    Args:
        layouts: (N, H, W) int64, indices into ``LABELS``.

    Returns:
        (N, H, W) int64, indices into ``MATERIALS``; ``MATERIAL_LABEL`` leads back.
    """
    pixels = _Pixels(layouts)
    _nature(pixels)
    _buildings(pixels)
    _traffic(pixels)
    return pixels.material.long()


class _Pixels:
    """Where each pixel stands in its runs, and what it is made of so far.

    ``up``, ``down``, ``left``, ``right``: (N, H, W) int32, pixels to the ends of the pixel's runs
    of equal labels; ``width``, ``tall``: the runs' lengths; ``unit``: one pixel at height 32.
    """

    def __init__(self, layouts: Tensor) -> None:
        self.labels = layouts.to(torch.uint8)
        plain = [MATERIAL_LABEL.tolist().index(label) for label in range(len(LABELS))]
        self.material = torch.tensor(plain, dtype=torch.uint8)[layouts]
        rows, columns = self.labels.mT.contiguous(), self.labels.contiguous()
        self.up, self.left = _before(rows).mT, _before(columns)
        self.down, self.right = (
            _before(rows.flip(-1)).flip(-1).mT,
            _before(columns.flip(-1)).flip(-1),
        )
        self.tall, self.width = self.up + self.down + 1, self.left + self.right + 1
        self.unit = layouts.shape[-2] / 32
        self.row = torch.arange(layouts.shape[-2], dtype=torch.int32)[:, None]
        self.column = torch.arange(layouts.shape[-1], dtype=torch.int32)

    def put(self, label: int, mask: Tensor, material: str) -> None:
        """Make those pixels of a label that the mask picks of another material."""
        self.material.masked_fill_((self.labels == label) & mask, MATERIALS.index(material))


def _before(labels: Tensor) -> Tensor:
    """How many equal labels directly precede each one along the last dimension."""
    place = torch.arange(labels.shape[-1], dtype=torch.int32).expand(labels.shape)
    start = place.clone()
    start[..., 1:].masked_fill_(labels[..., 1:] == labels[..., :-1], 0)
    return place - start.cummax(-1).values


def _nature(at: _Pixels) -> None:
    top = (at.row - at.up) / at.unit  # (N, H, W): height of the skyline, in 32nds
    at.put(MOUNTAIN, _falls_to_the_right(top, at), "mountain shade")
    zigzag = ((at.column / at.unit * 0.9).remainder(2) - 1).abs()
    cap = (9.0 - top).clamp(max=4) * 0.5 + zigzag
    at.put(MOUNTAIN, (at.up + 0.5) / at.unit < cap, "snow cap")
    speckle = (at.column * 73 + at.row * 151 + (at.column * at.row) % 37) % 29
    at.put(FIELD, speckle < 3, "tuft")
    wave = (at.row % max(round(2 * at.unit), 2) == 0) & ((at.column + 3 * at.row) % 7 < 3)
    at.put(WATER, wave, "glint")
    at.put(TREE, (at.left > 0.55 * at.width) | (at.down < 0.3 * at.tall), "tree shade")
    at.put(TREE, (at.up < 0.3 * at.tall) & (at.left < 0.6 * at.width), "tree top")
    at.put(TREE, (at.width <= 1.6 * at.unit) & (at.up >= 2.5 * at.unit), "trunk")


def _falls_to_the_right(top: Tensor, at: _Pixels) -> Tensor:
    """Where the skyline above sinks from left to right: the slopes that the light does not reach.

    Looked up further left the deeper a pixel lies, so that the facets lean like real ones.
    """
    step = max(round(1.5 * at.unit), 1)
    sinks = torch.zeros(top.shape, dtype=torch.bool)
    sinks[..., step:-step] = top[..., 2 * step :] > top[..., : -2 * step] + 0.3
    source = (at.column - (0.45 * at.up).int()).clamp(min=0)
    return sinks.gather(-1, source.long())


def _buildings(at: _Pixels) -> None:
    at.put(HOUSE, at.up < 0.9 * at.unit, "wall shade")
    at.put(ROOF, at.up < (0.55 * at.tall).clamp(min=at.unit), "roof top")
    pane = (at.row - at.up) * 31 + (at.column - at.left) * 17  # the same all over one window
    at.put(WINDOW, pane % 5 > 0, "lit window")
    beneath = (at.row + at.down + 1).clamp(max=at.labels.shape[-2] - 1)
    stands_on = at.labels.gather(1, beneath.long())
    on_ground = (stands_on != HOUSE) & (stands_on != WINDOW)
    at.put(WINDOW, on_ground & (at.tall > 1.5 * at.unit), "door")


def _traffic(at: _Pixels) -> None:
    half, nearer = at.width / 2, torch.minimum(at.left, at.right)
    at.put(ROAD, (nearer < 0.06 * half) & (half > 2), "kerb")
    stripe = (14.0 / (half / at.unit + 0.8)).remainder(1) < 0.5
    middle = (at.left - at.right).abs() <= (0.09 * half).clamp(min=1)
    at.put(ROAD, middle & stripe & (half > 1.5 * at.unit), "road line")
    depth = at.up / at.tall
    at.put(CAR, (depth > 0.12) & (depth < 0.42) & (at.tall > 3 * at.unit), "car glass")
    at.put(CAR, nearer < 0.12 * at.width, "car")
    at.put(CAR, (nearer < 0.25 * at.width) & (depth > 0.45) & (depth < 0.68), "tail light")
    at.put(CAR, at.down < 0.14 * at.tall, "wheel")


@functools.cache
def albedo() -> Tensor:
    """(3 seasons, M materials, 2, 3) float32 in [0, 1]: daylight colours, far and near."""
    return torch.stack([torch.stack([_pair(str(row[2 + s])) for row in _TABLE]) for s in range(3)])


def _pair(text: str) -> Tensor:
    colours = (text.split() or ["808080"]) * 2
    return torch.stack([rgb(colours[0]), rgb(colours[1])])


def rgb(code: str) -> Tensor:
    """ "ff8000" to (3,) float32 in [0, 1]."""
    return torch.tensor([int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)])
