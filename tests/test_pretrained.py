"""A chapter on released weights: loaded in place of a training, named in the record."""

import json

import pytest
import torch
from released_layouts import resnet

from minilib import __main__ as cli
from minilib import chapters, folders, ledger, notebooks, pretrained, results, runs, training
from minilib.config import ConfigError
from minilib.pretrained import Weights

ONE = {"variants": ["cyclegan"], "downs": 2, "norm": "instance", "bare": [], "repaint": False}


@pytest.fixture
def released_file(tmp_path):
    """A generator as the released code saves it, as wide as the chapter's ``smoke`` builds it."""
    generator = torch.Generator().manual_seed(5)
    state = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in resnet(4, 1)}
    torch.save(state, tmp_path / "latest_net_G.pth")
    return tmp_path / "latest_net_G.pth"


def arguments(folder, *weights, overrides=ONE):
    given = ["run", "cyclegan", "-p", "preset", "smoke", "-p", "device", "cpu"]
    given += ["-p", "overrides", json.dumps(overrides), "--out", str(folder)]
    return [*given, *(part for one in weights for part in ("--released", one))]


@pytest.mark.chapter
def test_a_chapter_measures_and_shows_released_weights(released_file, tmp_path, capfd):
    folder = tmp_path / "run"
    assert cli.main(arguments(folder, f"to_y={released_file}")) == 0
    record = results.read(folder / "record.json")
    assert record["status"] == "finished"
    assert record["released"] == {"to_y": Weights(str(released_file)).described()}
    assert record["training"]["cyclegan-0"]["steps"] == pretrained.SHAM
    assert "released weights for to_y" in ledger.changes(record)
    plain = tmp_path / "plain"
    assert cli.main(arguments(plain)) == 0
    other = results.read(plain / "record.json")
    assert "released" not in other
    assert other["metrics"] != record["metrics"]
    # what the page measured is what these weights give, whatever the training did before
    again = tmp_path / "again"
    trained = {**ONE, "rate": 0.01}
    assert cli.main(arguments(again, f"to_y={released_file}", overrides=trained)) == 0
    found = results.read(again / "record.json")["metrics"]
    same = [n for n in found if found[n] == record["metrics"][n] != other["metrics"][n]]
    assert same
    capfd.readouterr()
    assert cli.main(["run", "cyclegan", "--resume", "--out", str(folder)]) == 0
    assert results.read(folder / "record.json")["released"] == record["released"]


BAD = [
    (["to_z={file}"], "unknown network 'to_z'"),
    (["to_y={file}", "to_y={file}"], "names the network 'to_y' twice"),
    (["to_y"], "write NETWORK=FILE"),
    (["to_y={file}.gone"], "--released to_y: no file"),
    (["to_y={file}#G"], "has no part 'G'"),
    (["critic_y={file}"], "--released critic_y: the checkpoint does not fit this network"),
]


@pytest.mark.parametrize(("weights", "message"), BAD, ids=[" ".join(w) for w, _ in BAD])
def test_what_does_not_fit_is_said_before_anything_starts(
    weights, message, released_file, tmp_path, capsys
):
    folder = tmp_path / "run"
    named = [text.format(file=released_file) for text in weights]
    assert cli.main(arguments(folder, *named)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not folder.exists()


@pytest.mark.parametrize("value", [float("nan"), 3, 1j])
def test_weights_that_are_no_numbers_are_refused(value, released_file, tmp_path, capsys):
    state = torch.load(released_file)
    state["model.1.bias"] = torch.full((4,), value)
    torch.save(state, released_file)
    assert cli.main(arguments(tmp_path / "run", f"to_y={released_file}")) == 2
    error = capsys.readouterr().err
    assert "model.1.bias" in error
    assert "holds" in error
    assert error.count("\n") == 1


class Opened:
    """A run of which only the methods that matter here are there."""

    def __init__(self):
        self.trained, self.steps = [], []

    def train(self, name, step, state, steps, **options):
        self.trained.append((name, steps))

    def record(self, status="finished"):
        return {"status": status}

    def finish(self):
        return "done"


def test_the_first_training_of_these_networks_is_left_out_and_no_other(released_file):
    nets = chapters.load("cyclegan").networks(
        chapters.load("cyclegan").PRESETS["smoke"]["seasons"].config
    )
    plain = chapters.load("cyclegan").resnet_generator(4, 1)
    state = training.State({"to_y": plain}, {}, ema={"to_y": 0.9})
    run = Opened()
    pretrained.use(run, {"to_y": (str(released_file), "")})
    run.train("judge", None, training.State({"judge": nets["critic_y"]}, {}), 50)
    assert run.trained == [("judge", 50)]
    with pytest.raises(ConfigError, match="no training of this chapter has the networks to_y"):
        run.finish()
    run.train("first", None, state, 50)
    assert run.trained[-1] == ("first", pretrained.SHAM)
    weights, average = plain.state_dict(), state.averages["to_y"].module.state_dict()
    assert all(torch.equal(weights[name], average[name]) for name in weights)
    assert run.record()["released"]
    assert run.finish() == "done"
    run.train("second", None, state, 50)
    assert run.trained[-1] == ("second", 50)


def test_a_run_goes_on_with_its_weights_only(released_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(notebooks, "_execute", lambda *a: None)
    folder = tmp_path / "run"
    assert cli.main(arguments(folder, f"to_y={released_file}")) == 0
    assert folders.released_there(folder) == {"to_y": (str(released_file), "")}
    other = tmp_path / "other.pth"
    other.write_bytes(released_file.read_bytes())
    line = ["run", "cyclegan", "--resume", "--out", str(folder), "--released", f"to_y={other}"]
    assert cli.main(line) == 2
    assert "other released weights" in capsys.readouterr().err
    assert runs.Run
