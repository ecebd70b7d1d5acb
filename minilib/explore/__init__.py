"""Explorers: widgets that run a trained network in the reader's browser.

Each is one line in a chapter, takes a PyTorch module and example inputs, and does the export
itself.  They are live in the static book (over http and from ``file://``), in JupyterLab, VS Code
and Colab; where WebAssembly is missing they show frames that PyTorch computed beforehand.
``book/explorers.md`` explains how.

==================  ==========================================================
``LatentExplorer``  a 2-D pad and sliders over directions of latent space
``Interpolator``    the way from one latent to another
``StepExplorer``    a sequence to play, step and scrub (pictures or ``Scene``s)
``LayoutPainter``   paint a layout, and see it rendered
``SwapExplorer``    the structure of one image, the texture of another
``RealOrFake``      which of two images was generated?
==================  ==========================================================
"""

from minilib.explore.interpolator import Interpolator
from minilib.explore.latent import LatentExplorer
from minilib.explore.painter import LayoutPainter
from minilib.explore.real_or_fake import RealOrFake
from minilib.explore.steps import Scene, StepExplorer
from minilib.explore.swap import SwapExplorer

__all__ = [
    "Interpolator",
    "LatentExplorer",
    "LayoutPainter",
    "RealOrFake",
    "Scene",
    "StepExplorer",
    "SwapExplorer",
]
