import dataclasses
import io
import math

import numpy as np
import pytest
import torch
from faults import plant
from PIL import Image
from torch import nn

from minilib import chapters, training
from minilib.config import ConfigError

swapping = chapters.load("swapping_autoencoder")
TINY = dataclasses.replace(swapping.SMOKE, batch=4, crops=3)


def close(found, expected, rtol=1e-5, atol=1e-6):
    found, expected = torch.as_tensor(found), torch.as_tensor(expected)
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


def setting(module=swapping, config=TINY, seed=0):
    """Networks of some module, and a batch of four."""
    torch.manual_seed(seed)
    nets = module.networks(config)
    return nets, torch.rand(4, 3, config.size, config.size) * 2 - 1


# Sizes and counts


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


def test_both_codes_have_length_one():
    nets, x = setting()
    s, t = nets["encoder"](x)
    close(s.square().sum(1), torch.ones(4, 16, 16), atol=1e-4)
    close(t.square().sum(1), torch.ones(4), atol=1e-4)


# Properties that hold here, and that planted faults break


def prop_own_codes_reconstruct(w):
    """Decoding a picture's own two codes is its reconstruction; the hybrids take the other's."""
    nets, x = setting(w)
    for net in nets.values():
        net.eval()
    s, t = nets["encoder"](x)
    for everywhere, part in ((True, slice(None)), (False, slice(2, None))):
        rebuilt, hybrid, source = w.decode_both(nets, x, everywhere)
        close(rebuilt, nets["generator"](s, t)[:2], atol=1e-5)
        close(hybrid, nets["generator"](s, t[[1, 0, 3, 2]])[part], atol=1e-5)
        assert torch.equal(source, x[[1, 0, 3, 2]][part])
    close(w.decode_like(nets["encoder"], nets["generator"], x, x)[:2], rebuilt, atol=1e-5)


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


def prop_slow_modulation(w):
    """The chapter's kernel for every picture is the layer's answer."""
    torch.manual_seed(1)
    h, t = torch.randn(3, 5, 6, 6), torch.randn(3, 4)
    for kind in ("joint", "separate"):
        layer = w.stylegan2.ModulatedConv2d(5, 7, 3, 4, demodulation=kind)
        close(w.one_by_one(layer, h, t), layer(h, t), rtol=1e-4, atol=1e-5)


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


def prop_generator_terms(w):
    """Eq. 4.1 to 4.4, recomputed; the references are patches of the texture's picture."""
    nets, x = setting(w)
    for net in nets.values():
        net.eval()
    seen = []

    def cut(y):
        seen.append(y)
        return w.cut_patches(y, 3, 0.9, 1.0, 8)

    torch.manual_seed(3)
    terms = w.generator_terms(nets, x, cut, True)
    rebuilt, hybrid, _ = w.decode_both(nets, x, True)
    close(terms["image"], (rebuilt - x[:2]).abs().mean())
    close(terms["gan_rec"], -torch.sigmoid(nets["critic"](rebuilt)).log().mean(), atol=1e-4)
    close(terms["gan_swap"], -torch.sigmoid(nets["critic"](hybrid)).log().mean(), atol=1e-4)
    close(seen[0], hybrid, atol=1e-5)
    close(seen[1], x[[1, 0, 3, 2]])
    w.total(terms, w.Objective()).backward()
    for name in ("critic", "patch_critic"):
        assert all(p.grad is None for p in nets[name].parameters())
    for name in ("encoder", "generator"):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in nets[name].parameters())


def prop_weights(w):
    """The total is 1, 0.5, 1 and 1 times the terms, as in the released code."""
    terms = {"image": 1.0, "gan_rec": 10.0, "gan_swap": 100.0, "patch": 1000.0}
    found = w.total({k: torch.tensor(v) for k, v in terms.items()}, w.objective_of(w.RELEASED))
    close(found, 1 + 5 + 100 + 1000.0)


def prop_critic_terms(w):
    """Perfect discriminators pay nothing, confused ones twice ln 2 each; codes get no gradient."""
    nets, x = setting(w)

    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.value = nn.Parameter(torch.zeros(1))

        def forward(self, y, references=None):
            return self.value.expand(len(y), 1 if references is None else y.shape[1])

    cut = w.make_cut(TINY)
    confused = w.critic_terms(
        nets | {"critic": Constant(), "patch_critic": Constant()}, x, cut, True
    )
    close(confused["critic"], 2 * math.log(2))
    close(confused["patch_critic"], 2 * math.log(2))
    terms = w.critic_terms(nets, x, cut, False)
    (terms["critic"] + terms["patch_critic"]).backward()
    for name in ("encoder", "generator"):
        assert all(p.grad is None for p in nets[name].parameters())


def prop_critics_are_told_apart(w):
    """D is told that pictures are real; D_patch that patches of the same picture are."""
    nets, x = setting(w)
    scored = []

    class Watch(nn.Module):
        def forward(self, y, references=None):
            scored.append((y.detach(), references))
            score = y.flatten(1).mean(1, keepdim=True) if references is None else y.mean((2, 3, 4))
            return 50 * score

    bright = torch.ones_like(x)  # all that is real is bright, fakes are about grey
    real = nets | {"critic": Watch(), "patch_critic": Watch()}
    terms = w.critic_terms(real, bright, w.make_cut(TINY), True)
    assert len(scored[0][0]) == 4 + 2 + 4
    close(scored[0][0][:4], bright)
    close(scored[1][0], torch.ones_like(scored[1][0]))
    assert scored[1][1] is scored[2][1]
    assert not torch.equal(scored[1][0], scored[2][0])
    assert all(term >= 0 for term in terms.values())


def prop_mismatch(w):
    """Real patches of picture 1 against references of picture 2 are false, too."""
    nets, x = setting(w)
    x = torch.tensor([0.2, 0.4, 0.6, 0.8])[:, None, None, None].expand_as(x).contiguous()
    seen = []

    class Watch(nn.Module):
        def forward(self, y, references):
            seen.append((y.mean((1, 2, 3, 4)), references.mean((1, 2, 3, 4))))
            return torch.zeros(y.shape[:2])

    for share in (0.0, 0.5, 1.0):
        seen.clear()
        terms = w.critic_terms(nets | {"patch_critic": Watch()}, x, w.make_cut(TINY), False, share)
        close(terms["patch_critic"], 2 * math.log(2))
        assert len(seen) == (3 if share else 2)
    close(seen[2][0], [0.6, 0.8])
    close(seen[2][1], [0.8, 0.6])


def prop_whitened_structure(w):
    """The structure code forgets what brightens or stretches all features alike."""
    for whiten in (True, False):
        torch.manual_seed(0)
        encoder = w.Encoder((4, 4), 4, 4, (4, 4), whiten=whiten)
        h = torch.randn(2, 4, 16, 16)
        encoder.down = nn.Identity()
        same = torch.allclose(encoder(h)[0], encoder(3 * h + 1)[0], atol=1e-3)
        assert same == whiten


def prop_penalties(w):
    """Weights 10 / 2 and 1 / 4, on both inputs of D_patch."""
    nets, x = setting(w)

    class Plane(nn.Module):
        def forward(self, y, references=None):
            if references is None:
                return y.flatten(1).sum(1, keepdim=True)
            return 2 * y.flatten(2).sum(2) + 3 * references.flatten(2).sum(2)

    planes = nets | {"critic": Plane(), "patch_critic": Plane()}
    found = w.penalties(planes, x, w.make_cut(TINY), w.Objective())
    close(found["r1"], 5.0 * 3 * 32 * 32)
    numbers = 3 * 3 * 8 * 8  # three patches each
    close(found["patch_r1"], (4.0 + 9.0) * numbers / 4)


def prop_steps_alternate(w):
    """Even steps move the discriminators only, odd ones E and G only; the penalty is lazy."""
    nets, x = setting(w)
    state = w.make_state(nets, TINY)
    step = w.make_step(
        nets, state.optimizers, lambda i: x, w.make_cut(TINY), w.Objective(), 2, True
    )

    def moved(i):
        before = {n: [p.clone() for p in net.parameters()] for n, net in nets.items()}
        terms = step(i)
        return set(terms), {
            n
            for n, net in nets.items()
            if any(not torch.equal(a, p) for a, p in zip(before[n], net.parameters(), strict=True))
        }

    critics, codec = {"critic", "patch_critic"}, {"encoder", "generator"}
    for i in range(5):
        terms, who = moved(i)
        assert who == (codec if i % 2 else critics)
        assert ("r1" in terms) == (i % 4 == 0)


def prop_scores(w):
    """The truth scores as it should, a copy does not."""
    labels = w.tinytown.layouts(6, 3, 32)
    one, other = w.tinytown.style_of_mode(torch.arange(6)), w.tinytown.style_of_mode(8)
    wanted = torch.full((6,), 8)
    truth = w.tinytown.render(labels, w.tinytown.style_of_mode(wanted))
    copy = w.tinytown.render(labels, one)
    judge = w.bicyclegan.make_judge(4)
    best = w.town_scores(judge, truth, labels, wanted)
    assert best["texture_taken"] == best["right_share"] == 1
    assert best["structure_read"] > 0.9
    assert w.town_scores(judge, copy, labels, wanted)["texture_taken"] == 0
    assert len(other) == 1


def prop_mean_colour(w):
    """The shifted copy has the other picture's mean colour, and its own differences."""
    x, other = 0.2 * torch.rand(2, 3, 8, 8), -0.3 * torch.rand(2, 3, 8, 8)
    moved = w.mean_colour_transfer(x, other)
    close(moved.mean((2, 3)), other.mean((2, 3)), atol=1e-5)
    close(moved - moved.mean((2, 3), keepdim=True), x - x.mean((2, 3), keepdim=True), atol=1e-5)


def prop_pairs(w):
    """Every picture with the ones after it, never with itself."""
    first, second = w.pairs(5, 2)
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == sorted(
        (i, (i + k) % 5) for i in range(5) for k in (1, 2)
    )


def prop_principal(w):
    """Directions of length one by falling deviation, those of a known cloud."""
    torch.manual_seed(0)
    points = torch.randn(4000, 3) * torch.tensor([1.0, 5.0, 2.0]) + 7
    ways, spread = w.principal(points, 2)
    close(ways.abs(), [[0.0, 1, 0], [0, 0, 1]], atol=0.05)
    close(spread, [5.0, 2.0], rtol=0.05)


def prop_explained(w):
    """All of the variance between groups, or none of it."""
    groups = torch.tensor([0, 0, 1, 1, 2, 2])
    close(w.explained(groups.float(), groups), 1.0)
    close(w.explained(torch.tensor([-1.0, 1, -1, 1, -1, 1]), groups), 0.0)
    close(w.explained(torch.tensor([0.0, 2, 2, 4, 1, 3]), groups), 0.4)


def prop_stamp_and_mask(w):
    """The stamp copies a square and leaves the original; the mask holds the place touched."""
    torch.manual_seed(0)
    s = w.unit(torch.randn(1, 4, 6, 6))[0]
    before = s.clone()
    edited = w.stamp(s, (0, 1), (3, 2), 2)
    close(edited[:, 3:5, 2:4], s[:, 0:2, 1:3])
    assert int((edited != s).any(0).sum()) == 4
    assert torch.equal(s, before)
    mask = w.self_similarity_mask(s, 2, 3, 0.99)
    assert mask[2, 3] == 1
    assert mask.sum() == 1


def prop_distances(w):
    """Structure distance forgets a scale of the features, style distance forgets places."""
    torch.manual_seed(0)
    f = torch.rand(2, 6, 16, 16)
    assert w.structure_distance(f, f) < 1e-6
    assert w.structure_distance(f, 3 * f) < 1e-5
    assert w.structure_distance(f, f.roll(5, dims=3)) > 0.01
    assert w.style_distance(f, f.flip(2)) < 1e-4
    assert w.style_distance(f, f + 1) == pytest.approx(6, rel=0.01)


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


def prop_critics_are_told_apart_by_values(w):
    """What D_patch calls false are patches of hybrids, not of pictures."""
    nets, x = setting(w)
    seen = []

    class Watch(nn.Module):
        def forward(self, y, references):
            seen.append(y)
            return y.mean((2, 3, 4))

    w.critic_terms(
        nets | {"patch_critic": Watch()}, torch.full_like(x, 0.9), w.make_cut(TINY), True
    )
    close(seen[0], torch.full_like(seen[0], 0.9))
    assert not torch.allclose(seen[1], torch.full_like(seen[1], 0.9), atol=1e-2)


PROPERTIES = {name: value for name, value in globals().items() if name.startswith("prop_")}
FAULTS = {  # (what stands in the chapter, what a fault makes of it): the property that notices
    ("return both[:half], both[half:], n", "return both[half:], both[:half], n"): (
        "prop_own_codes_reconstruct"
    ),
    ("torch.cat([t[:half], neighbours(t[mixed])])", "torch.cat([t[:half], t[mixed]])"): (
        "prop_own_codes_reconstruct"
    ),
    ("h = block(h, t)", "h = block(h, 0 * t)"): "prop_codes_matter_much",
    ("self.gains[0] * unit(s), self.gains[1] * unit(t)", "s, t"): "prop_codes_matter",
    ("w = s * w\n", "w = 1 * w\n"): "prop_slow_modulation",
    ("(1 - share) * (2 * torch", "1 * (2 * torch"): "prop_patches",
    ("(mirror * share[..., 0])", "(share[..., 0])"): "prop_patches",
    ("centre[..., 1:] + share[..., 1:] * line", "centre[..., 1:] + share[..., :1] * line"): (
        "prop_patches"
    ),
    ("known = known.mean(dim=1, keepdim=True).expand_as(found)", "pass"): (
        "prop_references_are_averaged"
    ),
    ("cut(hybrid), cut(source))  #", "cut(hybrid), cut(x))  #"): "prop_generator_terms",
    ('bicyclegan.frozen(nets["critic"], torch.cat([rebuilt', 'nets["critic"](torch.cat([rebuilt'): (
        "prop_generator_terms"
    ),
    ("stylegan2.real_loss(scores[half:])", "stylegan2.real_loss(scores[:half])"): (
        "prop_generator_terms"
    ),
    ("getattr(want, name) * term", "term"): "prop_weights",
    ("real + 0.5 * fakes[0] + 0.5 * fakes[1]", "real + fakes[0] + fakes[1]"): "prop_critic_terms",
    ('other = nets["patch_critic"](cut(hybrid)', 'other = nets["patch_critic"](cut(source)'): (
        "prop_critics_are_told_apart_by_values"
    ),
    ("cut(neighbours(source)), references)", "cut(source), references)"): "prop_mismatch",
    ("F.instance_norm(h) if self.whiten", "h if self.whiten"): "prop_whitened_structure",
    ("want.patch_r1 / 2 / 2 * small", "want.patch_r1 / 2 * small"): "prop_penalties",
    ("squared_gradient(scores, patches, references)", "squared_gradient(scores, patches)"): (
        "prop_penalties"
    ),
    ("if (i // 2) % every == 0", "if True"): "prop_steps_alternate",
    (
        "other.mean(dim=(2, 3), keepdim=True) - x.mean",
        "other.mean(dim=(2, 3), keepdim=True) + x.mean",
    ): ("prop_mean_colour"),
    ("math.sqrt(len(points) - 1)", "1.0"): "prop_principal",
    ("edited = s.clone()", "edited = s"): "prop_stamp_and_mask",
    ("unit(places - places.mean(dim=2, keepdim=True))", "places"): "prop_distances",
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name):
    PROPERTIES[name](swapping)


@pytest.mark.parametrize(("fault", "name"), FAULTS.items(), ids=lambda v: str(v)[:50])
def test_planted_faults_are_noticed(fault, name):
    faulty = plant("swapping_autoencoder", *fault)
    with pytest.raises((AssertionError, RuntimeError)):
        PROPERTIES[name](faulty)


# Training, data, measuring


def test_training_is_reproducible_and_resumes(tmp_path):
    config = dataclasses.replace(TINY, ema=0.9)
    train = swapping.open_images("tinytown", config)

    def fit(folder, steps, resume=False):
        torch.manual_seed(0)
        nets = swapping.networks(config)
        state = swapping.make_state(nets, config)
        batches = swapping.make_batches(train, config, 0, torch.device("cpu"))
        want = swapping.objective_of(config)
        step = swapping.make_step(
            nets, state.optimizers, batches, swapping.make_cut(config), want, 1, False
        )
        training.fit(step, state, steps, folder=folder, seed=0, identity="t", resume=resume)
        return [p for net in nets.values() for p in net.parameters()]

    whole = fit(tmp_path / "a", 4)
    fit(tmp_path / "b", 3)
    for p, q in zip(whole, fit(tmp_path / "b", 4, resume=True), strict=True):
        assert torch.equal(p, q)


def test_the_critics_adam_is_slowed_down_by_sixteen_seventeenths():
    nets, _ = setting()
    config = dataclasses.replace(TINY, rate=0.002, critic_rate=1.0, beta1=0.5, r1_every=16)
    state = swapping.make_state(nets, config)
    codec, critics = (state.optimizers[n].param_groups[0] for n in ("codec", "critics"))
    assert codec["lr"] == 0.002
    assert critics["lr"] == pytest.approx(0.002 * 16 / 17)
    assert critics["betas"] == pytest.approx((0.5 ** (16 / 17), 0.99 ** (16 / 17)))


def test_town_images_hold_out_other_scenes():
    train = swapping.open_images("tinytown", TINY)
    held_out = swapping.open_images("tinytown", TINY, held_out=True)
    assert (len(train), len(held_out)) == (TINY.scenes, TINY.held_out)
    assert not any((held_out.labels[0] == one).all() for one in train.labels)


@pytest.mark.parametrize("task", ["afhq", "ffhq_512", "ffhq_1024"])
def test_real_data_in_its_own_layout_makes_steps(task, tmp_path, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    plan = swapping.PRESETS["full"][task]
    train, test, _ = swapping.FOLDERS[plan.data]
    generator = np.random.default_rng(0)
    for split in {train, test}:
        folder = tmp_path / plan.data / split / "cat"
        folder.mkdir(parents=True)
        for i in range(6):
            pixels = generator.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    config = dataclasses.replace(
        TINY, size=64, load_size=80, flip=True, held_out=2, critic_widths=(4,) * 5
    )
    pictures = swapping.open_images(plan.data, config)
    assert len(pictures) == (6 if train != test else 4)
    assert len(swapping.open_images(plan.data, config, held_out=True)) == 2
    batches = swapping.make_batches(pictures, config, 0, torch.device("cpu"))
    assert batches(0).shape == (4, 3, 64, 64)
    nets = swapping.networks(config)
    state = swapping.make_state(nets, config)
    step = swapping.make_step(
        nets, state.optimizers, batches, swapping.make_cut(config), swapping.Objective(), 1, True
    )
    for i in range(2):
        assert all(torch.isfinite(term) for term in step(i).values())


def test_lsun_photos_are_cut_to_their_middle():
    pixels = np.zeros((20, 60, 3), dtype=np.uint8)
    pixels[:, 20:40] = 200
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    photo = swapping.decode_square(stream.getvalue(), (10, 10))
    assert photo.shape == (3, 10, 10)
    assert (photo[:, 1:-1, 1:-1] == 200).all()


def test_a_search_stops_at_its_goal_or_its_last_step():
    nets, x = setting()
    generator = nets["generator"].eval()
    start = tuple(c.detach()[:1] for c in nets["encoder"](x))
    first = swapping.search_codes(generator, x[:1], start, 0.0, 5, 0.05)
    assert first.steps == 5
    easy = swapping.search_codes(generator, x[:1], start, 10.0, 5, 0.05)
    assert easy.steps == 1
    longer = swapping.search_codes(generator, x[:1], start, 0.0, 30, 0.05)
    assert longer.error < first.error


def test_corruptions_that_move_things_keep_the_colours():
    kinds = swapping.corruptions(32)
    x = torch.rand(2, 3, 32, 32)
    for corrupt in kinds["shift"]:
        close(corrupt(x).mean((2, 3)), x.mean((2, 3)))
    for corrupt in kinds["blur"]:
        assert corrupt(x).std() < 0.8 * x.std()
    close(swapping.turned(x, 0.0), x, atol=1e-5)
    close(swapping.turned(x, 90.0), x.rot90(1, (2, 3)), atol=1e-4)
