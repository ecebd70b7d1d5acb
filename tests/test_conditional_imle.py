import dataclasses
import itertools

import numpy as np
import pytest
import torch
from faults import plant
from PIL import Image
from scipy.stats import gaussian_kde
from torch import nn

from minilib import chapters, matching, tinytown, training
from minilib.config import ConfigError, resolve

imle = chapters.load("conditional_imle")
SMOKE = imle.SMOKE
MAP = dataclasses.replace(SMOKE, noise_kind="map", latent=4, noise=5, hidden=6)


def model_of(module=imle, config=SMOKE, seed=0):
    torch.manual_seed(seed)
    nets = module.networks(config)
    return module.Implicit(nets["generator"], nets["noise_encoder"])


def batch(n=4, labels=10, size=32, seed=1):
    torch.manual_seed(seed)
    kinds = torch.randint(labels, (n, size, size))
    return nn.functional.one_hot(kinds, labels).movedim(-1, 1).float(), torch.rand(
        n, 3, size, size
    ) * 2 - 1


def same(a, b, atol=1e-6, rtol=1e-5):
    torch.testing.assert_close(a, torch.as_tensor(b), atol=atol, rtol=rtol)


# Sizes and counts


@pytest.mark.parametrize("task", ["gta5", "bdd100k"])
def test_full_networks_have_the_released_numbers_of_parameters(task):
    (found,) = chapters.describe("conditional_imle", "full", task)
    assert found.parameters == {
        "generator": 98_416_131,
        "noise_encoder": 118_410,
        "crn": 97_875_483,
    }


def test_a_crn_with_one_output_has_the_released_number_of_parameters():
    with torch.device("meta"):
        one = imle.networks(dataclasses.replace(imle.PAPER, outputs=1))["crn"]
    assert chapters.count_parameters(one) == 97_863_171


def test_full_settings_are_those_of_the_paper_and_the_released_code():
    c = imle.PAPER
    assert (c.pool, c.draws, c.inner, c.batch, c.rounds, c.late) == (400, 10, 10_000, 1, 16, 6)
    factor = imle.schedule(c.rounds * c.inner, c.decay, c.late * c.inner)
    rates = [c.rate * factor(step) for step in (0, 59_999, 60_000, 159_999)]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5])


@pytest.mark.parametrize("kind", ["vector", "map"])
@pytest.mark.parametrize("encoder", [True, False])
def test_networks_draw_pictures_of_the_layouts_size(kind, encoder):
    config = dataclasses.replace(
        MAP, noise_kind=kind, encoder=encoder, height=64, aspect=2, widths=(4, 4, 4, 4, 4)
    )
    x = torch.rand(2, 10, 64, 128)
    z = torch.randn(2, *imle.latent_shape(config))
    assert model_of(config=config)(x, z).shape == (2, 3, 64, 128)
    crn = imle.networks(config)["crn"]
    assert imle.several(crn(x), 9).shape == (2, 9, 3, 64, 128)


def test_wrong_values_are_refused():
    with pytest.raises(ConfigError, match="noise_kind"):
        resolve(imle.PRESETS, "toy", "", {"noise_kind": "tensor"})


# Properties that hold here, and that planted faults break


def prop_layer_norm(b):
    """One mean and one variance per picture, over (C, H, W) jointly; scale and shift by channel."""
    torch.manual_seed(0)
    h = torch.randn(3, 4, 5, 6) * torch.tensor([1.0, 2, 3, 4])[:, None, None] + 2
    norm = b.layer_norm(4)
    with torch.no_grad():
        norm.weight.copy_(torch.arange(4) + 1.0)
        norm.bias.copy_(torch.arange(4) * 0.5)
    deviation = h.std((1, 2, 3), correction=0, keepdim=True)
    wanted = (h - h.mean((1, 2, 3), keepdim=True)) / deviation
    wanted = wanted * norm.weight[:, None, None] + norm.bias[:, None, None]
    same(norm(h), wanted, atol=1e-5)


def prop_noise_vector_is_a_constant_map(b):
    """A noise vector adds what a constant map would, away from the border: nine weights at once."""
    torch.manual_seed(0)
    by_map, by_vector = b.Refinement(0, 3, 2, False, 4), b.Refinement(0, 3, 2, True, 4)
    noise = torch.randn(1, 2)
    with torch.no_grad():
        by_vector.first.weight.copy_(by_map.first.weight[:, :3])
        by_vector.codes[0].weight.copy_(by_map.first.weight[:, 3:].sum((2, 3)))
        by_vector.codes[1].weight.zero_()
    x, seen = torch.rand(1, 3, 8, 8), []
    for module in (by_map, by_vector):
        module.norms[0] = nn.Identity()
        module.second = nn.Identity()
        module.norms[1] = nn.Identity()
        given = noise if module is by_vector else noise[:, :, None, None].expand(-1, -1, 8, 8)
        seen.append(module(None, x, given)[:, :, 1:-1, 1:-1])
    same(seen[0], seen[1], atol=1e-5)


def prop_layout_is_seen_at_every_size(b):
    """Each level gets the layout, averaged: shares of labels that sum to one."""
    x, _ = batch(2)
    sizes = b.pyramid(x, 4)
    assert [s.shape[2] for s in sizes] == [4, 8, 16, 32]
    same(sizes[0], nn.functional.interpolate(x, size=(4, 4), mode="area"))
    same(sizes[0].sum(1), torch.ones(2, 4, 4))


def prop_winner_is_brute_force(b):
    """The winning seed has the smallest distance, one picture at a time; the first of ties."""
    for config, masked in itertools.product((SMOKE, MAP), (False, True)):
        model, (x, y) = model_of(b, config), batch()
        seeds, shape = b.draw_seeds(4, 6), b.latent_shape(config)
        mask = torch.rand(4, 1, 32, 32) if masked else None
        won, best = b.winners(model, b.Pixels(), x, y, seeds, shape, mask)
        for i in range(4):
            found = []
            for seed in seeds[i]:
                with torch.no_grad():
                    gap = (model(x[i : i + 1], b.latents(seed[None], shape))[0] - y[i]).abs()
                found.append(float((gap * (mask[i] if masked else 1)).mean()))
            assert won[i] == seeds[i][int(np.argmin(found))]
            assert float(best[i]) == pytest.approx(min(found), rel=1e-4)
    tied = seeds[:, :1].expand(-1, 3).clone()
    tied[:, 1:] = torch.stack([tied[:, 0], tied[:, 0]], dim=1)
    won, _ = b.winners(model, b.Pixels(), x, y, tied, shape)
    assert torch.equal(won, tied[:, 0])


def prop_points(b):
    """The L1 distance of points is the sum over layers of the mean masked absolute difference."""
    torch.manual_seed(0)
    one, two = ([torch.randn(2, c, s, s) for c, s in ((3, 8), (5, 4))] for _ in range(2))
    mask = torch.rand(2, 1, 8, 8)
    small = nn.functional.interpolate(mask, size=(4, 4), mode="area")
    wanted = ((one[0] - two[0]).abs() * mask).mean((1, 2, 3))
    wanted = wanted + ((one[1] - two[1]).abs() * small).mean((1, 2, 3))
    same(b.distance(b.points(one, mask), b.points(two, mask)), wanted)


def prop_crn_loss(b):
    """eq-cimle-crn, label by label and output by output, in loops."""
    torch.manual_seed(0)
    x, y = batch(2, labels=3, size=8)
    y_hat = torch.randn(2, 4, 3, 8, 8)
    total = 0.0
    for i, label in itertools.product(range(2), range(3)):
        errors = [
            float(((y[i] - y_hat[i, k]).abs().mean(0) * x[i, label]).mean()) for k in range(4)
        ]
        total += (0.999 * min(errors) + 0.001 * sum(errors) / 4) / 2
    same(b.crn_loss([y], [y_hat], x), total)


def prop_density(b):
    """The kernel density is scipy's, with Scott's bandwidth."""
    torch.manual_seed(0)
    points = torch.randn(60, 3) * torch.tensor([0.1, 0.5, 1.0]) + torch.rand(60, 1)
    wanted = gaussian_kde(points.T.double().numpy())(points.T.double().numpy())
    same(b.density(points, points), torch.from_numpy(wanted), rtol=1e-6, atol=0)


def prop_rarity(b):
    """One over the density where the label is, else 0; few pictures take the largest so far."""
    torch.manual_seed(0)
    colours, there = torch.randn(30, 3, 3), torch.ones(30, 3, dtype=torch.bool)
    there[:10, 1] = False
    there[5:, 2] = False
    found = b.rarity(colours, there, fewest=12)
    some = colours[10:, 1].T.double().numpy()
    same(found[10:, 1], torch.from_numpy(1 / gaussian_kde(some)(some)), rtol=1e-6)
    assert (found[:10, 1] == 0).all()
    assert (found[:5, 2] == found[:, :2].max()).all()
    assert (found[5:, 2] == 0).all()


def prop_draw_rare(b):
    """The i-th picture is drawn by the rarity of label turns[i mod n]."""
    torch.manual_seed(0)
    scores = torch.tensor([[1.0, 0], [3, 0], [0, 1]], dtype=torch.float64)
    index = b.draw_rare(scores, (0, 1), 8000)
    assert (index[1::2] == 2).all()
    assert abs(float((index[::2] == 1).double().mean()) - 0.75) < 0.03


def prop_mask(b):
    """A pixel's weight is its label's rarity over the largest in its picture."""
    scores = torch.tensor([[2.0, 8, 0], [5, 0, 0]])
    x = nn.functional.one_hot(torch.tensor([[[0, 1]], [[0, 0]]]), 3).movedim(-1, 1).float()
    mask = b.pixel_mask(b.relative(scores), x)
    same(mask, torch.tensor([[[[0.25, 1.0]]], [[[1.0, 1.0]]]]))


def prop_from_crn(b):
    """Without noise the new generator draws the CRN's first picture; the noise has its size."""
    torch.manual_seed(0)
    wide = dataclasses.replace(MAP, widths=(32, 32, 32, 32))
    nets = b.networks(wide)
    generator = b.from_crn(nets["generator"], nets["crn"])
    x, _ = batch(2)
    nothing = torch.zeros(2, 5, 32, 32)
    same(generator(x, nothing), b.several(nets["crn"](x), 9)[:, 0], atol=1e-4)
    weights = generator.refine[1].first.weight
    known, added = weights[:, :-5], weights[:, -5:]
    assert float((added.std() / known.square().mean().sqrt()).detach()) == pytest.approx(
        5, rel=0.05
    )


def prop_the_step_pulls_the_stored_winners(b):
    """The loss is the distance of the samples made from the stored seeds, and it has a gradient."""
    config = dataclasses.replace(SMOKE, inner=2, ema=0.0)
    town = b.Town(12, 0, 32)
    model, matches = model_of(b, config), b.Matches(8)
    state = b.make_state(model, config, 4, matches)
    step = b.imle_step(model, state.optimizers["model"], matches, town, b.Pixels(), config, "cpu")
    torch.manual_seed(3)
    step(0)
    kept = matches.seed.clone()
    before = [p.clone() for p in model.parameters()]
    torch.manual_seed(4)
    loss = step(1)["loss"]
    assert torch.equal(kept, matches.seed)
    assert any(not torch.equal(a, p) for a, p in zip(before, model.parameters(), strict=True))
    with torch.no_grad():
        for p, old in zip(model.parameters(), before, strict=True):
            p.copy_(old)
        torch.manual_seed(4)
        row = torch.randint(8, (config.batch,))
        x, y = town.pairs(matches.index[row])
        y_hat = model(x, b.latents(matches.seed[row], b.latent_shape(config)))
    same(loss, (y_hat - y).abs().mean())
    torch.manual_seed(5)
    step(2)
    assert not torch.equal(kept, matches.seed)


def prop_style_consistency(b):
    """Shares of the most frequent mode, latent by latent; "none" is no style."""
    mode = torch.tensor([[2, 5], [1, 4], [1, 4], [1, 4]])
    assert b.style_consistency(mode) == pytest.approx(0.75)


def prop_grid_power(b):
    """A grid of period 4 is seen, white noise has none."""
    torch.manual_seed(0)
    noise = torch.randn(64, 3, 32, 32)
    assert abs(b.grid_power(noise) - 1) < 0.15
    grid = torch.zeros(32, 32)
    grid[::4] = 3
    assert b.grid_power(noise + grid) > 1.5
    assert b.grid_power(noise + grid.T) > 1.5


def prop_hues(b):
    """One hue counts as one; two halves as two; greys do not count."""
    y = -torch.ones(1, 3, 4, 4)
    y[:, 2] = 1  # blue
    assert b.effective_hues(b.hue_histogram(y)) == pytest.approx(1)
    y[:, :, :2] = torch.tensor([-1.0, 1, -1])[:, None, None]  # green above
    assert b.effective_hues(b.hue_histogram(y)) == pytest.approx(2, rel=1e-5)
    y[:, :, :2] = 0.3
    assert b.effective_hues(b.hue_histogram(y)) == pytest.approx(1, abs=0.01)


PROPERTIES = {name: value for name, value in globals().items() if name.startswith("prop_")}
FAULTS = {  # (what stands in the chapter, what a fault makes of it): the property that notices
    ("nn.GroupNorm(1, channels", "nn.GroupNorm(channels, channels"): "prop_layer_norm",
    ("return h + self.codes[k]", "return h + 0 * self.codes[k]"): (
        "prop_noise_vector_is_a_constant_map"
    ),
    ("F.avg_pool2d(sizes[0], 2)", "F.max_pool2d(sizes[0], 2)"): (
        "prop_layout_is_seen_at_every_size"
    ),
    ("sigma = nearest(real, drawn, p=1.0)", "sigma = nearest(real, -drawn, p=1.0)"): (
        "prop_winner_is_brute_force"
    ),
    ("x.repeat_interleave(m, dim=0), z)", "x.repeat(m, 1, 1, 1), z)"): (
        "prop_winner_is_brute_force"
    ),
    ("h.flatten(1) / h[0].numel()", "h.flatten(1) / h.numel()"): "prop_points",
    ("0.999 * best + 0.001 * mean", "0.999 * mean + 0.001 * best"): "prop_crn_loss",
    ("n ** (-2 / (d + 4))", "n ** (-1 / (d + 4))"): "prop_density",
    ("found[rows, label] = 1 / density", "found[rows, label] = density"): "prop_rarity",
    ("index[k :: len(turns)]", "index[:: len(turns)]"): "prop_draw_rare",
    ('"bl,blhw->bhw"', '"bl,bkhw->bhw"'): "prop_mask",
    ("weight[:: crn.outputs]", "weight[:3]"): "prop_from_crn",
    ("boost: float = 5.0", "boost: float = 1.0"): "prop_from_crn",
    ("latents(matches.seed[row], shape)", "latents(matches.seed[row] + 1, shape)"): (
        "prop_the_step_pulls_the_stored_winners"
    ),
    ("column == column.mode().values", "column == column[0]"): "prop_style_consistency",
    ("power.T.mean(1)):", "power.mean(1)):"): "prop_grid_power",
    ("weights=saturation", "weights=None"): "prop_hues",
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name):
    PROPERTIES[name](imle)


@pytest.mark.parametrize(("fault", "name"), FAULTS.items(), ids=lambda v: str(v)[:50])
def test_planted_faults_are_noticed(fault, name):
    faulty = plant("conditional_imle", *fault)
    with pytest.raises((AssertionError, RuntimeError)):
        PROPERTIES[name](faulty)


# Matching


def test_nearest_with_absolute_differences_is_brute_force():
    torch.manual_seed(0)
    points, others = torch.randn(3, 5, 7), torch.randn(3, 4, 7)
    gaps = (points[:, :, None] - others[:, None]).abs().sum(-1)
    assert torch.equal(matching.nearest(points, others, p=1.0), gaps.argmin(-1))
    assert not torch.equal(gaps.argmin(-1), matching.nearest(points, others))


def test_equally_near_points_give_the_first():
    others = torch.tensor([[5.0], [1.0], [-1.0], [1.0]])
    assert matching.nearest(torch.zeros(1, 1), others, p=1.0).tolist() == [1]


def test_latents_depend_on_their_seed_alone():
    seeds = matching.draw_seeds(5)
    together = matching.latents(seeds, (2, 3))
    apart = torch.cat([matching.latents(s[None], (2, 3)) for s in seeds.flip(0)]).flip(0)
    assert torch.equal(together, apart)
    assert not torch.equal(together[0], together[1])
    assert matching.latents(seeds[:0], (4,)).shape == (0, 4)


@pytest.mark.parametrize("config", [SMOKE, MAP], ids=["vector", "map"])
def test_winners_made_again_from_their_seeds_are_the_same(config):
    """The latents to the last bit, their pictures to 1e-5, whatever batch they were drawn in."""
    model, (x, y) = model_of(config=config), batch(6)
    shape, seeds = imle.latent_shape(config), matching.draw_seeds(6, 5)
    everything = matching.latents(seeds.flatten(), shape).unflatten(0, (6, 5))
    with torch.no_grad():
        drawn = model(x.repeat_interleave(5, dim=0), everything.flatten(0, 1)).unflatten(0, (6, 5))
    won, _ = imle.winners(model, imle.Pixels(), x, y, seeds, shape)
    place = (seeds == won[:, None]).int().argmax(1)
    again = matching.latents(won, shape)
    assert torch.equal(again, everything[torch.arange(6), place])
    with torch.no_grad():
        same(model(x, again), drawn[torch.arange(6), place], atol=1e-5, rtol=0)


def test_samples_follow_from_the_seed_and_the_layout():
    model, (x, _) = model_of(), batch(3)
    first, again, other = (imle.sampled(model, x, 4, (3,), seed) for seed in (1, 1, 2))
    assert first.shape == (3, 4, 3, 32, 32)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert not torch.allclose(first[:, 0], first[:, 1])
    assert first.abs().max() <= 1


def test_one_draw_is_regression():
    """With m = 1 the only seed wins, and the loss is the error of a random sample."""
    model, (x, y) = model_of(), batch()
    seeds = matching.draw_seeds(4, 1)
    won, best = imle.winners(model, imle.Pixels(), x, y, seeds, (3,))
    assert torch.equal(won, seeds[:, 0])
    with torch.no_grad():
        error = (model(x, matching.latents(won, (3,))) - y).abs().mean((1, 2, 3))
    same(best, error)


def test_matching_draws_in_parts_as_at_once():
    model, town = model_of(), imle.Town(10, 0, 32)
    kept = []
    for chunk in (4, 100):
        torch.manual_seed(2)
        matches = imle.Matches(10)
        imle.rematch(matches, model, imle.Pixels(), town, torch.arange(10), 4, chunk, (3,), "cpu")
        kept.append(matches)
    assert torch.equal(kept[0].index, torch.arange(10))
    drawn = [
        imle.winners(model, imle.Pixels(), *town.pairs(k.index), k.seed[:, None], (3,))[1]
        for k in kept
    ]
    assert (drawn[0] - drawn[1]).abs().max() < 0.2  # other seeds, same pictures


# Training


def test_training_resumes_in_the_middle_of_a_round(tmp_path):
    config = dataclasses.replace(SMOKE, inner=4, ema=0.9)
    town = imle.Town(20, 0, 32)

    def fit(folder, steps, resume=False):
        model, matches = model_of(config=config), imle.Matches(config.pool)
        state = imle.make_state(model, config, 8, matches)
        step = imle.imle_step(
            model, state.optimizers["model"], matches, town, imle.Pixels(), config, "cpu"
        )
        training.fit(step, state, steps, folder=folder, seed=0, identity="t", resume=resume)
        return [*model.parameters(), matches.seed]

    whole = fit(tmp_path / "a", 8)
    fit(tmp_path / "b", 6)
    for p, q in zip(whole, fit(tmp_path / "b", 8, resume=True), strict=True):
        assert torch.equal(p, q)


def test_the_late_restart_forgets_the_noise_encoder_alone():
    config = dataclasses.replace(SMOKE, inner=1, late=1, rounds=2, ema=0.0)
    model, matches, town = model_of(config=config), imle.Matches(8), imle.Town(12, 0, 32)
    state = imle.make_state(model, config, 2, matches)
    adam = state.optimizers["model"]
    step = imle.imle_step(model, adam, matches, town, imle.Pixels(), config, "cpu")
    step(0)
    encoder = [p.clone() for p in model.noise_encoder.parameters()]
    generator = [p.clone() for p in model.generator.parameters()]
    imle.restart(model, adam, config)
    assert not adam.state
    after = list(model.noise_encoder.parameters())
    assert not any(torch.equal(a, b) for a, b in zip(encoder, after, strict=True) if a.ndim == 2)
    for a, b in zip(generator, model.generator.parameters(), strict=True):
        assert torch.equal(a, b)


def test_rare_nights_are_drawn_more_often():
    town = imle.Town(400, 0, 32, imle.shares_with(0.1))
    night = town.styles.mode >= 6
    scores = imle.every_rarity(town, fewest=20)
    torch.manual_seed(0)
    drawn = night[imle.draw_rare(scores, imle.TURNS["tinytown"], 5000)].float().mean()
    assert drawn > 2 * night.float().mean()
    assert (scores[~imle.mean_colours(town.x, town.y)[1]] == 0).all()


def test_vgg_layers_are_the_named_ones():
    net = imle.VGG19(weights=None)
    y = torch.rand(1, 3, 32, 32) * 2 - 1
    shapes = [tuple(h.shape[1:]) for h in net(y)]
    assert shapes == [
        (3, 32, 32),
        (64, 32, 32),
        (128, 16, 16),
        (256, 8, 8),
        (512, 4, 4),
        (512, 2, 2),
    ]
    assert not any(p.requires_grad for p in net.parameters())
    assert not any(isinstance(m, nn.MaxPool2d) for m in net.modules())


# Data


@pytest.mark.parametrize("name", list(imle.FOLDERS))
def test_real_data_in_its_own_layout_makes_one_step(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    preset = "small" if name == "camvid" else "full"
    plan = imle.PRESETS[preset][name]
    numbers = np.random.default_rng(0)
    for pictures, maps in imle.FOLDERS[name]:
        for folder in (pictures, maps):
            (tmp_path / name / folder).mkdir(parents=True, exist_ok=True)
        for i in range(3):
            photo = numbers.integers(0, 255, (40, 80, 3)).astype(np.uint8)
            Image.fromarray(photo).save(tmp_path / name / pictures / f"{i}.png")
            kinds = numbers.integers(0, 12, (40, 80)).astype(np.uint8)
            if name == "gta5":
                kinds = imle.CITYSCAPES[torch.from_numpy(kinds).long()].numpy().astype(np.uint8)
            Image.fromarray(kinds).save(tmp_path / name / maps / f"{i}.png")
    monkeypatch.setitem(imle.TRAIN_FILES, "gta5", 2)
    config = dataclasses.replace(
        plan.config, widths=(2,) * len(plan.config.widths), hidden=2, pool=2, draws=2, inner=2,
        batch=1, distance="pixels",
    )  # fmt: skip
    pairs = imle.open_pairs(name, config)
    x, _ = pairs.pairs(torch.arange(2))
    assert x.shape == (2, config.labels, config.height, config.aspect * config.height)
    assert torch.equal(x.sum(1), torch.ones_like(x[:, 0]))
    assert x[:, : 12 if name != "camvid" else 11].sum() > 0.8 * x.sum()
    assert len(imle.open_pairs(name, config, held_out=True)) == (1 if name == "gta5" else 3)
    model, matches = model_of(config=config), imle.Matches(2)
    state = imle.make_state(model, config, 2, matches)
    step = imle.imle_step(
        model, state.optimizers["model"], matches, pairs, imle.Pixels(), config, "cpu"
    )
    assert torch.isfinite(step(0)["loss"])


def test_void_and_unknown_labels_become_the_last(tmp_path):
    Image.fromarray(np.array([[0, 5], [11, 255]], dtype=np.uint8)).save(tmp_path / "a.png")
    assert imle.read_labels(tmp_path / "a.png", (2, 2), 12).tolist() == [[0, 5], [11, 11]]
    colours = np.array([[[128, 64, 128], [1, 2, 3]]], dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "b.png")
    assert imle.read_labels(tmp_path / "b.png", (1, 2), 20).tolist() == [[0, 19]]


def test_rare_styles_have_the_share_that_was_asked_for():
    shares = imle.shares_with(0.05)
    assert sum(shares) == pytest.approx(1)
    assert sum(shares[6:]) == pytest.approx(0.05)
    town = imle.Town(2000, 0, 32, shares)
    assert 0.03 < float((town.styles.mode >= 6).float().mean()) < 0.07
    assert torch.equal(
        tinytown.mode_of_sample(town.y[:20], town.labels[:20]), town.styles.mode[:20]
    )
