"""Several processes train what one would: averaged gradients, common stops, exact resume."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import process_job
import pytest
import torch

from minilib import processes
from minilib.config import ConfigError
from minilib.processes import World

ROOT = Path(__file__).resolve().parents[1]
JOB = ROOT / "tests/process_job.py"


def start(*command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=ROOT, env=environment,
        timeout=300,
    )  # fmt: skip


def torchrun(folder: Path, count: int, *flags: str) -> subprocess.CompletedProcess[str]:
    """The job, started as a user starts several processes."""
    folder.mkdir(exist_ok=True)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    return start(*command, str(JOB), str(folder), *flags)


def _in_fork(rank: int, count: int, port: int, folder: Path, flags: tuple[str, ...]) -> None:
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": count}
    where |= {"RANK": rank, "LOCAL_RANK": rank}
    os.environ.update({name: str(value) for name, value in where.items()} if count > 1 else {})
    sys.argv = ["process_job.py", str(folder), *flags]
    os.dup2(os.open(folder / f"said-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    process_job.main()


def job(folder: Path, count: int, *flags: str) -> tuple[list[int | None], str]:
    """The job in forks of a process that has torch already; exit codes, and what they said."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["process_job", "accelerate"])
    arguments = [(rank, count, port, folder, flags) for rank in range(count)]
    children = [context.Process(target=_in_fork, args=each) for each in arguments]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    said = [(folder / f"said-{rank}.txt").read_text() for rank in range(count)]
    return [child.exitcode for child in children], "\n".join(said)


def found(folder: Path, rank: int = 0) -> dict[str, Any]:
    return torch.load(folder / f"found-{rank}.pt", weights_only=True)


def differences(a: dict[str, Any], b: dict[str, Any]) -> float:
    pairs = [(a[k][n], b[k][n]) for k in ("weights", "average") for n in a[k]]
    return max((x.double() - y.double()).abs().max().item() for x, y in pairs)


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    one, two = job(tmp_path / "one", 1), torchrun(tmp_path / "two", 2)
    assert one[0] == [0], one[1]
    assert two.returncode == 0, two.stderr[-2000:]
    first, second = (found(tmp_path / "two", rank) for rank in (0, 1))
    assert differences(first, second) == 0
    alone = found(tmp_path / "one")
    assert differences(first, alone) <= 1e-5
    torch.testing.assert_close(first["loss"], alone["loss"], rtol=0, atol=1e-5)
    assert torch.equal(first["loss"], second["loss"])


def test_a_loss_summed_over_the_batch_is_equal_once_it_is_rescaled(tmp_path: Path) -> None:
    results = {}
    for name, count, how in (("one", 1, "plain"), ("two", 2, "rescaled"), ("off", 2, "plain")):
        codes, said = job(tmp_path / name, count, "--summed", how)
        assert codes == [0] * count, said
        results[name] = found(tmp_path / name)
    assert differences(results["two"], found(tmp_path / "two", 1)) == 0
    assert differences(results["one"], results["two"]) <= 1e-5
    assert differences(results["one"], results["off"]) > 1e-3


def test_one_process_is_told_to_stop_all_stop_and_resume_to_the_bit(tmp_path: Path) -> None:
    codes, said = job(tmp_path / "whole", 2, "--batch-norm")
    assert codes == [0, 0], said
    codes, _ = job(tmp_path / "killed", 2, "--batch-norm", "--stop-at", "11")
    assert 0 not in codes
    steps = torch.load(tmp_path / "killed/training/checkpoint.pt", weights_only=True)["step"]
    assert steps == 12
    codes, said = job(tmp_path / "killed", 2, "--batch-norm", "--resume")
    assert codes == [0, 0], said
    for rank in (0, 1):
        assert differences(found(tmp_path / "whole", rank), found(tmp_path / "killed", rank)) == 0
    _, said = job(tmp_path / "killed", 1, "--batch-norm", "--resume")
    assert "belongs to another configuration" in said


def test_a_batch_that_cannot_be_split_is_one_clear_line(tmp_path: Path) -> None:
    codes, said = job(tmp_path, 2, "--bad-batch")
    assert 0 not in codes
    assert "a batch of 7 cannot be split over 2 processes" in said


@pytest.mark.parametrize("size", [1, 2, 4])
def test_shares_make_up_the_batch(size: int) -> None:
    batch = list(range(8))
    shares = [batch[World(rank, size).share(8)] for rank in range(size)]
    assert [i for share in shares for i in share] == batch
    assert {len(share) for share in shares} == {8 // size}


def test_shares_must_be_equal() -> None:
    with pytest.raises(ConfigError, match="a batch of 8 cannot be split over 3 processes"):
        World(0, 3).share(8)


def test_gradients_are_cut_into_buckets_of_one_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "BUCKET", 10)
    tensors = [torch.zeros(n) for n in (4, 6, 1, 30, 2)] + [torch.zeros(3, dtype=torch.float64)]
    sizes = [[t.numel() for t in bucket] for bucket in processes._buckets(tensors)]
    assert sizes == [[4, 6], [1], [30], [2], [3]]


def test_a_process_alone_needs_nobody() -> None:
    assert processes.world() == World(0, 1)
    assert processes.largest([3, 0]) == [3, 0]
    assert processes.join(torch.device("cpu")) == torch.device("cpu")
    processes.wait()


@pytest.mark.chapter
def test_a_chapter_runs_in_two_processes_and_leaves_one_record(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = ["-m", "minilib", "run", "cgml_spectral", "-p", "preset", "smoke", "-p", "device", "cpu"]
    done = start(*run, "--processes", "2", "--out", str(out))
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    record = json.loads((out / "record.json").read_text())
    assert (record["status"], record["processes"]) == ("finished", 2)
    assert len(record["sittings"]) == 1
    assert (out / "notebook.ipynb").is_file()
    assert (out / "processes/1.ipynb").is_file()
    again = start(*run, "--processes", "2", "--out", str(out))
    assert again.returncode == 2
    assert "already holds a run" in again.stderr


def test_processes_of_torchrun_need_a_common_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    from minilib import notebooks

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ConfigError, match="give --out"):
        notebooks.run("mode_collapse", {"preset": "smoke"})
