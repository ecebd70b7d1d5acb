"""The Swapping Autoencoder's losses, its steps, and its training."""

import dataclasses
import math

import pytest
import torch
from swapping_cases import TINY, check_is_noticed, close, properties, setting, swapping
from torch import nn

from minilib import training


def prop_generator_terms(w):
    """Eq. 4.1 to 4.4, recomputed; the references are patches of the texture's picture."""
    nets, x = setting(w)
    for net in nets.values():
        net.eval()
    seen = []

    def cut(y):
        seen.append(y)
        return w.cut_patches(y, 3, 0.9, 1.0, 8)

    for all_rebuilt, kept in ((True, 4), (False, 2)):
        seen.clear()
        terms = w.generator_terms(nets, x, cut, w.Objective(all_rebuilt=all_rebuilt))
        rebuilt, hybrid = w.decode_both(nets, x, True, all_rebuilt)[:2]
        real = [torch.sigmoid(nets["critic"](y)).log().mean() for y in (rebuilt[:2], hybrid)]
        close(terms["image"], (rebuilt - x[:kept]).abs().mean())
        close(terms["gan_rec"], -real[0], atol=1e-4)
        close(terms["gan_swap"], -real[1], atol=1e-4)
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
        nets | {"critic": Constant(), "patch_critic": Constant()}, x, cut, w.Objective()
    )
    close(confused["critic"], 2 * math.log(2))
    close(confused["patch_critic"], 2 * math.log(2))
    terms = w.critic_terms(nets, x, cut, w.Objective(all_hybrids=False))
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
    terms = w.critic_terms(real, bright, w.make_cut(TINY), w.Objective())
    assert len(scored[0][0]) == 4 + 2 + 4
    close(scored[0][0][:4], bright)
    close(scored[1][0], torch.ones_like(scored[1][0]))
    assert scored[1][1] is scored[2][1]
    assert not torch.equal(scored[1][0], scored[2][0])
    assert all(term >= 0 for term in terms.values())


def prop_critics_are_told_apart_by_values(w):
    """What D_patch calls false are patches of hybrids, not of pictures."""
    nets, x = setting(w)
    seen = []

    class Watch(nn.Module):
        def forward(self, y, references):
            seen.append(y)
            return y.mean((2, 3, 4))

    w.critic_terms(
        nets | {"patch_critic": Watch()}, torch.full_like(x, 0.9), w.make_cut(TINY), w.Objective()
    )
    close(seen[0], torch.full_like(seen[0], 0.9))
    assert not torch.allclose(seen[1], torch.full_like(seen[1], 0.9), atol=1e-2)


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
        want = w.Objective(all_hybrids=False, mismatch=share)
        terms = w.critic_terms(nets | {"patch_critic": Watch()}, x, w.make_cut(TINY), want)
        close(terms["patch_critic"], 2 * math.log(2))
        assert len(seen) == (3 if share else 2)
    close(seen[2][0], [0.6, 0.8])
    close(seen[2][1], [0.8, 0.6])


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
    step = w.make_step(nets, state.optimizers, lambda i: x, w.make_cut(TINY), w.Objective(), 2)

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


def prop_plain_step(w):
    """The warm-up pays eq. 4.1 for every picture of a batch, and learns."""
    nets, x = setting(w)
    weights = [*nets["encoder"].parameters(), *nets["generator"].parameters()]
    adam = torch.optim.Adam(weights, lr=0.01)
    step = w.make_plain_step(nets, adam, lambda i: x)
    for net in nets.values():
        net.eval()
    before = (x - nets["generator"](*nets["encoder"](x))).abs().mean()
    close(step(0)["image"], before)
    for i in range(1, 12):
        after = step(i)["image"]
    assert after < 0.9 * before


PROPERTIES = properties(globals())
FAULTS = {  # (what stands in the chapter, what a fault makes of it): the property that notices
    ("cut(drawn.hybrid), cut(drawn.source)", "cut(drawn.hybrid), cut(x)"): "prop_generator_terms",
    (
        'bicyclegan.frozen(nets["critic"], torch.cat([drawn',
        'nets["critic"](torch.cat([drawn',
    ): "prop_generator_terms",
    (
        "stylegan2.real_loss(scores[half:])",
        "stylegan2.real_loss(scores[:half])",
    ): "prop_generator_terms",
    ("getattr(want, name) * term", "term"): "prop_weights",
    ("real + 0.5 * fakes[0] + 0.5 * fakes[1]", "real + fakes[0] + fakes[1]"): "prop_critic_terms",
    (
        'other = nets["patch_critic"](cut(hybrid)',
        'other = nets["patch_critic"](cut(source)',
    ): "prop_critics_are_told_apart_by_values",
    ("cut(neighbours(source)), references)", "cut(source), references)"): "prop_mismatch",
    ("want.patch_r1 / 2 / 2 * small", "want.patch_r1 / 2 * small"): "prop_penalties",
    (
        "squared_gradient(scores, patches, references)",
        "squared_gradient(scores, patches)",
    ): "prop_penalties",
    ("if (i // 2) % every == 0", "if True"): "prop_steps_alternate",
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name):
    PROPERTIES[name](swapping)


@pytest.mark.parametrize(("fault", "name"), FAULTS.items(), ids=lambda v: str(v)[:50])
def test_planted_faults_are_noticed(fault, name):
    check_is_noticed(fault, PROPERTIES[name])


def test_both_codes_have_length_one():
    nets, x = setting()
    s, t = nets["encoder"](x)
    close(s.square().sum(1), torch.ones(4, 16, 16), atol=1e-4)
    close(t.square().sum(1), torch.ones(4), atol=1e-4)


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
            nets, state.optimizers, batches, swapping.make_cut(config), want, 1
        )
        training.fit(step, state, steps, folder=folder, seed=0, identity="t", resume=resume)
        return [p for net in nets.values() for p in net.parameters()]

    whole = fit(tmp_path / "a", 4)
    fit(tmp_path / "b", 3)
    for p, q in zip(whole, fit(tmp_path / "b", 4, resume=True), strict=True):
        assert torch.equal(p, q)
