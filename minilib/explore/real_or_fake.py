"""RealOrFake: the papers' perceptual test, run by the reader on themself."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from minilib.config import ConfigError
from minilib.explore.pack import pack, pictures, sheet
from minilib.explore.widget import Explorer, Payload


class RealOrFake(Explorer):
    """A real and a generated image, a moment each; how often does each method fool you?

    The protocol of the papers' human studies (Zhang, Isola and Efros 2016): one second each, ten
    practice rounds with feedback, then forty counted.  The answers stay in the page.

    Args:
        real: (N, 1 or 3, H, W) in ``value_range``.
        fakes: {method: (M, 1 or 3, H, W)}.
        paired: True: fake i answers the same input as real i, and the two are shown together.
        practice: rounds with feedback.
        counted: rounds that count, over all methods.
        seconds: how long each image is shown.
        value_range: of the images.
        caption: a line above the test.
        smooth: True, False, or None: smooth from 48 pixels a side, else crisp squares.

    Raises:
        ConfigError: no method, sizes that differ, fewer rounds than methods.
    """

    def __init__(
        self,
        real: Tensor,
        fakes: Mapping[str, Tensor],
        *,
        paired: bool = False,
        practice: int = 10,
        counted: int = 40,
        seconds: float = 1.0,
        value_range: tuple[float, float] = (-1.0, 1.0),
        caption: str = "",
        smooth: bool | None = None,
    ) -> None:
        who = "RealOrFake"
        if not fakes:
            raise ConfigError(f"{who}: fakes is empty; give {{method: images}}")
        if counted < len(fakes):
            raise ConfigError(f"{who}: {counted} counted rounds for {len(fakes)} methods")
        sets = [pictures(real, value_range), *(pictures(f, value_range) for f in fakes.values())]
        for name, images in zip(fakes, sets[1:], strict=True):
            if images.shape[1:] != sets[0].shape[1:]:
                sizes = f"{images.shape[1:3]}, the real ones {sets[0].shape[1:3]}"
                raise ConfigError(f"{who}: images of '{name}' are {sizes}")
            if paired and len(images) != len(sets[0]):
                raise ConfigError(
                    f"{who}: paired, but {len(images)} of '{name}' for {len(real)} real"
                )
        images = np.concatenate(sets)
        frames, cut = sheet(images)
        block, index = pack({})
        spec: dict[str, Any] = {
            "kind": "real-or-fake",
            "label": caption or "real or generated?",
            "caption": caption,
            "methods": list(map(str, fakes)),
            "counts": [len(s) for s in sets],
            "paired": paired,
            "practice": practice,
            "counted": counted,
            "milliseconds": 1000 * seconds,
            "picture": list(images.shape[1:3]),
            "smooth": smooth,
            "still": True,
            "print": "Your answers stay in this page and are gone when you leave it",
            "arrays": index,
            "sheet": cut,
        }
        super().__init__(Payload(spec, b"", frames, b"", block, images[0]))
