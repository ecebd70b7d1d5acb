"""Reading Tinytown back: which style, which layout, is this a picture of?

Nothing is learned here.  ``render`` is known, so the mean colour of every region is known for each
of the nine modes, and so is every colour a pixel of a label can have.  A picture is compared with
these; a distance is a root mean square difference of colours in [-1, 1].
"""

import functools

import torch
from torch import Tensor

from minilib.config import ConfigError, nearest
from minilib.tinytown_layouts import FIELD, HOUSE, LABELS, MOUNTAIN, ROAD, ROOF, SKY, TREE, WATER
from minilib.tinytown_materials import MATERIAL_LABEL, MATERIALS, materials
from minilib.tinytown_render import (
    PALETTES,
    colours,
    glow_variants,
    render,
    row_weights,
    sky_variants,
)
from minilib.tinytown_styles import NUISANCES, Styles, style_of_colour, style_of_mode

# A style counts as a mode's if its regions lie within this distance of that mode's, and a picture
# as a picture of a layout if this share of its pixels reads back as the layout's labels.
TOLERANCE = 0.10
COLOUR_TOLERANCE = 0.09
AGREEMENT = 0.8

_TELLS_MODE = (SKY, MOUNTAIN, FIELD, WATER, ROAD, TREE)  # regions without hues of their own
_TELLS_COLOUR = (FIELD, HOUSE, ROOF)
_FULL_WEIGHT = 0.03  # a region of this share of the picture, or more, has a full say
_NEIGHBOURS = 0.46  # below one half, so that a pixel that is exactly right stays right
_CAP = 0.06  # squared colour distance beyond which a label is simply wrong
_CHUNK = 32


def read_mode(
    images: Tensor, layouts: Tensor, tolerance: float = TOLERANCE
) -> tuple[Tensor, Tensor]:
    """The time and season of pictures whose layouts are known, by the mean colour of each region.

    Args:
        images: (N, 3, H, W) float32 in [-1, 1].
        layouts: (N, H, W) int64.
        tolerance: largest distance at which a picture still counts as its nearest mode's.

    Returns:
        (N,) int64 indices into ``MODE_NAMES``, -1 beyond the tolerance; and (N,) float32 distances
        to the nearest mode.

    Raises:
        ConfigError: shapes that do not belong together.
    """
    return _nearest_mode(images, layouts, "natural", _TELLS_MODE, tolerance)


def read_colour_mode(
    images: Tensor, layouts: Tensor, tolerance: float = COLOUR_TOLERANCE
) -> tuple[Tensor, Tensor]:
    """As ``read_mode``, for the isoluminant palette: indices into ``COLOUR_MODES``."""
    return _nearest_mode(images, layouts, "isoluminant", _TELLS_COLOUR, tolerance)


def mode_of_sample(images: Tensor, layouts: Tensor, palette: str = "natural") -> Tensor:
    """The mode each sample counts towards: the book's rule for counting many answers.

    A sample counts only if its style lies within the tolerance of a mode **and** the labels read
    back from it agree with the layout on at least 80% of the pixels.

    Args:
        images: (N, 3, H, W) in [-1, 1], samples for the layouts.
        layouts: (N, H, W) int64.
        palette: "natural" counts time x season, "isoluminant" colour modes.

    Returns:
        (N,) int64 in 0..8, or -1: no mode.

    Raises:
        ConfigError: unknown palette, or shapes that do not belong together.
    """
    _check_palette(palette)
    read = read_mode if palette == "natural" else read_colour_mode
    mode = read(images, layouts)[0]
    seen = torch.where(mode >= 0)[0]
    agree = layout_agreement(images[seen], layouts[seen], mode[seen], palette)
    mode[seen[agree < AGREEMENT]] = -1
    return mode


def layout_agreement(
    images: Tensor, layouts: Tensor, mode: Tensor | None = None, palette: str = "natural"
) -> Tensor:
    """(N,) share of pixels whose label, read back, is the layout's; arguments as `read_layout`."""
    _check_shapes(images, layouts)
    return (read_layout(images, mode, palette) == layouts).float().mean((1, 2))


def read_style(images: Tensor, palette: str = "natural") -> tuple[Tensor, Tensor]:
    """The mode of pictures whose layouts are not known.

    The mode under which the pixels lie nearest to colours that some material could have in their
    row.  Looks at every second pixel or fewer, at most 32 a side.

    Args:
        images: (N, 3, H, W) float32 in [-1, 1].
        palette: "natural" or "isoluminant".

    Returns:
        (N,) int64 mode and (N,) float32 distance: root mean square over pixels, each to its
        nearest possible colour, no pixel counting more than 0.5.
    """
    _check_palette(palette)
    _check_shapes(images, images[:, 0])
    height = images.shape[2]
    step = max(height // 32, 2)
    rows = slice(step // 2, None, step)
    few = images[:, :, rows, rows]
    cost = torch.empty(len(images), 9)
    for mode in range(9):
        known, _ = _prototypes(mode, height, palette)
        for part in _parts(len(few)):
            square = _distances(few[part], known[rows]).amin(1) / 3  # (H', n*W')
            each = square.clamp(0, 0.25).mean(0).unflatten(0, (-1, few.shape[3]))
            cost[part, mode] = each.mean(1)
    best = cost.min(1)
    return best.indices, best.values.sqrt()


def read_layout(images: Tensor, mode: Tensor | None = None, palette: str = "natural") -> Tensor:
    """Labels read back from pictures: each pixel takes the label with the nearest known colour.

    Args:
        images: (N, 3, H, W) float32 in [-1, 1].
        mode: (N,) int64, the pictures' modes; None reads them by ``read_style``.
        palette: "natural" or "isoluminant" (then ``mode`` is a colour mode).

    Returns:
        (N, H, W) int64, indices into ``LABELS``.
    """
    _check_palette(palette)
    _check_shapes(images, images[:, 0])
    mode = read_style(images, palette)[0] if mode is None else mode
    out = torch.empty(len(images), *images.shape[2:], dtype=torch.int64)
    for m in mode.unique().tolist():
        known, label = _prototypes(m, images.shape[2], palette)
        where = torch.where(mode == m)[0]
        for part in _parts(len(where)):
            square = _distances(images[where[part]], known)  # (H, P, n*W), sorted by label
            best = torch.stack(
                [group.amin(1) for group in square.split(label.bincount().tolist(), 1)]
            )
            best = best.clamp(max=_CAP).unflatten(2, (-1, images.shape[3]))  # (L, H, n, W)
            out[where[part]] = _smooth(best.permute(2, 0, 1, 3)).argmin(1)
    return out


def _smooth(cost: Tensor) -> Tensor:
    """Let the eight neighbours have nearly half the say: noise then flips no single pixels."""
    padded = torch.nn.functional.pad(cost, (1, 1, 1, 1), mode="replicate")
    around = torch.nn.functional.avg_pool2d(padded, 3, 1)  # the pixel itself is a ninth of it
    return (1 - 1.125 * _NEIGHBOURS) * cost + 1.125 * _NEIGHBOURS * around


def _nearest_mode(
    images: Tensor, layouts: Tensor, palette: str, regions: tuple[int, ...], tolerance: float
) -> tuple[Tensor, Tensor]:
    _check_shapes(images, layouts)
    mode = torch.empty(len(images), dtype=torch.int64)
    distance = torch.empty(len(images))
    for part in _parts(len(images)):
        found, expected, area = _region_means(images[part], layouts[part], palette)
        weight = (area[:, list(regions)] / _FULL_WEIGHT).clamp(max=1)  # (n, R)
        gap = (found[:, None] - expected)[:, :, list(regions)].square().mean(-1)  # (n, 9, R)
        total = weight.sum(1, keepdim=True).clamp(min=1e-6)
        square = (gap * weight[:, None]).sum(2) / total
        distance[part], mode[part] = square.sqrt().min(1)
    return torch.where(distance <= tolerance, mode, -1), distance


def _region_means(images: Tensor, layouts: Tensor, palette: str) -> tuple[Tensor, Tensor, Tensor]:
    """Mean colours (n, L, 3) found, (n, 9, L, 3) expected; areas (n, L)."""
    n, height, width = layouts.shape
    made_of = materials(layouts).flatten(1)  # (n, H*W)
    weights = row_weights(height)
    ground = (layouts != SKY).long()
    near = weights[ground, torch.arange(height)[:, None].expand_as(layouts)].flatten(1)
    amount = torch.zeros(n, len(MATERIALS), 2)  # how much of each material's far and near colour
    amount[:, :, 0].scatter_add_(1, made_of, 1 - near)
    amount[:, :, 1].scatter_add_(1, made_of, near)
    member = torch.nn.functional.one_hot(MATERIAL_LABEL, len(LABELS)).float()  # (M, L)
    area = torch.einsum("nmk,ml->nl", amount, member)
    table = 2 * colours(_every_mode(palette), palette) - 1  # (9, M, 2, 3)
    expected = torch.einsum("nmk,omkc,ml->nolc", amount, table, member)
    sky = torch.einsum("nhw,ochw->noc", (layouts == SKY).float(), _skies(height, width, palette))
    expected[:, :, SKY] = sky
    found = torch.zeros(n, len(LABELS), 3)
    index = layouts.flatten(1)[:, :, None].expand(-1, -1, 3)
    found.scatter_add_(1, index, images.flatten(2).mT.float())
    size = area.clamp(min=1)[..., None]
    return found / size, expected / size[:, None], area / (height * width)


def _every_mode(palette: str) -> Styles:
    modes = torch.arange(9)
    return style_of_mode(modes) if palette == "natural" else style_of_colour(modes)


@functools.lru_cache(maxsize=16)
def _skies(height: int, width: int, palette: str) -> Tensor:
    """(9, 3, H, W): the whole sky of each mode, with half its clouds and the sun in the middle."""
    nothing_else = torch.full((9, height, width), SKY)
    return render(nothing_else, _every_mode(palette), palette)


@functools.lru_cache(maxsize=128)
def _prototypes(mode: int, height: int, palette: str) -> tuple[Tensor, Tensor]:
    """Every colour a pixel may have: (H, P, 3) in [-1, 1] by row, and its label (P,), ascending."""
    one = style_of_mode(mode) if palette == "natural" else style_of_colour(mode)
    hues = torch.linspace(0, 1, 5)
    same = {name: getattr(one, name).expand(5) for name in ("time", "season", "colour")}
    table = colours(Styles(**same, **dict.fromkeys(NUISANCES, hues)), palette)  # (5, M, 2, 3)
    near = row_weights(height)[(MATERIAL_LABEL != SKY).long()].mT  # (H, M)
    far, close = table[:, None, :, 0], table[:, None, :, 1]  # (5, 1, M, 3)
    rows = torch.lerp(far, close, near[..., None])  # (5, H, M, 3)
    varied = (table != table[:1]).flatten(2).any(2).any(0)  # (M,) materials that have a hue
    sky = sky_variants(rows[2, :, SKY], one, palette)  # (H, V, 3)
    hued = rows[[0, 1, 3, 4]][:, :, varied].movedim(0, 1).flatten(1, 2)
    walls = rows[::2, :, MATERIAL_LABEL == HOUSE].movedim(0, 1).flatten(1, 2)  # (H, 6, 3)
    glow = glow_variants(walls, one, palette).flatten(1, 2)
    groups = [MATERIAL_LABEL, MATERIAL_LABEL[varied].repeat(4)]
    groups += [torch.full((len(x[0]),), k) for x, k in ((sky, SKY), (glow, HOUSE))]
    order = torch.cat(groups).argsort(stable=True)
    return 2 * torch.cat([rows[2], hued, sky, glow], 1)[:, order] - 1, torch.cat(groups)[order]


def _distances(images: Tensor, known: Tensor) -> Tensor:
    """(H, P, n * W): squared distance of each pixel to each known colour of its row."""
    pixels = images.permute(2, 1, 0, 3).flatten(2).float()  # (H, 3, n*W)
    bias = known.square().sum(2, keepdim=True) + pixels.square().sum(1, keepdim=True)
    return torch.baddbmm(bias, known, pixels, alpha=-2)


def _parts(n: int) -> list[slice]:
    return [slice(start, start + _CHUNK) for start in range(0, n, _CHUNK)]


def _check_palette(palette: str) -> None:
    if palette not in PALETTES:
        raise ConfigError(nearest(palette, PALETTES, "palette"))


def _check_shapes(images: Tensor, layouts: Tensor) -> None:
    n, *size = layouts.shape
    if images.shape != (n, 3, *size):
        raise ConfigError(
            f"images {tuple(images.shape)} and layouts {tuple(layouts.shape)} do not belong "
            "together: want (N, 3, H, W) and (N, H, W)"
        )
