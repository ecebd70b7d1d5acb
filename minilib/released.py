"""Released checkpoints in our networks: ``load(network, "latest_net_G.pth")``.

The code that came with the papers names its tensors in its own way.  A layout here says what each
of our tensors is called there; names depend on the depth of a network, never on its width.  Nothing
is loaded unless every tensor finds its place: what is missing or left over is an error.

Names and shapes cannot tell everything: build the network as the chapter's ``full`` preset does,
with the normalisation, padding and clamping of the release.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minilib.released_names import LAYOUTS, Layout

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
WRAPPERS = ("state_dict", "net", "model")  # keys under which a file may hold the tensors
SHOWN = 12  # names of each kind in an error's message
BINOMIAL = {1: (1,), 2: (1, 1), 3: (1, 2, 1), 4: (1, 3, 3, 1), 5: (1, 4, 6, 4, 1)}


class ReleasedError(ValueError):
    """A checkpoint that does not fit; the message is one line.

    Args:
        message: the line.
        missing: released names that the network needs and the checkpoint lacks.
        left_over: names in the checkpoint for which the network has no place.
        shapes: names of tensors of another shape than ours.
    """

    def __init__(
        self,
        message: str,
        missing: Sequence[str] = (),
        left_over: Sequence[str] = (),
        shapes: Sequence[str] = (),
    ) -> None:
        """Keep the names beside the message."""
        super().__init__(message)
        self.missing, self.left_over, self.shapes = list(missing), list(left_over), list(shapes)


@dataclass(slots=True)
class Fit:
    """A checkpoint held against a network in one layout."""

    layout: Layout
    found: dict[str, Tensor] = field(default_factory=dict)  # by our names
    missing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)

    @property
    def misfits(self) -> int:
        """How many tensors found no place."""
        return len(self.missing) + len(self.left_over) + len(self.shapes)


def load(network: nn.Module, source: Mapping[str, Any] | str | Path, part: str = "") -> nn.Module:
    """Fill a network with the tensors of a released checkpoint.

    Args:
        network: one of ours, built with the sizes of the checkpoint.
        source: a state dict, or the file that holds one.
        part: where a checkpoint holds several networks, the prefix of one ("E", "G", "D").

    Returns:
        The same network; it is unchanged where an error is raised.

    Raises:
        ReleasedError: no such file, not a state dict, or names or shapes that do not fit; the
            message lists them, and ``missing``, ``left_over`` and ``shapes`` hold them all.
    """
    theirs = tensors(source, part)
    best = min((fit(network, theirs, layout) for layout in LAYOUTS), key=lambda f: f.misfits)
    if best.misfits:
        raise _error(best)
    network.load_state_dict(best.found)
    return network


def tensors(source: Mapping[str, Any] | str | Path, part: str = "") -> dict[str, Tensor]:
    """The tensors of a checkpoint by their released names, wrappers and prefixes taken off.

    Raises:
        ReleasedError: nothing that can be read as tensors by name.
    """
    name = "the checkpoint"
    if not isinstance(source, Mapping | str | Path):
        raise ReleasedError(f"a state dict or a file is wanted, not {type(source).__name__}")
    if not isinstance(source, Mapping):
        name, source = Path(source).name, _read(Path(source))
    for wrapper in WRAPPERS:
        if isinstance(source, Mapping) and isinstance(source.get(wrapper), Mapping):
            source = source[wrapper]
    if not isinstance(source, Mapping) or not source:
        raise ReleasedError(f"{name} holds no tensors by name")
    odd = [k for k, v in source.items() if not (isinstance(k, str) and isinstance(v, Tensor))]
    if odd:
        raise ReleasedError(f"{name} is not a state dict: '{odd[0]}' is not a tensor")
    for key, value in source.items():
        if value.layout != torch.strided or value.is_meta:
            raise ReleasedError(f"{name}: '{key}' is no plain tensor")
        if not torch.isfinite(value).all():
            raise ReleasedError(f"{name}: '{key}' holds numbers that are not finite")
    plain = {key.removeprefix("module."): value for key, value in source.items()}
    if not part:
        return plain
    start = part.rstrip(".") + "."
    mine = {key.removeprefix(start): v for key, v in plain.items() if key.startswith(start)}
    if not mine:
        parts = ", ".join(sorted({key.split(".")[0] for key in plain}))
        raise ReleasedError(f"{name} has no part '{part}'; it has: {parts}")
    return mine


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ReleasedError(f"no file '{path}'") from None
    except Exception as error:  # pickle, zip and torch raise a dozen kinds
        reason = " ".join(str(error).split())[:120]
        raise ReleasedError(f"'{path.name}' is not a checkpoint ({reason})") from None


def fit(network: nn.Module, theirs: Mapping[str, Tensor], layout: Layout) -> Fit:
    """Look up every tensor of the network under its released name; nothing is loaded.

    Args:
        network: one of ours.
        theirs: released name -> tensor.
        layout: whose names to use.
    """
    ours = network.state_dict()
    rename = layout.names(list(ours), list(theirs))
    result, used = Fit(layout), set()
    computed = layout.computed(ours, theirs)
    for name, tensor in ours.items():
        other = rename(name)
        if name in computed:
            result.found[name] = computed[name]
            if computed[name].shape != tensor.shape:
                result.shapes.append(f"{name} {_shape(computed[name])}, not {_shape(tensor)}")
        elif other in theirs:
            used.add(other)
            same = _squeezed(theirs[other]) == _squeezed(tensor)
            result.found[name] = theirs[other].reshape(tensor.shape) if same else theirs[other]
            if not same:
                result.shapes.append(f"{other} {_shape(theirs[other])}, not {_shape(tensor)}")
            elif theirs[other].is_floating_point() != tensor.is_floating_point():
                result.shapes.append(f"{other} holds {theirs[other].dtype}, not {tensor.dtype}")
        elif name.endswith("num_batches_tracked") or is_filter(name, tensor):
            result.found[name] = tensor  # a count that old PyTorch did not keep; a constant
        else:
            result.missing.append(other or name)
    spare = set(_unused_statistics(network, rename))
    for name, tensor in theirs.items():
        known = name in used or name in spare or is_filter(name, tensor)
        if not known and not re.fullmatch(layout.read, name):
            result.left_over.append(name)
    return result


def _unused_statistics(network: nn.Module, rename: Callable[[str], str]) -> Iterable[str]:
    """Names of running statistics that PyTorch before 0.4 saved for instance normalisation.

    Nothing ever read them: every image was, and is, normalised by its own mean and variance.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.InstanceNorm2d) and not module.track_running_stats:
            yield from (rename(f"{name}.{what}") for what in STATISTICS)


def is_filter(name: str, tensor: Tensor) -> bool:
    """Whether this is a fixed binomial blur: saved with a checkpoint, but learned by nobody.

    Its sum is 1, or 4 where zeros were put between the pixels first.
    """
    if name.rpartition(".")[2] not in ("filt", "kernel") or tensor.dim() < 2:
        return False
    line = np.array(BINOMIAL.get(tensor.shape[-1], ()), dtype=np.float32)
    if tensor.shape[-2:] != (line.size, line.size):
        return False
    wanted = torch.from_numpy(np.outer(line, line) / line.sum() ** 2)
    values = tensor.detach().cpu().float()
    return any(torch.allclose(values, gain * wanted, atol=1e-6) for gain in (1, 4))


def _squeezed(tensor: Tensor) -> list[int]:
    """A shape without its ones: some releases keep a bias as (1, C, 1, 1)."""
    return [size for size in tensor.shape if size != 1]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _error(best: Fit) -> ReleasedError:
    parts = [f"does not fit this network; the nearest layout is {best.layout.title}"]
    for what, names in (
        ("missing", best.missing), ("left over", best.left_over), ("other shapes", best.shapes),
    ):  # fmt: skip
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            parts.append(f"{what} ({len(names)}): {', '.join(names[:SHOWN])}{more}")
    message = "the checkpoint " + "; ".join(parts)
    return ReleasedError(message, best.missing, best.left_over, best.shapes)
