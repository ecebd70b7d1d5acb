"""SwapExplorer: the structure of one image with the texture of another."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from minilib.config import ConfigError
from minilib.explore import checks
from minilib.explore.export import answer, export, facts, frozen
from minilib.explore.latent import named
from minilib.explore.pack import pack, pictures, sheet
from minilib.explore.widget import Explorer, Payload


class SwapExplorer(Explorer):
    """Choose two images; swap, blend and edit their texture.

    Args:
        encoder: ``encoder(images)`` -> (structure (N, ...), texture (N, T)); runs here, once.
        generator: ``generator(structure, texture)`` -> (B, 1 or 3, H, W); runs in the browser.
        images: (N, 1 or 3, H, W), N >= 2, in ``value_range``.
        image_names: N names.
        directions: (D, T) of texture space, a slider each; None for none.
        direction_names: D names; None counts them.
        spans: (low, high) of the sliders, or (D, 2).
        value_range: of the images.
        answer_name: what the output is called.
        caption: a line above the explorer.
        weights: "float16" (stored; computed in float32) or "float32".
        smooth: True, False, or None: smooth from 48 pixels a side, else crisp squares.

    Raises:
        ConfigError: codes or directions of the wrong shape, fewer than two images.
    """

    def __init__(
        self,
        encoder: nn.Module,
        generator: nn.Module,
        images: Tensor,
        *,
        image_names: Sequence[str] | None = None,
        directions: Tensor | None = None,
        direction_names: Sequence[str] | None = None,
        spans: tuple[float, float] | Tensor = (-3.0, 3.0),
        value_range: tuple[float, float] = (-1.0, 1.0),
        answer_name: str = "swap",
        caption: str = "",
        weights: str = "float16",
        smooth: bool | None = None,
    ) -> None:
        who = "SwapExplorer"
        images = images.detach().float().cpu()
        if images.ndim != 4 or len(images) < 2:
            raise ConfigError(
                f"{who}: images must be (N, C, H, W), N >= 2, got {tuple(images.shape)}"
            )
        names = (
            [str(i + 1) for i in range(len(images))] if image_names is None else list(image_names)
        )
        if len(names) != len(images):
            raise ConfigError(f"{who}: {len(names)} image_names for {len(images)} images")
        structures, textures = _codes(who, encoder, images)
        ways = _directions(who, directions, textures.shape[1])
        net = frozen(generator)
        count = len(images)
        s = structures.repeat_interleave(count, 0)  # (N * N, ...): structure i, texture j
        t = textures.repeat(count, 1)
        swaps = pictures(answer(net, [s, t], who), value_range)
        exported = export(net, ["s", "t"], [structures[:2].clone(), textures[:2].clone()], weights)

        arrays, labels, limits = {"structures": structures, "textures": textures}, [], []
        if ways is not None:
            arrays["directions"] = ways
            labels = named(who, direction_names, len(ways))
            limits = checks.spans(who, spans, torch.zeros(len(ways)))
        block, index = pack(arrays)
        frames, cut = sheet(swaps)
        thumbs, cut_thumbs = sheet(pictures(images, value_range))
        label = caption or "structure and texture"
        page: dict[str, Any] = {"kind": "swap", "label": label, "caption": caption}
        page |= {"answer": answer_name, "images": names, "names": labels, "spans": limits}
        page |= {"range": list(value_range), "picture": list(swaps.shape[1:3]), "smooth": smooth}
        page |= {"arrays": index, "sheet": cut, "thumbs": cut_thumbs, **facts(exported)}
        super().__init__(Payload(page, exported.graph, frames, thumbs, block, swaps[1]))


def _codes(who: str, encoder: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """(structure (N, ...), texture (N, T)) of the images."""
    with torch.no_grad():
        codes = frozen(encoder)(images)
    if not (isinstance(codes, tuple) and len(codes) == 2):
        raise ConfigError(f"{who}: the encoder must return (structure, texture)")
    structures, textures = codes[0].float(), codes[1].float()
    if (
        len(structures) != len(images)
        or textures.shape[:1] != images.shape[:1]
        or textures.ndim != 2
    ):
        shapes = f"{tuple(structures.shape)} and {tuple(textures.shape)}"
        raise ConfigError(f"{who}: codes must be (N, ...) and (N, T), got {shapes}")
    return structures, textures


def _directions(who: str, given: Tensor | None, width: int) -> Tensor | None:
    """(D, T), or None."""
    if given is None:
        return None
    given = torch.as_tensor(given).detach().float().cpu()
    if given.ndim != 2 or given.shape[1] != width:
        raise ConfigError(f"{who}: directions must be (D, {width}), got {tuple(given.shape)}")
    return given
