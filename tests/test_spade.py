"""SPADE: the layer, the networks, the losses, and the faults that must be noticed."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from faults import plant
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from minilib import chapters, data, labelled, tinytown, training
from minilib.config import ConfigError
from minilib.explore.export import export, frozen

spade = chapters.load("spade")
NARROW = {
    "features": 2, "hidden": 2, "blocks": 1, "mapping": 0, "encoder_features": 2,
    "critic_features": 2, "latent": 4,
}  # fmt: skip
TINY = dataclasses.replace(spade.TOY, **NARROW, weight_perceptual=0.0, spectral=True)
COUNT = chapters.count_parameters


def close(found, expected):
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=1e-5, atol=1e-6)


# Sizes and counts


def test_full_networks_have_the_released_numbers_of_parameters():
    found = {d.task: d.parameters for d in chapters.describe("spade", "full")}
    generators = {"coco": 97_480_899, "ade20k": 96_492_483, "cityscapes": 93_048_003}
    critics = {"coco": 5_904_514, "ade20k": 5_836_930, "cityscapes": 5_601_410}
    styled = {"coco": 112_626_883, "ade20k": 111_942_595, "cityscapes": 101_136_579}
    for task, count in generators.items():
        assert found[task] == {"generator": count, "discriminator": critics[task]}
        assert found[f"{task}_styled"] == {
            "generator": styled[task],
            "encoder": 10_463_424,
            "discriminator": critics[task],
        }


def test_ablations_have_the_numbers_of_parameters_of_the_tables():
    def count(name="ADE", **changes):
        config = dataclasses.replace(getattr(spade, name), statistics="batch", **changes)
        with torch.device("meta"):
            return COUNT(spade.make_generator(config))

    assert count(features=32) == 33_133_027
    assert count(features=48) == 60_642_771  # Table 2.4: 61M
    assert count(features=80) == 140_682_163  # Table 2.4: 141M
    for name, hd in (("COCO", 182_989_507), ("ADE", 182_886_019), ("CITY", 182_525_379)):
        assert count(name, backbone="pix2pixhd", layout="input") == hd
    assert round(count(layout="concat") / 1e6) == 79  # Table 2.3
    assert round(count(backbone="pix2pixhd") / 1e6) == 237
    assert round(count(backbone="pix2pixhd", layout="input", features=48) / 1e6) == 103


@pytest.mark.parametrize(("upsamplings", "size"), [(5, (32, 64)), (6, (64, 64)), (7, (128, 128))])
@pytest.mark.parametrize("start", ["latent", "layout"])
def test_generators_of_every_depth_and_aspect(upsamplings, size, start):
    config = dataclasses.replace(
        TINY, height=size[0], width=size[1], upsamplings=upsamplings, start=start, padding="zeros",
        statistics="batch",
    )  # fmt: skip
    generator = spade.make_generator(config)
    x = spade.uniform_maps(10, size)[:2]
    y_hat = generator(x, torch.randn(2, generator.latent))
    assert y_hat.shape == (2, 3, *size)
    assert generator.low == (size[0] >> upsamplings, size[1] >> upsamplings)
    assert generator.low[1] / generator.low[0] == size[1] / size[0]
    assert sum(generator.doubled) == upsamplings


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="not multiples of 32"):
        spade.make_generator(dataclasses.replace(TINY, height=48, upsamplings=5))
    with pytest.raises(ConfigError, match="allowed are 2 to 7"):
        spade.stages(8)


@pytest.mark.parametrize("name", spade.VARIANTS)
def test_every_variant_makes_one_step(name):
    config = dataclasses.replace(spade.variant(name, TINY), features=2, scenes=8, batch=2)
    pairs = spade.open_pairs("tinytown", config)
    nets = spade.networks(config)
    state = spade.make_state(nets, config)
    batches = spade.make_batches(pairs, config, 0, torch.device("cpu"))
    before = {n: [p.clone() for p in net.parameters()] for n, net in nets.items()}
    step = spade.make_step(nets, state.optimizers, None, batches, spade.objective_of(config))
    terms = step(0)
    assert all(torch.isfinite(t) for t in terms.values())
    assert ("encoder" in nets) == ("kl" in terms) == config.encoder
    for n, net in nets.items():
        moved = zip(before[n], net.parameters(), strict=True)
        assert any(not torch.equal(a, b) for a, b in moved), n


def test_unknown_variants_are_refused_in_one_line():
    with pytest.raises(ConfigError, match="did you mean 'kernel_5'"):
        spade.variant("kernel5", TINY)


# The layer and the networks: properties that hold here, and that planted faults break


def some_layer(s, statistics="batch", kernel=3, padding="zeros"):
    """A SPADE layer with weights that are not small, features, and a layer's own biases."""
    torch.manual_seed(0)
    layer = s.Spade(4, 3, 5, kernel, statistics, padding)
    for p in layer.parameters():
        nn.init.normal_(p, std=0.5)
    return layer, torch.randn(2, 4, 9, 9)


def prop_conditional_batch_norm(s):
    """With a uniform map the layer is conditional batch norm, two pixels from the border."""
    for label in range(3):
        layer, h = some_layer(s)
        x = s.uniform_maps(3, (9, 9))[label : label + 1].expand(2, -1, -1, -1)
        e = (layer.embed.weight.sum((2, 3))[:, label] + layer.embed.bias).relu()
        gamma = layer.gamma.weight.sum((2, 3)) @ e + layer.gamma.bias
        beta = layer.beta.weight.sum((2, 3)) @ e + layer.beta.bias
        expected = F.batch_norm(h, None, None, 1 + gamma, beta, training=True)
        inside = (..., slice(2, -2), slice(2, -2))
        torch.testing.assert_close(layer(h, x)[inside], expected[inside], rtol=1e-4, atol=1e-5)


def prop_zero_is_plain(s):
    """Zero gamma and beta give the normalised features."""
    layer, h = some_layer(s, "instance")
    for conv in (layer.gamma, layer.beta):
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
    close(layer(h, torch.rand(2, 3, 9, 9)), F.instance_norm(h))


def prop_map_is_resized_by_nearest(s):
    """A map four times as large keeps its labels: no channel between 0 and 1."""
    x = tinytown.one_hot(tinytown.layouts(2, 0, 32))
    small = s.resized(x, torch.zeros(1, 1, 8, 8))
    assert small.shape == (2, 10, 8, 8)
    assert set(small.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(small, x[:, :, ::4, ::4])


def prop_spectral_norm_is_where_it_should_be(s):
    """On the blocks' convolutions, the encoder's, the inner ones of D; nowhere else."""

    def normed(net):
        return {n for n, m in net.named_modules() if parametrize.is_parametrized(m)}

    nets = s.networks(dataclasses.replace(TINY, layout="spade"))
    found = normed(nets["generator"])
    blocks = {
        n
        for n, m in nets["generator"].named_modules()
        if isinstance(m, nn.Conv2d) and (".convs." in n or n.endswith(".shortcut"))
    }
    assert found == blocks
    assert not normed(s.make_generator(dataclasses.replace(TINY, spectral=False)))
    inner = {f"scales.{k}.{i}.0" for k in (0, 1) for i in (1, 2)}
    assert normed(nets["discriminator"]) == inner
    convs = {n for n, m in nets["encoder"].named_modules() if isinstance(m, nn.Conv2d)}
    assert normed(nets["encoder"]) == convs


def prop_concatenation_is_blind_to_uniform_labels(s):
    """Reflection-padded: concatenation and instance norm lose a uniform label, SPADE does not."""
    differences = {}
    for name in ("spade", "concat_instance", "pix2pixhd"):
        torch.manual_seed(0)
        config = dataclasses.replace(s.variant(name, TINY), features=4, upsamplings=2)
        generator = s.initialise(s.make_generator(config), 1.0).eval()
        maps = s.uniform_maps(10, (32, 32))
        outputs = s.uniform_answers(generator, maps, torch.randn(1, generator.latent))
        differences[name] = s.largest_difference(outputs).max().item()
    assert differences["spade"] > 0.1
    assert differences["concat_instance"] < 1e-3
    assert differences["pix2pixhd"] < 1e-3


def prop_the_label_leaks_through_zero_padding(s):
    """The same blind generator with zeros beyond its border is not blind."""
    torch.manual_seed(0)
    config = dataclasses.replace(s.variant("concat_instance", TINY), features=4, padding="zeros")
    generator = s.initialise(s.make_generator(config), 1.0).eval()
    outputs = s.uniform_answers(generator, s.uniform_maps(10, (32, 32)), torch.randn(1, 4))
    assert s.largest_difference(outputs).max() > 0.01


def prop_style_reaches_the_picture(s):
    """Another code, another picture; and the map matters too."""
    torch.manual_seed(0)
    generator = s.initialise(s.make_generator(TINY), 1.0).eval()
    x = tinytown.one_hot(tinytown.layouts(2, 0, 32))
    z = torch.randn(2, 4, requires_grad=True)
    generator(x, z).square().sum().backward()
    assert (z.grad.abs() > 0).all()
    with torch.no_grad():
        assert not torch.allclose(generator(x, z), generator(x.flip(0), z), atol=1e-4)


# Losses


def prop_hinge(s):
    """Closed forms, averaged over two scales of different size."""
    real = [torch.full((2, 1, 3, 3), 0.7), torch.full((2, 1, 1, 1), 1.5)]
    fake = [torch.full((2, 1, 3, 3), -0.2), torch.full((2, 1, 1, 1), -3.0)]
    close(s.loss_hinge_discriminator(real, fake), ((0.3 + 0.8) + (0.0 + 0.0)) / 2)
    close(s.loss_hinge_generator(fake), (0.2 + 3.0) / 2)


def prop_matching(s):
    """Summed over layers, averaged over scales; the true features are a fixed aim."""
    real = [[torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 2, 2)], [torch.zeros(3), torch.zeros(5)]]
    shifts = [[0.5, 0.25], [1.0, 2.0]]
    fake = [[a + d for a, d in zip(r, ds, strict=True)] for r, ds in zip(real, shifts, strict=True)]
    close(s.loss_matching(real, fake), 3.75 / 2)
    aim = torch.zeros(3, requires_grad=True)
    moving = torch.ones(3, requires_grad=True)
    s.loss_matching([[aim]], [[moving]]).backward()
    assert aim.grad is None
    close(moving.grad, torch.full((3,), 1 / 3))


def prop_perceptual(s):
    """A weighted sum of mean absolute differences; gradients go to the drawn picture only."""

    class Doubles(nn.Module):
        weights = (1.0, 0.5)

        def forward(self, y):
            return [y, 2 * y]

    y, y_hat = (torch.zeros(1, 3, 2, 2, requires_grad=True) for _ in range(2))
    loss = s.loss_perceptual(Doubles(), y, y_hat + 0.3)
    close(loss, 0.3 + 0.5 * 0.6)
    loss.backward()
    assert y.grad is None
    assert y_hat.grad is not None


def terms_of(s, **weights):
    """The terms of one step with other weights, from the same seed, and the networks."""
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, **weights)
    nets = s.networks(config)
    x, y = tinytown.one_hot(tinytown.layouts(2, 0, 32)), torch.rand(2, 3, 32, 32) * 2 - 1
    torch.manual_seed(1)
    return s.generator_terms(nets, None, x, y, s.objective_of(config))[0], nets


def prop_weights(s):
    """Matching and KL carry their weights; the adversarial term has none."""
    one, _ = terms_of(s, weight_matching=1.0, weight_kl=1.0)
    ten, _ = terms_of(s, weight_matching=10.0, weight_kl=0.05)
    close(ten["matching"], 10 * one["matching"].detach())
    close(ten["kl"], 0.05 * one["kl"].detach())
    close(ten["gan"], one["gan"].detach())


def prop_kl_weight_grows(s):
    """In ``kl_steps`` steps from nothing to its own weight, and no further."""

    def kl_of(i, kl_steps):
        torch.manual_seed(0)
        nets = s.networks(TINY)
        x, y = tinytown.one_hot(tinytown.layouts(2, 0, 32)), torch.rand(2, 3, 32, 32) * 2 - 1
        optimizers, want = s.make_state(nets, TINY).optimizers, s.objective_of(TINY)
        return s.make_step(nets, optimizers, None, lambda _: (x, y), want, kl_steps)(i)["kl"]

    whole = kl_of(0, 0)
    for i, share in ((0, 0.25), (2, 0.75), (9, 1.0)):
        close(kl_of(i, 4), share * whole)


def prop_the_code_is_everywhere_when_asked(s):
    """Beside the map, z reaches a layer even where the features say nothing; else it does not."""
    for everywhere in (True, False):
        torch.manual_seed(0)
        config = dataclasses.replace(TINY, everywhere=everywhere, spectral=False)
        generator = s.initialise(s.make_generator(config), 1.0).eval()
        assert generator.blocks[0].norms[0].embed.in_channels == 10 + 4 * everywhere
        nn.init.zeros_(generator.start.weight)
        x, z = tinytown.one_hot(tinytown.layouts(1, 0, 32)), torch.randn(1, 4)
        with torch.no_grad():
            same = torch.equal(generator(x, z), generator(x, -z))
        assert same != everywhere


def prop_generator_step_spares_the_discriminator(s):
    """G's terms reach G and E, and leave no gradient in D."""
    terms, nets = terms_of(s)
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None for p in nets["discriminator"].parameters())
    for name in ("generator", "encoder"):
        assert any(p.grad is not None and p.grad.any() for p in nets[name].parameters())


def prop_discriminator_sees_the_map(s):
    """Another map with the same picture, another score; first half true, second half drawn."""
    torch.manual_seed(0)
    critic = s.networks(TINY)["discriminator"].eval()
    x, y = tinytown.one_hot(tinytown.layouts(2, 0, 32)), torch.rand(2, 3, 32, 32)
    real, fake = s.scored(critic, x, y, -y)
    assert len(real) == 2
    assert all(len(f) == TINY.critic_layers + 1 for f in real)
    close(real[0][-1], critic(x, y)[0][-1])
    close(fake[1][0], critic(x, -y)[1][0])
    assert not torch.allclose(critic(x.flip(0), y)[0][-1], real[0][-1], atol=1e-4)


# Labels


def prop_labels_become_channels(s):
    """One channel per label, one for pixels without; nothing else passes."""
    labels = torch.tensor([[[0, 2], [1, 255]]])
    known = s.label_channels(labels.clamp(max=2), 3)
    assert torch.equal(known.argmax(1), labels.clamp(max=2))
    assert torch.equal(
        s.label_channels(labels, 3, True).argmax(1), torch.tensor([[[0, 2], [1, 3]]])
    )
    for wrong, unknown in ((3, True), (-1, True), (255, False), (3, False)):
        with pytest.raises(ConfigError, match=f"label {wrong} in a map: allowed are 0 to 2"):
            s.label_channels(torch.tensor([[[0, wrong]]]), 3, unknown)


def prop_edges(s):
    """A pixel is an edge when one of its four neighbours belongs to another instance."""
    instances = torch.zeros(1, 6, 6, dtype=torch.int64)
    instances[0, 2:4, 2:5] = 7
    expected = torch.zeros(6, 6)
    for v in range(6):
        for u in range(6):
            near = [(v - 1, u), (v + 1, u), (v, u - 1), (v, u + 1)]
            inside = [(a, b) for a, b in near if 0 <= a < 6 and 0 <= b < 6]
            other = any(instances[0, a, b] != instances[0, v, u] for a, b in inside)
            expected[v, u] = float(other)
    assert torch.equal(s.instance_edges(instances)[0, 0], expected)


PROPERTIES = {name: value for name, value in globals().items() if name.startswith("prop_")}
FAULTS = {  # (what stands in the chapter, what a fault makes of it): the property that notices
    ("* (1 + self.gamma(e))", "* self.gamma(e)"): "prop_zero_is_plain",
    ("self.gamma(e)) + self.beta(e)", "self.gamma(e)) - self.beta(e)"): (
        "prop_conditional_batch_norm"
    ),
    ("size=h.shape[2:], mode=\"nearest\"", "size=h.shape[2:], mode=\"bilinear\""): (
        "prop_map_is_resized_by_nearest"
    ),
    ("(1 - score).relu()", "(1 + score).relu()"): "prop_hinge",
    ("return -torch.stack([score", "return torch.stack([score"): "prop_hinge",
    ("(above + below).mean()", "(above + below).sum()"): "prop_hinge",
    ("F.l1_loss(b, a.detach())", "F.l1_loss(b, a)"): "prop_matching",
    ("torch.stack(terms).sum() / len(real)", "torch.stack(terms).mean()"): "prop_matching",
    ("[w * F.l1_loss(b, a) for", "[F.l1_loss(b, a) for"): "prop_perceptual",
    ("want.kl * bicyclegan.loss_kl", "bicyclegan.loss_kl"): "prop_weights",
    ("kl=share * want.kl", "kl=want.kl"): "prop_kl_weight_grows",
    ("share = min(1.0, (i + 1)", "share = max(0.0, (i + 1)"): "prop_kl_weight_grows",
    ("bicyclegan.tile(w, x)", "bicyclegan.tile(0 * w, x)"): (
        "prop_the_code_is_everywhere_when_asked"
    ),
    ("functools.partial(bicyclegan.frozen, nets[\"discriminator\"])", "nets[\"discriminator\"]"): (
        "prop_generator_step_spares_the_discriminator"
    ),
    ("h, found = torch.cat([x, y], dim=1), []", "h, found = torch.cat([0 * x, y], dim=1), []"): (
        "prop_discriminator_sees_the_map"
    ),
    ("for features in halves] for k in (0, 1))", "for features in halves] for k in (1, 0))"): (
        "prop_discriminator_sees_the_map"
    ),
    ("(labels >= count)) & ~none", "(labels > count)) & ~none"): "prop_labels_become_channels",
    ("edge[:, :, :-1] |= across", "edge[:, :, :-1] |= False"): "prop_edges",
    ("side = self.shortcut(h)\n", "side = self.shortcut(h) + x[:, :1, :1, :1]\n"): (
        "prop_concatenation_is_blind_to_uniform_labels"
    ),
    ("if not on or layer.weight.is_meta:", "if True:"): "prop_spectral_norm_is_where_it_should_be",
}  # fmt: skip


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name):
    PROPERTIES[name](spade)


@pytest.mark.parametrize(("fault", "name"), FAULTS.items(), ids=lambda v: str(v)[:50])
def test_planted_faults_are_noticed(fault, name):
    faulty = plant("spade", *fault)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        PROPERTIES[name](faulty)


def test_vgg_is_cut_after_the_first_relu_of_each_of_five_stages():
    with torch.device("meta"):
        net = spade.Vgg19Features(pretrained=False)
        found = net(torch.empty(1, 3, 32, 32))
    assert COUNT(net) == 12_944_960
    assert [tuple(h.shape[1:]) for h in found] == [
        (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2),
    ]  # fmt: skip
    assert net.weights == (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1)


def test_plain_weights_compute_the_same():
    torch.manual_seed(0)
    generator = spade.make_generator(TINY)
    x, z = tinytown.one_hot(tinytown.layouts(2, 0, 32)), torch.randn(2, 4)
    generator(x, z)  # one power iteration
    plain = spade.without_spectral(generator)
    assert not any(parametrize.is_parametrized(m) for m in plain.modules())
    torch.testing.assert_close(plain(x, z), generator.eval()(x, z), rtol=1e-4, atol=1e-5)


def test_initialisation_is_the_released_one():
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, features=32, gain=0.02)
    conv = spade.networks(config)["generator"].blocks[0].convs[0]
    expected = 0.02 * math.sqrt(2 / (2 * 9 * 128))
    assert conv.parametrizations.weight.original.std().item() == pytest.approx(expected, rel=0.03)
    assert not conv.bias.any()


# Data, training, measuring


def tree(root, name, config):
    """Three images of a data set in its real layout; labels all allowed, some of them unknown."""
    generator = np.random.default_rng(0)
    where = labelled.DATA_SETS[name]
    middles = ("", "_gtFine", "_gtFine") if name == "cityscapes" else ("", "", "")
    for split in where.splits:
        for kind, pattern in enumerate((where.photos, where.labels, where.instances)):
            if not pattern:
                continue
            folder = root / name / pattern.format(split) / ("ulm" if where.endings[0] else "")
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(3):
                pixels = generator.integers(0, config.labels, (64, 64) + ((3,) if not kind else ()))
                pixels = pixels.astype(np.uint8)
                if kind == 1 and config.unknown:
                    pixels[0] = 255
                ending = where.endings[kind] or ".png"
                Image.fromarray(pixels).save(folder / f"{i}{middles[kind]}{ending}")


@pytest.mark.parametrize("task", spade.PRESETS["full"])
def test_real_data_in_its_own_layout_makes_one_step(task, tmp_path, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    plan = spade.PRESETS["full"][task]
    sizes = ("height", "width", "load_height", "load_width", "encoder_side")
    quarter = {name: getattr(plan.config, name) // 4 for name in sizes}
    config = dataclasses.replace(plan.config, **NARROW, **quarter, batch=1, weight_perceptual=0.0)
    tree(tmp_path, plan.data, config)
    pairs = spade.open_pairs(plan.data, config)
    assert len(spade.open_pairs(plan.data, config, held_out=True)) == 3
    batches = spade.make_batches(pairs, config, 0, torch.device("cpu"))
    x, y = batches(0)
    channels = config.labels + config.unknown + config.edges
    assert x.shape == (1, channels, config.height, config.width)
    assert y.shape == (1, 3, config.height, config.width)
    assert torch.equal(x[:, : config.labels + config.unknown].sum(1), torch.ones(1, *x.shape[2:]))
    nets = spade.networks(config)
    state = spade.make_state(nets, config)
    step = spade.make_step(nets, state.optimizers, None, batches, spade.objective_of(config))
    assert all(torch.isfinite(term) for term in step(0).values())


def test_photo_and_map_are_cropped_and_mirrored_together(tmp_path):
    labels = np.random.default_rng(0).integers(0, 11, (24, 32)).astype(np.uint8)
    Image.fromarray(labels).save(tmp_path / "l.png")
    Image.fromarray(np.repeat(20 * labels[..., None], 3, axis=2)).save(tmp_path / "p.png")
    photos = labelled.LabelledPhotos([(tmp_path / "p.png", tmp_path / "l.png", None)], (24, 32))
    pairs = spade.PhotoPairs(photos, 11, False, False)
    seen = set()
    for step in range(12):
        x, y = pairs.pairs(torch.tensor([0]), crop=(16, 16), flip=True, step=step)
        assert torch.equal(x.argmax(1)[0] * 20, ((y[0, 0] + 1) * 127.5).round().long())
        seen.add(tuple(x.argmax(1)[0, 0].tolist()))
    assert len(seen) > 6
    with pytest.raises(data.DataError, match="without instance numbers"):
        spade.PhotoPairs(photos, 11, False, True)


def test_maps_that_are_no_maps_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    tree(tmp_path, "ade20k", spade.ADE)
    maps = tmp_path / "ade20k" / "annotations" / "training"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(maps / "0.png")
    with pytest.raises(data.DataError, match=r"0\.png: a RGB image, wanted grey labels"):
        labelled.LabelledPhotos(labelled.find("ade20k"), (8, 8)).load(torch.tensor([0]))
    (maps / "1.png").write_bytes((maps / "1.png").read_bytes()[:60])
    with pytest.raises(data.DataError, match=r"1\.png: damaged"):
        labelled.read_numbers(maps / "1.png", (8, 8))
    (maps / "2.png").unlink()
    with pytest.raises(data.DataError, match="3 photos, 2 label maps"):
        labelled.find("ade20k")


def test_full_schedules_are_the_released_ones():
    tasks = spade.PRESETS["full"]
    assert tasks["coco"].config.steps == 118_287 // 32 * 100
    assert tasks["coco"].config.decay_steps == 0
    city = tasks["cityscapes"].config
    assert (city.batch, city.steps, city.decay_steps) == (16, 18_500, 18_500)
    assert (city.rate_generator, city.rate_critic, city.beta1, city.beta2) == (1e-4, 4e-4, 0, 0.9)


def test_training_is_reproducible_and_resumes(tmp_path):
    config = dataclasses.replace(TINY, steps=4, decay_steps=0, ema=0.9, scenes=16, batch=4)
    train = spade.open_pairs("tinytown", config)

    def fit(folder, steps, resume=False):
        torch.manual_seed(0)
        nets = spade.networks(config)
        state = spade.make_state(nets, config)
        batches = spade.make_batches(train, config, 0, torch.device("cpu"))
        step = spade.make_step(nets, state.optimizers, None, batches, spade.objective_of(config))
        training.fit(step, state, steps, folder=folder, seed=0, identity="t", resume=resume)
        averages = state.averages["generator"]
        return [*(p for net in nets.values() for p in net.parameters()), *averages.buffers()]

    whole = fit(tmp_path / "a", 4)
    fit(tmp_path / "b", 2)
    for p, q in zip(whole, fit(tmp_path / "b", 4, resume=True), strict=True):
        assert torch.equal(p, q)


def test_miou_leaves_out_labels_that_do_not_occur():
    labels = torch.tensor([[[0, 0], [1, 1]]])
    seen = torch.tensor([[[0, 1], [1, 1]]])
    assert spade.miou(seen, labels, 5) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert spade.miou(labels, labels, 5) == 1
    assert spade.miou(1 - labels, labels, 5) == 0


class Exact(nn.Module):
    """Tinytown itself: the code's first number is the time and season."""

    latent = 1

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x, z):
        return tinytown.render(x.argmax(1), tinytown.style_of_mode(z[:, 0].round().long()))


def test_an_exact_generator_passes_on_every_style_and_a_deaf_one_a_ninth():
    labels = tinytown.layouts(9, 5, 32)
    x, mode = tinytown.one_hot(labels), torch.arange(9)
    strict, loose = spade.style_transfer(Exact(), x, mode[:, None].float(), mode, labels, 4)
    assert strict == loose == 1
    y_hat = tinytown.render(labels, tinytown.style_of_mode(mode))[:, None]
    perfect = spade.town_scores(y_hat, labels)
    assert perfect == {"modes_covered": 1, "near_share": 1, "right_share": 1}
    noise = 0.15 * torch.randn(y_hat.shape, generator=torch.Generator().manual_seed(0))
    noisy = spade.town_scores(y_hat + noise, labels)
    assert noisy["near_share"] > 0.9
    assert noisy["right_share"] < noisy["near_share"]
    deaf = spade.style_transfer(Exact(), x, torch.zeros(9, 1), mode, labels, 4)
    assert deaf == pytest.approx((1 / 9, 1 / 9))


def test_the_exported_generator_computes_the_same():
    """What the painter runs in the browser: reflection padding, spectral norm and all."""
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    generator = spade.make_generator(dataclasses.replace(TINY, upsamplings=2))
    x, z = tinytown.one_hot(tinytown.layouts(3, 0, 32)), torch.randn(3, 4)
    generator(x, z)  # the running statistics and the spectral norm move once
    plain = frozen(spade.without_spectral(generator))
    graph = export(plain, ["x", "z"], [x[:2], z[:2]], "float32").graph
    session = runtime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    drawn = session.run(None, {"x": x.numpy(), "z": z.numpy()})[0]
    with torch.no_grad():
        expected = generator.eval()(x, z)
    torch.testing.assert_close(torch.from_numpy(drawn), expected, rtol=1e-4, atol=1e-4)
