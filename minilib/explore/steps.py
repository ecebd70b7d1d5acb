"""StepExplorer: a sequence to play, step and scrub."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minilib.config import ConfigError
from minilib.explore import checks
from minilib.explore.export import answers, export_decoder, frozen
from minilib.explore.latent import bounds
from minilib.explore.pack import pack, pictures, sheet
from minilib.explore.widget import Explorer, Payload
from minilib.plots import COLOURS

Arrows = tuple[Tensor, Tensor]
STILL = "Precomputed sequence; it stands still until you play it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One step of a drawn sequence, in data coordinates.

    Args:
        points: {name: (N, 2)}.
        lines: {name: (M, N, 2) or (N, 2)}.
        arrows: {name: (starts (N, 2), ends (N, 2))}.
        text: a line below the drawing.
    """

    points: Mapping[str, Tensor] = field(default_factory=dict)
    lines: Mapping[str, Tensor] = field(default_factory=dict)
    arrows: Mapping[str, Arrows] = field(default_factory=dict)
    text: str = ""

    def layers(self) -> list[tuple[str, str, Tensor]]:
        """(kind, name, coordinates), in drawing order: lines, arrows, points."""
        out = [("lines", name, torch.as_tensor(v).float()) for name, v in self.lines.items()]
        for name, (starts, ends) in self.arrows.items():
            pairs = [torch.as_tensor(v).float() for v in (starts, ends)]
            out.append(("arrows", name, torch.stack(pairs, 1)))  # (N, 2, 2)
        out += [("points", name, torch.as_tensor(v).float()) for name, v in self.points.items()]
        return out


class StepExplorer(Explorer):
    """Play, step and scrub through pictures, drawings, or a network's answers along a path.

    Args:
        frames: pictures (T, 1 or 3, H, W), or a list of T ``Scene``s; or {variant: either} for a
            choice between sequences of equal length.
        decoder: instead of frames: ``decoder(z)`` or ``decoder(z, c)``, run live at every step.
        zs: (T, Z) the latents of the steps, with ``decoder``.
        conditions: with ``decoder``: {name: tensor}, one variant each.
        step_names: T names (training steps, say); None counts from 0.
        step: what a step is called.
        variant: what the variants are called.
        styles: for Scenes, {layer name: {"colour": css or an index into plots.COLOURS (None: grey),
            "size": pixels, "alpha": 0 to 1}}.
        limits: (x0, x1, y0, y1) of the drawing; None fits all steps.
        equal: one unit is as long across as up.
        rate: steps per second when played.
        start: the step shown first; negative counts from the end.
        value_range: of the pictures.
        caption: a line above the explorer.
        weights: "float16" or "float32", with ``decoder``.
        smooth: True, False, or None: smooth from 48 pixels a side, else crisp squares.

    Raises:
        ConfigError: wrong shapes, unequal lengths, unknown styles.
    """

    def __init__(
        self,
        frames: Any = None,
        *,
        decoder: nn.Module | None = None,
        zs: Tensor | None = None,
        conditions: Mapping[str, Tensor] | None = None,
        step_names: Sequence[Any] | None = None,
        step: str = "Step",
        variant: str = "Variant",
        styles: Mapping[str, Mapping[str, Any]] | None = None,
        limits: tuple[float, float, float, float] | None = None,
        equal: bool = True,
        rate: float = 4.0,
        start: int = 0,
        value_range: tuple[float, float] = (-1.0, 1.0),
        caption: str = "",
        weights: str = "float16",
        smooth: bool | None = None,
    ) -> None:
        who = "StepExplorer"
        live, facts = b"", {"batch": 0, "trouble": ""}
        arrays: dict[str, Any] = {}
        if (frames is None) == (decoder is None):
            raise ConfigError(f"{who}: give either frames, or decoder and zs")
        if decoder is not None:
            frames, live, facts, arrays = _live(who, decoder, zs, conditions, weights)
        sequences = dict(frames) if isinstance(frames, Mapping) else {"": frames}
        labels = _step_names(who, sequences, step_names)
        first = start % len(labels)
        page: dict[str, Any] = {"kind": "steps", "label": caption or "sequence", "caption": caption}
        page |= {"names": labels, "step": step, "variants": list(sequences), "variant": variant}
        page |= {"rate": rate, "start": first, "range": list(value_range), "smooth": smooth}
        page |= {"still": decoder is None, "print": STILL, **facts}
        payload = Payload(page, live)
        if isinstance(next(iter(sequences.values()))[0], Scene):
            _add_scenes(who, page, arrays, sequences, styles or {})
            page["plot"] |= {"equal": equal, "aspect": 1.25}
            page["plot"] |= {} if limits is None else {"limits": list(limits)}
        else:
            whole = torch.cat([torch.as_tensor(f) for f in sequences.values()])
            images = pictures(whole, value_range)
            page["picture"] = list(images.shape[1:3])
            payload.frames, page["sheet"] = sheet(images)
            payload.poster = images[first]
        payload.arrays, page["arrays"] = pack(arrays, half=("scene",))
        super().__init__(payload)


def _step_names(who: str, sequences: Mapping[str, Any], given: Sequence[Any] | None) -> list[str]:
    """One name per step, as given or counted from 0."""
    lengths = {len(sequence) for sequence in sequences.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ConfigError(f"{who}: variants must have equal lengths, got {sorted(lengths)}")
    count = lengths.pop()
    names = [str(name) for name in (range(count) if given is None else given)]
    if len(names) != count:
        raise ConfigError(f"{who}: {len(names)} step_names for {count} steps")
    return names


def _live(
    who: str,
    decoder: nn.Module,
    zs: Tensor | None,
    conditions: Mapping[str, Tensor] | None,
    weights: str,
) -> tuple[dict[str, Tensor], bytes, dict[str, Any], dict[str, Any]]:
    """PyTorch's frames per condition, the graph, its facts, and the arrays it is fed with."""
    if zs is None or zs.ndim != 2 or len(zs) < 2:
        raise ConfigError(f"{who}: zs must be (T, Z) with T >= 2")
    zs = zs.detach().float().cpu()
    names, stacked = checks.conditions(who, conditions)
    net = frozen(decoder)
    frames = answers(who, net, zs, stacked)  # (N, T, C, H, W)
    exported, facts = export_decoder(net, zs[:2], stacked, weights)
    arrays = {"z": zs, **({} if stacked is None else {"conditions": stacked})}
    return dict(zip(names, frames, strict=True)), exported.graph, facts, arrays


def _add_scenes(
    who: str,
    spec: dict[str, Any],
    arrays: dict[str, Tensor | np.ndarray],
    sequences: Mapping[str, Sequence[Scene]],
    styles: Mapping[str, Mapping[str, Any]],
) -> None:
    """Every layer's coordinates into arrays (equal ones once), and the scenes into the spec."""
    scenes = [scene for sequence in sequences.values() for scene in sequence]
    names = list(dict.fromkeys(name for scene in scenes for _, name, _ in scene.layers()))
    for name in styles:
        checks.one_of(who, name, names, "layer in styles")
    seen: dict[tuple[bytes, tuple[int, ...]], str] = {}
    spec["scenes"] = []
    for scene in scenes:
        layers = []
        for kind, name, values in scene.layers():
            if values.shape[-1] != 2:
                raise ConfigError(
                    f"{who}: layer '{name}' must be (..., 2), got {tuple(values.shape)}"
                )
            content = (values.numpy().tobytes(), tuple(values.shape))
            key = seen.setdefault(content, f"scene{len(seen)}")
            arrays[key] = values.numpy().astype(np.float32)
            style = {"colour": names.index(name), **styles.get(name, {})}
            if isinstance(style["colour"], int):
                style["colour"] = COLOURS[style["colour"] % len(COLOURS)]
            layers.append({"kind": kind, "name": name, "array": key, **style})
        spec["scenes"].append({"layers": layers, "text": scene.text})
    clouds = [values for scene in scenes for _, _, values in scene.layers() if values.numel()]
    spec["plot"] = {"limits": bounds(clouds)}
