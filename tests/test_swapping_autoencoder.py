"""The Swapping Autoencoder's networks: their sizes, what their codes hold, and patches."""

import dataclasses

import pytest
import torch
from swapping_cases import TINY, check_is_noticed, close, properties, setting, swapping
from torch import nn

from minilib import chapters
from minilib.config import ConfigError


def test_full_networks_have_the_released_numbers_of_parameters():
    expected = {
        "encoder": 30_584_872,
        "generator": 25_064_743,
        "critic": 28_859_521,
        "patch_critic": 24_522_145,
    }
    for task in ("church", "bedroom", "afhq"):
        (found,) = chapters.describe("swapping_autoencoder", "full", task)
        assert found.parameters == expected
    (found,) = chapters.describe("swapping_autoencoder", "full", "ffhq_512")
    assert found.parameters == expected | {
        "generator": 25_064_743,
        "critic": 28_978_241,
    }
    (found,) = chapters.describe("swapping_autoencoder", "full", "ffhq_1024")
    assert found.parameters == {
        "encoder": 18_501_329,
        "generator": 19_913_160,
        "critic": 27_172_897,
        "patch_critic": 24_529_169,
    }


def test_full_codes_have_the_released_shapes():
    config = swapping.PRESETS["full"]["church"].config
    with torch.device("meta"):
        nets = swapping.networks(config)
        s, t = nets["encoder"](torch.zeros(2, 3, 256, 256))
        patches = torch.zeros(2, 8, 3, 128, 128)
        assert (s.shape, t.shape) == ((2, 8, 16, 16), (2, 2048))
        assert nets["generator"](s, t).shape == (2, 3, 256, 256)
        assert nets["patch_critic"](patches, patches).shape == (2, 8)
    images = 25_000_000
    assert config.steps * config.batch == pytest.approx(images, abs=config.batch)
    assert (config.weight_image, config.weight_reconstruction, config.weight_swap) == (1, 0.5, 1)


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="double as often"):
        swapping.networks(dataclasses.replace(TINY, ups=(4, 4)))
    with pytest.raises(ConfigError, match="down to 4"):
        swapping.networks(dataclasses.replace(TINY, patch=16))


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (21, 38), (64, 20)])
def test_pictures_of_any_size_keep_it(size):
    nets, x = setting()
    other = torch.rand(2, 3, *size) * 2 - 1
    drawn = swapping.decode_like(nets["encoder"], nets["generator"], other, x[:2])
    assert drawn.shape == other.shape
    assert torch.isfinite(drawn).all()


def test_an_edit_of_the_structure_code_stays_local():
    nets, x = setting(config=dataclasses.replace(TINY, size=64, critic_widths=(4,) * 5))
    generator = nets["generator"].eval()
    s, t = nets["encoder"](x[:1])
    edited = s.clone()
    edited[:, :, 2, 2] = -edited[:, :, 2, 2]
    changed = (generator(edited, t) - generator(s, t)).abs().sum(1)[0]
    assert changed[4:6, 4:6].min() > 0
    assert changed[40:, 40:].max() == 0


def test_the_texture_code_does_not_know_places():
    """Turning the features over leaves the mean over places, and so the code, as it was."""
    nets, x = setting()
    encoder = nets["encoder"]
    h = encoder.down(x)
    encoder.texture_down = nn.Identity()
    encoder.to_texture = nn.Identity()
    encoder.down = nn.Identity()
    encoder.to_structure = nn.Identity()
    close(encoder(h)[1], encoder(h.flip(2, 3))[1], atol=1e-5)


def prop_own_codes_reconstruct(w):
    """Decoding a picture's own two codes is its reconstruction; the hybrids take the other's."""
    nets, x = setting(w)
    for net in nets.values():
        net.eval()
    s, t = nets["encoder"](x)
    for everywhere, part in ((True, slice(None)), (False, slice(2, None))):
        for all_rebuilt, kept in ((False, 2), (True, 4)):
            rebuilt, hybrid, source = w.decode_both(nets, x, everywhere, all_rebuilt)
            close(rebuilt, nets["generator"](s, t)[:kept], atol=1e-5)
            close(hybrid, nets["generator"](s, t[[1, 0, 3, 2]])[part], atol=1e-5)
            assert torch.equal(source, x[[1, 0, 3, 2]][part])
    close(w.decode_like(nets["encoder"], nets["generator"], x, x), rebuilt, atol=1e-5)


def prop_codes_matter(w):
    """Both codes reach the picture, in any length."""
    nets, x = setting(w)
    generator = nets["generator"].eval()
    s, t = (c.detach().requires_grad_() for c in nets["encoder"](x))
    y = generator(s, t)
    y.square().sum().backward()
    assert s.grad.abs().sum() > 0
    assert t.grad.abs().sum() > 0
    close(generator(3 * s, 0.2 * t), y, atol=1e-4, rtol=1e-4)


def prop_codes_matter_much(w):
    """Another texture code changes the picture beyond the first scale and shift."""
    nets, x = setting(w)
    generator = nets["generator"].eval()
    s, t = nets["encoder"](x)
    generator.scale.weight.data.zero_()
    generator.shift.weight.data.zero_()
    generator.scale.bias.data.fill_(1)
    generator.to_rgb.modulation.weight.data.zero_()
    assert not torch.allclose(generator(s, t), generator(s, -t), atol=1e-4)


def prop_slow_modulation(w):
    """The chapter's kernel for every picture is the layer's answer."""
    torch.manual_seed(1)
    h, t = torch.randn(3, 5, 6, 6), torch.randn(3, 4)
    for kind in ("joint", "separate"):
        layer = w.stylegan2.ModulatedConv2d(5, 7, 3, 4, demodulation=kind)
        close(w.one_by_one(layer, h, t), layer(h, t), rtol=1e-4, atol=1e-5)


def prop_whitened_structure(w):
    """The structure code forgets what brightens or stretches all features alike."""
    for whiten in (True, False):
        torch.manual_seed(0)
        encoder = w.Encoder((4, 4), 4, 4, (4, 4), whiten=whiten)
        h = torch.randn(2, 4, 16, 16)
        encoder.down = nn.Identity()
        same = torch.allclose(encoder(h)[0], encoder(3 * h + 1)[0], atol=1e-3)
        assert same == whiten


def prop_patches(w):
    """Patches of a ramp are ramps: right size, inside the picture, some of them mirrored."""
    torch.manual_seed(0)
    ramp = torch.linspace(-1, 1, 33)
    x = torch.stack([ramp.expand(33, 33), ramp[:, None].expand(33, 33), torch.zeros(33, 33)])
    cut = w.cut_patches(x[None], 400, 0.25, 0.5, 8)[0]  # (400, 3, 8, 8)
    across, down = cut[:, 0].mean(1), cut[:, 1].mean(2)  # (400, 8)
    inside = 1 + 1 / 32
    assert across.abs().max() <= inside
    widths = (across[:, -1] - across[:, 0]).abs() * 8 / 7 / 2 * 32 / 33
    heights = (down[:, -1] - down[:, 0]).abs() * 8 / 7 / 2 * 32 / 33
    for share in (widths, heights):
        assert 0.23 < share.min() < 0.27
        assert 0.47 < share.max() < 0.52
    assert abs(torch.corrcoef(torch.stack([widths, heights]))[0, 1]) < 0.15
    mirrored = (across[:, -1] < across[:, 0]).float().mean()
    assert 0.4 < mirrored < 0.6
    assert (down[:, -1] > down[:, 0]).all()
    assert across.mean(1).max() > 0.5


def prop_patches_belong_to_their_picture(w):
    """The n-th picture's patches are of the n-th picture."""
    x = torch.arange(3.0)[:, None, None, None].expand(3, 3, 16, 16)
    cut = w.cut_patches(x, 5, 0.2, 0.4, 4)
    assert cut.shape == (3, 5, 3, 4, 4)
    close(cut, x[:, None, :, :4, :4].expand_as(cut))


def prop_references_are_averaged(w):
    """The order of the references does not matter; without averaging it does."""
    torch.manual_seed(0)
    for aggregate in (True, False):
        critic = w.PatchCritic((4, 4), 4, 4, (4,), aggregate)
        a, b = torch.randn(2, 3, 3, 8, 8), torch.randn(2, 3, 3, 8, 8)
        same = torch.allclose(critic(a, b), critic(a, b.flip(1)), atol=1e-5)
        assert same == aggregate
        close(critic(a.flip(1), b.flip(1)), critic(a, b).flip(1), atol=1e-5)


PROPERTIES = properties(globals())
FAULTS = {  # (what stands in the chapter, what a fault makes of it): the property that notices
    (
        "Decoded(both[:kept], both[kept:], n",
        "Decoded(both[kept:], both[:kept], n",
    ): "prop_own_codes_reconstruct",
    (
        "torch.cat([t[:kept], neighbours(t[mixed])])",
        "torch.cat([t[:kept], t[mixed]])",
    ): "prop_own_codes_reconstruct",
    ("h = block(h, t)", "h = block(h, 0 * t)"): "prop_codes_matter_much",
    ("self.gains[0] * unit(s), self.gains[1] * unit(t)", "s, t"): "prop_codes_matter",
    ("w = s * w\n", "w = 1 * w\n"): "prop_slow_modulation",
    ("(1 - share) * (2 * torch", "1 * (2 * torch"): "prop_patches",
    ("(mirror * share[..., 0])", "(share[..., 0])"): "prop_patches",
    (
        "centre[..., 1:] + share[..., 1:] * line",
        "centre[..., 1:] + share[..., :1] * line",
    ): "prop_patches",
    (
        "known = known.mean(dim=1, keepdim=True).expand_as(found)",
        "pass",
    ): "prop_references_are_averaged",
    ("F.instance_norm(h) if self.whiten", "h if self.whiten"): "prop_whitened_structure",
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name):
    PROPERTIES[name](swapping)


@pytest.mark.parametrize(("fault", "name"), FAULTS.items(), ids=lambda v: str(v)[:50])
def test_planted_faults_are_noticed(fault, name):
    check_is_noticed(fault, PROPERTIES[name])
