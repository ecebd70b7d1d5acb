"""One run of one chapter: its folder, its training, its measurements, its record."""

import dataclasses
import math
import operator
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minilib import chapters, data, processes, results, speed, training
from minilib.config import ConfigError, Plan, Presets, fingerprint, nearest
from minilib.folders import add_sitting, open_folder
from minilib.parameters import check, injected, refuse_unknown
from minilib.tables import Table

COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


class CheckFailed(AssertionError):
    """A claim of the chapter did not hold; the record is written all the same."""


def start(
    chapter: str,
    presets: Presets,
    *,
    preset: str,
    task: str = "",
    seed: int = 0,
    device: str = "auto",
    out: str = "",
    resume: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> "Run":
    """Check the chapter's parameters and open its run folder.

    Args:
        chapter: the chapter's name.
        presets: its presets.
        preset, task, seed, device, out, resume, overrides: the chapter's parameters.

    Raises:
        ConfigError: unknown or mistyped parameter, preset, task or override; no such device.
    """
    given = {"preset": preset, "task": task, "seed": seed, "device": device, "out": out}
    given |= {"resume": resume, "overrides": overrides or {}}
    refuse_unknown(injected())
    task, plan, where = check(presets, given)
    where = processes.join(where)
    folder = shared_folder(chapter, preset, out, resume)
    torch.manual_seed(seed)
    return Run(chapter, preset, task, plan, seed, where, folder, resume, dict(overrides or {}))


def shared_folder(chapter: str, preset: str, out: str, resume: bool) -> Path:
    """``folders.open_folder`` by the first process; the others wait and use it too.

    Raises:
        ConfigError: several processes, and no ``out`` that tells them where.
    """
    world = processes.world()
    if world.size > 1 and not out:
        raise ConfigError("several processes need a common run folder: give --out")
    folder = open_folder(chapter, preset, out, resume) if world.first else Path(out)
    processes.wait()
    return folder


def meets(value: float, target: str) -> bool:
    """Whether a value meets a target such as ``">= 0.93"``, ``"< 1"`` or ``"0.8 to 1.2"``.

    Raises:
        ConfigError: the target cannot be read.
    """
    low, to, high = target.partition(" to ")
    if to:
        return float(low) <= value <= float(high)
    sign, _, number = target.partition(" ")
    if sign not in COMPARE:
        raise ConfigError(nearest(sign, COMPARE, "comparison"))
    return bool(COMPARE[sign](value, float(number)))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Run:
    """What a chapter measures about itself; ``finish`` writes it to ``record.json``.

    Attributes:
        config: the chapter's hyper-parameters, presets and overrides applied.
        preset, task, seed, device, folder: the chapter's parameters, resolved.
    """

    def __init__(
        self,
        chapter: str,
        preset: str,
        task: str,
        plan: Plan,
        seed: int,
        device: torch.device,
        folder: Path,
        resume: bool,
        overrides: dict[str, Any],
    ) -> None:
        """Use ``start``, which checks its arguments."""
        self.chapter, self.preset, self.task, self.plan = chapter, preset, task, plan
        self.seed, self.device, self.folder, self.resume = seed, device, folder, resume
        self.overrides, self.config = overrides, plan.config
        self.metrics: dict[str, float] = {}
        self.checks: dict[str, bool] = {}
        self.targets: dict[str, dict[str, Any]] = {}
        self._parameters: dict[str, int] = {}
        self._data: dict[str, str] = {}
        self._protocol: list[str] = []
        self._training: dict[str, dict[str, Any]] = {}
        self._earlier, self._clock = 0.0, time.perf_counter()
        self._commit, self._code = results.commit(), results.code_hashes(chapter)
        sitting = {"started": _now(), "commit": self._commit, "code": fingerprint(self._code)}
        self._sittings = add_sitting(folder, sitting) if processes.world().first else [sitting]
        if plan.data != "none":
            self.dataset(plan.data, data.checksum(plan.data))

    @property
    def identity(self) -> str:
        """Fingerprint of everything a checkpoint of this run depends on."""
        return fingerprint(self.chapter, self.preset, self.task, self.config, self.seed)

    def train(
        self,
        name: str,
        step: Callable[[int], Mapping[str, Tensor]],
        state: training.State,
        steps: int,
        *,
        seed: int | None = None,
        **options: Any,
    ) -> training.Fitted:
        """``training.fit`` in this run's folder, with its seed, identity and ``resume``.

        Long presets (``small``, ``full``) write TensorBoard files too.  A configuration that is a
        ``speed.Speed`` decides on number format, memory layout, compilation and micro-batches.
        """
        options.setdefault("tensorboard", self.preset in ("small", "full"))
        options.setdefault("micro_batches", getattr(self.config, "micro_batches", 1))
        speed.prepare(self.config, state.networks.values())
        fitted = training.fit(
            speed.in_precision(self.config, step, self.device),
            state,
            steps,
            folder=self.folder / name,
            seed=self.seed if seed is None else seed,
            identity=f"{self.identity}-{name}",
            resume=self.resume,
            description=options.pop("description", name),
            **options,
        )
        self._earlier += fitted.earlier
        self._training[name] = {"steps": fitted.steps, "seconds": round(fitted.seconds, 2)}
        return fitted

    def metric(self, name: str, value: float | Tensor, target: str = "") -> float:
        """Record one number under a dotted name (and its target, if it has one); return it."""
        self.metrics[name] = float(value)
        if target:
            self.target(name, value, target)
        return self.metrics[name]

    def check(
        self, name: str, held: Any, expected: str, presets: tuple[str, ...] | None = None
    ) -> None:
        """Record whether a claim held; one that did not fails the chapter.

        Args:
            name: short name.
            held: whether it held.
            expected: what was expected, in one line.
            presets: where it is judged; None = everywhere.

        Raises:
            CheckFailed: it did not hold; the record was written first.
        """
        if presets is not None and self.preset not in presets:
            print(f"– {expected} (judged at {', '.join(presets)} only)")
            return
        self.checks[name] = bool(held)
        if not held:
            self._write("failed")
            raise CheckFailed(f"check '{name}' failed: expected {expected}")
        print(f"✓ {expected}")

    def target(self, name: str, value: float | Tensor, target: str) -> bool:
        """Record what we want to reach (">= 0.93", "0.8 to 1.2"), and whether it was met."""
        met = meets(float(value), target)
        self.targets[name] = {"value": _number(value), "target": target, "met": met}
        return met

    def parameters(self, **networks: nn.Module) -> None:
        """Record the networks' parameter counts."""
        self._parameters |= {n: chapters.count_parameters(net) for n, net in networks.items()}

    def dataset(self, name: str, checksum: str) -> None:
        """Record which data was used."""
        self._data[name] = checksum

    def protocol(self, sentence: str) -> None:
        """Record how something was measured."""
        self._protocol.append(sentence)

    def record(self, status: str = "finished") -> dict[str, Any]:
        """The record as it stands."""
        return {
            "chapter": self.chapter,
            "preset": self.preset,
            "task": self.task,
            "overrides": self.overrides,
            "seed": self.seed,
            "config": dataclasses.asdict(self.config),
            "commit": self._commit,
            "lock": results.lock_hash(),
            "code": self._code,
            "sittings": self._sittings,
            "data": self._data,
            "device": results.device_name(self.device),
            "processes": processes.world().size,
            "torch": torch.__version__,
            "python": sys.version.split()[0],
            "started": self._sittings[0]["started"],
            "finished": _now(),
            "seconds": round(self._earlier + time.perf_counter() - self._clock, 2),
            "training": self._training,
            "peak_memory_mb": round(results.peak_memory_mb(self.device), 1),
            "parameters": self._parameters,
            "metrics": {name: _number(value) for name, value in self.metrics.items()},
            "checks": self.checks,
            "targets": self.targets,
            "protocol": self._protocol,
            "status": status,
        }

    def _write(self, status: str) -> dict[str, Any]:
        record = self.record(status)
        if processes.world().first:
            results.write(record, self.folder / "record.json")
        return record

    def finish(self) -> "Summary":
        """Write ``record.json``; the last line of a chapter, which shows the summary.

        A run with a check that failed (and was passed over by hand) stays "failed".
        """
        return Summary(self._write("finished" if all(self.checks.values()) else "failed"))


def _number(value: float | Tensor) -> float | None:
    return float(value) if math.isfinite(float(value)) else None


def _text(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


class Summary:
    """A record as a small table, in HTML and in plain text."""

    def __init__(self, record: dict[str, Any]) -> None:
        """Keep the record."""
        self.record = record

    def rows(self) -> list[tuple[str, str, str]]:
        """``(name, value, remark)`` for targets, checks and the remaining metrics."""
        r = self.record
        rows = [
            (n, _text(t["value"]), f"target {t['target']}: {'met' if t['met'] else 'not met'}")
            for n, t in r["targets"].items()
        ]
        rows += [(n, _text(v), "") for n, v in r["metrics"].items() if n not in r["targets"]]
        return [*rows, *((n, "held" if ok else "failed", "check") for n, ok in r["checks"].items())]

    def table(self) -> Table:
        """The rows under a caption that says which run this was."""
        r = self.record
        seconds = sum(t["seconds"] for t in r["training"].values())
        caption = (
            f"Run record: {r['chapter']}, preset {r['preset']}, seed {r['seed']}, "
            f"on {r['device']}; "
            f"{seconds:.0f} s of training, {r['seconds']:.0f} s in all, "
            f"{r['peak_memory_mb']:.0f} MB at most."
        )
        return Table(["measure", "value", "remark"], self.rows(), caption)

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()
