"""LatentExplorer: a pad over two latent directions, sliders for more, and the network's answer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minilib.config import ConfigError
from minilib.explore import checks
from minilib.explore.export import answers, export_decoder, frozen
from minilib.explore.pack import pack, pictures, sheet
from minilib.explore.widget import Explorer, Payload
from minilib.plots import COLOURS

OUTPUTS = ("image", "images", "row", "points")
PRIORS = ("normal", "uniform", "none")
STYLES = ("points", "lines")


class LatentExplorer(Explorer):
    """Move through latent space and watch the answer change.

    The reader moves z = base + sum_i a_i d_i along the directions d_i; ``base`` is the part of z
    that lies in none of them.

    Args:
        decoder: ``decoder(z)`` or, with conditions, ``decoder(z, c)``; z is (B, Z), c is (B, ...).
        z: (Z,) where the explorer starts.
        directions: (D, Z), D >= 2; None takes the first eight coordinate axes.
        spans: (low, high) of the coefficients a_i, or one pair per direction (D, 2).
        direction_names: D names; None counts them.
        conditions: {name: tensor (...)}, all of one shape; floats, or integers for class labels.
        condition_images: (N, 1 or 3, h, w) thumbnails of the conditions, in ``value_range``.
        condition: what the conditions are called ("digit", "layout").
        output: "image": (B, C, H, W); "images": (B, N, C, H, W), a grid; "row": images, one for
            each condition, all from the same z; "points": (B, N, 2 or 3).
        value_range: of the images.
        background: for points: {name: (M, N, d) or (N, d)} drawn in grey as lines.
        point_style: "points" or "lines".
        equal: for points: one unit is as long across as up.
        answer_name: what the output is called ("answer", "digit").
        caption: a line above the explorer.
        weights: "float16" (stored; computed in float32) or "float32".
        grid: the precomputed frames are a grid x grid table of pad positions per condition.
        prior: what "New sample" draws: "normal", "uniform" on [-1, 1], or "none" (no button).
        scale: standard deviation of the normal prior.
        smooth: True, False, or None: smooth from 48 pixels a side, else crisp squares.

    Raises:
        ConfigError: a wrong latent size, shape, name or output.
    """

    def __init__(
        self,
        decoder: nn.Module,
        z: Tensor,
        *,
        directions: Tensor | None = None,
        spans: tuple[float, float] | Tensor = (-3.0, 3.0),
        direction_names: Sequence[str] | None = None,
        conditions: Mapping[str, Tensor] | None = None,
        condition_images: Tensor | None = None,
        condition: str = "Condition",
        output: str = "image",
        value_range: tuple[float, float] = (-1.0, 1.0),
        background: Mapping[str, Tensor] | None = None,
        point_style: str = "points",
        equal: bool = True,
        answer_name: str = "answer",
        caption: str = "",
        weights: str = "float16",
        grid: int = 5,
        prior: str = "normal",
        scale: float = 1.0,
        smooth: bool | None = None,
    ) -> None:
        who = "LatentExplorer"
        checks.one_of(who, output, OUTPUTS, "output")
        checks.one_of(who, prior, PRIORS, "prior")
        checks.one_of(who, point_style, STYLES, "point_style")
        z = checks.latent(who, "z", z)
        ways = checks.directions(who, directions, len(z), most=8)
        names, stacked = checks.conditions(who, conditions)
        if output == "row" and stacked is None:
            raise ConfigError(f"{who}: output='row' is one answer per condition: give conditions")
        dual = torch.linalg.pinv(ways).T  # (D, Z)
        limits = checks.spans(who, spans, dual @ z)
        spec = {"names": named(who, direction_names, len(ways)), "spans": limits, "grid": grid}
        spec |= {"conditions": names, "condition": condition, "output": output}
        spec |= {"prior": prior, "scale": scale, "smooth": smooth, "range": list(value_range)}

        net = frozen(decoder)
        zs = frame_latents(z, ways, dual, limits, grid)  # (G*G+1, Z)
        frames = answers(who, net, zs, stacked)  # (N, G*G+1, ...)
        exported, live = export_decoder(net, z.expand(2, -1), stacked, weights)
        label = caption or "latent explorer"
        page = {"kind": "latent", "label": label, "caption": caption, "answer": answer_name}
        payload = Payload({**page, **spec, **live, "plane": [0, 1], "seed": 1}, exported.graph)

        arrays: dict[str, Tensor | np.ndarray] = {"z": z, "directions": ways, "dual": dual}
        if stacked is not None:
            arrays["conditions"] = stacked
        if output == "points":
            _add_points(payload.spec, arrays, frames, background or {}, point_style, equal)
        else:
            _add_pictures(who, payload, frames, output, value_range)
        if condition_images is not None:
            add_thumbs(who, payload, condition_images, len(names), value_range)
        payload.arrays, payload.spec["arrays"] = pack(arrays, half=("frames", "background"))
        super().__init__(payload)


def named(who: str, given: Sequence[str] | None, count: int) -> list[str]:
    """Names of directions, as given or counted.

    Raises:
        ConfigError: not as many names as directions.
    """
    if given is None:
        return [f"direction {i + 1}" for i in range(count)]
    if len(given) != count:
        raise ConfigError(f"{who}: {len(given)} direction_names for {count} directions")
    return list(map(str, given))


def frame_latents(
    z: Tensor, ways: Tensor, dual: Tensor, limits: list[list[float]], grid: int
) -> Tensor:
    """The latents of the precomputed frames: a grid of pad positions, then z itself.

    Returns:
        (grid * grid + 1, Z): rows from the top, cells at their centres.
    """
    centres = (torch.arange(grid) + 0.5) / grid
    across = limits[0][0] + centres * (limits[0][1] - limits[0][0])  # (G,)
    up = limits[1][1] - centres * (limits[1][1] - limits[1][0])  # (G,), from the top
    table = torch.cartesian_prod(up, across).flip(1)  # (G*G, 2): (across, up)
    zs = z + (table - dual[:2] @ z) @ ways[:2]  # (G*G, Z)
    return torch.cat([zs, z[None]])


def _add_pictures(
    who: str, payload: Payload, frames: Tensor, output: str, value_range: tuple[float, float]
) -> None:
    """frames: (N, F, C, H, W), or (N, F, K, C, H, W) for grids."""
    depth = 6 if output == "images" else 5
    if frames.ndim != depth:
        got, wanted = frames.ndim - 1, depth - 1
        raise ConfigError(f"{who}: output='{output}' wants {wanted}-d answers, got {got}-d")
    each = frames.shape[2] if output == "images" else 1  # pictures in a frame
    if output == "images":
        payload.spec["count"] = each
    images = pictures(frames.flatten(0, -4), value_range)
    payload.spec["picture"] = list(images.shape[1:3])
    payload.frames, payload.spec["sheet"] = sheet(images)
    payload.poster = images[(frames.shape[1] - 1) * each]  # of the last frame, at z itself


def _add_points(
    spec: dict[str, Any],
    arrays: dict[str, Tensor | np.ndarray],
    frames: Tensor,
    background: Mapping[str, Tensor],
    style: str,
    equal: bool,
) -> None:
    """frames: (N, F, P, d) points."""
    depth = frames.shape[-1]
    if frames.ndim != 4 or depth not in (2, 3):
        raise ConfigError(f"LatentExplorer: points must be (B, N, 2 or 3), got {frames.shape[1:]}")
    arrays["frames"] = frames.flatten(0, 1)
    layers = []
    for i, (name, lines) in enumerate(background.items()):
        arrays[f"background{i}"] = torch.as_tensor(lines).float()
        layer = {"kind": "lines", "name": name, "colour": None, "alpha": 0.5}
        layers.append({**layer, "array": f"background{i}"})
    clouds = [frames, *(torch.as_tensor(lines).float() for lines in background.values())]
    spec["plot"] = {
        "limits": bounds(clouds),
        "depth": depth == 3,
        "equal": equal,
        "aspect": 1 if equal else 1.5,
        "style": style,
        "colour": COLOURS[0],
        "background": layers,
    }


def bounds(clouds: Sequence[Tensor], margin: float = 0.06) -> list[float]:
    """[low, high] of every coordinate of the points (..., d), with a margin, flattened."""
    flat = torch.cat([c.reshape(-1, c.shape[-1]) for c in clouds])
    low, high = flat.amin(0), flat.amax(0)
    pad = margin * (high - low).clamp(min=1e-3)
    return torch.stack([low - pad, high + pad], 1).flatten().tolist()


def add_thumbs(
    who: str, payload: Payload, images: Tensor, count: int, value_range: tuple[float, float]
) -> None:
    """Thumbnails of the conditions.

    Raises:
        ConfigError: not one per condition.
    """
    if len(images) != count:
        raise ConfigError(f"{who}: {len(images)} condition_images for {count} conditions")
    payload.thumbs, payload.spec["thumbs"] = sheet(pictures(images, value_range))
