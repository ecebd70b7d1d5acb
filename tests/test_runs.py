import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
import torch
from data_trees import plant
from torch import nn

from minilib import __main__ as cli
from minilib import chapters, folders, notebooks, paths, results, runs
from minilib.config import ConfigError, Plan, option


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    steps: int = option(3, "optimiser steps", "ours", low=0)


PRESETS = {
    "smoke": {"line": Plan(Config(steps=1), "none", "CPU", 0.1)},
    "toy": {"line": Plan(Config(), "none", "CPU", 0.1)},
}


def start(folder, preset="toy", **options):
    # "cinn" only lends its name: code hashes are those of a real chapter
    return runs.start("cinn", PRESETS, preset=preset, device="cpu", out=str(folder), **options)


def test_a_run_ends_in_a_valid_record(tmp_path, capsys):
    run = start(tmp_path, overrides={"steps": 2}, seed=3)
    run.parameters(line=nn.Linear(2, 1))
    run.metric("a.b", torch.tensor(0.5))
    run.metric("never", float("nan"))
    run.check("fine", True, "something fine")
    run.target("a.b", 0.5, ">= 0.93")
    run.dataset("extra", "0" * 64)
    run.protocol("measured so")
    table = run.finish()
    record = results.read(tmp_path / "record.json")
    assert record["config"] == {"steps": 2}
    assert (record["seed"], record["overrides"]) == (3, {"steps": 2})
    assert record["parameters"] == {"line": 3}
    assert record["metrics"] == {"a.b": 0.5, "never": None}
    assert record["checks"] == {"fine": True}
    assert record["targets"]["a.b"] == {"value": 0.5, "target": ">= 0.93", "met": False}
    assert record["status"] == "finished"
    assert "not met" in repr(table)
    assert "not met" in table._repr_html_()
    assert "✓ something fine" in capsys.readouterr().out


def test_a_failed_check_fails_the_chapter_and_keeps_the_record(tmp_path):
    run = start(tmp_path)
    run.metric("accuracy", 0.2)
    with pytest.raises(runs.CheckFailed, match="check 'reads' failed: expected most are read"):
        run.check("reads", 0.2 > 0.9, "most are read")
    record = results.read(tmp_path / "record.json")
    assert record["checks"] == {"reads": False}
    assert record["metrics"] == {"accuracy": 0.2}
    assert record["status"] == "failed"


def test_a_check_is_judged_only_at_its_presets(tmp_path):
    run = start(tmp_path, preset="smoke")
    run.check("claim", False, "the claim", presets=("toy",))
    assert run.checks == {}


@pytest.mark.parametrize(
    ("value", "target", "met"),
    [
        (1.0, ">= 1.0", True),
        (0.99, ">= 1.0", False),
        (1.0, "< 1", False),
        (0.8, "0.8 to 1.2", True),
        (1.3, "0.8 to 1.2", False),
        (float("nan"), ">= 0", False),
    ],
)
def test_targets(value, target, met):
    assert runs.meets(value, target) is met


def test_a_target_that_cannot_be_read_is_refused():
    with pytest.raises(ConfigError):
        runs.meets(1.0, "about 3")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "tooy"}, "did you mean 'toy'"),
        ({"seed": "0"}, "'seed' wants int"),
        ({"seed": -1}, "'seed' must be at least 0"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not there"),
        ({"overrides": {"stesp": 1}}, "did you mean 'steps'"),
        ({"overrides": [1]}, "'overrides' wants dict"),
        ({"resume": 1}, "'resume' wants bool"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_written(tmp_path, options, message):
    folder = tmp_path / "new"
    options = {"preset": "toy", "device": "cpu", **options}
    with pytest.raises(ConfigError) as error:
        runs.start("cinn", PRESETS, out=str(folder), **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not folder.exists()


def test_training_goes_into_the_run_and_its_record(tmp_path):
    run = start(tmp_path)
    net = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    state = runs.training.State({"net": net}, {"net": optimizer})
    fitted = run.train("line", lambda i: {"loss": torch.tensor(1.0 / (i + 1))}, state, 3)
    assert fitted.history == {"step": [0, 1, 2], "loss": [1.0, 0.5, pytest.approx(1 / 3)]}
    assert run.record()["training"]["line"]["steps"] == 3


def test_a_run_never_starts_over_another(tmp_path):
    start(tmp_path).finish()
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "checkpoint.pt").touch()
    with pytest.raises(ConfigError, match="already holds a run"):
        start(tmp_path)
    assert (tmp_path / "record.json").exists()
    resumed = start(tmp_path, resume=True)
    assert not (tmp_path / "record.json").exists()  # it would describe a run that is not over
    assert len(resumed.record()["sittings"]) == 2


def test_only_scratch_presets_wipe_their_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "BUILD", tmp_path / "build")
    monkeypatch.setattr(folders, "RUNS", tmp_path / "runs")
    old = tmp_path / "build" / "runs" / "cinn"
    old.mkdir(parents=True)
    (old / "junk").touch()
    assert folders.open_folder("cinn", "toy", "", False) == old
    assert not list(old.iterdir())
    kept = folders.open_folder("cinn", "full", "", False)
    assert kept.parent == tmp_path / "runs" / "cinn"
    assert folders.open_folder("cinn", "full", "", False) != kept


def test_a_failed_check_passed_over_by_hand_stays_failed(tmp_path):
    run = start(tmp_path)
    with pytest.raises(runs.CheckFailed):
        run.check("reads", False, "most are read")
    run.finish()
    assert results.read(tmp_path / "record.json")["status"] == "failed"


def test_seconds_of_earlier_sittings_count(tmp_path):
    def train(resume, steps_before_stop):
        run = start(tmp_path, resume=resume)
        net = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        state = runs.training.State({"net": net}, {"net": optimizer})

        def step(i):
            if i == steps_before_stop:
                raise RuntimeError("power cut")
            time.sleep(0.05)
            return {"loss": torch.tensor(1.0)}

        run.train("line", step, state, 6, checkpoint_every=1)
        return run.record()

    with pytest.raises(RuntimeError):
        train(False, 4)
    record = train(True, None)
    assert record["training"]["line"]["seconds"] >= 0.3
    assert record["seconds"] >= 0.3


@pytest.mark.parametrize(
    "chapter", [c for c in chapters.names() if "PRESETS" in chapters.source(c)]
)
def test_every_preset_of_every_chapter_can_write_its_record(chapter, tmp_path, monkeypatch):
    monkeypatch.setattr("minilib.parameters.require_data", lambda name: None)
    monkeypatch.setattr("minilib.data.checksum", lambda name: "0" * 64)
    for preset, tasks in chapters.load(chapter).PRESETS.items():
        for task in tasks:
            out = tmp_path / f"{preset}-{task}"
            options = {"preset": preset, "task": task, "device": "cpu", "out": str(out)}
            runs.start(chapter, chapters.load(chapter).PRESETS, **options).finish()
            results.read(out / "record.json")


def test_another_seed_or_override_is_another_identity(tmp_path):
    identities = {
        start(tmp_path).identity,
        start(tmp_path, seed=1).identity,
        start(tmp_path, overrides={"steps": 9}).identity,
        start(tmp_path, preset="smoke").identity,
    }
    assert len(identities) == 4


def test_a_record_that_does_not_fit_is_refused(tmp_path):
    run = start(tmp_path)
    record = {**run.record(), "metrics": {"a": "high"}}
    with pytest.raises(results.RecordError, match=r"metrics.a"):
        results.write(record, tmp_path / "record.json")
    assert not (tmp_path / "record.json").exists()


@pytest.mark.parametrize("file", sorted(paths.RESULTS.glob("*.json")), ids=lambda f: f.name)
def test_every_committed_record_is_valid(file):
    record = results.read(file)
    assert record["status"] == "finished"
    assert all(record["checks"].values())


def test_compare_lists_what_differs_and_every_metric(tmp_path):
    a, b = start(tmp_path), start(tmp_path, seed=1)
    a.metric("x", 1)
    b.metric("x", 1)
    rows = results.compare(a.record(), b.record())
    assert ("seed", 0, 1) in rows
    assert ("metrics.x", 1.0, 1.0) in rows
    assert not [row for row in rows if row[0].startswith("config")]


BAD = [
    (["run", "cin"], "unknown chapter 'cin': did you mean 'cinn'?"),
    (["run", "cinn", "-p", "presset", "toy"], "unknown parameter 'presset': did you mean 'preset'"),
    (["run", "cinn", "-p", "preset", "tooy"], "unknown preset 'tooy': did you mean 'toy'"),
    (["run", "cinn", "-p", "task", "mnst"], "unknown task"),
    (["run", "cinn", "-p", "seed", "x"], "'seed' wants int, not str 'x'"),
    (["run", "cinn", "-p", "overrides", "{stesp: 3}"], "did you mean 'steps'"),
    (["run", "cinn", "-p", "overrides", "{steps: -3}"], "'steps' must be at least 0, not -3"),
    (["run", "cinn", "-p", "overrides", "{steps: many}"], "'steps' wants int"),
    (["run", "cinn", "-p", "overrides", "{steps"], "is not YAML"),
    (["run", "cinn", "-p", "seed", "-1"], "'seed' must be at least 0"),
    (["run", "cinn", "-p", "device", "gpu"], "unknown device 'gpu'"),
    (["run", "cinn", "-p", "overrides", "{rate: .nan}"], "'rate' must be a finite number"),
    (["run", "cinn", "-p", "out", "x"], "use --out DIR"),
    (["run", "cinn", "-p", "seed", "1", "-p", "seed", "2"], "'seed' is given twice"),
    (["run", "cinn", "-p", "seed", "1:30"], "'seed' wants int, not str '1:30'"),
    (["run", "cinn", "-p", "seed", str(2**64)], "'seed' must be at most"),
    (["run", "cinn", "-p", "overrides", "{steps: 1, steps: 2}"], "'steps' stands twice"),
    (["run", "cinn", "-p", "device", "cuda:²"], "unknown device"),
    (["run", "cinn", "--resume", "-p", "preset", "tooy"], "unknown preset 'tooy'"),
    (["run", "tinytown"], "has no presets"),
    (["describe", "cinn", "--preset", "fulll"], "did you mean 'full'"),
    (["compare", "nowhere.json", "nowhere.json"], "is not a record"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_command_lines_are_one_line_and_status_2(arguments, message, capsys, monkeypatch):
    started = []
    monkeypatch.setattr("papermill.execute_notebook", lambda *a, **k: started.append(a))
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not started


def test_missing_data_is_one_line_with_the_command_that_gets_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path / "empty"))
    assert cli.main(["run", "cinn", "-p", "preset", "small", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "python data_scripts/mnist.py" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_with_a_run_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "cinn").mkdir()
    (tmp_path / "cinn" / "checkpoint.pt").write_bytes(b"precious")
    assert cli.main(["run", "cinn", "-p", "preset", "smoke", "--out", str(tmp_path)]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (tmp_path / "cinn" / "checkpoint.pt").read_bytes() == b"precious"


def test_numbers_are_read_as_they_look():
    pairs = [["seed", "010"], ["rate", "1e-4"], ["n", "1_000"], ["t", "0x1F"], ["f", "-3"]]
    read = cli.parsed(pairs)
    assert read == {"seed": 10, "rate": 1e-4, "n": 1000, "t": "0x1F", "f": -3}


def stays(folder):
    """Names and bytes of all files of a run folder but the lock."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != folders.LOCK]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """The folder of a finished run of cinn, made without its kernel."""
    monkeypatch.setattr(notebooks, "_execute", lambda *a: None)
    folder = notebooks.run("cinn", {"preset": "smoke", "seed": 3}, tmp_path / "kept")
    (folder / "digits").mkdir()
    for name in ("record.json", "notebook.ipynb", "digits/checkpoint.pt"):
        (folder / name).write_text('{"status": "finished"}')
    return folder


OTHERS = [  # whatever is wrong, the run that lies there stays as it is
    (["cgml_spectral", "--resume"], "holds a run of cinn, not of cgml_spectral"),
    (["cinn", "--resume", "-p", "seed", "4"], "was started with seed 3, not 4"),
    (["cinn", "--resume", "-p", "preset", "toy"], "was started with preset 'smoke', not 'toy'"),
    (["cinn", "--resume", "-p", "overrides", "{steps: 9}"], "was started with overrides {}"),
    (["cinn", "-p", "preset", "smoke"], "already holds a run (record.json)"),
]


@pytest.mark.parametrize(("arguments", "message"), OTHERS, ids=[" ".join(a) for a, _ in OTHERS])
def test_another_run_does_not_touch_what_lies_there(arguments, message, finished, capsys):
    before = stays(finished)
    assert cli.main(["run", *arguments, "--out", str(finished)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert stays(finished) == before


@pytest.mark.parametrize("name", ["notebook.ipynb", "record.json", "parameters.json"])
def test_a_new_run_overwrites_nobody_s_files(name, tmp_path, capsys):
    (tmp_path / name).write_text("mine")
    assert cli.main(["run", "cinn", "-p", "preset", "smoke", "--out", str(tmp_path)]) == 2
    assert f"already holds a run ({name})" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("made", [False, True])
def test_nothing_to_resume_is_said_and_nothing_started(made, tmp_path, capsys):
    folder = tmp_path / "typo"
    if made:
        folder.mkdir()
    assert cli.main(["run", "cinn", "--resume", "--out", str(folder)]) == 2
    assert "holds no run to resume" in capsys.readouterr().err
    assert not stays(folder)


@pytest.mark.parametrize("name", ["parameters.json", "run.json"])
@pytest.mark.parametrize("damage", ["[1]", "{", "\x00"])
def test_damaged_files_of_a_run_are_named(name, damage, finished, capsys):
    (finished / name).write_text(damage)
    before = stays(finished)
    assert cli.main(["run", "cinn", "--resume", "--out", str(finished)]) == 2
    error = capsys.readouterr().err
    assert f"{name} cannot be read" in error
    assert error.count("\n") == 1
    assert stays(finished) == before


def test_damaged_sittings_are_named(tmp_path):
    (tmp_path / "sittings.json").write_text("{")
    with pytest.raises(ConfigError, match=r"sittings\.json cannot be read"):
        folders.add_sitting(tmp_path, {})


def test_a_resumed_run_puts_its_old_record_aside(finished):
    folders.open_folder("cinn", "smoke", str(finished), True)
    assert not (finished / "record.json").exists()
    assert json.loads((finished / "earlier-record.json").read_text())["status"] == "finished"


def test_one_run_at_a_time_in_a_folder(finished, monkeypatch, capsys):
    with folders.locked(finished):
        assert cli.main(["run", "cinn", "--resume", "--out", str(finished)]) == 2
        assert "is in use by another run" in capsys.readouterr().err
        monkeypatch.setattr(folders, "RUNS", finished.parent)
        (finished / "record.json").unlink()
        finished.rename(finished.parent / "cinn")
    assert cli.main(["run", "cinn", "--resume", "--out", str(finished.parent / "cinn")]) == 0


def test_a_run_at_work_is_not_the_one_to_resume(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "RUNS", tmp_path)
    made = [tmp_path / "cinn" / f"toy-{i}" for i in range(2)]
    for folder in made:
        folder.mkdir(parents=True)
        (folder / "checkpoint.pt").touch()
        os.utime(folder, (1, 1))
    os.utime(made[1], (2, 2))
    with folders.locked(made[1]):
        os.utime(made[1], (2, 2))
        assert folders.unfinished_folder("cinn") == made[0]


def test_what_a_killed_run_was_saving_is_cleared_away(finished):
    left = finished / "digits" / ".checkpoint.pt.123.tmp"
    left.write_bytes(b"half")
    with folders.locked(finished):
        assert not left.exists()
    assert (finished / "digits" / "checkpoint.pt").exists()


def test_other_data_under_the_same_name_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(notebooks, "_execute", lambda *a: None)
    plant(tmp_path / "data", "mnist")
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path / "data"))
    folder = notebooks.run("cinn", {"preset": "small"}, tmp_path / "kept")
    assert cli.main(["run", "cinn", "--resume", "--out", str(folder)]) == 0
    source = tmp_path / "data" / "mnist" / "SOURCE.json"
    source.write_text(json.dumps({**json.loads(source.read_text()), "checksum": "f" * 64}))
    capsys.readouterr()
    assert cli.main(["run", "cinn", "--resume", "--out", str(folder)]) == 2
    assert "started on other files of 'mnist'" in capsys.readouterr().err


def test_an_out_that_is_a_file_or_empty_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "x"):
        assert cli.main(["run", "cinn", "-p", "preset", "smoke", "--out", str(place)]) == 2
        error = capsys.readouterr().err
        assert "name a folder" in error
        assert error.count("\n") == 1
    with pytest.raises(SystemExit):
        cli.main(["run", "cinn", "--out", ""])
    assert "name a folder" in capsys.readouterr().err


def test_resume_takes_the_newest_unfinished_run(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "RUNS", tmp_path)
    with pytest.raises(ConfigError, match="no unfinished 'toy' run of cinn"):
        folders.unfinished_folder("cinn", "toy")
    made = [tmp_path / "cinn" / f"toy-{i}" for i in range(5)]
    for i, folder in enumerate(made):
        (folder / "net").mkdir(parents=True)
        if i != 4:  # stopped before its first checkpoint
            (folder / "net" / "checkpoint.pt").touch()
        os.utime(folder, (i, i))
    (made[3] / "record.json").write_text('{"status": "finished"}')
    (made[2] / "record.json").write_text('{"status": "failed"}')
    os.utime(made[2], (2, 2))
    assert folders.unfinished_folder("cinn", "toy") == made[2]
    assert folders.unfinished_folder("cinn") == made[2]


def test_new_folders_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "RUNS", tmp_path)
    made = set()
    for _ in range(3):
        folder = folders.new_folder("cinn", "toy")
        folder.mkdir(parents=True)
        made.add(folder)
    assert len(made) == 3


def test_numbers_on_the_command_line_are_numbers():
    pairs = [["overrides", "{rate: 1e-4, steps: 1e3, noise: 0.1, name: e5, flag: on}"]]
    expected = {"rate": 1e-4, "steps": 1000.0, "noise": 0.1, "name": "e5", "flag": True}
    assert cli.parsed(pairs) == {"overrides": expected}


def test_list_and_describe(capsys):
    assert cli.main(["list"]) == 0
    assert "cinn" in capsys.readouterr().out
    assert cli.main(["describe", "cinn", "--preset", "full", "--json"]) == 0
    (item,) = json.loads(capsys.readouterr().out)
    assert item["parameters"] == {"cinn": 54_424_320}
    assert item["config"]["steps"] == 165_600
    assert cli.main(["describe", "cinn", "--preset", "toy"]) == 0
    assert "2 min (estimate)" in capsys.readouterr().out


def test_a_pipe_that_closes_early_is_no_error():
    command = [sys.executable, "-m", "minilib", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as listing:
        listing.stdout.close()  # as head does, when it has seen enough
        assert listing.stderr.read() == b""
    assert listing.returncode == 0


def test_a_kernel_that_died_at_its_start_is_started_again():
    errors = [RuntimeError("Kernel died before replying to kernel_info")] * 2
    tried = []

    def execute():
        tried.append(0)
        if len(tried) <= len(errors):
            raise errors[len(tried) - 1]
        return "done"

    assert notebooks.started(execute) == "done"
    assert len(tried) == 3
    tried.clear()
    errors.append(errors[0])
    with pytest.raises(RuntimeError, match="Kernel died"):
        notebooks.started(execute)
    tried.clear()
    errors[0] = RuntimeError("a cell failed")
    with pytest.raises(RuntimeError, match="a cell failed"):
        notebooks.started(execute)
    assert len(tried) == 1


@pytest.mark.chapter
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_saves_and_says_how_to_go_on(tmp_path, number):
    command = [sys.executable, "-m", "minilib", "run", "cinn", "--out", str(tmp_path / "out")]
    command += ["-p", "overrides", "{steps: 1000000, blocks: 1, width: 4}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    history = tmp_path / "out" / "cinn" / "history.jsonl"
    deadline = time.time() + 300
    while time.time() < deadline and not (history.exists() and history.stat().st_size):
        assert process.poll() is None, process.communicate()[1][-2000:]
        time.sleep(0.1)
    process.send_signal(number)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 130, error[-2000:]
    last = error.strip().splitlines()[-1]
    assert last.startswith("minilib: stopped; go on with: python -m minilib run cinn --resume")
    assert "Traceback" not in error
    assert (tmp_path / "out" / "cinn" / "checkpoint.pt").exists()


@pytest.mark.chapter
def test_plain_papermill_refuses_a_misspelt_parameter(tmp_path):
    command = [sys.executable, "-m", "papermill", "chapter://mode_collapse"]
    command += [str(tmp_path / "x.ipynb"), "-p", "preset", "smoke", "-p", "sede", "3"]
    command += ["-p", "out", str(tmp_path / "out"), "--cwd", str(paths.CHAPTERS)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "unknown parameter 'sede': did you mean 'seed'" in done.stderr
    assert not (tmp_path / "out").exists()
