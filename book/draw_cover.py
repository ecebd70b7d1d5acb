"""The picture on the cover: one layout of Tinytown, and nine right answers to it.

The first page draws it when the book is built; ``python book/draw_cover.py`` writes the copy that
the README shows (``book/_static/cover.png``).
"""

import dataclasses
import pathlib

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path
from torch import Tensor

from minilib import plots, tinytown

PICTURE = pathlib.Path(__file__).parent / "_static" / "cover.png"
SCENE_SEED, SCENE, SIZE = 0, 240, 160
INPUT = (0.0, 1.025, 1.55)  # left, bottom and width of the input, in units of one answer
GRID_LEFT, GAP = 2.62, 0.06


def scene() -> tuple[Tensor, Tensor]:
    """The label map as a picture, (3, H, W), and its nine answers, (9, 3, H, W), in [-1, 1]."""
    layout = tinytown.layouts(SCENE + 1, SCENE_SEED, SIZE)[SCENE:]  # (1, H, W)
    styles = tinytown.styles(9, seed=1)
    mode = torch.arange(9)
    styles = dataclasses.replace(styles, time=mode // 3, season=mode % 3)
    return tinytown.draw_layout(layout)[0], tinytown.render(layout.expand(9, -1, -1), styles)


def tile(axes: Axes, image: Tensor, left: float, bottom: float, width: float) -> None:
    """One picture at a place, in units of one answer."""
    extent = (left, left + width, bottom, bottom + width)
    axes.imshow(plots.to_numpy(image), extent=extent, interpolation="nearest")


def cover() -> Figure:
    """Draw it: transparent, 9 by 4.5 inches."""
    plots.use_style()
    figure = plt.figure(figsize=(9, 4.5))
    axes = figure.add_axes((0, 0, 1, 1))
    layout, answers = scene()
    left, bottom, width = INPUT
    middle, step = bottom + width / 2, 1 + GAP
    tile(axes, layout, left, bottom, width)
    for number, answer in enumerate(answers):
        row, column = divmod(number, 3)
        tile(axes, answer, GRID_LEFT + column * step, (2 - row) * step + 0.24, 1)
    for row, colour in enumerate((plots.COLOURS[1], plots.COLOURS[3], plots.COLOURS[0])):
        end = (GRID_LEFT - 0.1, (2 - row) * step + 0.74)
        axes.add_patch(_arrow((left + width + 0.12, middle), end, colour))
    _captions(axes, step)
    axes.set(xlim=(-0.05, GRID_LEFT + 3 * step), ylim=(-0.12, 3 * step + 0.3), aspect="equal")
    axes.set_axis_off()
    return figure


def _arrow(start: tuple[float, float], end: tuple[float, float], colour: str) -> FancyArrowPatch:
    """A curve that leaves and arrives horizontally."""
    half = 0.55 * (end[0] - start[0])
    corners = [start, (start[0] + half, start[1]), (end[0] - half, end[1]), end]
    path = Path([*corners], [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
    head = "-|>,head_length=8,head_width=5"
    return FancyArrowPatch(path=path, arrowstyle=head, linewidth=3.2, color=colour)


def _captions(axes: Axes, step: float) -> None:
    left, bottom, width = INPUT
    axes.text(left + width / 2, bottom - 0.19, "one input", ha="center", fontsize=13)
    axes.text(GRID_LEFT + 1.5 * step, 0.0, "many answers", ha="center", fontsize=13)


def write() -> None:
    """Write the copy for the README."""
    cover().savefig(PICTURE, dpi=120)
    print(f"{PICTURE.name}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    write()
