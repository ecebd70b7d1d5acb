"""Rendering Tinytown: ``render(layout, style)``, a known pure function.

Every material gets a far and a near colour from the style, and a pixel takes the mixture that
its row asks for.  The sky adds a sun or moon, clouds, and stars; lit windows glow at night.
"""

import math

import torch
from torch import Tensor

from minilib.config import ConfigError, nearest
from minilib.tinytown_layouts import SKY
from minilib.tinytown_materials import MATERIALS, albedo, materials, rgb
from minilib.tinytown_styles import Styles

PALETTES = ("natural", "isoluminant")
_CHUNK = 128

# sky colours, zenith and horizon: (time, season)
_SKY = (
    (("4f9fe0", "cfe9f5"), ("7fa6c6", "f6dfb4"), ("8db4e2", "cfdcf6")),
    (("5a4a94", "ff9c6a"), ("8a3f5c", "ffb04a"), ("5f5f9e", "f7a9bd")),
    (("04283a", "1a6e74"), ("2c1048", "7e3f7c"), ("14244f", "3c5596")),
)
# what the light does to daylight colours: (time, season) multiplies, then (time) adds
_LIGHT = torch.tensor(
    [
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]],
        [[0.88, 0.70, 0.72], [0.98, 0.68, 0.60], [0.90, 0.74, 0.80]],
        [[0.28, 0.46, 0.56], [0.54, 0.38, 0.58], [0.40, 0.49, 0.72]],
    ]
)
_AMBIENT = torch.tensor([[0.0, 0.0, 0.0], [0.05, 0.01, 0.07], [0.01, 0.02, 0.06]])
_HAZE = (0.0, 0.08, 0.04)  # how much of the horizon's colour lies over the far end of things
# mountains stand darker against the evening sky: (time, season)
_SILHOUETTE = torch.tensor([[1.0, 1.0, 1.0], [0.92, 0.92, 0.92], [0.9, 0.72, 0.72]])
_MIRROR = 0.35  # how much of the sky's colour the water shows

_ROOF = ("b8442f", "a0506e", "5c5a86")  # brick, plum, slate
_WALL = ("f4ead0", "f5dcc4", "f3cfc8")  # cream, apricot, rose
_CAR = ("d8362f", "e9b93a", "3566c8")  # red, yellow, blue
_ROOF_SNOW = "fbfbff"
_LIT = (None, "f2c069", "ffd873")  # lit windows by day (none), dusk and night
_GLOW = (0.0, 0.1, 0.26)  # strength of the light around them
_WARM = torch.tensor([1.0, 0.62, 0.22])
_SUN = ("fff6cf", "ffe08a", "f4f1dc")
_STAR = ("ffffff",) * 3
_HEAVENS = 0.5625  # share of the picture's height that sun, stars and clouds may use
_PUFFS = ((0.1, 0.2, 0.17), (0.24, 0.16, 0.1), (0.62, 0.1, 0.2), (0.86, 0.27, 0.14))  # u, v, width
_CLOUD = ("ffffff", "f0a6a0", "3a4a6e")

# the isoluminant palette, as CIE Lab: lightness of each material whose hue is open...
_OPEN = {
    "roof": (52.0, "roof"),
    "roof top": (58.0, "roof"),
    "wall": (84.0, "wall"),
    "wall shade": (74.0, "wall"),
    "field": (66.0, "field"),
    "tuft": (63.0, "field"),
}
# ...and chroma (a, b) of each hue, within sRGB at those lightnesses
_CHROMA = {
    "roof": ((48.0, 34.0), (-32.0, -6.0), (30.0, -40.0)),  # red, teal, violet
    "wall": ((4.0, 18.0), (12.0, 3.0), (-9.0, 4.0)),  # cream, rose, mint
    "field": ((-40.0, 42.0), (6.0, 56.0), (26.0, -26.0)),  # green, gold, heather
}


def render(layouts: Tensor, styles: Styles, palette: str = "natural") -> Tensor:
    """Draw layouts in styles: the same arguments give the same picture, always.

    Args:
        layouts: (N, H, W) int64, indices into ``LABELS``.
        styles: N styles, or one for all.
        palette: "natural" (time, season and nuisances show), or "isoluminant" (a summer day whose
            roofs, walls and fields change hue with ``styles.colour`` and keep their lightness).

    Returns:
        (N, 3, H, W) float32 in [-1, 1].

    Raises:
        ConfigError: unknown palette, or numbers of layouts and styles that differ.
    """
    if palette not in PALETTES:
        raise ConfigError(nearest(palette, PALETTES, "palette"))
    n = len(layouts)
    if len(styles) not in (1, n):
        raise ConfigError(f"render wants one style a layout: {n} layouts, {len(styles)} styles")
    index = torch.arange(n) if len(styles) == n else torch.zeros(n, dtype=torch.int64)
    out = torch.empty(n, 3, *layouts.shape[1:])
    for start in range(0, n, _CHUNK):
        part = slice(start, start + _CHUNK)
        out[part] = _render(layouts[part], styles[index[part]], palette)
    return out


def _render(layouts: Tensor, styles: Styles, palette: str) -> Tensor:
    made_of = materials(layouts)  # (n, H, W)
    table = colours(styles, palette)  # (n, M, 2, 3)
    time = styles.time if palette == "natural" else torch.zeros_like(styles.time)
    nearness = row_weights(layouts.shape[-2])  # (2, H)
    sky = layouts == SKY
    weight = torch.where(sky, nearness[0][:, None], nearness[1][:, None])  # (n, H, W)
    index = made_of.flatten(1)[:, None].expand(-1, 3, -1)  # (n, 3, H*W)
    far, near = (table[:, :, k].mT.gather(2, index) for k in (0, 1))
    image = torch.lerp(far, near, weight.flatten(1)[:, None]).unflatten(2, layouts.shape[1:])
    image = _glow(image, made_of == MATERIALS.index("lit window"), time)
    top = slice(0, math.ceil(_HEAVENS * image.shape[2]))  # nothing hangs lower in the sky
    image[:, :, top] = _heavens(image[:, :, top], sky[:, top], styles, time)
    return (2 * image - 1).clamp_(-1, 1)


def row_weights(height: int) -> Tensor:
    """(2, H): how near each row is, 0 (far colour) to 1 (near colour), in the sky and below it."""
    v = (torch.arange(height) + 0.5) / height
    return torch.stack([(v / 0.5).clamp(0, 1), ((v - 0.42) / 0.58).clamp(0, 1)])


def colours(styles: Styles, palette: str = "natural") -> Tensor:
    """(N, M, 2, 3) in [0, 1]: far and near colour of every material, in every style."""
    if palette == "isoluminant":
        return _isoluminant(styles)
    table = albedo()[styles.season]  # (N, M, 2, 3)
    _put(table, "roof", _blend(_ROOF, styles.roof_hue))
    top = torch.lerp(table[:, MATERIALS.index("roof"), 0], torch.ones(3), 0.16)
    snow = rgb(_ROOF_SNOW).expand_as(top)
    _put(table, "roof top", torch.where((styles.season == 2)[:, None], snow, top))
    wall = _blend(_WALL, styles.wall_hue)
    _put(table, "wall", wall)
    _put(table, "wall shade", 0.8 * wall)
    _put(table, "car", _blend(_CAR, styles.car_hue))
    return _illuminate(table, styles)


def _illuminate(table: Tensor, styles: Styles) -> Tensor:
    """Daylight colours to the light of each style's time of day."""
    sky = torch.stack([torch.stack([rgb(z), rgb(h)]) for row in _SKY for z, h in row])
    sky = sky[styles.mode]  # (N, 2, 3)
    light, ambient = _LIGHT[styles.time, styles.season], _AMBIENT[styles.time]  # (N, 3)
    table = table * light[:, None, None] + ambient[:, None, None]
    mountains = [MATERIALS.index(name) for name in ("mountain", "mountain shade", "snow cap")]
    table[:, mountains] *= _SILHOUETTE[styles.time, styles.season][:, None, None, None]
    haze = torch.tensor(_HAZE)[styles.time][:, None, None]
    table[:, :, 0] = torch.lerp(table[:, :, 0], sky[:, None, 1], haze)
    for name in ("water", "glint"):
        m = MATERIALS.index(name)
        table[:, m] = torch.lerp(table[:, m], sky.flip(1), _MIRROR)
    table[:, SKY] = sky
    for time in (1, 2):
        for name, code in (("lit window", _LIT[time]), ("tail light", "f0503c")):
            rows = torch.where(styles.time == time)[0]
            table[rows, MATERIALS.index(name)] = rgb(str(code))
    return table.clamp(0, 1)


def _blend(codes: tuple[str, str, str], share: Tensor) -> Tensor:
    """Walk through three colours: share (N,) in [0, 1] to (N, 3)."""
    first, middle, last = (rgb(code) for code in codes)
    s = 2 * share[:, None]
    return torch.where(s < 1, torch.lerp(first, middle, s), torch.lerp(middle, last, s - 1))


def _put(table: Tensor, material: str, colour: Tensor) -> None:
    table[:, MATERIALS.index(material)] = colour[:, None]


def _isoluminant(styles: Styles) -> Tensor:
    from skimage.color import lab2rgb  # here, so that the rest needs no scikit-image

    day = torch.zeros_like(styles.time)
    table = colours(Styles(day, day, *(torch.full(day.shape, 0.5) for _ in range(6))))
    choice = {"roof": styles.colour // 3, "field": styles.colour % 3}
    choice["wall"] = choice["roof"]  # each roof has its wall
    for name, (lightness, part) in _OPEN.items():
        lab = torch.tensor([(lightness, a, b) for a, b in _CHROMA[part]])  # (3, 3)
        _put(table, name, torch.from_numpy(lab2rgb(lab.double().numpy())).float()[choice[part]])
    return table


def _glow(image: Tensor, lit: Tensor, time: Tensor) -> Tensor:
    """Warm light around lit windows."""
    strength = torch.tensor(_GLOW)[time][:, None, None, None]
    if not strength.any():
        return image
    reach = 2 * max(round(lit.shape[-2] / 32), 1) + 1
    spread = lit[:, None].float()
    for _ in range(2):
        spread = torch.nn.functional.avg_pool2d(spread, reach, 1, reach // 2)
    spread = spread * ~lit[:, None]
    return image + strength * spread * _WARM[:, None, None]


def _heavens(image: Tensor, sky: Tensor, styles: Styles, time: Tensor) -> Tensor:
    """Stars, sun or moon, and clouds over the upper part of a picture, where it shows the sky."""
    rows, width = image.shape[-2:]
    u = ((torch.arange(width) + 0.5) / width)[None, None, :]
    v = ((torch.arange(rows) + 0.5) * _HEAVENS / rows)[None, :, None]
    sun = styles.sun[:, None, None]
    image = _over(image, _stars(rows, width) * (time == 2)[:, None, None] * sky, _STAR, time)
    at_v = torch.tensor([0.15, 0.3, 0.14])[time][:, None, None]
    radius = torch.tensor([0.065, 0.085, 0.06])[time][:, None, None]
    distance = ((u - 0.15 - 0.7 * sun) ** 2 + (v - at_v) ** 2).sqrt()
    disc = ((radius - distance) * width * 0.7 + 0.5).clamp(0, 1)
    halo = 0.28 * (1 - distance / (3.2 * radius)).clamp(0, 1)
    image = _over(image, torch.maximum(disc, halo) * sky, _SUN, time)
    puffs = torch.zeros_like(distance)
    for place, height, wide in _PUFFS:
        away = (u - (place + 0.45 * sun).remainder(1.3) + 0.12) / wide
        puffs += torch.exp(-(away**2)) * torch.exp(-(((v - height) / 0.045) ** 2))
    cover = (puffs * 1.6 - 0.5).clamp(0, 1) * (0.2 + 0.6 * styles.cloud[:, None, None])
    return _over(image, cover * sky, _CLOUD, time)


def _stars(rows: int, width: int) -> Tensor:
    """(rows, W) opacity of the stars: about one pixel in seventy of the upper sky, always there."""
    row, column = torch.arange(rows)[:, None], torch.arange(width)
    unit = max(width // 32, 1)
    cell = (row // unit) * 57 + (column // unit) * 131 + 7
    scattered = (cell * cell * 31 + cell * 17) % 997  # one draw a cell of 1/32 of the picture
    here = (row % unit == scattered % unit) & (column % unit == (scattered // 7) % unit)
    return 0.8 * (here & (scattered < 45) & (row < 0.6 * rows)).float()


def _over(image: Tensor, alpha: Tensor, codes: tuple[str, ...], time: Tensor) -> Tensor:
    """Lay a colour, one a time of day, over (n, 3, H, W) with opacity (n, H, W)."""
    colour = torch.stack([rgb(code) for code in codes])[time][:, :, None, None]
    return torch.lerp(image, colour, alpha[:, None])


def sky_variants(sky: Tensor, style: Styles, palette: str) -> Tensor:
    """Other colours the sky may have: shades of cloud, of the sun or moon and its halo, a star.

    Args:
        sky: (H, 3) in [0, 1], plain sky by row.
        style: one style.
        palette: "natural" or "isoluminant".

    Returns:
        (H, V, 3) in [0, 1]; below the rows that sun and clouds may use, V times the plain sky.
    """
    time = int(style.time) if palette == "natural" else 0
    over = [(_CLOUD[time], alpha) for alpha in (0.12, 0.25, 0.4, 0.55, 0.75)]
    over += [(_SUN[time], alpha) for alpha in (0.06, 0.12, 0.2, 0.28, 0.5, 0.75, 1.0)]
    over += [(_STAR[time], 0.8)] * (time == 2)
    some = torch.stack([torch.lerp(sky, rgb(code), alpha) for code, alpha in over], 1)
    some[math.ceil(_HEAVENS * len(sky)) :] = sky[math.ceil(_HEAVENS * len(sky)) :, None]
    return some


def glow_variants(wall: Tensor, style: Styles, palette: str) -> Tensor:
    """Colours of a wall beside a lit window: (..., 3) in [0, 1] to (..., 3, 3), three strengths."""
    strength = _GLOW[int(style.time)] if palette == "natural" else 0.0
    shares = torch.tensor([0.15, 0.3, 0.45])[:, None] * strength
    return (wall[..., None, :] + shares * _WARM).clamp(max=1)
