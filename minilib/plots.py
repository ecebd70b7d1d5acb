"""One figure style for the whole book: transparent, mid-grey text, colour-blind-safe colours.

Figures have no background of their own, so that they read on light and on dark pages.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

GREY = "#808080"  # contrast of about 4:1 on white and 5:1 on the dark page
# Okabe and Ito's palette, reordered; black is left out because it vanishes on dark pages
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B8A800"]


def use_style() -> None:
    """Set matplotlib's defaults; every chapter calls this once."""
    matplotlib.rcParams.update(
        {
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "savefig.transparent": True,
            "savefig.bbox": "tight",
            "savefig.dpi": 144,
            "figure.dpi": 144,
            "figure.figsize": (6.4, 3.4),
            "font.size": 9,
            "font.family": "DejaVu Sans",
            "text.color": GREY,
            "axes.labelcolor": GREY,
            "axes.edgecolor": GREY,
            "axes.titlecolor": GREY,
            "axes.titlesize": 9.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": cycler(color=COLOURS),
            "axes.grid": True,
            "grid.color": GREY,
            "grid.alpha": 0.18,
            "grid.linewidth": 0.6,
            "xtick.color": GREY,
            "ytick.color": GREY,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "image.cmap": "gray",
            "image.interpolation": "nearest",
        }
    )


def to_numpy(image: Tensor) -> np.ndarray:
    """(C, H, W) in [-1, 1] to (H, W, 3) in [0, 1], clipped; one channel becomes grey."""
    array = image.detach().cpu().float().clamp(-1, 1).add(1).div(2)
    array = array.expand(3, -1, -1) if array.shape[0] == 1 else array
    return array.permute(1, 2, 0).numpy()


def image_grid(
    images: Tensor,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    scale: float = 1.0,
    columns: int = 8,
    gap: float = 0.04,
    smooth: bool = False,
) -> Figure:
    """A grid of images.

    Args:
        images: (R, N, C, H, W), or (N, C, H, W) laid out in rows of ``columns``; in [-1, 1].
        row_labels: R texts on the left.
        column_labels: N texts on top.
        scale: height of one image in inches, times 0.8.
        columns: images per row when ``images`` has four dimensions.
        gap: between images, in image widths.
        smooth: interpolate between pixels, which makes very small images easier to read.

    Raises:
        ValueError: wrong number of dimensions or labels.
    """
    grid = _as_rows(images, columns)
    rows, wide = len(grid), max(len(row) for row in grid)
    if row_labels is not None and len(row_labels) != rows:
        raise ValueError(f"{len(row_labels)} row labels for {rows} rows")
    if column_labels is not None and len(column_labels) != wide:
        raise ValueError(f"{len(column_labels)} column labels for {wide} columns")
    h, w = images.shape[-2:]
    size = (0.8 * scale * wide * w / h, 0.8 * scale * rows)
    figure, axes = plt.subplots(
        rows, wide, figsize=size, squeeze=False, gridspec_kw={"wspace": gap, "hspace": gap}
    )
    for r, row in enumerate(grid):
        for c in range(wide):
            axis = axes[r, c]
            _bare(axis)
            if c < len(row):
                kind = "bicubic" if smooth else "nearest"
                axis.imshow(to_numpy(row[c]), vmin=0, vmax=1, aspect="auto", interpolation=kind)
            if r == 0 and column_labels is not None:
                axis.set_title(column_labels[c], fontsize=8.5, pad=3)
        if row_labels is not None:
            label = {"rotation": 0, "ha": "right", "va": "center", "fontsize": 8.5}
            axes[r, 0].set_ylabel(row_labels[r], **label)
    return figure


def _as_rows(images: Tensor, columns: int) -> list[Tensor]:
    if images.ndim == 5:
        return list(images)
    if images.ndim == 4:
        return list(images.split(min(columns, len(images))))
    raise ValueError(f"images want 4 or 5 dimensions, not {images.ndim}")


def _bare(axis: Axes) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)


def curves(
    history: Mapping[str, Sequence[float]],
    names: Iterable[str] | None = None,
    smooth: int = 1,
    axis: Axes | None = None,
    **labels: Any,
) -> Figure:
    """Training curves, drawn over the history's ``step``.

    Args:
        history: ``Fitted.history``.
        names: which losses; None = all.
        smooth: width of a running mean, in entries.
        axis: to draw into; None makes a figure.
        labels: ``xlabel``, ``ylabel``, ``title``, ``yscale`` and other axis properties.
    """
    axis = axis or plt.subplots()[1]
    for name in names or [n for n in history if n != "step"]:
        values = np.asarray(history[name], dtype=float)
        width = max(1, min(smooth, len(values)))
        mean = np.convolve(values, np.ones(width) / width, mode="valid")
        axis.plot(np.asarray(history["step"])[width - 1 :], mean, label=name)
    axis.set(**{"xlabel": "step", **labels})
    axis.legend()
    figure = axis.figure
    assert isinstance(figure, Figure)
    return figure
