import dataclasses
import math

import numpy as np
import pytest
import torch
from faults import plant
from PIL import Image
from torch import nn

from minilib import chapters, results, training
from minilib.config import ConfigError, resolve

bicyclegan = chapters.load("bicyclegan")
TINY = dataclasses.replace(
    bicyclegan.TOY, width=4, critic_width=4, encoder_width=4, input_channels=3, gain=1.0, latent=8
)
SIX = bicyclegan.SIX
EVERY_NETWORK = {"generator", "encoder", "discriminator", "discriminator_random"}
RANDOM, ENCODED = {"generator", "discriminator_random"}, {"generator", "encoder", "discriminator"}
TRAINED = {  # by eq. 3, 6 (twice), 9 without its latent term, 8 and 9
    "pix2pix_noise": RANDOM,
    "cae_gan": ENCODED,
    "cvae_gan": ENCODED,
    "cvae_gan_pp": EVERY_NETWORK,
    "clr_gan": RANDOM | {"encoder"},
    "bicyclegan": EVERY_NETWORK,
}
TERMS = {
    "pix2pix_noise": {"gan", "image"},
    "cae_gan": {"gan_vae", "image_vae"},
    "cvae_gan": {"gan_vae", "image_vae", "kl"},
    "cvae_gan_pp": {"gan_vae", "image_vae", "kl", "gan"},
    "clr_gan": {"gan", "latent"},
    "bicyclegan": {"gan_vae", "image_vae", "kl", "gan", "latent"},
}


def setting(module=bicyclegan, config=TINY, seed=0):
    """Networks of some module, and a batch: x, y of 2B = 4."""
    torch.manual_seed(seed)
    nets = module.networks(config)
    x = torch.rand(4, config.input_channels, config.size, config.size) * 2 - 1
    y = torch.rand(4, 3, config.size, config.size) * 2 - 1
    return nets, x, y


# Sizes and counts


def test_full_networks_have_the_released_numbers_of_parameters():
    for task in ("facades", "maps", "night2day"):
        (found,) = chapters.describe("bicyclegan", "full", task)
        assert found.parameters == {
            "generator": 54_794_627,
            "encoder": 2_590_032,
            "discriminator": 3_458_978,
            "discriminator_random": 3_458_978,
        }
    (edges,) = chapters.describe("bicyclegan", "full", "edges2shoes")
    assert edges.parameters["generator"] == 54_792_579


def test_variants_of_the_networks_have_the_released_numbers_of_parameters():
    b, count = bicyclegan, chapters.count_parameters
    with torch.device("meta"):
        assert count(b.UNet(256, 3, 3, 64, 8, "input")) == 54_417_795
        assert count(b.UNet(128, 3, 3, 64, 8)) == 42_145_155
        assert count(b.UNet(256, 3, 3, 64, 8, upsample="bilinear")) == 39_538_435
        assert count(b.TwoScaleCritic(6, 64, 3)) == 3_463_586
        assert count(b.TwoScaleCritic(3, 64, 2)) == 830_626
        assert count(b.make_encoder("resnet", 128, 64, 8)) == 1_344_080
        assert count(b.make_encoder("cnn", 256, 64, 8)) == 2_760_656
        assert count(b.make_encoder("cnn", 128, 64, 8)) == 1_711_824


@pytest.mark.parametrize("size", [32, 64, 128, 256])
@pytest.mark.parametrize(("encoder", "injection"), [("resnet", "all"), ("cnn", "input")])
def test_networks_work_at_every_size(size, encoder, injection):
    config = dataclasses.replace(
        TINY, size=size, encoder=encoder, injection=injection, width=2, encoder_width=2
    )
    nets, x, y = setting(config=config)
    assert nets["generator"](x[:1], torch.randn(1, 8)).shape == (1, 3, size, size)
    assert [h.shape for h in nets["encoder"](y)] == [(4, 8), (4, 8)]
    fine, coarse = nets["discriminator"](y[:1])
    assert fine.shape[2] > coarse.shape[2] >= 1


@pytest.mark.parametrize("size", [16, 48, 512])
def test_other_sizes_are_refused(size):
    with pytest.raises(ConfigError, match="size"):
        resolve(bicyclegan.PRESETS, "toy", "", {"size": size})


def test_the_code_enters_every_level_or_only_the_first():
    everywhere = bicyclegan.UNet(64, 3, 3, 4, 8, "all")
    once = bicyclegan.UNet(64, 3, 3, 4, 8, "input")

    def entering(net):
        return [next(m for m in d if isinstance(m, nn.Conv2d)).in_channels for d in net.downs]

    assert entering(everywhere) == [3 + 8, 4 + 8, 8 + 8, 16 + 8, 32 + 8, 32 + 8]
    assert entering(once) == [3 + 8, 4, 8, 16, 32, 32]


def test_the_generator_starts_from_the_released_initialisation():
    config = dataclasses.replace(TINY, width=64, gain=0.02, sharpen=0)
    torch.manual_seed(0)
    first = bicyclegan.networks(config)["generator"].downs[0][0]
    expected = 0.02 * math.sqrt(2 / (16 * (3 + 8) + 16 * 64))
    assert first.weight.std().item() == pytest.approx(expected, rel=0.03)
    assert not first.bias.any()


def test_two_scales_see_patches_of_70_and_141_pixels():
    critic = bicyclegan.TwoScaleCritic(3, 4, layers=3)
    assert [bicyclegan.receptive_field(critic, s) for s in (0, 1)] == [70, 141]
    smaller = bicyclegan.TwoScaleCritic(3, 4, layers=2)
    assert bicyclegan.receptive_field(smaller, 0) == 34


def test_the_full_size_end_sees_every_pixel_of_the_condition():
    torch.manual_seed(0)
    net = bicyclegan.networks(TINY)["generator"]
    assert isinstance(net, bicyclegan.Sharpened)
    x = torch.randn(1, 3, 32, 32, requires_grad=True)
    features = torch.zeros(1, TINY.width, 32, 32)  # the U-Net aside
    net.unet.forward = lambda x, w: features
    net(x, torch.randn(1, 8))[0, :, 11, 14].sum().backward()
    seen = x.grad[0].abs().sum(0) != 0
    assert seen[10:13, 13:16].all()
    assert seen.sum() == 9
    assert bicyclegan.RELEASED.sharpen == 0


def test_instance_normalisation_all_but_removes_a_constant_code():
    """Why the small generator goes without: away from borders a constant leaves no trace."""
    torch.manual_seed(0)
    moved = {}
    for norm in ("instance", "none"):
        level = bicyclegan.down_level(3 + 8, 4, False, False, norm)
        level[0] = nn.Identity()  # the activation, which lets some of the code through
        level[1].padding = (0, 0)
        x, z = torch.randn(1, 3, 16, 16), torch.randn(2, 8)
        a, b = (level(torch.cat([x, bicyclegan.tile(c[None], x)], dim=1)) for c in z)
        moved[norm] = (a - b).abs().max().item()
    assert moved["instance"] < 1e-4
    assert moved["none"] > 0.1


# Losses: properties that hold here, and that planted faults break


def close(found, expected):
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=1e-5, atol=1e-6)


def prop_gan(b):
    """Eq. 1 and 4 in least-squares form, summed over scales of different size."""
    real = [torch.full((2, 1, 3, 3), 0.7), torch.full((2, 1, 1, 1), 0.4)]
    fake = [torch.full((2, 1, 3, 3), 0.2), torch.full((2, 1, 1, 1), -0.5)]
    close(b.loss_gan_generator(fake), 0.8**2 + 1.5**2)
    close(b.loss_gan_discriminator(real, fake), 0.3**2 + 0.6**2 + 0.2**2 + 0.5**2)


def prop_image(b):
    """Eq. 2 is a mean absolute difference."""
    y = torch.zeros(2, 3, 4, 4)
    y_hat = torch.cat([torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), -0.1)])
    close(b.loss_image(y, y_hat), 0.3)


def prop_kl(b):
    """Eq. 5 is the divergence that torch.distributions knows, per image."""
    torch.manual_seed(0)
    mean, log_variance = torch.randn(5, 8), torch.randn(5, 8)
    q = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    p = torch.distributions.Normal(torch.zeros(8), torch.ones(8))
    close(b.loss_kl(mean, log_variance), torch.distributions.kl_divergence(q, p).sum(1).mean())


def prop_latent(b):
    """Eq. 7 is a mean absolute difference of codes."""
    close(b.loss_latent(torch.zeros(2, 4), torch.tensor([[1.0, -1, 0, 0], [0, 0, 0, 2]])), 0.5)


def prop_draw(b):
    """A code has the encoder's mean and standard deviation, and passes gradients to both."""
    torch.manual_seed(0)
    mean = torch.full((50_000, 1), 0.3, requires_grad=True)
    log_variance = torch.full((50_000, 1), -1.0, requires_grad=True)
    z = b.draw(mean, log_variance)
    assert abs(z.mean() - 0.3) < 0.01
    assert abs(z.std() - math.exp(-0.5)) < 0.01
    z.square().sum().backward()
    assert mean.grad is not None
    assert log_variance.grad is not None


def prop_latent_loss_spares_the_encoder(b):
    """The encoder's gradient is the same with and without eq. 7; the generator's is not."""
    gradients = []
    for weight in (0.0, 0.5):
        nets, x, y = setting(b)
        want = dataclasses.replace(b.objective_of("bicyclegan", TINY), latent=weight)
        torch.manual_seed(1)
        terms, _ = b.generator_terms(nets, x, y, want)
        assert ("latent" in terms) == (weight > 0)
        b.weighted_sum(terms, want).backward()
        gradients.append({n: [p.grad for p in net.parameters()] for n, net in nets.items()})
    without, with_it = gradients
    for a, c in zip(without["encoder"], with_it["encoder"], strict=True):
        torch.testing.assert_close(a, c, rtol=1e-4, atol=1e-7)
    pairs = list(zip(without["generator"], with_it["generator"], strict=True))
    assert not all(torch.allclose(a, c, rtol=1e-3, atol=1e-7) for a, c in pairs)
    for name in ("discriminator", "discriminator_random"):
        assert all(g is None for g in with_it[name])


def prop_variants_train_what_their_objectives_say(b):
    """After one step exactly the networks of each objective have moved, by exactly its terms."""
    for name in SIX:
        nets, x, y = setting(b)
        before = {n: [p.clone() for p in net.parameters()] for n, net in nets.items()}
        state = b.make_state(nets, dataclasses.replace(TINY, ema=0.0))
        want = b.objective_of(name, TINY)
        terms = b.make_step(nets, state.optimizers, lambda i, x=x, y=y: (x, y), want)(0)
        moved = {
            n
            for n, net in nets.items()
            if any(not torch.equal(a, p) for a, p in zip(before[n], net.parameters(), strict=True))
        }
        assert moved == TRAINED[name], name
        assert set(terms) == TERMS[name] | (
            TRAINED[name] & {"discriminator", "discriminator_random"}
        )


def prop_weights(b):
    """The total is the paper's: 10, 0.5 and 0.01."""
    ones = {n: torch.tensor(1.0) for n in ("gan", "gan_vae", "image_vae", "kl", "latent")}
    close(b.weighted_sum(ones, b.objective_of("bicyclegan", b.RELEASED)), 1 + 1 + 10 + 0.01 + 0.5)


def prop_deterministic_autoencoder(b):
    """The cAE-GAN's code is a point: two passes agree; the cVAE-GAN's is not."""
    nets, x, y = setting(b)
    for name, same in (("cae_gan", True), ("cvae_gan", False)):
        want = b.objective_of(name, TINY)
        a, c = (b.generator_terms(nets, x, y, want)[1]["discriminator"] for _ in range(2))
        assert torch.equal(a, c) == same


def prop_second_half_is_only_real_to_the_second_critic(b):
    """Other answers in the second half change only what the second discriminator sees."""
    outcomes = []
    for flip in (False, True):
        nets, x, y = setting(b)
        if flip:
            x, y = (torch.cat([t[:2], t[2:].flip(3)]) for t in (x, y))
        state = b.make_state(nets, dataclasses.replace(TINY, ema=0.0))
        torch.manual_seed(1)
        step = b.make_step(
            nets, state.optimizers, lambda i, x=x, y=y: (x, y), b.objective_of("bicyclegan", TINY)
        )
        outcomes.append(step(0))
    first, second = outcomes
    changed = {name for name in first if not torch.allclose(first[name], second[name])}
    assert changed == {"discriminator_random"}


def prop_z_reaches_the_picture(b):
    """The gradient with respect to the code is not zero, for both ways of injection."""
    for injection in ("all", "input"):
        nets, x, _ = setting(
            b, dataclasses.replace(TINY, injection=injection, sharpen=0, norm="instance")
        )
        z = torch.randn(4, 8, requires_grad=True)
        nets["generator"](x, z).square().sum().backward()
        assert (z.grad.abs() > 0).all()


PROPERTIES = {name: value for name, value in globals().items() if name.startswith("prop_")}
FAULTS = {  # (what stands in the chapter, what a fault makes of it): the property that notices
    ("(score - target).square()", "(score + target).square()"): "prop_gan",
    ("squared_gap(real, 1.0) + squared_gap", "squared_gap(real, 1.0) - squared_gap"): "prop_gan",
    ("(y - y_hat).abs().mean()", "(y - y_hat).square().mean()"): "prop_image",
    ("- log_variance - 1", "- log_variance"): "prop_kl",
    ("0.5 * terms.sum(dim=1).mean()", "0.5 * terms.mean()"): "prop_kl",
    ("(z - z_hat).abs().mean()", "(z - z_hat).abs().sum()"): "prop_latent",
    ("(0.5 * log_variance).exp() * torch", "log_variance.exp() * torch"): "prop_draw",
    ("return mean + (0.5", "return mean.detach() + (0.5"): "prop_draw",
    ("name: p.detach() for", "name: p for"): "prop_latent_loss_spares_the_encoder",
    ("loss_latent(z, encode(y_hat)[0])", "loss_latent(z, encode(y_hat.detach())[0])"): (
        "prop_latent_loss_spares_the_encoder"
    ),
    ("gan=1.0, latent=latent, latent_trains_encoder=True)", "gan=1.0, latent=latent)"): (
        "prop_variants_train_what_their_objectives_say"
    ),
    ("dataclasses.replace(vae, gan=1.0),", "vae,"): "prop_variants_train_what_their_objectives_say",
    ("kl=0.0, sampled=False)", "kl=0.0)"): "prop_deterministic_autoencoder",
    ("getattr(want, name) * term", "term"): "prop_weights",
    ('"discriminator_random": y[half:]', '"discriminator_random": y[:half]'): (
        "prop_second_half_is_only_real_to_the_second_critic"
    ),
    ("torch.cat([h, tile(z, h)], dim=1)", "torch.cat([h, 0 * tile(z, h)], dim=1)"): (
        "prop_z_reaches_the_picture"
    ),
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name):
    PROPERTIES[name](bicyclegan)


@pytest.mark.parametrize(("fault", "name"), FAULTS.items(), ids=lambda v: str(v)[:50])
def test_planted_faults_are_noticed(fault, name):
    faulty = plant("bicyclegan", *fault)
    with pytest.raises(AssertionError):
        PROPERTIES[name](faulty)


# Data, training, measuring


def test_configs_differ_from_the_full_objective_only_by_weights():
    whole = bicyclegan.objective_of("bicyclegan", TINY)
    for name in ("cvae_gan", "cvae_gan_pp", "cae_gan"):
        for field in dataclasses.fields(whole):
            mine = getattr(bicyclegan.objective_of(name, TINY), field.name)
            assert mine in (getattr(whole, field.name), 0.0, False)


def test_unknown_variants_are_refused_in_one_line():
    with pytest.raises(ConfigError, match="did you mean 'cvae_gan'"):
        bicyclegan.objective_of("cvaegan", TINY)


def test_training_is_reproducible_and_resumes(tmp_path):
    config = dataclasses.replace(bicyclegan.SMOKE, steps=4, decay_steps=0, ema=0.9)
    train = bicyclegan.open_pairs("tinytown", config)

    def fit(folder, steps, resume=False):
        torch.manual_seed(0)
        nets = bicyclegan.networks(config)
        state = bicyclegan.make_state(nets, config)
        batches = bicyclegan.make_batches(train, config, 0, torch.device("cpu"))
        want = bicyclegan.objective_of("bicyclegan", config)
        step = bicyclegan.make_step(nets, state.optimizers, batches, want)
        training.fit(step, state, steps, folder=folder, seed=0, identity="t", resume=resume)
        return [p for net in nets.values() for p in net.parameters()]

    whole = fit(tmp_path / "a", 4)
    fit(tmp_path / "b", 2)
    for p, q in zip(whole, fit(tmp_path / "b", 4, resume=True), strict=True):
        assert torch.equal(p, q)


def test_town_pairs_show_one_answer_each_in_two_kinds_of_input():
    for channels, draw in ((10, bicyclegan.tinytown.one_hot), (1, bicyclegan.tinytown.edges)):
        config = dataclasses.replace(bicyclegan.SMOKE, input_channels=channels)
        pairs = bicyclegan.open_pairs("tinytown", config)
        x, y = pairs.pairs(torch.tensor([3, 0]))
        assert x.shape == (2, channels, 32, 32)
        assert torch.equal(x, draw(pairs.labels[[3, 0]]))
        mode = bicyclegan.tinytown.mode_of_sample(y, pairs.labels[[3, 0]])
        assert torch.equal(mode, pairs.styles.mode[[3, 0]])
    held_out = bicyclegan.open_pairs("tinytown", config, held_out=True)
    assert not any((held_out.labels[0] == one).all() for one in pairs.labels)


@pytest.mark.parametrize("task", bicyclegan.PRESETS["full"])
def test_real_data_in_its_own_layout_makes_one_step(task, tmp_path, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    plan = bicyclegan.PRESETS["full"][task]
    side, split = bicyclegan.REAL[plan.data]
    generator = np.random.default_rng(0)
    for part in ("train", split):
        (tmp_path / plan.data / part).mkdir(parents=True, exist_ok=True)
        for i in range(3):
            halves = generator.integers(0, 255, (2, 64, 64, 3))
            halves[0 if side == "left" else 1] = 255  # a white condition
            both = np.concatenate(list(halves), axis=1).astype(np.uint8)
            Image.fromarray(both).save(tmp_path / plan.data / part / f"{i}.png")
    narrow = {"width": 1, "critic_width": 2, "encoder_width": 1}
    config = dataclasses.replace(plan.config, **narrow)
    pairs = bicyclegan.open_pairs(plan.data, config)
    assert len(bicyclegan.open_pairs(plan.data, config, held_out=True)) == 3
    batches = bicyclegan.make_batches(pairs, config, 0, torch.device("cpu"))
    x, y = batches(0)
    assert x.shape == (2, config.input_channels, 256, 256)
    assert y.shape == (2, 3, 256, 256)
    assert x.min() == 1
    assert y.min() < 0
    nets = bicyclegan.networks(config)
    state = bicyclegan.make_state(nets, config)
    want = bicyclegan.objective_of("bicyclegan", config)
    terms = bicyclegan.make_step(nets, state.optimizers, batches, want)(0)
    assert all(torch.isfinite(term) for term in terms.values())


def test_full_schedules_are_the_released_ones():
    tasks = bicyclegan.PRESETS["full"]
    expected = {"facades": 40_000, "maps": 109_600, "edges2shoes": 747_360}
    for task, steps in expected.items():
        assert tasks[task].config.steps == tasks[task].config.decay_steps == steps
    assert not tasks["edges2shoes"].config.flip
    assert tasks["edges2handbags"].config.flip


class Exact(nn.Module):
    """Draws one of nine real pictures of the layout, by the code's first number."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x, z):
        uniform = torch.distributions.Normal(0, 1).cdf(z[:, 0])
        style = bicyclegan.tinytown.style_of_mode((9 * uniform).long().clamp(0, 8))
        return bicyclegan.tinytown.render(x.argmax(1), style)


def test_an_exact_sampler_scores_as_one_should():
    labels = bicyclegan.tinytown.layouts(6, 5, 32)
    torch.manual_seed(0)
    x = bicyclegan.tinytown.one_hot(labels)
    y_hat = bicyclegan.answers(Exact(), x, torch.randn(6, 32, 8))
    assert y_hat.shape == (6, 32, 3, 32, 32)
    scores = bicyclegan.town_scores(bicyclegan.make_judge(), y_hat, labels)
    assert scores["right_share"] == 1
    assert 8 <= scores["modes_covered"] <= 9
    assert scores["mode_tv"] < 0.15
    grey = bicyclegan.town_scores(bicyclegan.make_judge(), 0 * y_hat, labels)
    assert grey["modes_covered"] == grey["right_share"] == 0


def test_collapsed_answers_are_noticed():
    labels = bicyclegan.tinytown.layouts(8, 5, 32)
    real = bicyclegan.tinytown.render(labels, bicyclegan.tinytown.style_of_mode(0))
    assert bicyclegan.collapsed_share(real, real) <= 0.25
    assert bicyclegan.collapsed_share(real[:1].expand(8, -1, -1, -1), real) == 1


def test_lpips_diversity_takes_consecutive_samples():
    class Difference(nn.Module):
        def forward(self, a, b):
            return (a - b).abs().mean(dim=(1, 2, 3), keepdim=True)

    y_hat = torch.tensor([0.0, 1.0, 3.0])[None, :, None, None, None].expand(2, -1, 3, 4, 4)
    assert bicyclegan.lpips_diversity(Difference(), y_hat) == pytest.approx(1.5)


def test_what_the_page_says_of_the_study_is_in_its_record():
    records = results.committed("bicyclegan")
    study = [r for r in records if r["preset"] == "study" and not r["overrides"]][-1]["metrics"]
    modes = {name: study[f"modes_covered.{name}"] for name in SIX}
    with_prior = [modes[name] for name in ("cvae_gan", "cvae_gan_pp", "bicyclegan")]
    assert min(with_prior) > 6  # "most of the modes"
    assert max(with_prior) - min(with_prior) < 0.5  # "nothing separates them"
    # the cAE-GAN: diverse and seldom right
    assert study["pairwise_distance.cae_gan"] > 0.7 * study["pairwise_distance.real"]
    assert study["right_share.cae_gan"] < 0.2
    # the cLR-GAN: collapsed
    assert modes["clr_gan"] == 0
    assert study["pairwise_distance.clr_gan"] < 0.01 * study["pairwise_distance.real"]
    # encoders and lengths of the code
    error = {n: study[f"reconstruction_l1.{n}"] for n in ("resnet_all", "resnet_input")}
    assert max(error.values()) < min(study[f"reconstruction_l1.cnn_{n}"] for n in ("all", "input"))
    assert study["modes_covered.latent_2"] > 5.5
    assert study["modes_covered.latent_256"] < 1
    # the latent loss in both networks did no harm
    assert study["latent_error.latent_into_e"] < 1.1 * study["latent_error.complete"]
    assert study["break_distance.latent_into_e"] > 0.9 * study["break_distance.complete"]
