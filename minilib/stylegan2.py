"""Blocks of StyleGAN2 in plain PyTorch: no custom operators, the same on CPU and GPU.

Every weight is drawn from N(0, 1) and scaled at each use (``EqualConv2d``, ``EqualLinear``), every
change of size is blurred (``Blur``), every activation is a leaky ReLU times sqrt(2) after a bias
(``BiasedLeakyReLU``), and a style scales a convolution's inputs (``ModulatedConv2d``).

Used by SinCUT in ``chapters/cut.md``; the styles are the Swapping Autoencoder's.
Letters: images and features are (B, C, H, W), a style w is (B, W).

Source: Karras et al. 2020, *Analyzing and Improving the Image Quality of StyleGAN*.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minilib.config import ConfigError, nearest

TAPS = (1, 3, 3, 1)  # the blur of StyleGAN2; the Swapping Autoencoder's encoder uses (1, 2, 1)
DEMODULATION = ("joint", "separate", "none")
EPSILON = 1e-8


def fir_kernel(taps: Sequence[float]) -> Tensor:
    """A separable low-pass kernel: the outer product of ``taps`` with itself, summing to 1.

    Args:
        taps: (k,) numbers with a positive sum.

    Returns:
        (k, k) float32.

    Raises:
        ConfigError: the taps do not sum to a positive number.
    """
    line = torch.tensor(list(taps), dtype=torch.float32, device="cpu")
    if not line.numel() or line.sum() <= 0:
        raise ConfigError(f"taps want a positive sum, not {tuple(taps)}")
    return torch.outer(line, line) / line.sum().square()


def leaky(h: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, times sqrt(2): about the variance that went in comes out."""
    return F.leaky_relu(h, 0.2) * math.sqrt(2)


class BiasedLeakyReLU(nn.Module):
    """A bias per channel, then ``leaky``: what StyleGAN2 fuses into one CUDA kernel."""

    def __init__(self, channels: int) -> None:
        """Zero biases for (B, channels, ...)."""
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, h: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape."""
        return leaky(h + self.bias.view(1, -1, *[1] * (h.ndim - 2)))


class EqualLinear(nn.Module):
    """A linear layer with equalised learning rate: weights N(0, 1) / sqrt(inputs), at each use.

    Args:
        inputs, outputs: widths.
        bias: the bias' first value.
        activate: end in ``leaky``.
    """

    def __init__(
        self, inputs: int, outputs: int, bias: float = 0.0, activate: bool = False
    ) -> None:
        """See the class."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.scale, self.activate = 1 / math.sqrt(inputs), activate

    def forward(self, h: Tensor) -> Tensor:
        """(B, inputs) -> (B, outputs)."""
        h = F.linear(h, self.weight * self.scale, self.bias)
        return leaky(h) if self.activate else h


class EqualConv2d(nn.Module):
    """A convolution with equalised learning rate: N(0, 1) / sqrt(fan-in), at each use."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0,
        bias: bool = True,
    ) -> None:  # fmt: skip
        """As ``nn.Conv2d``, with zero padding; the bias starts at 0."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.stride, self.padding = stride, padding
        self.scale = 1 / math.sqrt(inputs * kernel**2)

    def forward(self, h: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H', W')."""
        return F.conv2d(h, self.weight * self.scale, self.bias, self.stride, self.padding)


class Blur(nn.Module):
    """Pad, then filter every channel with the same low-pass kernel.

    Args:
        taps: of the kernel, see ``fir_kernel``.
        pad: pixels before and after, in both directions.
        gain: factor on the kernel; 4 after zeros were put between the pixels.
        reflect: pad with the mirror image instead of zeros.
    """

    kernel: Tensor

    def __init__(
        self, taps: Sequence[float] = TAPS, pad: tuple[int, int] = (2, 1), gain: float = 1.0,
        reflect: bool = False,
    ) -> None:  # fmt: skip
        """See the class."""
        super().__init__()
        self.register_buffer("kernel", gain * fir_kernel(taps), persistent=False)
        self.pad = (*pad, *pad)  # where negative, it cuts off
        self.mode = "reflect" if reflect and min(pad) >= 0 else "constant"

    def forward(self, h: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H + before + after - k + 1, ...)."""
        channels = h.shape[1]
        h = F.pad(h, self.pad, mode=self.mode) if any(self.pad) else h
        return F.conv2d(h, self.kernel.expand(channels, 1, -1, -1), groups=channels)


class ConvLayer(nn.Sequential):
    """(Blur and) convolution (and bias and leaky ReLU).

    Args:
        inputs, outputs, kernel: of the convolution.
        down: blur, then halve the size by a stride of 2.
        taps: of that blur.
        pad: pixels of padding, in all; None keeps the size (or halves it).
        reflect: pad with the mirror image instead of zeros.
        activate: end in bias and leaky ReLU.
        bias: have a bias (of the activation, or of the convolution without one).
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, down: bool = False,
        taps: Sequence[float] = TAPS, pad: int | None = None, reflect: bool = False,
        activate: bool = True, bias: bool = True,
    ) -> None:  # fmt: skip
        """See the class."""
        layers: list[nn.Module] = []
        inside = 0
        if down:
            total = len(taps) + kernel - 3 if pad is None else pad
            layers.append(Blur(taps, ((total + 1) // 2, total // 2), reflect=reflect))
        else:
            inside = kernel // 2 if pad is None else pad
            if reflect and inside:
                layers.append(nn.ReflectionPad2d(inside))
                inside = 0
        stride = 2 if down else 1
        layers.append(EqualConv2d(inputs, outputs, kernel, stride, inside, bias and not activate))
        if activate:
            layers.append(BiasedLeakyReLU(outputs))
        super().__init__(*layers)


class ResBlock(nn.Module):
    """Two convolutions beside a shortcut, over sqrt(2); halves the size, or keeps it.

    The shortcut of a block that keeps size and channels is the identity.
    """

    def __init__(
        self, inputs: int, outputs: int, *, down: bool = True, taps: Sequence[float] = TAPS,
        reflect: bool = False,
    ) -> None:  # fmt: skip
        """Arguments as ``ConvLayer``'s."""
        super().__init__()
        self.conv1 = ConvLayer(inputs, inputs, 3, reflect=reflect)
        self.conv2 = ConvLayer(inputs, outputs, 3, down=down, taps=taps, reflect=reflect)
        self.skip: nn.Module = nn.Identity()
        if down or inputs != outputs:
            self.skip = ConvLayer(
                inputs, outputs, 1, down=down, taps=taps, reflect=reflect, activate=False,
                bias=False,
            )  # fmt: skip

    def forward(self, h: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H // 2, W // 2), or (B, outputs, H, W)."""
        return (self.conv2(self.conv1(h)) + self.skip(h)) / math.sqrt(2)


class ModulatedConv2d(nn.Module):
    """A convolution whose inputs are scaled by a style, and whose outputs are scaled back.

    A linear layer turns the style w into one factor s_i per input channel.  Demodulation divides
    each output channel by the deviation it would have for inputs of unit variance:

    - "joint" (StyleGAN2, eq. 1 and 3): by the norm of the modulated weights s_i w_oik.
    - "separate" (released Swapping Autoencoder): s is divided by its root mean square over
      channels, and the weights w_oik by their own norm.
    - "none": not at all (the layer that makes colours).

    Scaling inputs and outputs, not weights, is the same as a kernel per image, and cheaper.

    Args:
        inputs, outputs, kernel: of the convolution; it keeps the size.
        style: width of w; 0 = no style, every factor is 1 (SinCUT).
        up: double the size (transposed convolution, then blur).
        demodulation: see above.

    Raises:
        ConfigError: another word for the demodulation.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, style: int, *, up: bool = False,
        demodulation: str = "joint",
    ) -> None:  # fmt: skip
        """See the class."""
        super().__init__()
        if demodulation not in DEMODULATION:
            raise ConfigError(nearest(demodulation, DEMODULATION, "demodulation"))
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.scale, self.padding = 1 / math.sqrt(inputs * kernel**2), kernel // 2
        self.demodulation = demodulation
        spare = len(TAPS) - 1 - kernel  # of the blur after a transposed convolution
        pad = ((spare + 1) // 2 + 1, spare // 2 + 1)
        self.blur = Blur(TAPS, pad, gain=4.0) if up else None
        self.modulation = EqualLinear(style, inputs, bias=1.0) if style else None

    def factors(self, w: Tensor | None) -> tuple[Tensor, Tensor]:
        """What inputs (B or 1, inputs) and outputs (B or 1, outputs) are multiplied by."""
        weight = self.weight * self.scale  # (O, I, k, k)
        s = weight.new_ones(1, weight.shape[1])
        if self.modulation is not None:
            assert w is not None, "this layer needs a style"
            s = self.modulation(w)  # (B, I)
        energy = weight.square().sum(dim=(2, 3))  # (O, I)
        if self.demodulation == "none":
            return s, energy.new_ones(1, len(energy))
        if self.demodulation == "separate":
            s = s * (s.square().mean(dim=1, keepdim=True) + EPSILON).rsqrt()
            return s, (energy.sum(dim=1)[None] + EPSILON).rsqrt()
        return s, (s.square() @ energy.T + EPSILON).rsqrt()  # (B, O)

    def forward(self, h: Tensor, w: Tensor | None = None) -> Tensor:
        """(B, inputs, H, W) and w (B, W) -> (B, outputs, H, W), or (B, outputs, 2H, 2W)."""
        s, d = self.factors(w)
        weight, h = self.weight * self.scale, h * s[:, :, None, None]
        if self.blur is None:
            h = F.conv2d(h, weight, padding=self.padding)
        else:
            h = F.conv_transpose2d(h, weight.transpose(0, 1), stride=2)  # (B, O, 2H + k - 2, ...)
            h = self.blur(h)  # (B, O, 2H, 2W)
        return h * d[:, :, None, None]


class Noise(nn.Module):
    """Adds noise, alike in all channels, times a learned weight; nothing in evaluation."""

    def __init__(self) -> None:
        """One weight, 0 at first."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, h: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return h + self.weight * torch.randn_like(h[:, :1]) if self.training else h


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias and leaky ReLU; arguments as ``ModulatedConv2d``'s."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, style: int, *, up: bool = False,
        demodulation: str = "joint",
    ) -> None:  # fmt: skip
        """See ``ModulatedConv2d``."""
        super().__init__()
        self.conv = ModulatedConv2d(
            inputs, outputs, kernel, style, up=up, demodulation=demodulation
        )
        self.noise, self.activate = Noise(), BiasedLeakyReLU(outputs)

    def forward(self, h: Tensor, w: Tensor | None = None) -> Tensor:
        """(B, inputs, H, W) and w (B, W) -> (B, outputs, H, W), or twice the size."""
        return self.activate(self.noise(self.conv(h, w)))


class Discriminator(nn.Module):
    """StyleGAN2's residual discriminator, without minibatch deviation.

    Args:
        size: side of the images in pixels.
        widths: channels at that size, at half of it, and so on (down to 4 pixels, usually).
        inputs: channels of the images.

    Raises:
        ConfigError: the size cannot be halved so often.
    """

    def __init__(self, size: int, widths: Sequence[int], inputs: int = 3) -> None:
        """See the class."""
        super().__init__()
        side, rest = divmod(size, 2 ** (len(widths) - 1))
        if rest or not side:
            raise ConfigError(f"{size} pixels cannot be halved {len(widths) - 1} times")
        blocks = [ResBlock(a, b) for a, b in itertools.pairwise(widths)]
        self.convs = nn.Sequential(ConvLayer(inputs, widths[0], 1), *blocks)
        last = widths[-1]
        self.final_conv = ConvLayer(last, last, 3)
        self.final_linear = nn.Sequential(
            EqualLinear(side**2 * last, last, activate=True), EqualLinear(last, 1)
        )

    def forward(self, y: Tensor) -> Tensor:
        """(B, inputs, size, size) -> (B, 1) scores, high for real."""
        return self.final_linear(self.final_conv(self.convs(y)).flatten(1))


def real_loss(scores: Tensor) -> Tensor:
    """Mean -log sigmoid(score): a discriminator on real images, a generator on its own."""
    return F.softplus(-scores).mean()


def fake_loss(scores: Tensor) -> Tensor:
    """Mean -log(1 - sigmoid(score)): a discriminator on generated images."""
    return F.softplus(scores).mean()


def squared_gradient(scores: Tensor, *images: Tensor) -> Tensor:
    """The R1 penalty without its weight: mean over images of the squared gradient's sum.

    Args:
        scores: any shape, from a discriminator.
        images: (B, ...) each, with ``requires_grad``; several are summed over.

    Returns:
        A scalar through which gradients flow; multiply by gamma / 2.

    Source: Mescheder et al. 2018, eq. 9.
    """
    found = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return torch.stack([g.square().flatten(1).sum(dim=1).mean() for g in found]).sum()
