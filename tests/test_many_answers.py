import dataclasses
import itertools

import pytest
import torch
from torch import nn

from minilib import chapters, metrics, sample_metrics, tinytown
from minilib.config import ConfigError, resolve

ma = chapters.load("many_answers")
SMALL = dataclasses.replace(
    ma.Config(), inputs=9, answers=16, best_of=4, set_size=150, repetitions=3
)  # fmt: skip


@pytest.fixture(scope="module")
def tests():
    return ma.make_tests(SMALL.inputs, SMALL.set_size, SMALL.size, seed=0)


@pytest.fixture
def clouds():
    torch.manual_seed(0)
    return torch.randn(40, 3), 0.3 + 0.7 * torch.randn(30, 3)


def modes_of(y_hat, x):
    """The mode of every answer (N, K)."""
    n, k = y_hat.shape[:2]
    return tinytown.mode_of_sample(y_hat.flatten(0, 1), x.repeat_interleave(k, 0)).view(n, k)


# --- measures of sets: against their definitions, one loop per index ------------------------------


def radius(points, i, k):
    """Distance from point i to its k-th nearest other point."""
    return sorted((points[i] - p).norm().item() for j, p in enumerate(points) if j != i)[k - 1]


def within(centres, points, k):
    """(C, P) bool: point p lies in centre c's neighbourhood."""
    reach = [radius(centres, i, k) for i in range(len(centres))]
    return torch.tensor(
        [[(c - p).norm().item() < r for p in points] for c, r in zip(centres, reach, strict=True)]
    )


@pytest.mark.parametrize("k", [1, 5])
def test_precision_recall_density_coverage_are_their_definitions(clouds, k):
    fake, real = clouds
    in_real, in_fake = within(real, fake, k), within(fake, real, k)
    precision, recall = sample_metrics.precision_recall(fake, real, k)
    assert precision == pytest.approx(in_real.any(0).float().mean().item(), abs=1e-6)
    assert recall == pytest.approx(in_fake.any(0).float().mean().item(), abs=1e-6)
    density, coverage = sample_metrics.density_coverage(fake, real, k)
    assert density == pytest.approx(in_real.sum(0).float().mean().item() / k, abs=1e-6)
    assert coverage == pytest.approx(in_real.any(1).float().mean().item(), abs=1e-6)


def test_swapped_sets_are_caught(clouds):
    fake, real = clouds
    forwards = sample_metrics.precision_recall(fake, real, 3)
    assert forwards != sample_metrics.precision_recall(real, fake, 3)
    assert forwards == sample_metrics.precision_recall(real, fake, 3)[::-1]
    narrow = sample_metrics.density_coverage(real[:6], real, 3)
    assert narrow[1] < 1 == sample_metrics.density_coverage(real, real[:6], 3)[1]


def test_frechet_distance_of_normals_is_its_closed_form():
    torch.manual_seed(0)
    real = torch.randn(500, 4)
    shift = torch.tensor([1.0, -2.0, 0.0, 0.5])
    assert sample_metrics.frechet_distance(real, real) == pytest.approx(0, abs=1e-6)
    assert sample_metrics.frechet_distance(real + shift, real) == pytest.approx(5.25, rel=1e-5)
    variance = real.double().var(0).sum().item()  # twice as wide: tr(4C + C - 2 * 2C) = tr C
    centred = real - real.mean(0)
    assert sample_metrics.frechet_distance(2 * centred, centred) == pytest.approx(
        variance, rel=1e-5
    )


def test_kernel_distance_is_the_unbiased_estimate():
    torch.manual_seed(0)
    fake, real = torch.randn(7, 3).double(), 1 + torch.randn(7, 3).double()

    def kernel(a, b):
        return (float(a @ b) / 3 + 1) ** 3

    pairs = list(itertools.permutations(range(7), 2))
    own = sum(kernel(s[i], s[j]) for s in (fake, real) for i, j in pairs) / len(pairs)
    across = sum(kernel(a, b) for a in fake for b in real) / 49
    assert sample_metrics.kernel_distance(fake, real) == pytest.approx(own - 2 * across, rel=1e-9)


def test_colour_features_are_means_of_squares():
    images = torch.rand(2, 3, 32, 48)
    features = sample_metrics.colour_features(images, side=8).view(2, 3, 8, 8)
    expected = images[1, 2, 4:8, 12:18].mean()
    torch.testing.assert_close(features[1, 2, 1, 2], expected)
    with pytest.raises(ValueError, match="images of 30x48 cannot be cut into 8x8 squares"):
        sample_metrics.colour_features(images[:, :, :30])


def test_set_measures_refuse_what_does_not_belong_together():
    a = torch.randn(8, 3)
    for measure in (sample_metrics.frechet_distance, sample_metrics.kernel_distance):
        with pytest.raises(ValueError, match=r"not \(8, 3\) and \(8, 2\)"):
            measure(a, a[:, :2])
    for measure in (sample_metrics.precision_recall, sample_metrics.density_coverage):
        with pytest.raises(ValueError, match="5 pictures are too few: at least 6"):
            measure(a, a[:5])
        with pytest.raises(ValueError, match="features want shapes"):
            measure(a[0], a)


# --- regression ----------------------------------------------------------------------------------


def test_regression_ends_at_mean_and_median():
    torch.manual_seed(0)
    values = torch.randn(9)
    c = torch.linspace(-4, 4, 8001)
    for power, wanted in ((2, values.mean()), (1, values.median())):
        found = c[ma.expected_loss(values, c, power).argmin()]
        assert found.item() == pytest.approx(wanted.item(), abs=1e-3)
    assert not torch.isclose(values.mean(), values.median(), atol=0.01)


def test_the_losses_are_pytorchs():
    torch.manual_seed(0)
    y_hat, y = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(ma.l1(y_hat, y), nn.functional.l1_loss(y_hat, y))
    torch.testing.assert_close(ma.l2(y_hat, y), nn.functional.mse_loss(y_hat, y))


def test_the_regressor_sees_x_and_z():
    torch.manual_seed(0)
    net = ma.networks(SMALL)["regressor"]
    x, z = tinytown.layouts(2, seed=0, size=32), torch.randn(2, SMALL.latent)
    y_hat = net(x, z)
    assert y_hat.shape == (2, 3, 32, 32)
    assert y_hat.abs().max() <= 1
    assert not torch.equal(net(x.flip(0), z), y_hat)
    assert not torch.equal(net(x, z.flip(0)), y_hat)


def test_the_hand_made_generator_gives_every_mode_its_share():
    x = tinytown.layouts(1, seed=3, size=32)
    torch.manual_seed(0)
    drawn = ma.by_hand(x.expand(1800, -1, -1), torch.randn(1800, 2))
    mode = modes_of(drawn[None], x)
    assert metrics.mode_total_variation(mode, torch.full((9,), 1 / 9)) < 0.06
    corner = ma.by_hand(x, torch.tensor([[2.0, -2.0]]))  # third season, first time of day
    assert tinytown.MODE_NAMES[modes_of(corner[None], x).item()] == "winter day"


# --- faults --------------------------------------------------------------------------------------


def test_faults_are_what_they_are_called(tests):
    x, y = tests.x, tests.y
    answers = {name: sampler(x, y, 16, 3) for name, (_, sampler) in ma.FAULTS.items()}
    assert all(y_hat.shape == (9, 16, 3, 32, 32) for y_hat in answers.values())
    mode = {name: modes_of(y_hat, x) for name, y_hat in answers.items()}
    assert (mode["collapse"] == 0).all()
    assert set(mode["dropped"].flatten().tolist()) == set(range(8))
    assert set(mode["noise"].flatten().tolist()) == {-1}
    assert set(mode["average"].flatten().tolist()) == {-1}
    assert torch.equal(mode["copy"], torch.arange(9)[:, None].expand(-1, 16))
    assert torch.equal(answers["copy"][:, 7], y)
    assert set(modes_of(ma.exact(x, y, 32, 3), x).flatten().tolist()) == set(range(9))


def test_ignored_input_answers_another_street(tests):
    y_hat = ma.ignored(tests.x, tests.y, 8, 1)
    assert (modes_of(y_hat, tests.x) >= 0).float().mean() < 0.05
    seen = tinytown.read_layout(y_hat.flatten(0, 1)).view(9, 8, 1, 32, 32)
    agree = (seen == tests.x).float().mean((3, 4))  # (9, 8, 9): with every street
    assert (agree.argmax(2) != torch.arange(9)[:, None]).all()
    assert (agree.amax(2) > 0.9).all()


def test_samplers_follow_their_seed(tests):
    for _, sampler in [("", ma.exact), *ma.FAULTS.values()]:
        one, same = (sampler(tests.x, tests.y, 2, 5) for _ in range(2))
        assert torch.equal(one, same)
    for sampler in (ma.exact, ma.collapse, ma.dropped, ma.ignored, ma.noise):
        other = sampler(tests.x, tests.y, 2, 6)
        assert not torch.equal(sampler(tests.x, tests.y, 2, 5), other)


# --- the rule ------------------------------------------------------------------------------------


def test_a_deviation_is_positive_when_worse():
    exact = torch.tensor([1.0, 2.0, 3.0])  # mean 2, standard deviation 1
    assert ma.deviation(7.0, exact, "low") == pytest.approx(5)
    assert ma.deviation(7.0, exact, "high") == pytest.approx(-5)
    assert ma.deviation(1.0, torch.tensor([1.0, 1.0]), "high") == 0
    assert ma.deviation(0.99, torch.tensor([1.0, 1.0]), "high") > 1000  # chance cannot explain it


def test_the_rule_has_three_outcomes():
    said = [ma.verdict(t, 4.0) for t in (4.1, 4.0, 0.0, -4.0, -4.1)]
    assert said == ["notices", "misses", "misses", "misses", "praises"]


def test_a_rule_that_cries_wolf_is_caught():
    torch.manual_seed(0)
    values = torch.randn(200)
    assert ma.false_alarms(values, "low", 4.0) == 0
    assert ma.false_alarms(values, "low", 1.0) > 20
    assert ma.false_alarms(torch.cat([values, torch.tensor([9.0])]), "high", 4.0) == 1


# --- measures on faults --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged(tests):
    """{sampler: {measure: verdict}} on small tests, and the exact sampler's values."""
    repeated = [ma.measure(ma.exact, tests, 100 + 10 * i, SMALL) for i in range(6)]
    chance = {m: torch.tensor([r[m] for r in repeated]) for m in ma.MEASURES}
    said = {}
    for name, sampler in {"exact": ma.exact, **{f: s for f, (_, s) in ma.FAULTS.items()}}.items():
        found = ma.measure(sampler, tests, 50, SMALL)
        t = {m: ma.deviation(found[m], chance[m], ma.MEASURES[m].better) for m in ma.MEASURES}
        said[name] = {m: ma.verdict(t[m], 10.0) for m in t}  # wide: six repetitions are few
    return said, chance


def test_every_measure_has_a_row(judged):
    said, chance = judged
    assert len(ma.MEASURES) >= 8
    assert len(ma.FAULTS) >= 5
    assert all(set(row) == set(ma.MEASURES) for row in said.values())
    assert set(said["exact"].values()) == {"misses"}
    assert chance["modes"].mean() == pytest.approx(9 * (1 - (8 / 9) ** 16), abs=0.4)


def test_the_blind_spots_that_the_text_names(judged):
    said, _ = judged
    for m in ("precision", "recall", "density", "coverage", "frechet", "kernel"):
        assert said["ignored"][m] != "notices"
        assert said["copy"][m] != "notices"
    for m in ("precision", "density"):
        assert said["collapse"][m] != "notices"
    assert said["noise"]["pairwise"] != "notices"
    assert said["average"]["error"] != "notices"
    assert said["copy"]["best_of"] != "notices"


def test_what_a_measure_must_notice(judged):
    said, _ = judged
    assert all(said[f]["layout"] == "notices" for f in ("ignored", "noise", "average"))
    assert all(said[f]["pairwise"] == "notices" for f in ("collapse", "copy", "average"))
    assert all(said["collapse"][m] == "notices" for m in ("recall", "coverage", "frechet"))
    assert all(said["noise"][m] == "notices" for m in ("precision", "coverage"))
    lost = [f for f in ma.FAULTS if f != "dropped"]
    assert all(said[f]["modes"] == "notices" for f in lost)


def test_best_of_looks_at_the_first_answers_only(tests):
    y_hat = ma.exact(tests.x, tests.y, 4, 1).clone()
    y_hat[:, 3] = tests.y
    found = [ma.measure_answers(tests.x, tests.y, y_hat, k)["best_of"] for k in (3, 4)]
    assert found[1] == 0 < found[0]


def test_the_table_shows_what_was_measured(judged):
    _, chance = judged
    found = {f: dict.fromkeys(ma.MEASURES, 0.25) for f in ma.FAULTS}
    t = {f: dict.fromkeys(ma.MEASURES, 0.0) for f in ma.FAULTS}
    t["copy"]["recall"], t["noise"]["recall"] = 5.0, -5.0
    table = ma.fault_table(found, t, chance, 4.0)
    row = dict(zip(table.header, table.body[list(ma.MEASURES).index("recall")], strict=True))
    assert (row["one perfect copy"], row["noise without meaning"]) == ("0.25 ●", "0.25 ▲")
    assert row["a dropped mode"] == "0.25 ○"


# --- explorer and presets ------------------------------------------------------------------------


def test_the_panel_changes_with_samples_and_measures(tests):
    y_hat = ma.exact(tests.x[:1], tests.y[:1], 7, 0)[0]
    t = dict.fromkeys(ma.MEASURES, 0.0)
    before = ma.panel(tests.x[0], y_hat, t, 4.0)
    assert before.shape == (3, 691, 460)
    assert before.min() >= -1
    assert before.max() <= 1
    half = before.shape[1] // 3
    bars = ma.panel(tests.x[0], y_hat, t | {"recall": 9.0}, 4.0)
    assert torch.equal(bars[:, :half], before[:, :half])
    assert not torch.equal(bars[:, half:], before[:, half:])
    other = ma.panel(tests.x[0], y_hat.flip(0), t, 4.0)
    assert not torch.equal(other[:, :half], before[:, :half])
    assert torch.equal(other[:, half:], before[:, half:])


def test_presets():
    for preset in ma.PRESETS:
        _, plan = resolve(ma.PRESETS, preset)
        assert plan.data == "tinytown"
        assert plan.config.inputs % 9 == 0  # every mode is shown equally often
    with pytest.raises(ConfigError, match=r"unknown override 'repetition': did you mean"):
        resolve(ma.PRESETS, "toy", overrides={"repetition": 3})
