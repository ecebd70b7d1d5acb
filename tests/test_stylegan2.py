import math
import types

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from minilib import chapters, paths, stylegan2
from minilib.config import ConfigError


def close(found, expected, rtol=1e-5, atol=1e-6):
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=rtol, atol=atol)


def explicit(layer, h, w):
    """A modulated convolution with a kernel for every image, straight from the equations."""
    out = []
    for features, style in zip(h, w, strict=True):
        kernel = (layer.weight * layer.scale).clone()  # (O, I, k, k)
        s = F.linear(style, layer.modulation.weight * layer.modulation.scale, layer.modulation.bias)
        if layer.demodulation == "separate":
            s = s / math.sqrt(float(s.square().mean()) + 1e-8)
            for o in range(len(kernel)):
                kernel[o] /= kernel[o].square().sum().add(1e-8).sqrt()
        for i in range(len(s)):
            kernel[:, i] *= s[i]
        if layer.demodulation == "joint":
            for o in range(len(kernel)):
                kernel[o] /= kernel[o].square().sum().add(1e-8).sqrt()
        out.append(F.conv2d(features[None], kernel, padding=layer.padding))
    return torch.cat(out)


# Properties that hold here, and that planted faults break


def prop_modulation(m):
    """Scaling inputs and outputs is a kernel for every image."""
    for kind in m.DEMODULATION:
        for kernel in (1, 3):
            torch.manual_seed(0)
            layer = m.ModulatedConv2d(5, 7, kernel, 4, demodulation=kind)
            h, w = torch.randn(3, 5, 6, 9), torch.randn(3, 4)
            with torch.no_grad():
                close(layer(h, w), explicit(layer, h, w), rtol=1e-4, atol=1e-5)


def prop_demodulated_variance(m):
    """Noise of variance 1 leaves with variance 1, whatever the style."""
    for kind in ("joint", "separate"):
        torch.manual_seed(0)
        layer = m.ModulatedConv2d(64, 32, 3, 4, demodulation=kind)
        with torch.no_grad():
            layer.weight *= 3
            y = layer(torch.randn(4, 64, 32, 32), 3 * torch.randn(4, 4))[:, :, 1:-1, 1:-1]
        assert abs(y.std() - 1) < 0.1, kind


def prop_upsampling(m):
    """Doubling is zeros between the pixels, the convolution, and the blur times four."""
    torch.manual_seed(0)
    layer = m.ModulatedConv2d(3, 2, 3, 0, up=True)
    h = torch.randn(1, 3, 5, 5)
    spread = torch.zeros(1, 3, 9, 9)
    spread[:, :, ::2, ::2] = h
    d = (layer.weight.square().sum((1, 2, 3)) * layer.scale**2 + 1e-8).rsqrt()
    kernel = (layer.weight * layer.scale * d[:, None, None, None]).flip(2, 3)
    full = F.conv2d(F.pad(spread, (2, 2, 2, 2)), kernel)  # (1, 2, 11, 11), as transposed
    line = torch.tensor([1.0, 3, 3, 1])
    fir = 4 * torch.outer(line, line) / 64
    expected = F.conv2d(F.pad(full, (1, 1, 1, 1)), fir.expand(2, 1, 4, 4), groups=2)
    with torch.no_grad():
        close(layer(h), expected, rtol=1e-4, atol=1e-5)


def prop_blur(m):
    """Kernels sum to 1 (or the gain); a constant stays what it is, an impulse becomes the taps."""
    for taps in ((1, 2, 1), (1, 3, 3, 1), (1,), (1, 4, 6, 4, 1)):
        kernel = m.fir_kernel(taps)
        close(kernel.sum(), 1.0)
        close(kernel, kernel.T)
        close(kernel.sum(0), torch.tensor(taps, dtype=torch.float32) / sum(taps))
        n = len(taps) - 1
        blur = m.Blur(taps, ((n + 1) // 2, n // 2), reflect=True)
        close(blur(torch.full((1, 2, 8, 8), 0.7)), torch.full((1, 2, 8, 8), 0.7))
    impulse = torch.zeros(1, 1, 9, 9)
    impulse[0, 0, 4, 4] = 1
    close(m.Blur((1, 2, 1), (1, 1))(impulse)[0, 0, 3:6, 3:6], m.fir_kernel((1, 2, 1)))
    close(m.Blur((1, 2, 1), (1, 1), gain=4.0)(impulse).sum(), 4.0)


def prop_equalised(m):
    """Weights are drawn with variance 1, outputs have it too."""
    torch.manual_seed(0)
    for layer, x in (
        (m.EqualLinear(400, 300), torch.randn(200, 400)),
        (m.EqualConv2d(40, 60, 3), torch.randn(4, 40, 16, 16)),
    ):
        assert abs(layer.weight.std() - 1) < 0.02
        assert abs(layer(x).std() - 1) < 0.05


def prop_leaky(m):
    """Slope 1/5 below zero, all times sqrt 2; the bias is added before."""
    x = torch.tensor([[-1.0, 0.0, 2.0]])
    close(m.leaky(x), math.sqrt(2) * torch.tensor([[-0.2, 0.0, 2.0]]))
    layer = m.BiasedLeakyReLU(3)
    layer.bias.data = torch.tensor([3.0, -1.0, 0.0])
    close(layer(x), math.sqrt(2) * torch.tensor([[2.0, -0.2, 2.0]]))


def prop_residual(m):
    """A residual block is the sum of its paths over sqrt 2."""
    torch.manual_seed(0)
    for down in (True, False):
        block = m.ResBlock(4, 4, down=down)
        x = torch.randn(2, 4, 8, 8)
        close(block(x) * math.sqrt(2), block.conv2(block.conv1(x)) + block.skip(x))
    assert isinstance(block.skip, nn.Identity)


def prop_noise(m):
    """Noise in training only, one picture for all channels, none at first."""
    noise, x = m.Noise(), torch.zeros(2, 3, 4, 4)
    assert torch.equal(noise(x), x)
    noise.weight.data.fill_(0.5)
    added = noise(x)
    assert torch.equal(added[:, 0], added[:, 2])
    assert not torch.equal(added[0], added[1])
    assert torch.equal(noise.eval()(x), x)


def prop_losses(m):
    """The losses are -log of a sigmoid, one way and the other."""
    score = torch.tensor([[-2.0], [0.5]])
    p = torch.sigmoid(score)
    close(m.real_loss(score), -p.log().mean())
    close(m.fake_loss(score), -(1 - p).log().mean())


def prop_r1(m):
    """The penalty is what autograd gives image by image, and can be differentiated again."""
    torch.manual_seed(0)
    net = m.Discriminator(8, (4, 4)).double()
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    slow = []
    for one in x:
        one = one[None].clone().requires_grad_()
        net(one).sum().backward()
        slow.append(one.grad.square().sum())
    x.requires_grad_()
    penalty = m.squared_gradient(net(x), x)
    close(penalty, torch.stack(slow).mean(), rtol=1e-4)
    weight = net.convs[1].conv1[0].weight
    (found,) = torch.autograd.grad(penalty, weight)
    change, step = torch.randn_like(weight), 1e-6
    values = []
    for sign in (1, -1):
        weight.data += sign * step * change
        values.append(m.squared_gradient(net(x), x).item())
        weight.data -= sign * step * change
    slope = (values[0] - values[1]) / (2 * step)
    assert (found * change).sum().item() == pytest.approx(slope, rel=1e-3)


def prop_r1_of_two(m):
    """Two inputs: the sum of both penalties."""
    a, b = torch.randn(4, 5).requires_grad_(), torch.randn(4, 2, 3).requires_grad_()
    score = 2 * a.sum(1) + 3 * b.flatten(1).sum(1)
    close(m.squared_gradient(score, a, b), 4.0 * 5 + 9.0 * 6)


PROPERTIES = {name: value for name, value in globals().items() if name.startswith("prop_")}
FAULTS = {
    "return s, (s.square() @ energy.T + EPSILON).rsqrt()": (
        "return s, (s @ energy.T).abs().rsqrt()",
        "prop_modulation",
    ),
    "s = s * (s.square().mean(dim=1": ("s = s * (s.square().sum(dim=1", "prop_modulation"),
    "return s, (energy.sum(dim=1)[None] + EPSILON).rsqrt()": (
        "return s, torch.ones_like(energy[None, :, 0])",
        "prop_demodulated_variance",
    ),
    "self.blur = Blur(TAPS, pad, gain=4.0)": ("self.blur = Blur(TAPS, pad)", "prop_upsampling"),
    "/ line.sum().square()": ("/ line.sum()", "prop_blur"),
    "self.scale = 1 / math.sqrt(inputs * kernel**2)": (
        "self.scale = 1 / math.sqrt(inputs)",
        "prop_equalised",
    ),
    "F.leaky_relu(h, 0.2) * math.sqrt(2)": ("F.leaky_relu(h, 0.2)", "prop_leaky"),
    "+ self.skip(h)) / math.sqrt(2)": ("+ self.skip(h))", "prop_residual"),
    "if self.training else h": ("if True else h", "prop_noise"),
    "torch.randn_like(h[:, :1])": ("torch.randn_like(h)", "prop_noise"),
    "F.softplus(-scores)": ("F.softplus(scores - 1)", "prop_losses"),
    "create_graph=True": ("create_graph=False", "prop_r1"),
    "g.square().flatten(1).sum(dim=1).mean()": ("g.square().mean()", "prop_r1"),
    "for g in found]": ("for g in found[:1]]", "prop_r1_of_two"),
}


def planted(old, new):
    """``minilib.stylegan2`` with one piece of code changed."""
    source = (paths.ROOT / "minilib" / "stylegan2.py").read_text()
    assert source.count(old) == 1, old
    module = types.ModuleType("faulty_stylegan2")
    exec(compile(source.replace(old, new), "faulty", "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name):
    PROPERTIES[name](stylegan2)


@pytest.mark.parametrize(("old", "fault"), FAULTS.items(), ids=lambda v: str(v)[:40])
def test_planted_faults_are_noticed(old, fault):
    new, name = fault
    with pytest.raises((AssertionError, RuntimeError)):
        PROPERTIES[name](planted(old, new))


# Shapes, counts, errors


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (33, 20)])
@pytest.mark.parametrize("taps", [(1,), (1, 2, 1), (1, 3, 3, 1)])
def test_blocks_halve_and_double(size, taps):
    h, w = size
    x = torch.randn(2, 3, h, w)
    for reflect in (False, True):
        down = stylegan2.ResBlock(3, 5, taps=taps, reflect=reflect)
        assert down(x).shape == (2, 5, h // 2, w // 2)
        same = stylegan2.ResBlock(3, 5, down=False, taps=taps, reflect=reflect)
        assert same(x).shape == (2, 5, h, w)
    styled = stylegan2.StyledConv(3, 5, 3, 4, up=True)
    assert styled(x, torch.randn(2, 4)).shape == (2, 5, 2 * h, 2 * w)


def test_numbers_of_parameters_are_those_of_the_released_networks():
    count = chapters.count_parameters
    wide = (128, 256, 512, 512, 512, 512, 512)
    with torch.device("meta"):
        assert count(stylegan2.Discriminator(256, wide)) == 28_859_521
        assert count(stylegan2.Discriminator(512, (64, *wide))) == 28_978_241
        assert count(stylegan2.Discriminator(64, (32, 64, 128, 256, 384))) == 5_885_473  # SinCUT


def test_a_discriminator_scores_each_image_by_itself():
    torch.manual_seed(0)
    net, x = stylegan2.Discriminator(16, (4, 6, 8)), torch.randn(3, 3, 16, 16)
    assert net(x).shape == (3, 1)
    close(net(x)[1:2], net(x[1:2]), rtol=1e-4)


def test_a_layer_without_style_takes_none():
    layer = stylegan2.ModulatedConv2d(3, 4, 3, 0)
    assert layer.modulation is None
    assert layer(torch.randn(2, 3, 5, 5)).shape == (2, 4, 5, 5)


def test_blocks_are_the_same_in_channels_last():
    torch.manual_seed(0)
    net, x = stylegan2.Discriminator(16, (4, 6, 8)), torch.randn(3, 3, 16, 16)
    before = net(x)
    net.to(memory_format=torch.channels_last)
    close(net(x.contiguous(memory_format=torch.channels_last)), before, rtol=1e-4, atol=1e-5)


def test_bad_arguments_are_refused_in_one_line():
    with pytest.raises(ConfigError, match="did you mean 'joint'"):
        stylegan2.ModulatedConv2d(3, 3, 3, 4, demodulation="joined")
    with pytest.raises(ConfigError, match="cannot be halved"):
        stylegan2.Discriminator(20, (4, 4, 4, 4))
    with pytest.raises(ConfigError, match="positive sum"):
        stylegan2.fir_kernel((1, -1))
