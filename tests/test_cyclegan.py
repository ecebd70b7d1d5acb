import dataclasses

import numpy as np
import pytest
import torch
from faults import plant
from PIL import Image
from torch import nn

from minilib import chapters, training
from minilib.config import ConfigError, resolve

cyclegan = chapters.load("cyclegan")
TINY = dataclasses.replace(cyclegan.SMOKE, width=2, critic_width=2)
CPU = torch.device("cpu")
TERMS = {  # by eq. 3.1 to 3.3, Tables 3.4 and 3.5, and section 3.2.5's baselines
    "cycle_alone": {"forward", "backward"},
    "gan_alone": {"gan"},
    "gan_forward": {"gan", "forward"},
    "gan_backward": {"gan", "backward"},
    "cyclegan": {"gan", "forward", "backward"},
    "cyclegan_identity": {"gan", "forward", "backward", "identity"},
    "identity_l1": {"gan", "still"},
    "feature_gan": {"gan", "features"},
    "pix2pix": {"gan", "pair"},
}


def images(n=2, size=32, seed=0):
    torch.manual_seed(seed)
    return torch.rand(n, 3, size, size) * 2 - 1, torch.rand(n, 3, size, size) * 2 - 1


def setting(module, name, seed=0):
    """Networks, state and objective of a variant, and one batch."""
    torch.manual_seed(seed)
    want = module.objective_of(name, TINY)
    nets = module.networks(TINY, want.pair > 0)
    state = module.make_state(nets, dataclasses.replace(TINY, ema=0.0))
    return nets, state, want, *images()


# Sizes and counts


def test_full_networks_have_the_released_numbers_of_parameters():
    nine = {"to_y": 11_378_179, "to_x": 11_378_179, "critic_y": 2_764_737, "critic_x": 2_764_737}
    for found in chapters.describe("cyclegan", "full"):
        assert found.parameters == nine
    for found in chapters.describe("cyclegan", "small"):
        assert found.parameters == nine | {"to_y": 7_837_699, "to_x": 7_837_699}
    with torch.device("meta"):
        conditional = cyclegan.networks(cyclegan.RELEASED, pairs=True)
    assert chapters.count_parameters(conditional["critic_y"]) == 2_767_809


def test_the_released_layers_stand_where_cut_looks_for_them():
    net = cyclegan.resnet_generator(8, 9)
    kinds = [type(layer).__name__ for layer in net]
    assert kinds[:4] == ["ReflectionPad2d", "Conv2d", "InstanceNorm2d", "ReLU"]
    assert [i for i, kind in enumerate(kinds) if kind == "ResNetBlock"] == list(range(10, 19))
    assert [i for i, kind in enumerate(kinds) if kind == "ConvTranspose2d"] == [19, 22]
    assert kinds[-3:] == ["ReflectionPad2d", "Conv2d", "Tanh"]


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("downs", [0, 1, 2])
def test_translators_keep_the_size(size, downs):
    net = cyclegan.resnet_generator(2, 1, downs, "none")
    assert net(torch.zeros(1, 3, size, size)).shape == (1, 3, size, size)


def test_patches_are_those_that_the_gradient_finds():
    for layers, side in ((3, 70), (2, 34), (1, 16)):
        critic = cyclegan.bicyclegan.patch_critic(3, 2, layers)
        two = cyclegan.bicyclegan.TwoScaleCritic(3, 2, layers)
        assert cyclegan.patch_side(critic) == side
        assert cyclegan.bicyclegan.receptive_field(two, 0) == side


def test_first_weights_are_the_released_ones():
    torch.manual_seed(0)
    net = cyclegan.networks(dataclasses.replace(cyclegan.RELEASED, blocks=1))["to_y"]
    block = net[10].body[1]
    assert block.weight.std().item() == pytest.approx(0.02, rel=0.01)
    assert not block.bias.any()


def test_the_head_start_is_ours_alone_and_costs_no_parameters():
    for preset in ("small", "full"):
        assert not any(plan.config.repaint for plan in cyclegan.PRESETS[preset].values())
    counts = []
    for repaint in (True, False):
        nets = cyclegan.networks(dataclasses.replace(cyclegan.TOY, repaint=repaint))
        counts.append(chapters.count_parameters(nets["to_y"]))
        x, _ = images()
        moved = (nets["to_y"](x) - x).abs().mean()
        assert (moved < 0.1) == repaint
    assert counts[0] == counts[1]


def test_other_sizes_and_variants_are_refused():
    with pytest.raises(ConfigError, match="size"):
        resolve(cyclegan.PRESETS, "toy", "", {"size": 48})
    with pytest.raises(ConfigError, match="did you mean 'gan_forward'"):
        cyclegan.objective_of("gan_foward", TINY)


# Properties that hold here, and that planted faults break


def close(found, expected):
    torch.testing.assert_close(
        torch.as_tensor(found), torch.as_tensor(expected), rtol=1e-5, atol=1e-6
    )


def prop_gan(c):
    """Eq. 3.1 as least squares: G wants ones, summed over both ways; D pays half."""
    a, b = torch.full((2, 1, 3, 3), 0.2), torch.full((2, 1, 3, 3), -0.5)
    close(c.loss_gan(a, b), 0.8**2 + 1.5**2)
    close(c.loss_critic(a, b), 0.5 * (0.8**2 + 0.5**2))


class Constant(nn.Module):
    """Moves every pixel by one learned number."""

    def __init__(self, move):
        super().__init__()
        self.move = nn.Parameter(torch.tensor(float(move)))

    def forward(self, x):
        return x + self.move


def constants():
    return {
        "to_y": Constant(0.5),
        "to_x": Constant(-0.2),
        "critic_y": Constant(0),
        "critic_x": Constant(1),
    }


def prop_closed_form(c):
    """With translators that add 0.5 and -0.2, every term is known."""
    x, y = torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 0.1)
    want = c.Objective(forward=1, backward=1, identity=1, still=1, features=1, pair=1)
    alone = dataclasses.replace(want, pair=0.0)
    terms, _ = c.generator_terms(constants(), x, y, alone, nn.Identity())
    close(terms["forward"], 0.3)
    close(terms["backward"], 0.3)
    close(terms["identity"], 0.5 + 0.2)
    close(terms["still"], 0.5 + 0.2)
    close(terms["features"], 0.5 + 0.2)
    close(terms["gan"], (0.5 - 1) ** 2 + (-0.1 + 1 - 1) ** 2)
    close(c.content_terms(constants(), x, y, x + 0.5, y - 0.2, want)["pair"], 0.4 + 0.1)


def prop_cycles_teach_both(c):
    """Each cycle alone reaches both translators, each in the order of its own direction."""
    for name in ("forward", "backward"):
        nets, (x, y) = constants(), images(size=8)
        want = c.Objective(gan=0.0, **{name: 1.0})
        terms, fakes = c.generator_terms(nets, x, y, want)
        assert not fakes
        c.bicyclegan.weighted_sum(terms, want).backward()
        for net in (nets["to_y"], nets["to_x"]):
            assert net.move.grad is not None
            assert net.move.grad != 0


def prop_variants_have_their_terms(c):
    """One step of each variant computes its terms and moves its networks, no others."""
    for name, expected in TERMS.items():
        nets, state, want, x, y = setting(c, name)
        before = {n: [p.clone() for p in net.parameters()] for n, net in nets.items()}
        step = c.make_step(nets, state, lambda i, x=x, y=y: (x, y), want, nn.Conv2d(3, 4, 3))
        terms = step(0)
        critics = {"critic_y", "critic_x"} if "gan" in expected else set()
        assert set(terms) == expected | critics, name
        moved = {
            n
            for n, net in nets.items()
            if any(not torch.equal(a, p) for a, p in zip(before[n], net.parameters(), strict=True))
        }
        assert moved == {"to_y", "to_x"} | critics, name


def prop_critics_are_not_trained_by_translators(c):
    """The translators' loss leaves no gradient in a critic."""
    nets, _, want, x, y = setting(c, "cyclegan")
    terms, _ = c.generator_terms(nets, x, y, want)
    terms["gan"].backward()
    assert all(p.grad is None for n in ("critic_y", "critic_x") for p in nets[n].parameters())
    assert any(p.grad.abs().sum() > 0 for p in nets["to_y"].parameters())


def prop_each_critic_sees_its_domain(c):
    """D_Y gets translations from X and real ones of Y; with pairs, the inputs as well."""
    x, y = images(size=8)
    _, fakes = c.generator_terms(constants(), x, y, c.Objective())
    close(fakes["critic_y"], x + 0.5)
    close(fakes["critic_x"], y - 0.2)
    close(c.seen(y, x, c.Objective(pair=1.0)), torch.cat([x, y], dim=1))
    seen = {}
    for name in ("critic_y", "critic_x"):
        nets, state, want, x, y = setting(c, "gan_alone")
        nets[name].register_forward_pre_hook(lambda m, a, n=name: seen.update({n: a[0]}))
        c.make_step(nets, state, lambda i, x=x, y=y: (x, y), want)(0)
    close(seen["critic_y"][:2], y)
    close(seen["critic_x"][:2], x)


def prop_pool(c):
    """Fills up first; then shows new ones half of the time, and old ones once at most."""
    torch.manual_seed(0)
    pool = c.ImagePool(10)
    fed = torch.arange(1000.0).view(-1, 1, 1, 1)
    shown = torch.cat([pool(part) for part in fed.split(4)])
    assert torch.equal(shown[:10], fed[:10])
    now = (shown == fed).flatten()[10:].float().mean()
    assert 0.44 < now < 0.56
    later = shown[10:][(shown != fed)[10:]]
    assert len(later.unique()) == len(later)  # what was swapped out does not come back
    assert len(pool.kept) == 10
    assert torch.equal(c.ImagePool(0)(fed), fed)


def prop_pool_lets_no_gradient_through(c):
    """What is kept is detached and a copy."""
    image = torch.ones(1, 1, 2, 2, requires_grad=True)
    pool = c.ImagePool(3)
    shown = pool(image * 2)
    assert not shown.requires_grad
    fed = torch.ones(1, 1, 2, 2)
    pool(fed)
    fed.zero_()
    assert pool.kept[1].min() == 1


def prop_rate_at_each_epoch(c):
    """1 for 100 epochs, then 1 - k / 101: the released schedule, never 0."""
    config = dataclasses.replace(c.RELEASED, epoch_steps=7)
    factor = c.rate_factor(config)
    for epoch in range(200):
        expected = 1 - max(0, epoch + 1 - 100) / 101
        for step in (7 * epoch, 7 * epoch + 6):
            assert factor(step) == pytest.approx(expected)
    assert factor(7 * 200 - 1) > 0


def prop_scores(c):
    """The truth is right in every respect; the input is the same street in the wrong season."""
    x = c.TownSeason(8, 3, 32, "summer")
    wanted = c.Counterparts(x, "winter")
    judge = c.bicyclegan.make_judge()
    truth = c.town_scores(judge, wanted.y, wanted)
    assert truth["season_accuracy"] == truth["time_kept"] == 1
    assert truth["counterpart_l1"] == 0
    nothing = c.town_scores(judge, x.y, wanted)
    assert nothing["season_accuracy"] == 0
    assert nothing["counterpart_l1"] > 0.1
    close(c.tint_change(x.y, x.y + 0.3), 0.3)
    close(c.tint_gap(x.y, x.y.flip(0)[:4].repeat(2, 1, 1, 1)), c.tint_gap(x.y, x.y[4:]))
    close(c.tint_gap(x.y, x.y.flip(0) + 0.3), 0.3)


def prop_batches_are_unpaired(c):
    """Two domains of the same scenes come in different orders, unless pairs are asked for."""
    x = c.TownSeason(24, 3, 32, "summer")
    y = c.Counterparts(x, "winter")
    for pairs in (False, True):
        batches = c.make_batches(x, y, TINY, 0, CPU, pairs)
        same = []
        for i in range(6):
            a, b = (
                ((t[:, None] - d.y[None]).abs().flatten(2).sum(2)).argmin(1)
                for t, d in zip(batches(i), (x, y), strict=True)
            )
            same.append((a == b).float().mean())
        assert (torch.stack(same).mean() == 1) == pairs


def prop_head_start(c):
    """A tenth of the first weights, and a change that is added in front of the tanh."""
    x, _ = images(size=8)
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Tanh())
    weight = net[0].weight.detach().clone()
    made = c.Repainter(net)
    close(made.change[0].weight, 0.1 * weight)
    nn.init.zeros_(made.change[0].weight)
    nn.init.constant_(made.change[0].bias, 0.5)
    odds = (1 + 0.98 * x) / (1 - 0.98 * x) * torch.e  # tanh(0.5 log odds), odds times e^(2 h)
    close(made(x), (odds - 1) / (odds + 1))
    corners = torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert torch.isfinite(made(corners)).all()


PROPERTIES = {name: value for name, value in globals().items() if name.startswith("prop_")}
FAULTS = {  # (what stands in the chapter, what a fault makes of it): the property that notices
    ("return 0.5 * bicyclegan.loss_gan_disc", "return bicyclegan.loss_gan_disc"): "prop_gan",
    ("([real], [fake])", "([fake], [real])"): "prop_gan",
    ("loss_same(x, to_x(y_hat))", "loss_same(y, to_x(y_hat))"): "prop_closed_form",
    ("loss_same(y, to_y(x_hat))", "loss_same(y, to_x(x_hat))"): "prop_closed_form",
    (
        "loss_same(y, to_y(y)) + loss_same(x, to_x(x))",
        "loss_same(y, to_x(y)) + loss_same(x, to_x(x))",
    ): "prop_closed_form",
    (
        "loss_same(y, y_hat) + loss_same(x, x_hat)",
        "loss_same(x, y_hat) + loss_same(x, x_hat)",
    ): "prop_closed_form",
    ("loss_same(x, to_x(y_hat))", "loss_same(x, to_x(y_hat.detach()))"): "prop_cycles_teach_both",
    (
        'terms["backward"] = loss_same(y, to_y(x_hat))',
        'terms["backward"] = loss_same(y, to_y(x_hat)).detach().requires_grad_()',
    ): "prop_cycles_teach_both",
    ("dataclasses.replace(full, gan=0.0)", "full"): "prop_variants_have_their_terms",
    (
        '"gan_forward": Objective(forward=cycle)',
        '"gan_forward": Objective(backward=cycle)',
    ): "prop_variants_have_their_terms",
    (
        "loss_gan(*(bicyclegan.frozen(nets[n], fake)",
        "loss_gan(*(nets[n](fake)",
    ): "prop_critics_are_not_trained_by_translators",
    (
        '{"critic_y": seen(y, x, want), "critic_x": seen(x, y, want)}',
        '{"critic_y": seen(x, y, want), "critic_x": seen(y, x, want)}',
    ): "prop_each_critic_sees_its_domain",
    (
        "torch.cat([given, answer], dim=1)",
        "torch.cat([answer, given], dim=1)",
    ): "prop_each_critic_sees_its_domain",
    ("atanh(0.98 * x) + self", "atanh(0.98 * x) - self"): "prop_head_start",
    ("weight.mul_(first)", "weight.mul_(1)"): "prop_head_start",
    ("torch.atanh(0.98 * x)", "torch.atanh(x)"): "prop_head_start",
    ("torch.rand(()) < 0.5", "torch.rand(()) < 0.2"): "prop_pool",
    (
        "old, self.kept[place] = self.kept[place], image.clone()",
        "old = self.kept[place]",
    ): "prop_pool",
    ("for image in fresh.detach()]", "for image in fresh]"): "prop_pool_lets_no_gradient_through",
    (
        "self.kept.append(image.clone())",
        "self.kept.append(image)",
    ): "prop_pool_lets_no_gradient_through",
    ("by_epoch(step // config.epoch_steps)", "by_epoch(step)"): "prop_rate_at_each_epoch",
    ("(mode % 3 == wanted.season)", "(mode // 3 == wanted.season)"): "prop_scores",
    ("y.mean((0, 2, 3))", "y[:1].mean((0, 2, 3))"): "prop_scores",
    ("seed if pairs else seed + 1_000_003", "seed"): "prop_batches_are_unpaired",
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name):
    PROPERTIES[name](cyclegan)


@pytest.mark.parametrize(("fault", "name"), FAULTS.items(), ids=lambda v: str(v)[:50])
def test_planted_faults_are_noticed(fault, name):
    faulty = plant("cyclegan", *fault)
    with pytest.raises(AssertionError):
        PROPERTIES[name](faulty)


# Data and training


def test_training_resumes_with_pools_rates_and_optimisers(tmp_path):
    config = dataclasses.replace(TINY, epoch_steps=2, epochs=1, decay_epochs=2, pool=3, ema=0.9)
    domains = cyclegan.open_domains("tinytown", "", config)

    def fit(folder, steps, resume=False):
        torch.manual_seed(0)
        nets = cyclegan.networks(config)
        state = cyclegan.make_state(nets, config)
        batches = cyclegan.make_batches(*domains, config, 0, CPU)
        step = cyclegan.make_step(nets, state, batches, cyclegan.objective_of("cyclegan", config))
        training.fit(step, state, steps, folder=folder, seed=0, identity="t", resume=resume)
        pools = [image for pool in state.extras.values() for image in pool.kept]
        rates = [group["lr"] for o in state.optimizers.values() for group in o.param_groups]
        moments = [s["exp_avg"] for o in state.optimizers.values() for s in o.state.values()]
        return [p for n in nets.values() for p in n.parameters()] + pools + moments, rates

    whole, rates = fit(tmp_path / "a", 6)
    fit(tmp_path / "b", 3)
    again, same_rates = fit(tmp_path / "b", 6, resume=True)
    assert rates == same_rates
    assert rates[0] < 0.5 * config.rate
    assert len(whole) == len(again)
    for p, q in zip(whole, again, strict=True):
        assert torch.equal(p, q)


def test_town_seasons_and_their_counterparts():
    x = cyclegan.TownSeason(12, 3, 32, "summer", ("day", "night"))
    assert set(x.styles.season.tolist()) == {0}
    assert set(x.styles.time.tolist()) == {0, 2}
    y = cyclegan.Counterparts(x, "winter")
    assert set(y.styles.season.tolist()) == {2}
    assert torch.equal(y.styles.time, x.styles.time)
    assert torch.equal(y.styles.roof_hue, x.styles.roof_hue)
    assert torch.equal(y.labels, x.labels)
    turned = cyclegan.TownSeason(12, 3, 32, "summer", ("day", "night"), upside_down=True)
    assert torch.equal(turned.y.flip(2), x.y)
    assert torch.equal(turned.labels.flip(1), x.labels)
    for wrong in (("sumer", ("day",)), ("summer", ("noon",))):
        with pytest.raises(ConfigError, match="unknown"):
            cyclegan.TownSeason(2, 0, 32, *wrong)


def test_domains_share_no_street_and_only_some_have_pairs():
    for held_out in (False, True):
        x, y = cyclegan.open_domains("tinytown", "", TINY, held_out)
        assert not any((x.labels[i] == y.labels).flatten(1).all(1).any() for i in range(len(x)))
    a, b = cyclegan.paired(x, y)
    assert torch.equal(a.labels, b.labels)
    with pytest.raises(ConfigError, match="has none"):
        cyclegan.paired([1, 2], [3])


def write(path, colour, size=(40, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), colour, np.uint8)
    Image.fromarray(pixels).save(path)


def tree(root, name):
    """Three dark images of X and three bright ones of Y per split, in a data set's own layout."""
    if name in cyclegan.IN_PAIRS:
        side, test = cyclegan.IN_PAIRS[name]
        for split in ("train", test):
            for i in range(3):
                left = np.full((40, 40, 3), 20 if side == "left" else 230, np.uint8)
                both = np.concatenate([left, 250 - left], axis=1)
                (root / name / split).mkdir(parents=True, exist_ok=True)
                Image.fromarray(both).save(root / name / split / f"{i}.png")
    elif name == "natural_scenes":
        tags = ["image", "desert", "mountain", "sea", "sunset", "trees"]
        rows = [",".join(tags)]
        for i in range(60):
            on = ("sea", "sunset", "mountain", "desert")[i % 4]
            rows.append(",".join([str(i), *(str(int(t == on)) for t in tags[1:])]))
            write(root / name / "train" / f"{i}.jpg", 20 if i % 4 in (0, 2) else 230)
        (root / name / "train.csv").write_text("\n".join(rows) + "\n")
    else:
        names = {"gtFine": "a/{}_gtFine_color.png", "leftImg8bit": "a/{}_leftImg8bit.png"}
        for domains in cyclegan.FOLDERS[name].values():
            for (folder, pattern), colour in zip(domains, (20, 230), strict=True):
                form = names.get(folder.split("/")[0], "{}.jpg")
                if name == "camvid":
                    form = pattern.replace("??[RE]*", "06R0_f{}.jpg").replace("*", "{}.jpg")
                for i in range(3):
                    write(root / name / folder / form.format(i), colour)


REAL = [(p, t) for p in ("small", "full") for t in cyclegan.PRESETS[p]]


@pytest.mark.parametrize(("preset", "task"), REAL)
def test_real_data_in_its_own_layout_makes_one_step(preset, task, tmp_path, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    plan = cyclegan.PRESETS[preset][task]
    tree(tmp_path, plan.data)
    config = dataclasses.replace(plan.config, width=1, critic_width=1, blocks=1, batch=1)
    for held_out in (True, False):
        x_set, y_set = cyclegan.open_domains(plan.data, task, config, held_out)
        batches = cyclegan.make_batches(x_set, y_set, config, 0, CPU)
        if not held_out:
            x, y = batches(0)
            assert x.shape == y.shape == (1, 3, config.size, config.size)
            assert x.mean() < -0.5
            assert y.mean() > 0.5
    want = cyclegan.objective_of(config.variants[0], config)
    nets = cyclegan.networks(config)
    state = cyclegan.make_state(nets, config)
    terms = cyclegan.make_step(nets, state, batches, want)(0)
    assert all(torch.isfinite(term) for term in terms.values())


def test_natural_scenes_are_split_without_overlap(tmp_path, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    tree(tmp_path, "natural_scenes")
    sets = [cyclegan.tagged("sea2sunset", held) for held in (False, True)]
    files = [path for two in sets for one in two for path in one]
    assert len(files) == len(set(files)) == 30
    assert [len(one) for one in sets[1]] == [1, 1]


def test_full_schedules_are_the_released_ones():
    for task, images_per_epoch in (("horse2zebra", 1334), ("maps", 1096), ("monet2photo", 6287)):
        config = cyclegan.PRESETS["full"][task].config
        assert config.batch == 1
        assert config.epoch_steps == images_per_epoch
        assert config.epochs == config.decay_epochs == 100
