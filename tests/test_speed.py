"""Micro-batches, number format, memory layout, compilation: faster or smaller, the same method."""

import dataclasses
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from minilib import chapters, parameters, processes, speed, training
from minilib.config import ConfigError, option, rows
from minilib.micro_batches import Accumulation
from minilib.speed import Speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Speed):
    """A chapter's."""

    steps: int = option(10, "steps", "ours")


def adversaries(folder, parts=1, steps=10, batch=12, noise=0.0, resume=False, descents=1):
    """A generator and a critic, each with its optimiser, trained on 40 numbers; their weights."""
    torch.manual_seed(0)
    nets = {
        "g": nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)),
        "d": nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)),
    }
    adam = {name: torch.optim.Adam(net.parameters(), lr=1e-2) for name, net in nets.items()}
    data = torch.randn(40, 3)

    def step(i):
        x = data[training.batch_indices(len(data), batch, i, seed=1)]
        y_hat = nets["g"](x + noise * torch.randn_like(x))
        loss_d = (nets["d"](y_hat.detach()) ** 2).mean() + ((nets["d"](x) - 1) ** 2).mean()
        loss_g = ((nets["d"](y_hat) - 1) ** 2).mean() + (y_hat - x.flip(1)).abs().mean()
        for name, loss in (("g", loss_g), ("d", loss_d)):
            adam[name].zero_grad()
            loss.backward(inputs=list(nets[name].parameters()))
        for _ in range(descents):
            for optimizer in adam.values():
                optimizer.step()
        return {"g": loss_g.detach(), "d": loss_d.detach()}

    state = training.State(nets, adam, ema={"g": 0.9})
    fitted = training.fit(
        step, state, steps, folder=folder, seed=2, identity="x", micro_batches=parts, resume=resume
    )
    weights = torch.cat([p.detach().flatten() for net in nets.values() for p in net.parameters()])
    average = torch.cat([p.detach().flatten() for p in state.averages["g"].parameters()])
    return torch.cat([weights, average]), fitted


@pytest.mark.parametrize("parts", [2, 3, 12])
def test_parts_of_a_batch_equal_the_whole(parts, tmp_path):
    whole, one = adversaries(tmp_path / "whole")
    split, many = adversaries(tmp_path / "split", parts)
    assert (whole - split).abs().max() < 1e-5
    assert many.history["g"] == pytest.approx(one.history["g"], abs=1e-6)
    start, _ = adversaries(tmp_path / "start", steps=1)
    assert (whole - start).abs().max() > 1e-2


def test_several_steps_of_one_optimiser_keep_their_own_gradients(tmp_path):
    whole, _ = adversaries(tmp_path / "whole", descents=3)
    split, _ = adversaries(tmp_path / "split", 2, descents=3)
    once, _ = adversaries(tmp_path / "once", 2)
    assert (whole - split).abs().max() < 1e-5
    assert (split - once).abs().max() > 1e-3


def test_every_part_draws_its_own_noise(tmp_path):
    drawn = []

    def step(i):
        drawn.append(torch.rand(1).item())
        return {"loss": torch.tensor(float(processes.sharer().rank))}

    state = training.State({"net": nn.Linear(1, 1)}, {})
    fitted = training.fit(step, state, 3, folder=tmp_path, seed=0, identity="x", micro_batches=2)
    assert len(set(drawn)) == 6
    assert fitted.history["loss"] == [0.5] * 3
    assert processes.sharer() == processes.World()


def test_one_part_is_the_plain_loop_to_the_bit(tmp_path):
    assert torch.equal(*(adversaries(tmp_path / n, 1, noise=0.1)[0] for n in ("a", "b")))
    adam = torch.optim.Adam(nn.Linear(1, 1).parameters())
    with Accumulation([adam], 1):
        assert "step" not in vars(adam)


def test_a_resumed_run_in_parts_is_equal_to_the_bit(tmp_path):
    whole, _ = adversaries(tmp_path / "whole", 3, noise=0.1)
    adversaries(tmp_path / "cut", 3, noise=0.1, steps=4)
    again, _ = adversaries(tmp_path / "cut", 3, noise=0.1, resume=True)
    assert torch.equal(whole, again)


def test_a_batch_that_does_not_split_is_refused_and_the_optimisers_are_whole_again(tmp_path):
    with pytest.raises(ConfigError, match=r"batch of 12 cannot be split over 5 .*micro-batches"):
        adversaries(tmp_path, parts=5)
    adam = torch.optim.Adam(nn.Linear(1, 1).parameters())
    with pytest.raises(ZeroDivisionError), Accumulation([adam], 2):
        1 / 0  # noqa: B018
    assert "step" not in vars(adam)


def test_processes_and_parts_share_a_batch_once(monkeypatch):
    shares = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        for part in range(3):
            with processes.in_part(part, 3):
                shares.append(training.batch_indices(12, 12, 0, seed=0))
    assert sorted(torch.cat(shares).tolist()) == list(range(12))
    assert {len(share) for share in shares} == {2}


def test_bfloat16_reaches_the_products_and_not_the_weights():
    net, seen = nn.Linear(4, 4), []

    def step(i):
        seen.append(net(torch.ones(2, 4)).dtype)
        return {}

    for precision in ("float32", "bfloat16"):
        speed.in_precision(Config(precision=precision), step, torch.device("cpu"))(0)
    assert seen == [torch.float32, torch.bfloat16]
    assert net.weight.dtype == torch.float32
    assert speed.in_precision(object(), step, torch.device("cpu")) is step


def test_layout_and_compilation_leave_names_and_values_alone():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    plain = {name: value.clone() for name, value in net.state_dict().items()}
    speed.prepare(Config(), [net])
    assert net[0].weight.is_contiguous()
    assert net._compiled_call_impl is None
    speed.prepare(Config(channels_last=True, compiled=True), [net])
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert net._compiled_call_impl is not None
    assert net.state_dict().keys() == plain.keys()
    assert all(torch.equal(value, plain[name]) for name, value in net.state_dict().items())


def test_the_pair_that_breaks_gradients_on_a_cpu_is_refused_before_a_run(tmp_path):
    both = Config(precision="bfloat16", channels_last=True)
    with pytest.raises(ConfigError, match="together give gradients that are not numbers"):
        speed.refuse(both, torch.device("cpu"))
    speed.refuse(both, torch.device("cuda"))
    speed.refuse(dataclasses.replace(both, precision="float32"), torch.device("cpu"))
    presets = chapters.load("cinn").PRESETS
    given = {"overrides": {"precision": "bfloat16", "channels_last": True}, "device": "cpu"}
    with pytest.raises(ConfigError, match="on a CPU"):
        parameters.check(presets, given)


def test_settings_of_the_hardware_close_the_table():
    names = [name for name, *_ in rows(Config())]
    assert names == ["steps", *(f.name for f in dataclasses.fields(Speed))]
