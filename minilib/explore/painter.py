"""LayoutPainter: paint a layout, and watch the network render it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minilib.config import ConfigError
from minilib.explore import checks
from minilib.explore.export import answer, export, facts, frozen
from minilib.explore.latent import add_thumbs
from minilib.explore.pack import pack, pictures, sheet
from minilib.explore.widget import Explorer, Payload

ENCODINGS = ("onehot", "index")


class LayoutPainter(Explorer):
    """Paint labels onto a layout with a brush; style from a latent or from a reference image.

    Args:
        network: ``network(x, z)``, or ``network(x)`` without z -> (B, 1 or 3, H', W'); x is
            one-hot (B, L, H, W), or labels (B, H, W) with ``encoding="index"``; z is (B, Z).
        layout: (H, W) labels in [0, L) to begin with.
        labels: L pairs (name, "#rrggbb").
        z: (Z,) the style to begin with; None for a network without one.
        style_images: (S, 1 or 3, h, w) pictures of further styles, in ``value_range``.
        style_latents: (S, Z) their latents (what the style encoder makes of them).
        style_names: S names.
        encoding: "onehot" or "index".
        sliders: as many of z's first coordinates get a slider.
        brush: its diameter to begin with, in layout pixels.
        value_range: of the images.
        answer_name: what the output is called.
        caption: a line above the explorer.
        weights: "float16" (stored; computed in float32) or "float32".
        scale: standard deviation of what "New style" draws.
        smooth: True, False, or None: smooth from 48 pixels a side, else crisp squares.

    Raises:
        ConfigError: a wrong latent size, a label out of range, styles that do not match.
    """

    def __init__(
        self,
        network: nn.Module,
        layout: Tensor,
        labels: Sequence[tuple[str, str]],
        z: Tensor | None = None,
        *,
        style_images: Tensor | None = None,
        style_latents: Tensor | None = None,
        style_names: Sequence[str] | None = None,
        encoding: str = "onehot",
        sliders: int = 4,
        brush: int = 5,
        value_range: tuple[float, float] = (-1.0, 1.0),
        answer_name: str = "answer",
        caption: str = "",
        weights: str = "float16",
        scale: float = 1.0,
        smooth: bool | None = None,
    ) -> None:
        who = "LayoutPainter"
        checks.one_of(who, encoding, ENCODINGS, "encoding")
        layout = _layout(who, layout, labels)
        styles, names = _styles(who, z, style_images, style_latents, style_names)
        x = encode(layout, len(labels), encoding)[None]  # (1, L, H, W) or (1, H, W)
        net = frozen(network)
        count = 1 if styles is None else len(styles)
        inputs = [x.expand(count, *x.shape[1:]).clone(), *([] if styles is None else [styles])]
        images = pictures(answer(net, inputs, who), value_range)
        examples = [torch.cat([i[:1], i[-1:]]) for i in inputs]
        exported = export(net, ["x", "z"][: len(inputs)], examples, weights)

        arrays = {"layout": layout.to(torch.uint8)}
        if styles is not None:
            arrays["styles"] = styles
        block, index = pack(arrays)
        frames, cut = sheet(images)
        label = caption or "layout painter"
        page: dict[str, Any] = {"kind": "paint", "label": label, "caption": caption}
        page |= {"labels": [name for name, _ in labels], "colours": [hex_ for _, hex_ in labels]}
        page |= {"encoding": encoding, "sliders": sliders, "brush": brush, "styles": names}
        page |= {"answer": answer_name, "range": list(value_range), "smooth": smooth}
        page |= {"picture": list(images.shape[1:3]), "scale": scale, "seed": 3}
        page |= {"arrays": index, "sheet": cut, **facts(exported)}
        payload = Payload(page, exported.graph, frames, b"", block, images[0])
        if style_images is not None:
            add_thumbs(
                who, payload, _faces(images[0], style_images, value_range), count, value_range
            )
        super().__init__(payload)


def _faces(start: np.ndarray, given: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Thumbnails of the styles: the first answer (H, W, 3) uint8, then the given images."""
    low, high = value_range
    first = torch.from_numpy(start).permute(2, 0, 1)[None] / 255 * (high - low) + low
    first = nn.functional.interpolate(first, given.shape[-2:])[:, : given.shape[1]]
    return torch.cat([first, given.detach().float().cpu()])


def encode(layout: Tensor, count: int, encoding: str) -> Tensor:
    """Labels (H, W) as one-hot float32 (L, H, W), or as they are, int64."""
    if encoding == "index":
        return layout
    return nn.functional.one_hot(layout, count).permute(2, 0, 1).float()


def _layout(who: str, layout: Tensor, labels: Sequence[tuple[str, str]]) -> Tensor:
    """(H, W) int64, every label named and coloured."""
    layout = torch.as_tensor(layout).detach().cpu().to(torch.int64)
    if layout.ndim != 2:
        raise ConfigError(f"{who}: layout must be (H, W), got {tuple(layout.shape)}")
    low, high = int(layout.min()), int(layout.max())
    if low < 0 or high >= len(labels):
        raise ConfigError(f"{who}: layout holds labels {low} to {high}, {len(labels)} are named")
    for name, colour in labels:
        if not (len(colour) == 7 and colour.startswith("#")):
            raise ConfigError(f"{who}: the colour of '{name}' must be '#rrggbb', got '{colour}'")
    return layout


def _styles(
    who: str,
    z: Tensor | None,
    images: Tensor | None,
    latents: Tensor | None,
    names: Sequence[str] | None,
) -> tuple[Tensor | None, list[str]]:
    """All styles (1 + S, Z), the start first, and their names."""
    if z is None:
        if latents is not None:
            raise ConfigError(f"{who}: style_latents need z, the style to begin with")
        return None, [""]
    z = checks.latent(who, "z", z)
    if latents is None:
        if images is not None:
            raise ConfigError(
                f"{who}: style_images need style_latents, what the encoder made of them"
            )
        return z[None], ["start"]
    latents = torch.as_tensor(latents).detach().float().cpu()
    if latents.ndim != 2 or latents.shape[1] != len(z):
        raise ConfigError(f"{who}: style_latents must be (S, {len(z)}), got {tuple(latents.shape)}")
    names = list(names) if names is not None else [f"style {i + 1}" for i in range(len(latents))]
    if len(names) != len(latents) or (images is not None and len(images) != len(latents)):
        raise ConfigError(
            f"{who}: style_latents, style_images and style_names must match in number"
        )
    return torch.cat([z[None], latents]), ["start", *names]
