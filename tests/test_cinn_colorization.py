import copy
import dataclasses
import math
from pathlib import Path
from urllib.error import URLError

import data_trees
import numpy as np
import pytest
import torch
from skimage.color import lab2rgb
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from minilib import chapters, metrics, tinytown, training

colour = chapters.load("cinn_colorization")
TINY = dataclasses.replace(
    colour.SMOKE,
    size=16,
    chroma=8,
    init_std=0.2,
    zero_last=False,
    scenes=24,
    test_scenes=6,
)
CPU = torch.device("cpu")


def built(config=TINY, seed=0):
    """Flow and conditioning network in float64, not the identity."""
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float64)  # so that the orthogonal matrices are exact, too
    nets = {name: net.eval() for name, net in colour.networks(config).items()}
    torch.set_default_dtype(torch.float32)
    return nets["cinn"], nets["conditions"]


def conditions(net, x):
    return net.conditions(net.features(x))


def log_det_by_autograd(layer, y, c):
    size = y.numel()
    jacobian = torch.autograd.functional.jacobian(lambda u: layer(u, c)[0], y)
    return jacobian.reshape(size, size).slogdet().logabsdet


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"down": "reshape"},
        {"turn": "fixed"},
        {"mixing": "permutation", "regions": 3},
        {"condition": "grey"},
    ],
)
def test_all_scales_invert_and_have_autograds_log_determinant(changes):
    flow, net = built(dataclasses.replace(TINY, **changes))
    y, c = torch.randn(1, 2, 8, 8).double(), conditions(net, torch.rand(1, 1, 16, 16).double())
    z, log_det = flow(y, c)
    assert z.shape == (1, 128)
    assert abs(log_det.item()) > 0.1
    torch.testing.assert_close(flow.inverse(z, c), y, rtol=0, atol=1e-9)
    torch.testing.assert_close(flow(flow.inverse(z, c), c)[0], z, rtol=0, atol=1e-9)
    assert abs(log_det_by_autograd(flow, y, c) - log_det.item()) < 1e-6


def test_details_and_the_rest_leave_and_a_few_numbers_stay():
    flow, net = built(dataclasses.replace(TINY, chroma=16, size=32, regions=3))
    y, c = torch.randn(2, 2, 16, 16).double(), conditions(net, torch.rand(2, 1, 32, 32).double())
    assert [s.leaving for s in flow.stages] == [(0,), (6, 8, 8), (0,), (122,), (0,)]
    torch.testing.assert_close(flow.inverse(flow(y, c)[0], c), y, rtol=0, atol=1e-9)


def test_reflections_are_the_qr_decomposition_with_a_positive_diagonal():
    torch.manual_seed(0)
    maps = torch.randn(3, 4, 20).double()
    normals, signs, triangle = colour.reflections(maps)
    turned = torch.eye(20).double().expand(3, -1, -1)
    for normal in normals:
        turned = turned - 2 * (turned @ normal[:, :, None]) * normal[:, None]
    turned = torch.cat([turned[..., :4] * signs[:, None], turned[..., 4:]], dim=2)
    eye = torch.eye(20).double().expand(3, -1, -1)
    torch.testing.assert_close(turned @ turned.mT, eye, rtol=0, atol=1e-12)
    q, r = torch.linalg.qr(maps.mT)
    positive = r.diagonal(dim1=1, dim2=2).sign()
    torch.testing.assert_close(triangle.mT, positive[:, :, None] * r, rtol=0, atol=1e-5)
    torch.testing.assert_close(turned[..., :4], positive[:, None] * q, rtol=0, atol=1e-5)


@pytest.mark.parametrize("empty", [0, 1])
def test_the_turn_survives_a_region_that_is_not_there(empty):
    torch.manual_seed(0)
    maps, y = torch.rand(2, 3, 16).double(), torch.randn(2, 32).double()
    maps[:, empty] = 0
    z, log_det = colour.Turn()(y, maps)
    assert (log_det == 0).all()
    torch.testing.assert_close(z.square().sum(1), y.square().sum(1))
    torch.testing.assert_close(colour.Turn().inverse(z, maps), y, rtol=0, atol=1e-12)


def test_the_turn_gathers_each_region_and_leaves_nothing_of_it_elsewhere():
    maps = torch.zeros(1, 2, 16).double()
    maps[0, 0, 2:5], maps[0, 1, 5:11] = 1.0, 1.0
    hues = torch.tensor([[0.5, -2.0], [1.0, 3.0]]).double()  # region, (a, b)
    y = torch.einsum("kn,kc->cn", maps[0], hues).flatten()[None]
    z, _ = colour.Turn()(y, maps)
    expected = hues * torch.tensor([[3.0], [6.0]]).double().sqrt()
    torch.testing.assert_close(z[0, :4], expected.flatten(), rtol=0, atol=1e-4)
    assert z[0, 4:].abs().max() < 1e-4


def test_every_colour_and_the_condition_reach_the_latent():
    flow, net = built()
    x, y = torch.rand(1, 1, 16, 16).double(), torch.randn(1, 2, 8, 8).double()
    c = conditions(net, x)
    jacobian = torch.autograd.functional.jacobian(lambda u: flow(u, c)[0][0], y).view(128, 128)
    assert (jacobian.abs() > 1e-12).any(dim=0).all()
    other = flow(y, conditions(net, x.flip(-1)))[0]
    assert ((other - flow(y, c)[0]).abs() > 1e-9).float().mean() > 0.9


def test_haar_is_orthogonal_with_the_means_first():
    y = torch.randn(2, 3, 6, 4).double()
    v, log_det = colour.Haar()(y, y)
    assert v.shape == (2, 12, 3, 2)
    torch.testing.assert_close(v.square().sum(), y.square().sum())
    torch.testing.assert_close(v[:, :3], 2 * nn.functional.avg_pool2d(y, 2))
    across = (y[..., ::2] - y[..., 1::2]).view(2, 3, 3, 2, 2).sum(3) / 2
    torch.testing.assert_close(v[:, 3:6], across)
    assert (log_det == 0).all()
    torch.testing.assert_close(colour.Haar().inverse(v, y), y)


@pytest.mark.parametrize("kind", ["orthogonal", "permutation", "none"])
def test_mixing_matrices_are_orthogonal_fixed_and_undone(kind):
    matrix = colour.mixing_matrix(kind, 7, 3).double()
    assert torch.equal(matrix, colour.mixing_matrix(kind, 7, 3).double())
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(7).double(), rtol=0, atol=1e-6)
    assert (kind == "none") == torch.equal(matrix, torch.eye(7).double())
    layer = colour.Mixing(kind, 7, 3).double()
    for y in (torch.randn(2, 7).double(), torch.randn(2, 7, 3, 5).double()):
        v, log_det = layer(y, y)
        torch.testing.assert_close(v, torch.einsum("oi,bi...->bo...", matrix, y))
        torch.testing.assert_close(layer.inverse(v, y), y, rtol=0, atol=1e-6)
        assert (log_det == 0).all()


def test_a_fresh_flow_stretches_nothing_and_keeps_lengths():
    config = dataclasses.replace(TINY, init_std=0.0, zero_last=True)
    flow, net = built(config)
    y = torch.randn(3, 2, 8, 8).double()
    z, log_det = flow(y, conditions(net, torch.rand(3, 1, 16, 16).double()))
    assert (log_det == 0).all()
    torch.testing.assert_close(z.square().sum(1), y.flatten(1).square().sum(1), rtol=1e-5, atol=0)


def counts(task):
    (plan,) = chapters.describe("cinn_colorization", "full", task)
    return plan.parameters


def test_full_networks_have_the_released_numbers_of_parameters():
    assert counts("bedrooms") == {"cinn": 9_555_080, "conditions": 1_455_680}
    assert counts("imagenet") == {"cinn": 54_352_208, "conditions": 2_361_472 + 32_236_013}
    with torch.device("meta"):
        nets = colour.networks(colour.IMAGENET)
    heads = [m.head for m in nets["cinn"].modules() if isinstance(m, colour.Coupling)]
    assert sum(map(chapters.count_parameters, heads)) == 14_022_144
    assert chapters.count_parameters(nets["conditions"].vector) == 2_361_472


def test_the_released_networks_invert_at_small_widths():
    widths = {"widths": (4, 4, 4, 4, 8), "init_std": 0.03, "zero_last": False}
    for config in (colour.BEDROOMS, colour.IMAGENET):
        flow, _ = built(dataclasses.replace(config, **widths))
        y = torch.randn(1, 2, 64, 64).double()
        shapes = [(64, 64, 64), (128, 32, 32), (128, 16, 16), (512,)]
        shapes = shapes if config.network == "bedrooms" else [(256, 64, 64), (512,)]
        c = [torch.randn(1, *shape).double() for shape in shapes]
        z, log_det = flow(y, c)
        assert z.shape == (1, 8192)
        assert log_det.abs() > 1e-3
        torch.testing.assert_close(flow.inverse(z, c), y, rtol=0, atol=1e-8)


def test_imagenet_latents_split_as_released():
    with torch.device("meta"):
        flow = colour.networks(colour.IMAGENET)["cinn"]
    left = [math.prod(stage.leaving) for stage in flow.stages]
    assert [n for n in left if n] == [4096, 2048, 1536]
    assert flow.stages[-1].shape == (512,)


def test_bedroom_features_have_the_resolutions_of_the_stages():
    features = colour.BedroomFeatures().features(torch.rand(2, 1, 64, 64))
    shapes = [tuple(f.shape[1:]) for f in features]
    assert shapes == [(64, 64, 64), (128, 32, 32), (128, 16, 16), (512,)]


def test_lab_goes_there_and_back_and_the_browsers_conversion_is_skimages():
    rgb = torch.rand(2, 3, 5, 4) * 2 - 1
    x, ab = colour.to_lab(rgb)
    assert x.abs().max() <= 1
    torch.testing.assert_close(colour.to_rgb(x, ab), rgb, rtol=0, atol=1e-4)
    lab = torch.cat([50 * (x + 1), ab], dim=1)
    torch.testing.assert_close(colour.lab_to_rgb(lab), rgb, rtol=0, atol=2e-3)
    wild = torch.cat([torch.rand(1, 1, 8, 8) * 100, torch.rand(1, 2, 8, 8) * 200 - 100], dim=1)
    with np.errstate(all="ignore"):
        theirs = lab2rgb(wild.movedim(1, -1).double().numpy()) * 2 - 1
    ours = colour.lab_to_rgb(wild).movedim(1, -1)
    torch.testing.assert_close(ours, torch.from_numpy(theirs).float(), rtol=0, atol=2e-2)


def test_upsampling_keeps_constants_and_stops_at_edges():
    x = torch.full((1, 1, 8, 8), -0.5)
    x[..., 4:] = 0.5
    flat = torch.full((1, 2, 4, 4), 7.0)
    torch.testing.assert_close(colour.upsample(flat, x), torch.full((1, 2, 8, 8), 7.0))
    ab = torch.zeros(1, 2, 4, 4)
    ab[..., 2:] = 30
    wide = colour.upsample(ab, x)
    torch.testing.assert_close(wide[..., :4], torch.zeros(1, 2, 8, 4))
    torch.testing.assert_close(wide[..., 4:], torch.full((1, 2, 8, 4), 30.0))
    blurred = colour.upsample(ab, torch.zeros_like(x))
    assert 1 < blurred[0, 0, 4, 3] < 29  # no edge: a mixture
    assert colour.upsample(ab, x[..., ::2, ::2]) is ab


def test_tinytown_greys_hold_right_answers():
    config = dataclasses.replace(colour.TOY, colours=3)
    greys = colour.tinytown_greys(12, 5, config)
    assert greys.y.shape == (12, 3, 2, 16, 16)
    for k in range(3):
        ab = colour.upsample(greys.y[:, k] * config.scale, greys.x)
        seen = colour.to_rgb(greys.x, ab)
        mode = tinytown.mode_of_sample(seen, greys.layout, "isoluminant")
        assert (mode == (greys.mode + 2 * k) % 9).float().mean() > 0.9
    x, y = greys.batch(torch.tensor([3, 4, 3]))
    assert torch.equal(x, greys.x[[3, 4, 3]])
    assert ((y[:, None] == greys.y[[3, 4, 3]]).flatten(2).all(2).sum(1) == 1).all()


def test_held_out_photographs_are_spread_and_never_trained_on(tmp_path, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    (tmp_path / "any").mkdir()
    paths = [Path(f"{i}.jpg") for i in range(50)]
    monkeypatch.setattr(colour.images, "list_images", lambda name, split, pattern: paths)
    config = dataclasses.replace(TINY, scenes=40, test_scenes=5)
    train, test = (photos.chosen.tolist() for photos in colour.photo_sets("any", config))
    assert test == [0, 10, 20, 30, 40]
    assert len(train) == 40
    assert not {*train} & {*test}


def test_bedrooms_hold_out_the_first_and_imagenet_its_validation_split(tmp_path, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    for name in ("lsun_bedroom", "imagenet"):
        data_trees.plant(tmp_path, name)
    config = dataclasses.replace(TINY, scenes=3, test_scenes=2)
    train, test = colour.photo_sets("lsun_bedroom", config)
    assert (test.chosen.tolist(), train.chosen.tolist()) == ([0, 1], [4, 5, 6])
    train, test = colour.photo_sets("imagenet", config)
    assert {p.parts[-3] for p in test.pictures.paths} == {"val"}
    assert (test.chosen.tolist(), train.chosen.tolist()) == ([0, 3], [0, 1, 2])
    greys = test.in_memory()
    assert (greys.x.shape, greys.y.shape) == ((2, 1, 16, 16), (2, 1, 2, 8, 8))
    x, y = test.batch(torch.tensor([1]))
    assert torch.equal(x[0], greys.x[1])
    assert torch.equal(y[0], greys.y[1, 0])


def test_tags_belong_to_their_photographs(tmp_path, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    data_trees.photos(tmp_path / "scenes" / "train", ["1.jpg", "3.jpg", "12.jpg", "20.jpg"])
    assert colour.photo_tags("scenes", [Path("1.jpg")]) is None
    table = "image,sea,trees\n12,1,0\n1,0,1\n20,1,1\n3,0,0\n"
    (tmp_path / "scenes" / "train.csv").write_text(table)
    train, test = colour.photo_sets("scenes", dataclasses.replace(TINY, test_scenes=2))
    assert train.tags.tolist() == [[0, 0], [1, 1]]
    assert test.in_memory().tags.tolist() == [[0, 1], [1, 0]]


def test_the_pixelwise_error_takes_the_best_of_each_pixel():
    samples, truth = torch.zeros(1, 2, 2, 1, 2), torch.zeros(1, 2, 1, 2)
    samples[0, 0, :, 0, 0], samples[0, 1, :, 0, 1] = 5.0, 7.0
    assert colour.pixelwise_error(samples, truth) == 0
    truth[0, 0] = 4.0  # best: sample 2 at pixel 1 and sample 1 at pixel 2, 4^2 in a, 0 in b
    assert colour.pixelwise_error(samples, truth) == pytest.approx(math.sqrt(8))
    torch.manual_seed(0)
    samples, truth = torch.randn(3, 8, 2, 4, 4), torch.randn(3, 2, 4, 4)
    assert colour.pixelwise_error(samples, truth) ** 2 < metrics.best_of_k_mse(samples, truth)


def test_the_forest_knows_true_colours_and_not_grey_ones():
    layout = tinytown.layouts(120, seed=3, size=32)
    pictures = tinytown.render(layout, tinytown.styles(120, seed=3), "isoluminant")
    seen, labels = colour.town_patches(pictures, layout, 30)
    assert seen.shape == (3600, 27)
    flat = torch.stack([layout.float()] * 3, dim=1)  # a picture whose colour is its label
    patch, label = colour.town_patches(flat, layout, 30)
    assert (patch[:, 4] == label).all()  # the middle of 3x3
    forest = RandomForestClassifier(10, random_state=0).fit(seen[:3000], labels[:3000])
    true = colour.right_labels(forest, pictures[100:], layout[100:])
    grey = pictures[100:].mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    assert true > 0.8
    assert colour.right_labels(forest, grey, layout[100:]) < true - 0.1


def test_the_likeliest_tag_is_scored():
    pictures = torch.rand(40, 3, 8, 8) * 0.2
    pictures[::2] += 0.7
    tags = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(20, 1)
    forest = RandomForestClassifier(5, random_state=0)
    forest.fit(pictures.flatten(1).numpy(), tags.numpy())
    assert colour.right_tags(forest, pictures, tags) == 1
    assert colour.right_tags(forest, pictures, tags.flip(1)) == 0


def test_inception_says_that_it_is_not_there_and_sees_bytes(monkeypatch, capsys):
    module = "torch_fidelity.feature_extractor_inceptionv3.FeatureExtractorInceptionV3"

    def offline(*_):
        raise URLError("no network")

    monkeypatch.setattr(module, offline)
    assert colour.inception(CPU) is None
    assert "no FID" in capsys.readouterr().out
    pictures = torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    seen = colour.inception_features(lambda p: (p.flatten(1),), pictures, CPU)
    assert seen.dtype == torch.uint8
    assert seen[:, 0].tolist() == [0, 128, 255]


def test_samples_follow_the_seed_and_differ_unless_the_latent_is_zero():
    flow, net = (part.float() for part in built())
    x = torch.rand(2, 1, 16, 16)
    draw = [colour.sample(flow, net, x, 3, 8, seed) for seed in (1, 1, 2)]
    assert draw[0].shape == (2, 3, 2, 8, 8)
    assert torch.equal(draw[0], draw[1])
    assert not torch.allclose(draw[0], draw[2], atol=0.1)
    cold = colour.sample(flow, net, x, 3, 8, 1, temperature=0.0)
    torch.testing.assert_close(cold[:, 0], cold[:, 2])


def trained(tmp_path, kept, steps=12):
    config = dataclasses.replace(TINY, init_std=0.0, zero_last=True, steps=steps, noise=0.1)
    data = colour.tinytown_greys(24, 1, config)
    torch.manual_seed(0)
    nets = colour.networks(config)
    before = copy.deepcopy(nets["conditions"])
    features = colour.kept_features(nets["conditions"], data.x, CPU) if kept else None
    state = colour.make_state(nets["cinn"], nets["conditions"], steps, config)
    step = colour.make_step(
        nets["cinn"], nets["conditions"], state.optimizers["cinn"], data, config, 0, CPU, features
    )
    fitted = training.fit(step, state, steps, folder=tmp_path, seed=0, identity="t")
    return fitted.history["nll"], before, nets["conditions"]


def test_training_lowers_the_loss_and_is_reproducible(tmp_path):
    first, *_ = trained(tmp_path / "a", kept=True)
    again, *_ = trained(tmp_path / "b", kept=True)
    assert first == again
    assert sum(first[-3:]) < sum(first[:3])


@pytest.mark.parametrize("kept", [True, False])
def test_kept_features_stay_as_they_are_and_heads_train(tmp_path, kept):
    _, before, after = trained(tmp_path, kept)
    moved = {}
    for part in ("bins", "regions"):
        pairs = zip(
            getattr(before, part).parameters(), getattr(after, part).parameters(), strict=True
        )
        moved[part] = any(not torch.equal(p, q) for p, q in pairs)
    assert moved == {"bins": not kept, "regions": True}


def test_the_guess_loss_is_the_cross_entropy_of_the_nearest_bin():
    torch.manual_seed(0)
    net = colour.GreyFeatures(32, 4)
    y = torch.randn(3, 1, 2, 16, 16)
    net.centres.copy_(colour.colour_bins(y, colour.BINS, 0))
    features = net.features(torch.rand(3, 1, 32, 32))
    share = features[0]
    torch.testing.assert_close(share.sum(1), torch.ones(3, 16, 16))
    loss = 0.0
    for b, i, j in [(b, i, j) for b in range(3) for i in range(16) for j in range(16)]:
        nearest = (net.centres - y[b, 0, :, i, j]).square().sum(1).argmin()
        loss -= share[b, nearest, i, j].log().item() / (3 * 256)
    assert net.guess_loss(features, y[:, 0]).item() == pytest.approx(loss, rel=1e-3)
    mean = (share[1, :, 4, 7, None] * net.centres).sum(0)
    torch.testing.assert_close(net.colours(features)[1, :, 4, 7], mean)


def test_the_conditions_have_the_resolutions_of_the_stages():
    for kind in (colour.GreyFeatures, colour.RawGrey):
        net = kind(32, 5)
        found = conditions(net, torch.rand(2, 1, 32, 32))
        fine, half = net.channels
        shapes = [(fine, 16, 16), (half, 8, 8), (5, 64), (colour.VECTOR,)]
        assert [tuple(c.shape[1:]) for c in found] == shapes


def test_the_rivals_losses_have_their_closed_forms():
    torch.manual_seed(0)
    y, y_hat = torch.randn(2, 3, 2, 4, 4).double()
    mean, log_var = torch.randn(2, 3, 5).double()
    normal = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    kl = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(1)
    likelihood = torch.distributions.Normal(y_hat, 0.3).log_prob(y).flatten(1).sum(1)
    constant = 32 * (math.log(0.3) + 0.5 * math.log(2 * math.pi))
    expected = (kl - likelihood - constant).mean()
    torch.testing.assert_close(colour.cvae_loss(y, y_hat, mean, log_var, 0.3), expected)
    real, fake = torch.randn(2, 6, 1).double()
    judged = -(torch.sigmoid(real).log() + (1 - torch.sigmoid(fake)).log()).mean()
    torch.testing.assert_close(colour.judge_loss(real, fake), judged)
    wanted = -torch.sigmoid(fake).log().mean() + 4 * (y - y_hat).abs().mean()
    torch.testing.assert_close(colour.painter_loss(fake, y, y_hat, 4.0), wanted)


def test_the_latent_reaches_the_rivals_pictures():
    nets = colour.rival_networks(TINY, 176)
    c, z = torch.rand(2, 176, 4, 4), torch.randn(2, TINY.rival_latent)
    for name in ("cvae", "cgan"):
        assert nets[name](c, z).shape == (2, 2, 8, 8)
        assert not torch.allclose(nets[name](c, z), nets[name](c, -z))
    assert nets["reader"](c, torch.randn(2, 2, 8, 8)).shape == (2, 2 * TINY.rival_latent)


def test_every_weight_of_a_fresh_rival_has_a_gradient():
    torch.manual_seed(0)
    nets = colour.rival_networks(TINY, 176)
    c, z, y = torch.rand(8, 176, 4, 4), torch.randn(8, TINY.rival_latent), torch.randn(8, 2, 8, 8)
    for name, other in (("cvae", z), ("cgan", z), ("reader", y), ("judge", y)):
        nets[name](c, other).square().mean().backward()
        assert all(p.grad.abs().max() > 0 for p in nets[name].parameters()), name


def test_the_tasks_need_the_sizes_of_their_networks():
    for tasks in colour.PRESETS.values():
        for plan in tasks.values():
            sizes = {"compact": (32, 16), "bedrooms": (64, 64), "imagenet": (256, 64)}
            assert (plan.config.size, plan.config.chroma) == sizes[plan.config.network]
