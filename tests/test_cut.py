import dataclasses
import math

import pytest
import torch
from faults import plant
from torch import nn
from torch.nn import functional as F

from minilib import chapters, training
from minilib.config import ConfigError, resolve
from minilib.explore.export import export, frozen

cut = chapters.load("cut")
TINY = dataclasses.replace(
    cut.SMOKE, width=4, critic_width=2, units=16, patches=12, bank=20, repaint=False
)
CPU = torch.device("cpu")
TERMS = {  # by eq. 3.9 and section 3.3.2
    "cut": {"gan", "nce_x", "nce_y"},
    "fastcut": {"gan", "nce_x"},
    "gan_alone": {"gan"},
    "no_identity": {"gan", "nce_x"},
    "few_negatives": {"gan", "nce_x"},
    "last_layer": {"gan", "nce_x", "nce_y"},
    "external": {"gan", "nce_x", "nce_y"},
    "both": {"gan", "nce_x", "nce_y"},
    "external_last": {"gan", "nce_x", "nce_y"},
    "unshared": {"gan", "nce_x", "nce_y"},
    "decoder_off": {"gan", "nce_x", "nce_y"},
    "identity_l1": {"gan", "still"},
    "feature_gan": {"gan", "features"},
}


def images(n=2, size=32, seed=0):
    torch.manual_seed(seed)
    return torch.rand(n, 3, size, size) * 2 - 1, torch.rand(n, 3, size, size) * 2 - 1


def setting(module, name, seed=0, config=TINY):
    """Networks, state, game and objective of a variant, and one batch."""
    torch.manual_seed(seed)
    want = module.objective_of(name, config)
    nets = module.variant_networks(config, want)
    state = module.make_state(nets, dataclasses.replace(config, ema=0.0), want)
    return nets, state, module.make_game(nets, state, config, want), want, *images()


def vectors(*shape, seed=0):
    torch.manual_seed(seed)
    return F.normalize(torch.randn(*shape), dim=-1)


def close(found, expected, tolerance=1e-5):
    torch.testing.assert_close(
        torch.as_tensor(found), torch.as_tensor(expected), rtol=tolerance, atol=tolerance
    )


# Sizes and counts


def test_full_networks_have_the_released_numbers_of_parameters():
    for found in chapters.describe("cut", "full"):
        single = found.task == "monet2etretat"
        assert found.parameters == (
            {"generator": 3_068_404, "critic": 5_885_473, "heads": 280_832}
            if single
            else {"generator": 11_378_179, "critic": 2_764_737, "heads": 560_384}
        )
    with torch.device("meta"):
        heads = cut.networks(cut.RELEASED)["heads"]
    each = [chapters.count_parameters(head) for head in heads.each]
    assert each == [66_816, 98_816, 131_584, 131_584, 131_584]


def test_the_layers_are_the_thesis_s():
    """RGB, the first and second halving convolution, the first and fifth residual block."""
    chain = cut.cyclegan.resnet_generator(2, 9, 2, "instance", cut.blur_halve, cut.blur_double)
    kinds = [type(chain[i]).__name__ for i in cut.RELEASED.layers]
    assert kinds == ["ReflectionPad2d", "Conv2d", "Conv2d", "ResNetBlock", "ResNetBlock"]
    blocks = [i for i, layer in enumerate(chain) if isinstance(layer, cut.cyclegan.ResNetBlock)]
    assert [blocks.index(i) for i in cut.RELEASED.layers[3:]] == [0, 4]
    net = cut.Translator(chain, cut.RELEASED.layers)
    shapes = [tuple(f.shape[1:]) for f in net.encode(torch.zeros(1, 3, 64, 64))]
    assert shapes == [(3, 70, 70), (4, 64, 64), (8, 32, 32), (8, 16, 16), (8, 16, 16)]


def bare(layers):
    """Linear layers with positive weights: what is seen is not zero anywhere."""
    layers = [layer.body if hasattr(layer, "body") else layer for layer in layers]
    flat = [m for m in nn.Sequential(*layers).modules() if not isinstance(m, nn.Sequential)]
    keep = (nn.Conv2d, nn.ReflectionPad2d, cut.BlurHalf)
    net = nn.Sequential(*(m for m in flat if isinstance(m, keep))).double()
    for layer in net:
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.01)
    return net


def seen(layers, size=256):
    image = torch.zeros(1, 3, size, size, dtype=torch.double, requires_grad=True)
    h = bare(layers)(image)
    h[0, 0, h.shape[2] // 2, h.shape[3] // 2].backward()
    return int((image.grad[0].sum((0, 1)) != 0).sum())


def test_patches_are_those_that_the_gradient_finds():
    net = cut.cyclegan.resnet_generator(1, 9, 2, "none", cut.blur_halve, cut.blur_double)
    for i, side in zip(cut.RELEASED.layers, (1, 9, 15, 35, 99), strict=True):
        assert cut.field(net[: i + 1]) == seen(net[: i + 1]) == side
    plain = cut.bicyclegan.patch_critic(3, 1, 3)
    assert cut.field(plain) == seen(plain) == 70
    blurred = cut.blur_critic(cut.bicyclegan.patch_critic(3, 1, 3))
    assert cut.field(blurred) == seen(blurred) == 84


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("antialias", [False, True])
def test_networks_keep_the_size(size, antialias):
    config = dataclasses.replace(
        TINY, antialias=antialias, downs=2, size=size, blocks=2, repaint=False, critic_layers=2
    )
    nets = cut.networks(config)
    y_hat = nets["generator"](torch.zeros(1, 3, size, size))
    assert y_hat.shape == (1, 3, size, size)
    shape = cut.networks(dataclasses.replace(config, antialias=False))["critic"](y_hat).shape
    assert nets["critic"](y_hat).shape == shape


def test_unknown_layers_and_variants_are_refused():
    with pytest.raises(ConfigError, match="layers"):
        cut.networks(dataclasses.replace(TINY, layers=(0, 99)))
    with pytest.raises(ConfigError, match="layers"):
        cut.networks(dataclasses.replace(TINY, layers=(3, 0)))
    with pytest.raises(ConfigError, match="did you mean 'fastcut'"):
        cut.objective_of("fastcat", TINY)
    with pytest.raises(ConfigError, match="tau"):
        resolve(cut.PRESETS, "toy", "", {"tau": 0.0})


# Properties that hold here, and that planted faults break


def prop_nce_against_a_loop(c):
    """Eq. 3.6 and 3.7, one exponential at a time."""
    q, k = vectors(2, 2, 5, 4)
    total = 0.0
    for b in range(2):
        for s in range(5):
            right = math.exp(float(q[b, s] @ k[b, s]) / 0.07)
            wrong = sum(math.exp(float(q[b, s] @ k[b, t]) / 0.07) for t in range(5) if t != s)
            total -= math.log(right / (right + wrong))
    close(c.loss_patch_nce(q, k, 0.07), total / 10, 1e-4)


def prop_external_against_a_loop(c):
    """Eq. 3.8 alone, and together with eq. 3.7."""
    q, k = vectors(2, 2, 3, 4)
    bank = vectors(6, 4, seed=1)
    for internal in (False, True):
        total = 0.0
        for b in range(2):
            for s in range(3):
                right = math.exp(float(q[b, s] @ k[b, s]) / 0.1)
                wrong = sum(math.exp(float(q[b, s] @ n) / 0.1) for n in bank)
                own = sum(math.exp(float(q[b, s] @ k[b, t]) / 0.1) for t in range(3) if t != s)
                total -= math.log(right / (right + wrong + internal * own))
        close(c.loss_patch_nce(q, k, 0.1, bank, internal), total / 6, 1e-4)


def prop_layers_are_averaged(c):
    """A mean over layers of any number of places."""
    sets = [(vectors(1, s, 4, seed=s), vectors(1, s, 4, seed=9 + s)) for s in (3, 7)]
    each = [c.loss_patch_nce(q, k, 0.07) for q, k in sets]
    close(c.loss_layers(*zip(*sets, strict=True), 0.07), sum(each) / 2)


def prop_pictures_meet_only_where_they_should(c):
    """Another picture's vectors change nothing, but for external negatives and single images."""
    x, other = images()
    for name, meets in (("cut", False), ("both", True), ("sincut", True)):
        config = dataclasses.replace(TINY, patches=5)
        nets, _, game, *_ = setting(c, name, config=config)
        features = [nets["generator"].encode(t) for t in (x, torch.cat([x[:1], other[1:]]))]
        y_hat = x.flip(0) * 0.5
        found = []
        for keys in features:
            torch.manual_seed(3)
            if game.banks:
                game.banks["x"].kept = [torch.empty(0, config.units) for _ in config.layers]
                game.banks["x"].add(nets["heads"](keys, [torch.arange(4)] * len(keys)))
            y = y_hat.clone().requires_grad_()
            game.loss(keys, y, "x").backward()
            found.append(y.grad[0])
        same = torch.allclose(found[0], found[1] * 1.0, atol=1e-9)
        assert same != meets, name


def prop_keys_are_detached(c):
    """The game reaches the translation, not the input's features; but for two encoders."""
    for name, reached in (("cut", False), ("external", False), ("unshared", True)):
        nets, _, game, _, x, _ = setting(c, name)
        if game.banks:
            game.banks["x"].add([vectors(1, 7, TINY.units) for _ in TINY.layers])
        keys = [f.detach().requires_grad_() for f in nets["generator"].encode(x)]
        y_hat = (0.5 * x).requires_grad_()
        game.loss(keys, y_hat, "x").backward()
        assert y_hat.grad is not None
        assert y_hat.grad.abs().sum() > 0
        assert any(k.grad is not None for k in keys) == reached, name


def prop_heads_learn_from_queries(c):
    """H gets a gradient, and its vectors have length 1."""
    nets, _, game, _, x, _ = setting(c, "cut")
    for name, p in nets["heads"].named_parameters():
        if name.endswith("bias"):  # at first 0, and then a vector may be all zeros
            nn.init.normal_(p)
    keys = nets["generator"].encode(x)
    places = c.random_places(keys, 12)
    for v, p in zip(nets["heads"](keys, places), places, strict=True):
        assert v.shape == (2, 12, TINY.units)
        assert len(p.unique()) == 12
        close(v.norm(dim=2), torch.ones(2, 12), 1e-4)
    game.loss(keys, 0.5 * x, "x").backward()
    assert all(p.grad is not None for p in nets["heads"].parameters())


def prop_query_and_key_are_of_one_place(c):
    """A translation that is the input is found at its own place; a moved one is not."""
    nets, _, game, _, x, _ = setting(c, "cut")
    keys = nets["generator"].encode(x)
    torch.manual_seed(0)
    here = game.loss(keys, x, "x")
    torch.manual_seed(0)
    assert 2 * here < game.loss(keys, x.roll((5, 9), (2, 3)), "x")


def prop_the_decoder_is_cut_off(c):
    """In decoder_off the game reaches the encoder's weights only; in cut the decoder's, too."""
    for name, reached in (("cut", True), ("decoder_off", False)):
        nets, _, game, want, x, y = setting(c, name)
        hats, keys, flipped = c.translations(nets["generator"], x, y, want)
        game.loss(keys["x"], hats["x"], "x", flipped).backward()
        last = list(nets["generator"].chain.parameters())[-2]
        first = next(nets["generator"].chain.parameters())
        assert (last.grad is not None) == reached
        assert first.grad is not None


def prop_flip(c):
    """FastCUT translates the mirror image half of the time and compares like with like."""
    nets, _, game, want, x, y = setting(c, "fastcut")
    mirrored = 0
    for seed in range(40):
        torch.manual_seed(seed)
        hats, keys, flipped = c.translations(nets["generator"], x, y, want)
        mirrored += flipped
        assert set(hats) == {"x"}
        close(hats["x"], nets["generator"](x.flip(3) if flipped else x), 1e-4)
        for found, plain in zip(keys["x"], nets["generator"].encode(x), strict=True):
            close(found, plain)
    assert 10 < mirrored < 30
    nets, _, game, *_ = setting(c, "fastcut", config=dataclasses.replace(TINY, layers=(0,)))
    keys, found = nets["generator"].encode(x), {}  # pixels: mirroring back is exact there
    for name, image, flipped in (("same", x, False), ("crossed", x.flip(3), False),
                                 ("undone", x.flip(3), True)):  # fmt: skip
        torch.manual_seed(0)
        found[name] = game.loss(keys, image, "x", flipped)
    close(found["undone"], found["same"])
    assert found["crossed"] > 2 * found["same"]


def prop_variants_have_their_terms(c):
    """One step of each variant computes its terms and moves its networks, no others."""
    for name, expected in TERMS.items():
        nets, state, game, want, x, y = setting(c, name)
        before = {n: [p.clone() for p in net.parameters()] for n, net in nets.items()}
        step = c.make_step(
            game,
            state,
            lambda i, x=x, y=y: (x, y),
            0.9,
            nn.Conv2d(3, 4, 3) if want.features else None,
        )
        step(0)
        assert all(len(kept) for bank in game.banks.values() for kept in bank.kept)
        assert set(step(1)) == expected | {"critic"}, name
        moved = {
            n
            for n, net in nets.items()
            if any(not torch.equal(a, p) for a, p in zip(before[n], net.parameters(), strict=True))
        }
        still = set() if want.nce_x else {"heads"}
        assert moved == set(nets) - still, name


def prop_weights(c):
    """CUT's two weights are equal, FastCUT has one larger; without identity the sum is kept."""
    config = dataclasses.replace(TINY, weight_nce=0.5, weight_fast=10.0)
    known = c.objectives(config)
    assert (known["cut"].nce_x, known["cut"].nce_y) == (0.5, 0.5)
    assert (known["fastcut"].nce_x, known["fastcut"].nce_y) == (10, 0)
    assert (known["no_identity"].nce_x, known["no_identity"].nce_y) == (1, 0)


def prop_domains(c):
    """D sees real winters and translated summers; y's game is between y and G(y)."""
    nets, state, game, want, x, y = setting(c, "cut")
    shown = []
    nets["critic"].register_forward_pre_hook(lambda m, a: shown.append(a[0].detach()))
    with torch.no_grad():
        y_hat = nets["generator"](x)
    hats, keys, _ = c.translations(nets["generator"], x, y, want)
    close(hats["y"], nets["generator"](y), 1e-4)
    for found, plain in zip(keys["y"], nets["generator"].encode(y), strict=True):
        close(found, plain)
    c.make_step(game, state, lambda i: (x, y), 0.9)(0)
    close(shown[0], torch.cat([y, y_hat]), 1e-4)


def prop_bank(c):
    """First in, first out, copied and without gradients; the slow copies follow slowly."""
    bank = c.Bank(1, 5, 2, CPU)
    for i in range(4):
        fed = torch.full((1, 2, 2), float(i), requires_grad=True)
        bank.add([fed])
    assert bank.kept[0][:, 0].tolist() == [1, 2, 2, 3, 3]
    assert not bank.kept[0].requires_grad
    slow, fast = nn.Linear(1, 1), nn.Linear(1, 1)
    before, goal = slow.weight.item(), fast.weight.item()
    c.follow(slow, fast, 0.9)
    assert slow.weight.item() == pytest.approx(0.9 * before + 0.1 * goal)


def prop_single_image(c):
    """SinCUT: logistic losses, R1 on real pictures only, and the pixels of G(y)."""
    want = dataclasses.replace(c.objective_of("sincut", TINY), r1=4.0)
    weight = torch.tensor([0.5, -1.0, 2.0])

    class Linear(nn.Module):
        def forward(self, y):
            return (y * weight[:, None, None]).sum((1, 2, 3))[:, None]

    y, y_hat = images(1, 2)
    real, fake = Linear()(y), Linear()(y_hat)
    norm = 4 * weight.square().sum()  # four pixels
    expected = F.softplus(-real).mean() + F.softplus(fake).mean() + 4.0 / 2 * norm
    close(c.critic_loss(Linear(), y, y_hat, want), expected, 1e-4)
    nets, _, game, want, x, y = setting(c, "sincut")
    hats, keys, flipped = c.translations(nets["generator"], x, y, want)
    terms = c.generator_terms(game, x, y, hats, keys, flipped)
    close(terms["identity"], (hats["y"] - y).abs().mean())
    close(terms["gan"], F.softplus(-nets["critic"](hats["x"])).mean())


def prop_matches(c):
    """Equal vectors are found at their own place; likeness is 1 there and falls elsewhere."""
    keys = F.normalize(torch.randn(1, 8, 4, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    moved = torch.arange(20).view(4, 5).roll(1, 1).flatten()
    assert c.matches(keys.roll(1, 3), keys).tolist() == [moved.tolist()]
    light = c.likeness(keys[:, :, 2, 3], keys, 0.07)
    assert light[0].flatten().argmax() == 2 * 5 + 3
    close(light[0, 2, 3], 1.0)
    alike = (keys[0, :, 2, 3] * keys[0, :, 0, 0]).sum()
    close(light[0, 0, 0], torch.exp((alike - 1) / 0.07))


def prop_matcher(c):
    """The explorer marks the place it was asked for: +1 is right and up."""
    nets, *_, x, _ = setting(c, "cut")
    matcher = c.Matcher(nets["generator"], nets["heads"], (0, 1), 0.07)
    where = matcher.at(torch.tensor([[1.0, 1.0], [-1.0, 1.0]]), x)
    assert where[0, 0, 0, -1] > 0.99
    assert where[1, 0, 0, 0] > 0.99
    with torch.no_grad():
        shown = matcher(torch.zeros(2, 2) + 0.03, x)
    assert shown.shape == (2, 4, 3, 32, 32)
    assert shown.abs().max() <= 1.001
    changed = (shown[:, 1] != x).any(1)
    assert 0 < changed.sum() <= 2 * 32


PROPERTIES = {name: value for name, value in globals().items() if name.startswith("prop_")}
FAULTS = {  # (what stands in the chapter, what a fault makes of it): the property that notices
    ("return -logits.log_softmax(dim=-1)[..., 0]", "return -logits[..., 0]"): "nce_against_a_loop",
    ("negative], dim=-1) / tau", "negative], dim=-1) * tau"): "nce_against_a_loop",
    ("device=query.device)", "device=query.device).roll(1, 1)"): "nce_against_a_loop",
    (
        "torch.cat(negative, 2), tau).mean()",
        "torch.cat(negative, 2), tau).sum()",
    ): "nce_against_a_loop",
    ("if internal else []", "if bank is None else []"): "external_against_a_loop",
    (
        "internal) for q, k, b in each]).mean()",
        "internal) for q, k, b in each]).sum()",
    ): "layers_are_averaged",
    ("if want.across:", "if True:"): "pictures_meet_only_where_they_should",
    ("torch.set_grad_enabled(not want.shared)", "torch.enable_grad()"): "keys_are_detached",
    ("torch.set_grad_enabled(not want.shared):", "torch.no_grad():"): "keys_are_detached",
    (
        'else "heads_2"](found, places)',
        'else "heads_2"]([f.detach() for f in found], places)',
    ): "keys_are_detached",
    ("F.normalize(head(at), dim=2, eps=1e-7)", "head(at)"): "heads_learn_from_queries",
    (
        'nets["heads"](keys, places)',
        'nets["heads"](keys, random_places(keys, self.patches))',
    ): "query_and_key_are_of_one_place",
    ("y_hat if want.decoder else y_hat.detach()", "y_hat"): "the_decoder_is_cut_off",
    ("[f.flip(3) for f in found] if flipped else found", "found"): "flip",
    ("inputs.flip(3) if flipped else inputs", "inputs"): "flip",
    ("generator.encode(inputs)", "generator.encode(inputs.flip(3))"): "flip",
    ("torch.rand(()) < 0.5)", "torch.rand(()) < 0.05)"): "flip",
    (
        'bicyclegan.frozen(game.nets["critic"], y_hat)',
        'game.nets["critic"](y_hat.detach())',
    ): "variants_have_their_terms",
    ("        descend(players, ", "        descend(players[:1], "): "variants_have_their_terms",
    ('follow(nets[f"slow_{name}"], nets[name], momentum)', "pass"): "variants_have_their_terms",
    ("alone = Objective(nce_x=2 * half)", "alone = Objective(nce_x=half)"): "weights",
    (
        'critic_loss(nets["critic"], y, hats["x"].detach(), want)',
        'critic_loss(nets["critic"], x, hats["x"].detach(), want)',
    ): "domains",
    ("f.split(len(x))[k] for f", "f.split(len(x))[0] for f"): "domains",
    ("joined[-self.size :]", "joined[: self.size]"): "bank",
    ("fresh.detach().flatten(0, 1)", "fresh.flatten(0, 1)"): "bank",
    ("a.lerp_(b, 1 - momentum)", "a.lerp_(b, momentum)"): "bank",
    ("want.r1 / 2 * stylegan2", "want.r1 * stylegan2"): "single_image",
    ('loss_same(y, hats["y"])', 'loss_same(x, hats["y"])'): "single_image",
    (
        "stylegan2.real_loss(real) + stylegan2.fake_loss(fake)",
        "stylegan2.fake_loss(real) + stylegan2.real_loss(fake)",
    ): "single_image",
    ("keys.flatten(2)).argmax(2)", "keys.flatten(2)).argmax(1)"): "matches",
    ("down = 1 - (torch.arange(high)", "down = -1 + (torch.arange(high)"): "matcher",
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name):
    PROPERTIES[name](cut)


@pytest.mark.parametrize(("fault", "name"), FAULTS.items(), ids=lambda v: str(v)[:50])
def test_planted_faults_are_noticed(fault, name):
    with pytest.raises(AssertionError):
        PROPERTIES[f"prop_{name}"](plant("cut", *fault))


# Released details


def test_doubling_is_the_released_blur():
    """Bilinear doubling is a transposed convolution with [1, 3, 3, 1] on repeated borders."""
    h = torch.randn(1, 2, 5, 6)
    kernel = (4 * cut.stylegan2.fir_kernel((1, 3, 3, 1))).expand(2, 1, 4, 4)
    grown = F.conv_transpose2d(F.pad(h, (1, 1, 1, 1), "replicate"), kernel, stride=2, groups=2)
    expected = grown[:, :, 3:-3, 3:-3]
    close(cut.blur_double(2, 2, "none")[0](h), expected)


def test_halving_blurs():
    h = torch.randn(1, 1, 6, 6)
    wide = F.pad(h, (1, 1, 1, 1), "reflect")
    weights = torch.tensor([1.0, 2.0, 1.0]) / 4
    found = cut.BlurHalf()(h)
    close(found[0, 0, 1, 2], (wide[0, 0, 2:5, 4:7] * torch.outer(weights, weights)).sum())
    assert found.shape == (1, 1, 3, 3)


def test_features_met_on_the_way_are_the_encoder_s():
    for repaint in (False, True):
        torch.manual_seed(0)
        config = dataclasses.replace(TINY, repaint=repaint)
        generator = cut.networks(config)["generator"]
        x, _ = images()
        y_hat, features = cut.both(generator, x)
        assert torch.equal(y_hat, generator(x))
        for met, alone in zip(features, generator.encode(x), strict=True):
            assert torch.equal(met, alone)
        assert not any(layer._forward_hooks for layer in generator.chain)


def test_full_schedules_are_the_released_ones():
    full = cut.PRESETS["full"]
    for task, steps, epochs in (
        ("horse2zebra", 1334, (200, 200)),
        ("fast_horse2zebra", 1334, (150, 50)),
        ("monet2etretat", 6250, (8, 8)),
    ):
        config = full[task].config
        assert (config.epoch_steps, config.epochs, config.decay_epochs) == (steps, *epochs)
    released = full["horse2zebra"].config
    assert (released.rate, released.beta1, released.beta2) == (2e-4, 0.5, 0.999)
    assert (released.tau, released.patches, released.bank) == (0.07, 256, 16_384)
    single = full["monet2etretat"].config
    assert (single.rate, single.beta1, single.beta2, single.batch) == (2e-3, 0.0, 0.99, 16)


def test_external_variant_resumes_with_its_banks(tmp_path):
    config = dataclasses.replace(TINY, epoch_steps=2, epochs=1, decay_epochs=2, ema=0.9)
    domains = cut.open_domains("tinytown", "", config)
    want = cut.objective_of("external", config)

    def fit(folder, steps, resume=False):
        torch.manual_seed(0)
        nets = cut.variant_networks(config, want)
        state = cut.make_state(nets, config, want)
        game = cut.make_game(nets, state, config, want)
        batches = cut.cyclegan.make_batches(*domains, config, 0, CPU)
        step = cut.make_step(game, state, batches, config.momentum)
        training.fit(step, state, steps, folder=folder, seed=0, identity="t", resume=resume)
        banks = [vector for bank in state.extras.values() for vector in bank.kept]
        return [p for n in nets.values() for p in n.parameters()] + banks

    whole = fit(tmp_path / "a", 6)
    fit(tmp_path / "b", 3)
    again = fit(tmp_path / "b", 6, resume=True)
    assert len(whole) == len(again)
    assert all(torch.equal(p, q) for p, q in zip(whole, again, strict=True))


# Single images


def test_crops_of_a_single_picture():
    picture = torch.rand(3, 90, 120)
    domain = cut.SingleImage(picture, 32, 1 / 3, 10, seed=1)
    crops = domain.batch(torch.arange(4), seed=0, step=2)
    assert len(domain) == 10
    assert crops.shape == (4, 3, 32, 32)
    assert torch.equal(crops, domain.batch(torch.arange(4), seed=0, step=2))
    assert not torch.equal(crops, domain.batch(torch.arange(4), seed=0, step=3))
    other = cut.SingleImage(picture, 32, 1 / 3, 10, seed=2).batch(torch.arange(4), seed=0, step=2)
    assert not torch.equal(crops, other)
    small = cut.SingleImage(torch.rand(3, 32, 40), 32, 1 / 3, 2, seed=0)
    assert small.batch(torch.arange(2)).shape == (2, 3, 32, 32)


def test_one_step_of_sincut_in_the_data_s_own_layout(tmp_path, monkeypatch):
    import numpy as np
    from PIL import Image

    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    for domain, colour in (("A", 20), ("B", 230)):
        folder = tmp_path / "small_samples" / "single_image_monet_etretat" / f"train{domain}"
        folder.mkdir(parents=True)
        pixels = np.full((90, 120, 3), colour, np.uint8)
        Image.fromarray(pixels).save(folder / "1.png")
    config = dataclasses.replace(cut.SINGLE, width=1, critic_width=1, units=8, batch=2)
    x_set, y_set = cut.open_domains("small_samples", "monet2etretat", config)
    batches = cut.cyclegan.make_batches(x_set, y_set, config, 0, CPU)
    x, y = batches(0)
    assert x.shape == y.shape == (2, 3, 64, 64)
    assert x.mean() < -0.5 < 0.5 < y.mean()
    want = cut.objective_of("sincut", config)
    nets = cut.variant_networks(config, want)
    state = cut.make_state(nets, config, want)
    terms = cut.make_step(cut.make_game(nets, state, config, want), state, batches, 0.9)(0)
    assert set(terms) == {"gan", "nce_x", "nce_y", "identity", "critic"}
    assert all(torch.isfinite(term) for term in terms.values())


def test_principal_colours_agree_where_vectors_do():
    x = torch.randn(2, 6, 4, 4)
    a, b = cut.principal_colours(x, x)
    assert torch.equal(a, b)
    assert a.shape == (2, 3, 4, 4)
    assert a.min() >= -1
    assert a.max() <= 1


def test_largest_keeps_the_scenes_with_most_of_a_label():
    scenes = cut.cyclegan.TownSeason(12, 3, 32, "winter")
    house = cut.tinytown.LABELS.index("house")
    kept = cut.largest(scenes, [house], 4)
    share = (scenes.labels == house).float().mean((1, 2))
    found = (kept.labels == house).float().mean((1, 2))
    assert len(kept) == len(kept.y) == len(kept.styles) == 4
    assert len(scenes) == 12
    close(found.sort().values, share.sort().values[-4:])


def test_the_matcher_is_the_same_in_onnx():
    runtime = pytest.importorskip("onnxruntime")
    nets, *_, x, _ = setting(cut, "cut")
    matcher = frozen(cut.Matcher(nets["generator"], nets["heads"], (0, 2), 0.07))
    z = torch.tensor([[0.1, -0.4], [-0.7, 0.9]])
    exported = export(matcher, ["z", "c"], [z, x], "float32")
    assert not exported.trouble
    session = runtime.InferenceSession(exported.graph, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"z": z.numpy(), "c": x.numpy()})
    with torch.no_grad():
        close(torch.from_numpy(found), matcher(z, x), 1e-3)
