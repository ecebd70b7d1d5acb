"""Chapters under papermill: strict parameters, run folders, ``chapter://`` paths."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch

from minilib import chapters, pretrained, processes
from minilib.config import ConfigError, Plan
from minilib.data import checksum
from minilib.folders import (
    PARAMETERS,
    locked,
    new_folder,
    note_start,
    read_parameters,
    refuse_other,
    refuse_used,
    released_there,
    unfinished_folder,
    write_json,
)
from minilib.parameters import BUNDLED, check, refuse_unknown
from minilib.paths import BUILD, CHAPTERS, data_root
from minilib.processes import World
from minilib.results import LIBRARY, RecordError, read
from minilib.signals import interrupted_children, passed_on
from minilib.tables import duration

KERNEL_START = 300  # seconds; a busy machine takes more than the usual 60
LARGEST_SEED = 2**62  # some way below what torch takes: trainings add to it
STARTS = 3  # how often a kernel that dies at its start is tried
T = TypeVar("T")


class ChapterHandler:
    """Lets papermill read ``chapter://cinn`` (registered as an entry point of ``papermill.io``)."""

    @staticmethod
    def read(path: str) -> str:
        """The chapter as notebook JSON; ``?released=`` announces released weights."""
        import nbformat  # only here: it takes seconds, and most commands read no notebook

        name, _, weights = path.removeprefix("chapter://").partition("?released=")
        notebook = chapters.read(name)
        if weights:
            files = pretrained.unpacked(weights)
            pretrained.insert(notebook.cells, nbformat.v4.new_code_cell, files)
        return nbformat.writes(notebook)

    @staticmethod
    def listdir(path: str) -> list[str]:
        """All chapters."""
        return [f"chapter://{name}" for name in chapters.names()]

    @staticmethod
    def write(buffer: str, path: str) -> None:
        """Refused: chapters are sources."""
        raise ConfigError(f"{path} is a source: give papermill an .ipynb file to write to")

    @staticmethod
    def pretty_path(path: str) -> str:
        """The path as it is."""
        return path


def quiet_kernels(folder: Path) -> None:
    """Give kernels an IPython profile of their own: no start-up warnings, no user settings."""
    profile = folder / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_kernel_config.py").write_text("c.IPKernelApp.log_level = 50\n")
    os.environ["IPYTHONDIR"] = str(folder)


def own_library() -> None:
    """Let kernels import the minilib that runs here, not that of another clone in the same venv."""
    paths = [str(LIBRARY), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, paths)))


def keep_memory() -> None:
    """Let kernels reuse the memory of freed tensors; variables of glibc, ignored elsewhere.

    By default glibc hands large blocks back and asks for them again in every training step, and
    clearing their pages takes 10 to 25% of a small network's step.
    """
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 << 20))
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**31 - 1))


def started(execute: Callable[[], T]) -> T:
    """Execute; once more where the kernel died before it was there, for then nothing has run.

    Kernels that start at the same time now and then pick the same port, and one of them dies.

    Raises:
        Exception: whatever ``execute`` raises otherwise, or at its third try.
    """
    for _ in range(STARTS - 1):
        try:
            return execute()
        except RuntimeError as error:
            if not str(error).startswith("Kernel died before replying"):
                raise
    return execute()


def run(
    chapter: str,
    parameters: Mapping[str, Any],
    out: Path | None = None,
    resume: bool = False,
    count: int = 1,
    weights: Mapping[str, pretrained.Weights] | None = None,
) -> Path:
    """Execute a chapter under papermill; the notebook and its record land in the run folder.

    Args:
        chapter: its name.
        parameters: the chapter's parameters, without ``out`` and ``resume``.
        out: run folder; None picks a new one, or with ``resume`` the newest unfinished one.
        resume: go on from the folder's checkpoints, with the parameters it was started with.
        count: processes that share the work, one a GPU.  Each executes the chapter; the notebook
            of the first is the run's, the others' go to ``processes/``.
        weights: network -> released tensors that take the place of its training.

    Returns:
        The run folder.

    Raises:
        ConfigError, DataMissing: what would not run, before a kernel or a folder is made.
        Stopped: a signal came; training was saved first.
        papermill.PapermillExecutionError: a cell failed.
    """
    world = processes.world()
    if world.size > 1:
        return _run_share(chapter, parameters, out, resume, world)
    refuse_unknown(parameters)
    refuse_odd(parameters)
    module = chapters.load(chapter)
    if not hasattr(module, "PRESETS"):
        raise ConfigError(f"chapter '{chapter}' has no presets: it trains nothing")
    folder = (out or own_folder(module, chapter, parameters, resume)).resolve()
    if resume:
        refuse_other(folder, chapter, parameters, {})
    given = {**(read_parameters(folder) if resume else {}), **parameters}
    plan = check(module.PRESETS, given)[1]
    files = weights_of(folder, weights or {}) if resume else dict(weights or {})
    pretrained.check(module, plan, files)
    if files and count > 1:
        raise ConfigError("--released trains nothing: leave --processes out")
    refuse_unbuildable(module, plan)
    here = data_here(plan.data)
    refuse_other(folder, chapter, parameters, here) if resume else refuse_used(folder)
    with locked(folder):
        if not resume:
            refuse_used(folder)  # once more: another may have started here in between
        write_json(folder / PARAMETERS, given)
        note_start(folder, chapter, here, {n: dataclasses.astuple(w) for n, w in files.items()})
        print(f"{chapter} ({given.get('preset', 'toy')}) -> {folder}", flush=True)
        if count > 1:
            _launch(chapter, given, folder, resume, count)
        else:
            given = {**given, "out": str(folder), "resume": resume}
            _execute(chapter, given, folder / "notebook.ipynb", files)
    return folder


def own_folder(module: Any, chapter: str, parameters: Mapping[str, Any], resume: bool) -> Path:
    """The folder of a run for which none is named: a new one, or the newest unfinished one.

    Raises:
        ConfigError: a parameter that does not fit, or nothing to resume.
    """
    preset = parameters.get("preset", "" if resume else "toy")
    if preset:
        check(module.PRESETS, parameters)  # before a folder is looked for under a misspelt name
    return unfinished_folder(chapter, preset) if resume else new_folder(chapter, preset)


def weights_of(
    folder: Path, asked: Mapping[str, pretrained.Weights]
) -> dict[str, pretrained.Weights]:
    """The released weights of a run that goes on: those it was started with.

    Raises:
        ConfigError: others are asked for.
    """
    there = {name: pretrained.Weights(*place) for name, place in released_there(folder).items()}
    if asked and asked != there:
        raise ConfigError(f"{folder} was started with other released weights: start anew")
    return there


def refuse_odd(parameters: Mapping[str, Any]) -> None:
    """Refuse what PyTorch would only stumble over in the kernel.

    Raises:
        ConfigError: a seed that is too large, or a device with digits of another script.
    """
    seed, device = parameters.get("seed", 0), parameters.get("device", "auto")
    if isinstance(seed, int) and seed > LARGEST_SEED:
        raise ConfigError(f"'seed' must be at most {LARGEST_SEED}, not {seed}")
    if isinstance(device, str) and not device.isascii():
        raise ConfigError(f"unknown device '{device}'; there are: auto, cpu, cuda, cuda:1, mps")


def refuse_unbuildable(module: Any, plan: Plan) -> None:
    """Build the networks without their numbers, so that settings that clash are refused at once.

    Raises:
        ConfigError: the chapter's word on its settings.
    """
    with contextlib.suppress(RuntimeError, NotImplementedError), torch.device("meta"):
        module.networks(plan.config)


def data_here(name: str) -> dict[str, str]:
    """{name: checksum} of a plan's data set; {} for data that the project itself makes."""
    return {} if name in BUNDLED else {name: checksum(name)}


def _run_share(
    chapter: str, parameters: Mapping[str, Any], out: Path | None, resume: bool, world: World
) -> Path:
    """What one of several processes does: the same chapter, in a common folder."""
    if out is None:
        raise ConfigError("several processes need a common run folder: give --out")
    folder = out.resolve()
    given = {**(read_parameters(folder) if resume else {}), **parameters}
    notebook = folder / ("notebook.ipynb" if world.first else f"processes/{world.rank}.ipynb")
    notebook.parent.mkdir(parents=True, exist_ok=True)
    _execute(chapter, {**given, "out": str(folder), "resume": resume}, notebook)
    return folder


def _launch(
    chapter: str, parameters: Mapping[str, Any], folder: Path, resume: bool, count: int
) -> None:
    """Start the processes by torchrun and wait for them.

    Raises:
        Failed: a check of the chapter did not hold.
        Stopped: a signal came, or one of them failed; what they said stands above.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", str(count), "-m", "minilib", "run", chapter]
    for name, value in parameters.items():
        command += ["-p", name, json.dumps(value)]
    command += ["--out", str(folder), *(["--resume"] if resume else [])]
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}
    with subprocess.Popen(command, env=environment) as torchrun, passed_on(torchrun):
        status = torchrun.wait()
    if status and failed_check(folder):
        raise Failed(f"a check of {chapter} failed; see {folder / 'record.json'}")
    if status:
        again = f"python -m minilib run {chapter} --resume --out {folder} --processes {count}"
        raise Stopped(f"stopped; if it had trained, go on with: {again}")


def failed_check(folder: Path) -> bool:
    """Whether the run's record says that a check failed."""
    try:
        return read(folder / "record.json")["status"] == "failed"
    except RecordError:
        return False


class Failed(RuntimeError):
    """A check of a chapter did not hold in one of several processes; the message is one line."""


class Stopped(RuntimeError):
    """A signal ended a run; the message is one line that says how to go on."""


def _execute(
    chapter: str,
    parameters: dict[str, Any],
    output: Path,
    weights: Mapping[str, pretrained.Weights] = MappingProxyType({}),
) -> None:
    """papermill in a thread, so that SIGINT and SIGTERM reach the kernel as an interrupt.

    The kernel then finishes its training step and saves; without this it would just be killed.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    quiet_kernels(BUILD / "ipython")
    os.environ["MINILIB_DATA"] = str(data_root().resolve())
    own_library()
    keep_memory()
    warnings.filterwarnings("ignore", "the file is not specified with any extension")
    failed: list[BaseException] = []

    source = f"chapter://{chapter}"
    if weights:
        source += f"?released={pretrained.packed(weights)}"

    def execute() -> None:
        papermill.execute_notebook(
            source, str(output), parameters=parameters, kernel_name="python3",
            cwd=str(CHAPTERS), progress_bar=sys.stderr.isatty(), start_timeout=KERNEL_START,
        )  # fmt: skip

    def work() -> None:
        try:
            started(execute)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    with interrupted_children() as stopped:
        thread.start()
        while thread.is_alive():
            thread.join(0.2)
    again = f"go on with: python -m minilib run {chapter} --resume --out {output.parent}"
    if stopped:
        raise Stopped(f"stopped; {again}")
    if failed and isinstance(failed[0], DeadKernelError):
        raise Stopped(f"the kernel died, perhaps for want of memory; {again}")
    if failed:
        raise failed[0]


def description_text(item: chapters.Description) -> str:
    """A description as aligned lines for the terminal."""
    how = "measured" if item.measured else "estimate"
    lines = [f"{item.chapter} --preset {item.preset} --task {item.task}"]
    lines += [f"  network   {n:24} {count:>13,} parameters" for n, count in item.parameters.items()]
    lines += [f"  data      {item.data}", f"  hardware  {item.hardware}"]
    lines += [f"  time      {duration(item.minutes)} ({how})"]
    lines += [f"  {name:20} {value}" for name, value in item.config.items()]
    return "\n".join(lines)


def description_json(items: list[chapters.Description]) -> list[dict[str, Any]]:
    """Descriptions as plain data."""
    return [dataclasses.asdict(item) for item in items]
