"""Tinytown, the book's toy world: procedural street scenes whose right answers are known.

A scene is a layout (which pixel is what) and a style (time of day, season, and a few free
numbers); ``render`` turns the two into a picture.  So the answers to one layout can be counted,
and any picture can be checked.  Introduced in ``chapters/tinytown.md``; used in every chapter.

    from minilib import tinytown

    x = tinytown.layouts(100, seed=0, size=32)      # (100, 32, 32)
    y = tinytown.render(x, tinytown.styles(100, seed=0))  # (100, 3, 32, 32) in [-1, 1]
    mode = tinytown.mode_of_sample(y, x)            # (100,), 0..8, or -1: none

This module gathers the names; ``tinytown_layouts`` draws the layouts, ``tinytown_styles`` holds
the styles, ``tinytown_materials`` and ``tinytown_render`` make the picture, and ``tinytown_read``
reads it back.
"""

from minilib.tinytown_layouts import LABEL_COLOURS, LABELS, draw_layout, edges, layouts, one_hot
from minilib.tinytown_read import (
    AGREEMENT,
    COLOUR_TOLERANCE,
    TOLERANCE,
    layout_agreement,
    mode_of_sample,
    read_colour_mode,
    read_layout,
    read_mode,
    read_style,
)
from minilib.tinytown_render import PALETTES, render
from minilib.tinytown_styles import (
    COLOUR_MODES,
    MODE_NAMES,
    NUISANCES,
    SEASONS,
    TIMES,
    Styles,
    style_of_colour,
    style_of_mode,
    styles,
)

MODES = tuple((time, season) for time in TIMES for season in SEASONS)  # mode = 3 * time + season

__all__ = [
    "AGREEMENT",
    "COLOUR_MODES",
    "COLOUR_TOLERANCE",
    "LABELS",
    "LABEL_COLOURS",
    "MODES",
    "MODE_NAMES",
    "NUISANCES",
    "PALETTES",
    "SEASONS",
    "TIMES",
    "TOLERANCE",
    "Styles",
    "draw_layout",
    "edges",
    "layout_agreement",
    "layouts",
    "mode_of_sample",
    "one_hot",
    "read_colour_mode",
    "read_layout",
    "read_mode",
    "read_style",
    "render",
    "style_of_colour",
    "style_of_mode",
    "styles",
]
