import json
import multiprocessing
import os
import random
import signal
import time

import pytest
import torch
from torch import nn

from minilib import checkpoints, training
from minilib.processes import World
from minilib.training import State, TrainingError, batch_indices, fit

STEPS = 24


@pytest.fixture(autouse=True)
def one_thread():
    """Here as in the killed processes: sums over other numbers of threads round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Pool:
    """A stand-in for an image pool: random replacement, so that lost state shows."""

    def __init__(self):
        self.images = torch.zeros(4)

    def state_dict(self):
        return {"images": self.images}

    def load_state_dict(self, state):
        self.images = state["images"]

    def swap(self, value):
        place = int(torch.randint(4, ()))
        old = self.images[place].clone()
        self.images = self.images.clone()
        self.images[place] = value
        return old


class Indexed(nn.Linear):
    """A layer with an index among its buffers, which an average must not touch."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.register_buffer("order", torch.arange(700))


def make_state():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), Indexed(8, 1))
    return State(
        networks={"net": net},
        optimizers={"net": torch.optim.Adam(net.parameters(), lr=0.05)},
        schedules={"net": training.linear_decay(6, 18)},
        ema={"net": 0.9},
        extras={"pool": Pool()},
    )


def make_step(state, before=lambda step: None):
    data = torch.arange(60.0).view(20, 3) / 60

    def step(i):
        before(i)
        x = data[batch_indices(20, 5, i, seed=3)]
        x = x + 0.1 * torch.randn_like(x)
        y = state.networks["net"](x)
        loss = (y - x.sum(1, keepdim=True)).square().mean()
        loss = loss + 0.01 * state.extras["pool"].swap(loss.detach())
        state.optimizers["net"].zero_grad()
        loss.backward()
        state.optimizers["net"].step()
        return {"mse": loss}

    return step


def train(folder, state=None, before=lambda step: None, **options):
    state = state or make_state()
    options = {"checkpoint_every": 5, "seed": 1, "identity": "me", **options}

    def look(i):
        for network in state.networks.values():
            network.eval()  # as every chapter does; training must go on with dropout
        return {"r": torch.randn(2)}

    snapshot = {"snapshot": look, "snapshot_every": 4}
    fitted = fit(make_step(state, before), state, STEPS, folder=folder, **snapshot, **options)
    return state, fitted


def everything(state):
    """All tensors and numbers of a state, flattened."""
    out = []

    def walk(value):
        if isinstance(value, torch.Tensor):
            out.append(value.double().flatten())
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                walk(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                walk(item)
        elif isinstance(value, int | float):
            out.append(torch.tensor([float(value)], dtype=torch.float64))

    for _, part in state.parts():
        walk(part.state_dict())
    return torch.cat(out)


class Stop(Exception):
    pass


@pytest.mark.parametrize("at", [0, 1, 5, 12, 23])
def test_a_run_stopped_anywhere_resumes_to_the_bit(tmp_path, at):
    whole, fitted = train(tmp_path / "whole")

    def stop(step):
        if step == at:
            raise Stop

    with pytest.raises(Stop):
        train(tmp_path / "cut", before=stop)
    resumed, again = train(tmp_path / "cut", resume=True)
    assert torch.equal(everything(whole), everything(resumed))
    assert fitted.history == again.history
    assert [s for s, _ in fitted.snapshots] == [0, 4, 8, 12, 16, 20, 24]
    pairs = zip(fitted.snapshots, again.snapshots, strict=True)
    assert all(torch.equal(a[1]["r"], b[1]["r"]) for a, b in pairs)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_in_flight(tmp_path, number):
    whole, _ = train(tmp_path / "whole")
    seen = []

    def poke(step):
        seen.append(step)
        if step == 7:
            os.kill(os.getpid(), number)

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(tmp_path / "cut", before=poke)
    assert seen[-1] == 7
    resumed, _ = train(tmp_path / "cut", before=seen.append, resume=True)
    assert seen[8] == 8
    assert torch.equal(everything(whole), everything(resumed))


def _slow_training(folder, wait):
    torch.set_num_threads(1)
    train(folder, before=lambda step: time.sleep(wait), resume=True, checkpoint_every=1)


def _killed_while_saving(folder, at_save, half):
    torch.set_num_threads(1)
    saves, real_save, real_replace = [], torch.save, os.replace

    def save(value, file):
        real_save(value, file)
        if "checkpoint" in str(getattr(file, "name", "")):
            saves.append(1)
            if half and len(saves) == at_save:
                file.truncate(file.tell() // 2)
                os.kill(os.getpid(), signal.SIGKILL)

    def replace(a, b):
        if "checkpoint" in str(b) and not half and len(saves) == at_save:
            os.kill(os.getpid(), signal.SIGKILL)
        real_replace(a, b)

    torch.save, os.replace = save, replace
    train(folder, resume=True, checkpoint_every=1)


@pytest.fixture(scope="module")
def server():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch._dynamo", "minilib.training"])
    return context


def killed(process, after=None):
    """Run a process; kill it ``after`` seconds, or wait until it kills itself."""
    process.start()
    process.join(after)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process.exitcode


def test_twenty_random_kills_resume_to_the_bit(tmp_path, server):
    whole, _ = train(tmp_path / "whole", checkpoint_every=1)
    moments = random.Random(0)
    kills = 0
    for trial in range(20):
        folder = tmp_path / f"cut{trial}"
        process = server.Process(target=_slow_training, args=(folder, 0.02))
        process.start()
        deadline = time.time() + 300
        while not (folder / "history.jsonl").exists() and time.time() < deadline:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.5))
        kills += process.is_alive()
        process.kill()
        process.join()
        resumed, _ = train(folder, resume=True, checkpoint_every=1)
        assert torch.equal(everything(whole), everything(resumed))
    assert kills == 20  # a run of 24 steps of 20 ms is never over within half a second


@pytest.mark.parametrize("half", [True, False], ids=["half-written", "before-the-rename"])
def test_killed_in_mid_save_keeps_the_checkpoint_before(tmp_path, server, half):
    whole, _ = train(tmp_path / "whole", checkpoint_every=1)
    process = server.Process(target=_killed_while_saving, args=(tmp_path / "cut", 9, half))
    assert killed(process) == -signal.SIGKILL
    step, _ = checkpoints.load_checkpoint(tmp_path / "cut" / "checkpoint.pt", make_state(), "me")
    assert step == 8
    resumed, _ = train(tmp_path / "cut", resume=True, checkpoint_every=1)
    assert torch.equal(everything(whole), everything(resumed))


def test_full_disk_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    def full(value, file):
        raise OSError(28, "No space left on device")

    train(tmp_path, checkpoint_every=100)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match="No space left on device; the last one is kept"):
        checkpoints.save_checkpoint(tmp_path / "checkpoint.pt", make_state(), 1, "me", 0.0)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert not list(tmp_path.glob(".checkpoint*"))


def test_a_checkpoint_of_another_configuration_is_refused_and_kept(tmp_path):
    train(tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(TrainingError, match="belongs to another configuration"):
        train(tmp_path, identity="other", resume=True)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError) as error:
        train(tmp_path, resume=True)
    assert "not a readable checkpoint" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_loss_that_is_not_finite_stops_with_its_name_and_step(tmp_path):
    state = make_state()

    def step(i):
        return {"gan": torch.tensor(1.0), "kl": torch.tensor(float("nan") if i == 3 else 0.0)}

    with pytest.raises(TrainingError, match="loss 'kl' is nan at step 3"):
        fit(step, state, 9, folder=tmp_path, seed=0, identity="x")


def test_the_schedule_reaches_the_optimiser(tmp_path):
    rates = []
    state = make_state()
    group = state.optimizers["net"].param_groups[0]
    train(tmp_path, state, before=lambda step: rates.append(group["lr"]))
    assert rates == [0.05 * (1 - max(0, i + 1 - 6) / 19) for i in range(STEPS)]


def test_the_average_follows_every_step(tmp_path):
    state, weights = make_state(), []

    def note(step):
        weights.append(state.networks["net"][0].weight.detach().clone())

    train(tmp_path, state, before=note)
    expected = None
    for weight in [*weights[1:], state.networks["net"][0].weight]:
        expected = weight if expected is None else 0.9 * expected + 0.1 * weight
    got = state.averages["net"].module[0].weight
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay", [0.9, 0.995, 0.9999])
def test_the_average_leaves_integers_alone(decay):
    net = Indexed(2, 2)
    average = State({"net": net}, {}, ema={"net": decay}).averages["net"]
    for _ in range(5):
        average.update_parameters(net)
    assert torch.equal(average.module.order, net.order)


def test_schedules_and_averages_must_name_what_is_there():
    net = nn.Linear(1, 1)
    with pytest.raises(TrainingError, match="a schedule names 'net'"):
        State({"net": net}, {}, schedules={"net": lambda i: 1.0})
    with pytest.raises(TrainingError, match="a moving average names 'opt'"):
        State({"net": net}, {}, ema={"opt": 0.9})


def test_a_checkpoint_of_another_network_is_one_line(tmp_path):
    train(tmp_path)
    state = make_state()
    state.networks["net"] = nn.Linear(2, 2)
    with pytest.raises(TrainingError, match="does not fit 'networks") as error:
        checkpoints.load_checkpoint(tmp_path / "checkpoint.pt", state, "me")
    assert "\n" not in str(error.value)
    state.networks["other"] = nn.Linear(2, 2)
    with pytest.raises(TrainingError, match="differ in: networks"):
        checkpoints.load_checkpoint(tmp_path / "checkpoint.pt", state, "me")


def test_history_is_json_lines(tmp_path):
    _, fitted = train(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(STEPS))
    assert [row["mse"] for row in rows] == fitted.history["mse"]


def test_tensorboard_holds_the_same_numbers(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, fitted = train(tmp_path, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    values = [event.value for event in events.Scalars("mse")]
    assert values == pytest.approx(fitted.history["mse"], rel=1e-6)


def test_training_leaves_the_random_state_of_its_caller_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    fit(make_step(state := make_state()), state, 1, folder=tmp_path, seed=0, identity="x")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit(make_step(state), state, 1, folder=tmp_path, seed=0, identity="x")
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(torch.randn(3), expected)


def test_batches_are_epochs_without_repetition():
    epoch = torch.cat([batch_indices(23, 5, step, seed=1) for step in range(4)])
    assert len(set(epoch.tolist())) == 20
    next_epoch = torch.cat([batch_indices(23, 5, step, seed=1) for step in range(4, 8)])
    assert not torch.equal(epoch, next_epoch)
    assert not torch.equal(epoch[:5], batch_indices(23, 5, 0, seed=2))


def test_ranks_share_an_epoch():
    both = [batch_indices(40, 8, s, seed=1, world=World(r, 2)) for s in range(5) for r in range(2)]
    assert sorted(torch.cat(both).tolist()) == list(range(40))
    one = torch.cat([batch_indices(40, 8, s, seed=1) for s in range(5)])
    assert torch.equal(torch.cat(both), one)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(TrainingError, match="a batch of 8 does not fit a data set of 5"):
        batch_indices(5, 8, 0, seed=0)


def test_step_seeds_do_not_collide():
    seeds = {
        training.step_seed(seed, step, rank)
        for seed in range(10)
        for step in range(1000)
        for rank in range(4)
    }
    assert len(seeds) == 40_000
    assert max(seeds) < 2**63


def test_schedules():
    decay = training.linear_decay(100, 100)  # the released GAN code: 100 epochs, then 100 of decay
    assert [decay(0), decay(99), decay(100)] == [1.0, 1.0, 1 - 1 / 101]
    assert decay(199) == pytest.approx(1 / 101)
    assert training.exponential_decay(0.01, 10)(10) == pytest.approx(0.01)
    cosine = training.cosine_decay(100, warmup=10)
    assert cosine(0) == pytest.approx(1 / 11)
    assert cosine(10) == 1.0
    assert cosine(100) == pytest.approx(0, abs=1e-12)
