import dataclasses
import math
import warnings

import pytest
import torch
from skimage.measure import moments_central
from torch import nn

from minilib import chapters

cinn = chapters.load("cinn")


def flow_of(features, conditions=10, blocks=4, seed=0, **options):
    """A flow in float64 whose last layers are not zero, so that it is not the identity."""
    torch.manual_seed(seed)
    options = {"clamp": 1.5, "width": 24, "depth": 1, "dropout": 0.0, **options}
    flow = cinn.ConditionalINN(features, conditions, blocks, **options).double()
    for p in flow.parameters():
        nn.init.normal_(p, std=0.2)
    return flow


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return torch.randn(5, 9).double(), cinn.one_hot(torch.arange(5)).double()


def test_the_inverse_undoes_the_flow_both_ways(batch):
    y, x = batch
    flow = flow_of(9)
    z, _ = flow(y, x)
    assert (z - y).abs().max() > 0.1
    torch.testing.assert_close(flow.inverse(z, x), y, rtol=0, atol=1e-10)
    torch.testing.assert_close(flow(flow.inverse(y, x), x)[0], y, rtol=0, atol=1e-10)


def test_the_log_determinant_is_that_of_autograds_jacobian(batch):
    y, x = batch
    flow = flow_of(9)
    _, log_det = flow(y, x)
    for i in range(len(y)):
        jacobian = torch.autograd.functional.jacobian(
            lambda u, i=i: flow(u[None], x[i : i + 1])[0][0], y[i]
        )
        assert abs(jacobian.slogdet().logabsdet - log_det[i]) < 1e-6


def test_the_density_integrates_to_one():
    flow = flow_of(2, blocks=2)
    x = cinn.one_hot(torch.tensor([4])).double()
    line = torch.linspace(-12, 12, 801, dtype=torch.float64)
    y = torch.cartesian_prod(line, line)
    z, log_det = flow(y, x.expand(len(y), -1))
    density = torch.exp(log_det - 0.5 * z.square().sum(dim=1)) / (2 * math.pi)
    assert abs(density.sum() * (line[1] - line[0]) ** 2 - 1) < 1e-3


def test_the_condition_reaches_every_block(batch):
    y, x = batch
    flow = flow_of(9)
    other = x.roll(1, dims=1)
    for coupling in flow.couplings:
        assert not torch.allclose(coupling(y, x)[0], coupling(y, other)[0])


def test_every_pixel_reaches_every_latent(batch):
    y, x = batch
    flow = flow_of(9)
    jacobian = torch.autograd.functional.jacobian(lambda u: flow(u[None], x[:1])[0][0], y[0])
    assert (jacobian.abs() > 1e-9).all()


def test_the_loss_is_the_negative_log_density_of_a_normal():
    z, log_det = torch.randn(7, 5).double(), torch.randn(7).double()
    normal = torch.distributions.Normal(torch.zeros(5).double(), 1.0)
    expected = -(normal.log_prob(z).sum(dim=1) + log_det).mean()
    constant = 0.5 * 5 * math.log(2 * math.pi)
    torch.testing.assert_close(cinn.negative_log_likelihood(z, log_det) + constant, expected)
    nats = cinn.negative_log_likelihood(z, log_det).item()
    assert cinn.bits_per_dim(nats, 5) == pytest.approx(expected.item() / 5 / math.log(2))


def test_the_soft_clamp_is_bounded_and_flat_at_zero():
    s = torch.linspace(-1e4, 1e4, 10001).double()
    assert cinn.soft_clamp(s, 1.9).abs().max() < 1.9
    small = torch.linspace(-1e-3, 1e-3, 11).double()
    expected = 0.636 * small
    torch.testing.assert_close(cinn.soft_clamp(small, 1.9), expected, rtol=1e-5, atol=0)


def test_a_fresh_flow_is_a_permutation():
    config = dataclasses.replace(cinn.TOY, blocks=3)
    flow = cinn.networks(config)["cinn"]
    y = torch.rand(4, 64)
    z, log_det = flow.eval()(y, cinn.one_hot(torch.arange(4)))
    assert torch.equal(z.sort(dim=1).values, y.sort(dim=1).values)
    assert (log_det == 0).all()


def test_initialisation_follows_the_released_code():
    net = cinn.subnetwork(400, 50, 512, 2, 0.0, init_std=0.03)
    assert net[0].weight.std().item() == pytest.approx(0.03, rel=0.02)
    assert net[0].bias.std().item() == pytest.approx(0.03, rel=0.2)
    assert not net[-1].weight.any()
    assert not net[-1].bias.any()


def test_the_gaussian_baseline_scores_like_scipy():
    from scipy.stats import multivariate_normal

    torch.manual_seed(0)
    y, labels = torch.randn(300, 3), torch.arange(300) % 10
    normals = cinn.fit_gaussians(y, labels, noise=0.1)
    expected = 0.0
    for c in range(10):
        mine = y[labels == c].double().numpy()
        covariance = torch.cov(y[labels == c].double().T).numpy() + 0.01 * torch.eye(3).numpy()
        expected -= multivariate_normal(mine.mean(0), covariance).logpdf(mine).sum()
    assert cinn.gaussian_nll(normals, y, labels) == pytest.approx(expected / 300)


def test_training_steps_lower_the_loss_and_are_reproducible(tmp_path):
    config = dataclasses.replace(cinn.TOY, blocks=3, width=32, steps=30)
    torch.manual_seed(0)
    y = torch.rand(200, 1).expand(-1, 64) * 0.5 + 0.1 * torch.rand(200, 64)
    x = cinn.one_hot(torch.arange(200) % 10)
    ends = []
    for name in "ab":
        torch.manual_seed(3)
        flow = cinn.networks(config)["cinn"]
        state = cinn.make_state(flow, config)
        step = cinn.make_step(flow, state.optimizers["cinn"], y, x, config, 0)
        fitted = cinn.training.fit(step, state, 30, folder=tmp_path / name, seed=0, identity="t")
        ends.append(fitted.history["nll"])
    assert ends[0] == ends[1]
    assert sum(ends[0][-5:]) < sum(ends[0][:5])


def test_our_flow_equals_frei_a_on_equal_weights():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        framework = pytest.importorskip("FrEIA.framework")
        modules = pytest.importorskip("FrEIA.modules")

    flow = flow_of(10, blocks=3, clamp=1.0)  # at alpha = 1 both clamps are the same function
    copies = iter([net for c in flow.couplings for net in (c.subnet2, c.subnet1)])
    theirs = framework.SequenceINN(10)

    def constructor(inputs, outputs):
        return nn.Sequential(nn.Linear(inputs, 24), nn.ReLU(), nn.Linear(24, outputs))

    coupling = {"cond": 0, "cond_shape": (10,), "clamp": 1.0, "subnet_constructor": constructor}
    for _ in flow.couplings:
        theirs.append(modules.PermuteRandom, seed=0)
        theirs.append(modules.GLOWCouplingBlock, **coupling)
    theirs = theirs.double()
    for i in range(3):
        permute, couple = theirs[2 * i], theirs[2 * i + 1]
        permute.perm.data = flow.orders[i].clone()
        permute.perm_inv.data = flow.inverse_orders[i].clone()
        couple.subnet2.load_state_dict(next(copies).state_dict())
        couple.subnet1.load_state_dict(next(copies).state_dict())
    torch.manual_seed(2)
    y, x = torch.randn(6, 10).double(), cinn.one_hot(torch.arange(6)).double()
    z, log_det = flow(y, x)
    their_z, their_log_det = theirs(y, c=[x])
    torch.testing.assert_close(z, their_z, rtol=0, atol=1e-9)
    torch.testing.assert_close(log_det, their_log_det, rtol=0, atol=1e-9)
    torch.testing.assert_close(flow.inverse(z, x), theirs(z, c=[x], rev=True)[0], rtol=0, atol=1e-9)


def ink(size=16):
    """An upright bar, a bit wider than one pixel, and what it becomes: a picture (1, size^2)."""
    y = torch.zeros(size, size)
    y[3:13, 7:9] = 0.8
    return y


def test_the_moments_are_skimages():
    torch.manual_seed(0)
    pictures = torch.rand(6, 10, 10) ** 3
    found = cinn.moments(pictures.flatten(1), 10)
    for picture, (width, thickness, slant) in zip(pictures, found.tolist(), strict=True):
        m = moments_central(picture.numpy())
        rr, cc, rc = (m[order] / m[0, 0] for order in ((2, 0), (0, 2), (1, 1)))
        assert slant == pytest.approx(rc / rr, rel=1e-3, abs=1e-5)
        assert width == pytest.approx(math.sqrt(cc - rc**2 / rr), rel=1e-3)
        assert thickness == pytest.approx(m[0, 0] / math.sqrt(rr + cc), rel=1e-3)


def test_each_moment_answers_to_its_own_change():
    bar = ink()
    sheared = torch.stack([row.roll((i - 8) // 2) for i, row in enumerate(bar)])
    wide = torch.zeros(16, 16)
    wide[3:13, 5:7], wide[3:13, 9:11] = 0.8, 0.8
    grey = bar / 2
    pictures = torch.stack([bar, sheared, wide, grey, bar.roll((2, 3), (0, 1))]).flatten(1)
    width, thickness, slant = cinn.moments(pictures, 16).T
    assert slant[1] == pytest.approx(0.5, abs=0.05)
    assert slant[[0, 2, 3]].abs().max() < 1e-6
    assert width[1] == pytest.approx(width[0].item(), abs=0.35)  # the shear is undone
    assert width[2] > 3 * width[0]
    assert thickness[3] == pytest.approx(thickness[0].item() / 2)
    torch.testing.assert_close(cinn.moments(pictures, 16)[4], cinn.moments(pictures, 16)[0])


def test_paper_white_is_taken_off_and_an_empty_picture_has_finite_moments():
    bar = ink().flatten()[None]
    found = cinn.moments(bar + 0.2 * (bar == 0), 16, floor=0.2)
    torch.testing.assert_close(found[:, [0, 2]], cinn.moments(bar, 16)[:, [0, 2]])
    assert cinn.moments(torch.zeros(1, 256), 16).isfinite().all()


def test_class_means_leave_only_the_hand():
    torch.manual_seed(0)
    labels = torch.arange(40) % 10
    value = torch.randn(40, 3)
    left = cinn.less_class_mean(value + 5 * labels[:, None], labels)
    torch.testing.assert_close(left, cinn.less_class_mean(value, labels), rtol=0, atol=1e-5)
    for c in range(10):
        assert left[labels == c].mean(dim=0).abs().max() < 1e-5
    a, b = torch.randn(40, 2), torch.randn(40, 3)
    expected = torch.corrcoef(torch.cat([a, b], dim=1).T)[:2, 2:]
    torch.testing.assert_close(cinn.correlations(a, b), expected)


def test_sensitive_axes_are_the_singular_vectors_of_the_stacked_jacobian():
    flow, x = flow_of(9), cinn.one_hot(torch.arange(10)).double()
    found = cinn.sensitive_axes(flow, x, 3)
    origin = torch.zeros(9).double()
    rows = [
        torch.autograd.functional.jacobian(lambda z, c=c: flow.inverse(z[None], c[None])[0], origin)
        for c in x
    ]
    vectors = torch.linalg.svd(torch.cat(rows), full_matrices=False).Vh[:3]
    close = (found * vectors).sum(dim=1).abs()
    torch.testing.assert_close(close, torch.ones(3).double(), rtol=0, atol=1e-6)


def test_fitted_axes_find_the_directions_that_carry_the_moments():
    torch.manual_seed(0)
    z, ways = torch.randn(2000, 20), torch.linalg.qr(torch.randn(20, 3))[0].T
    hand = z @ ways.T * torch.tensor([0.1, 3.0, -2.0]) + 0.05 * torch.randn(2000, 3)
    found = cinn.fitted_axes(z + 7, hand)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    along = (found * ways).sum(dim=1)
    assert (along * torch.tensor([1.0, 1.0, -1.0]) > 0.9).all()


def test_a_hand_lent_to_its_own_digit_gives_that_digit_back():
    flow, labels = flow_of(9).float(), torch.tensor([3, 7])
    images = torch.rand(2, 1, 3, 3)
    s, t = cinn.Hands(flow, labels)(images)
    lender = cinn.Lender(cinn.Decoder(flow, 3))
    torch.testing.assert_close(lender(s, t), images, rtol=0, atol=1e-4)
    assert s.argmax(dim=1).tolist() == [3, 7]
    assert not torch.allclose(lender(s.flip(0), t), images, atol=0.01)


def test_the_tasks_need_the_sizes_of_their_data():
    for tasks in cinn.PRESETS.values():
        for task, plan in tasks.items():
            assert plan.config.size == {"digits": 8, "mnist": 28}[task]
