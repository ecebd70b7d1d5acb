"""Dilated residual networks, variant D: what reads Cityscapes for the papers' tables.

Yu, Koltun and Funkhouser 2017, section 4, took the max pooling and the last residual connections
out of a dilated ResNet (variant C; ``minilib.segmentation.drn26``); variant D, which came with
their code, makes the first two and the last two levels plain convolutions as well.  Tensors have
the names of that code, so that its checkpoints fit.
"""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from minilib.config import ConfigError, nearest
from minilib.segmentation import Bilinear

BLOCKS = {22: (2, 2, 2, 2), 38: (3, 4, 6, 3), 54: (3, 4, 6, 3), 105: (3, 4, 23, 3)}  # levels 3 to 6
NARROW = (22, 38)  # depths whose blocks have two convolutions; the others have three
LEVELS = ((64, 2, 1), (128, 2, 1), (256, 1, 2), (512, 1, 4))  # width, stride, dilation of 3 to 6


class ResidualBlock(nn.Module):
    """Convolutions with batch normalisation beside a shortcut.

    Two of 3 x 3; or, with ``bottleneck``, 1 x 1, 3 x 3, 1 x 1, where the last is four times as
    wide.  (B, inputs, H, W) -> (B, width or 4 width, H / stride, W / stride).
    """

    def __init__(self, inputs: int, width: int, stride: int, gap: int, bottleneck: bool) -> None:
        """``gap``: dilation of the 3 x 3 convolutions; the stride is in the first of them."""
        super().__init__()
        self.outputs = 4 * width if bottleneck else width
        layers = [(inputs, width, 3, stride), (width, width, 3, 1)]
        if bottleneck:
            layers = [(inputs, width, 1, 1), (width, width, 3, stride), (width, self.outputs, 1, 1)]
        for k, (narrow, wide, side, step) in enumerate(layers, start=1):
            self.add_module(f"conv{k}", convolution(narrow, wide, side, step, gap))
            self.add_module(f"bn{k}", nn.BatchNorm2d(wide))
        self.depth = len(layers)
        self.downsample: nn.Sequential | None = None
        if stride > 1 or inputs != self.outputs:
            narrow_to_wide = convolution(inputs, self.outputs, 1, stride)
            self.downsample = nn.Sequential(narrow_to_wide, nn.BatchNorm2d(self.outputs))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        h = x
        for k in range(1, self.depth + 1):
            h = self.get_submodule(f"bn{k}")(self.get_submodule(f"conv{k}")(h))
            if k < self.depth:
                h = F.relu(h)
        return F.relu(h + (x if self.downsample is None else self.downsample(x)))


def convolution(inputs: int, width: int, side: int, stride: int = 1, gap: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the size, but for its stride."""
    gap = gap if side > 1 else 1
    return nn.Conv2d(inputs, width, side, stride, gap * (side // 2), gap, bias=False)


def plain(inputs: int, width: int, side: int = 3, stride: int = 1, gap: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    conv = convolution(inputs, width, side, stride, gap)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())


class DRN(nn.Module):
    """Levels 0 to 8 at an eighth of the size, scores, and an enlargement that is not learned.

    (B, 3, H, W) -> (B, L, H, W), where H and W are rounded up to multiples of 8.
    """

    def __init__(self, blocks: tuple[int, ...], bottleneck: bool, labels: int) -> None:
        """``blocks``: how many in levels 3 to 6; ``labels``: scores per pixel."""
        super().__init__()
        levels = [plain(3, 16, 7), plain(16, 16), plain(16, 32, stride=2)]
        inputs = 32
        for count, (width, stride, gap) in zip(blocks, LEVELS, strict=True):
            level = []
            for k in range(count):
                level.append(ResidualBlock(inputs, width, 1 if k else stride, gap, bottleneck))
                inputs = level[-1].outputs
            levels.append(nn.Sequential(*level))
        levels += [plain(inputs, 512, gap=2), plain(512, 512)]
        self.base = nn.Sequential(*levels)
        self.seg = nn.Conv2d(512, labels, 1)
        self.up = nn.ConvTranspose2d(labels, labels, 16, 8, 4, groups=labels, bias=False)
        self.up.requires_grad_(False).weight.copy_(Bilinear(8).kernel)
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):  # He et al. 2015, by the outputs
                spread = math.sqrt(2 / (conv.out_channels * math.prod(conv.kernel_size)))
                nn.init.normal_(conv.weight, 0, spread)
        nn.init.zeros_(self.seg.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        scores: Tensor = self.up(self.seg(self.base(x)))
        return scores


def drn_d(depth: int, labels: int) -> DRN:
    """DRN-D-22, -38, -54 or -105, freshly initialised.

    Args:
        depth: how many layers.
        labels: scores per pixel.

    Source: Yu, Koltun and Funkhouser 2017, section 4, and their code.

    Raises:
        ConfigError: another depth.
    """
    if depth not in BLOCKS:
        raise ConfigError(nearest(str(depth), map(str, BLOCKS), "depth of a DRN-D"))
    return DRN(BLOCKS[depth], depth not in NARROW, labels)
