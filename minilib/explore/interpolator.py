"""Interpolator: the way from one latent to another."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from minilib.config import ConfigError
from minilib.explore import checks
from minilib.explore.export import answers, export_decoder, frozen
from minilib.explore.latent import add_thumbs
from minilib.explore.pack import pack, pictures, sheet
from minilib.explore.widget import Explorer, Payload

MODES = ("linear", "spherical")


class Interpolator(Explorer):
    """A slider from latent A to latent B, and the strip of steps between them.

    Args:
        decoder: ``decoder(z)`` or ``decoder(z, c)`` -> (B, C, H, W); z is (B, Z), c is (B, ...).
        za: (Z,) where it starts.
        zb: (Z,) where it ends.
        conditions: {name: tensor (...)}, all of one shape.
        condition_images: (N, 1 or 3, h, w) thumbnails of the conditions, in ``value_range``.
        condition: what the conditions are called.
        steps: pictures in the strip, ends included.
        mode: "linear" or "spherical" to begin with; the reader may change it.
        value_range: of the images.
        answer_name: what the output is called.
        caption: a line above the explorer.
        weights: "float16" (stored; computed in float32) or "float32".
        scale: standard deviation of what "New A" and "New B" draw.
        smooth: True, False, or None: smooth from 48 pixels a side, else crisp squares.

    Raises:
        ConfigError: a wrong latent size, shape, name or mode.
    """

    def __init__(
        self,
        decoder: nn.Module,
        za: Tensor,
        zb: Tensor,
        *,
        conditions: Mapping[str, Tensor] | None = None,
        condition_images: Tensor | None = None,
        condition: str = "Condition",
        steps: int = 9,
        mode: str = "linear",
        value_range: tuple[float, float] = (-1.0, 1.0),
        answer_name: str = "answer",
        caption: str = "",
        weights: str = "float16",
        scale: float = 1.0,
        smooth: bool | None = None,
    ) -> None:
        who = "Interpolator"
        checks.one_of(who, mode, MODES, "mode")
        za = checks.latent(who, "za", za)
        zb = checks.latent(who, "zb", zb, width=len(za))
        if steps < 2:
            raise ConfigError(f"{who}: steps must be at least 2, got {steps}")
        names, stacked = checks.conditions(who, conditions)
        net = frozen(decoder)
        t = torch.linspace(0, 1, steps)
        paths = torch.cat([between(za, zb, t, spherical) for spherical in (False, True)])
        frames = answers(who, net, paths, stacked)  # (N, 2 * steps, C, H, W)
        images = pictures(frames.flatten(0, 1), value_range)
        exported, live = export_decoder(net, torch.stack([za, zb]), stacked, weights)

        arrays = {"za": za, "zb": zb, **({} if stacked is None else {"conditions": stacked})}
        block, index = pack(arrays)
        sheet_bytes, cut = sheet(images)
        label = caption or "interpolation between two latents"
        page: dict[str, Any] = {
            "kind": "interpolate",
            "label": label,
            "caption": caption,
            "answer": answer_name,
        }
        spec = {"conditions": names, "condition": condition, "steps": steps, "mode": mode}
        spec |= {"smooth": smooth, "range": list(value_range), "picture": list(images.shape[1:3])}
        spec |= {"scale": scale, "seed": 2, "arrays": index, "sheet": cut}
        page |= {**spec, **live}
        payload = Payload(page, exported.graph, sheet_bytes, b"", block, images[0])
        if condition_images is not None:
            add_thumbs(who, payload, condition_images, len(names), value_range)
        super().__init__(payload)


def between(za: Tensor, zb: Tensor, t: Tensor, spherical: bool) -> Tensor:
    """Points (T, Z) between two latents (Z,); t: (T,) in [0, 1].

    Spherical interpolation follows the great circle (Shoemake 1985); for latents that point the
    same way it is the linear one.
    """
    t = t[:, None]
    angle = torch.acos(torch.cosine_similarity(za, zb, dim=0).clamp(-1, 1))
    if not spherical or torch.sin(angle) < 1e-4:
        return (1 - t) * za + t * zb
    return (torch.sin((1 - t) * angle) * za + torch.sin(t * angle) * zb) / torch.sin(angle)
