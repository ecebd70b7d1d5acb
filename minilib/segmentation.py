"""Networks that name every pixel's label, and how well they do.

``small_fcn`` reads Tinytown; ``FCN8s`` and ``drn26`` are those of the papers.  All take pictures
(B, 3, H, W) in [-1, 1] and give one score per label and pixel, (B, L, H, W).
Introduced in ``chapters/cycada.md``.

The measures start from a confusion matrix of counts, (L, L): row = true label, column = answer.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_confusion_matrix

from minilib.config import ConfigError

IGNORED = -1  # label of pixels that count nowhere: neither in losses nor in measures
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def confusion(answers: Tensor, labels: Tensor, count: int) -> Tensor:
    """How often label i was called j: (count, count) int64.

    Args:
        answers, labels: integers of one shape, any number of dimensions; labels ``IGNORED`` are
            left out.
        count: number of labels.
    """
    return multiclass_confusion_matrix(answers, labels, count, ignore_index=IGNORED).long()


def class_iou(counts: Tensor) -> Tensor:
    """Intersection over union of each label, (L,) float64; NaN for one that never occurs.

    Args:
        counts: (L, L), from ``confusion``.
    """
    hit = counts.diagonal().double()
    return hit / (counts.sum(0) + counts.sum(1) - hit)  # 0 / 0 is NaN


def segmentation_scores(counts: Tensor) -> dict[str, float]:
    """``miou``, ``fwiou`` and ``pixel_accuracy`` of a confusion matrix (L, L).

    The means over labels leave out what occurs in neither truth nor answers.  ``fwiou`` weights
    each label's IoU by its share of the true pixels (Long et al. 2015, section 5).

    Raises:
        ConfigError: no pixel was counted.
    """
    total = counts.sum()
    if not total:
        raise ConfigError("no pixel was counted: every label is 'ignored'")
    iou, share = class_iou(counts), counts.sum(1) / total
    return {
        "miou": float(iou.nanmean()),
        "fwiou": float((share * iou.nan_to_num()).sum()),
        "pixel_accuracy": float(counts.diagonal().sum() / total),
    }


def small_fcn(width: int, labels: int, gaps: Sequence[int] = (1, 2, 4)) -> nn.Sequential:
    """A few dilated convolutions at full size; sees 15 x 15 pixels with the usual gaps.

    Args:
        width: channels.
        labels: scores per pixel.
        gaps: dilation of each 3 x 3 convolution.
    """
    layers: list[nn.Module] = []
    for inputs, gap in zip((3, *[width] * (len(gaps) - 1)), gaps, strict=True):
        layers += [nn.Conv2d(inputs, width, 3, padding=gap, dilation=gap), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, labels, 1))


class Bilinear(nn.Module):
    """Enlarge by a whole factor with a fixed bilinear kernel; nothing is learned.

    (B, C, H, W) -> (B, C, factor * (H + 1), ...), or factor * H with ``trim``.
    """

    kernel: Tensor

    def __init__(self, factor: int, trim: bool = False) -> None:
        """See the class."""
        super().__init__()
        self.factor, self.padding = factor, math.ceil((factor - 1) / 2) if trim else 0
        ramp = 1 - (torch.arange(2 * factor) - (factor - 0.5)).abs() / factor
        self.register_buffer("kernel", ramp[:, None] * ramp, persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        """See the class."""
        weight = self.kernel.expand(h.shape[1], 1, -1, -1)
        return F.conv_transpose2d(
            h, weight, stride=self.factor, padding=self.padding, groups=h.shape[1]
        )


def vgg16_level(inputs: int, widths: Sequence[int]) -> nn.Sequential:
    """Convolutions with ReLU, then half the size (rounded up)."""
    layers: list[nn.Module] = []
    for narrow, wide in zip((inputs, *widths[:-1]), widths, strict=True):
        layers += [nn.Conv2d(narrow, wide, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2, ceil_mode=True))


class FCN8s(nn.Module):
    """VGG-16 made convolutional, with what its third and fourth level say added at their sizes.

    Source: Long, Shelhamer and Darrell 2015; widths, padding and the scales of the two side
    branches as in the all-at-once version that CyCADA's released code uses.
    """

    def __init__(self, labels: int) -> None:
        """``labels``: scores per pixel."""
        super().__init__()
        self.pad = 99  # and 1 by the first convolution: room for the 7 x 7 window of a 32nd size
        inputs = (3, *(widths[-1] for widths in VGG16[:-1]))
        levels = [vgg16_level(n, w) for n, w in zip(inputs, VGG16, strict=True)]
        self.to_pool3 = nn.Sequential(*levels[:3])
        self.to_pool4, self.to_pool5 = levels[3:]
        self.head = nn.Sequential(
            nn.Conv2d(512, 4096, 7), nn.ReLU(), nn.Dropout2d(),
            nn.Conv2d(4096, 4096, 1), nn.ReLU(), nn.Dropout2d(), nn.Conv2d(4096, labels, 1),
        )  # fmt: skip
        self.score_pool3 = nn.Conv2d(256, labels, 1)
        self.score_pool4 = nn.Conv2d(512, labels, 1)
        self.twice, self.eight_times = Bilinear(2), Bilinear(8)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, L, H, W)."""
        pool3 = self.to_pool3(F.pad(x, [self.pad] * 4))
        pool4 = self.to_pool4(pool3)
        h = self.twice(self.head(self.to_pool5(pool4)))  # a 16th
        h = self.twice(h + cropped(self.score_pool4(0.01 * pool4), h, 5))  # an 8th
        h = self.eight_times(h + cropped(self.score_pool3(0.0001 * pool3), h, 9))
        return cropped(h, x, 31)  # (B, L, H, W)


def cropped(h: Tensor, like: Tensor, offset: int) -> Tensor:
    """The part of h (B, C, H', W') that starts at ``offset`` and is as large as ``like``."""
    height, width = like.shape[-2:]
    return h[:, :, offset : offset + height, offset : offset + width]


class DilatedBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation, beside a shortcut where ``residual``."""

    def __init__(
        self, inputs: int, width: int, stride: int, gaps: tuple[int, int], residual: bool
    ) -> None:
        """``gaps``: dilation of the two convolutions."""
        super().__init__()
        first, second = gaps
        self.body = nn.Sequential(
            nn.Conv2d(inputs, width, 3, stride, first, first, bias=False), nn.BatchNorm2d(width),
            nn.ReLU(), nn.Conv2d(width, width, 3, 1, second, second, bias=False),
            nn.BatchNorm2d(width),
        )  # fmt: skip
        self.residual = residual
        self.shortcut: nn.Module = nn.Identity()
        if residual and (stride > 1 or inputs != width):
            narrow = nn.Conv2d(inputs, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(narrow, nn.BatchNorm2d(width))

    def forward(self, h: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, width, H / stride, W / stride)."""
        return F.relu(self.body(h) + self.shortcut(h) if self.residual else self.body(h))


DRN26 = (  # width, stride, dilations of each block, residual
    (16, 1, ((1, 1),), True), (32, 2, ((1, 1),), True), (64, 2, ((1, 1), (1, 1)), True),
    (128, 2, ((1, 1), (1, 1)), True), (256, 1, ((2, 2), (2, 2)), True),
    (512, 1, ((4, 4), (4, 4)), True), (512, 1, ((2, 2),), False), (512, 1, ((1, 1),), False),
)  # fmt: skip


def drn26(labels: int) -> nn.Sequential:
    """A residual network of 26 layers whose last levels are dilated instead of smaller.

    H and W must be multiples of 8.  Source: Yu, Koltun and Funkhouser 2017 (DRN-C-26).
    """
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 7, padding=3, bias=False)]
    layers += [nn.BatchNorm2d(16), nn.ReLU()]
    inputs = 16
    for width, stride, blocks, residual in DRN26:
        for k, gaps in enumerate(blocks):
            layers.append(DilatedBlock(inputs, width, stride if k == 0 else 1, gaps, residual))
            inputs = width
    return nn.Sequential(*layers, nn.Conv2d(512, labels, 1), Bilinear(8, trim=True))
