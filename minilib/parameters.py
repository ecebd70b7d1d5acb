"""The parameters every chapter takes, and what is refused before a run starts."""

import sys
from collections.abc import Mapping
from typing import Any

import torch

from minilib import data, speed
from minilib.config import ConfigError, Plan, Presets, checked, nearest, resolve

PARAMETERS: dict[str, Any] = {
    "preset": str,
    "task": str,
    "seed": int,
    "device": str,
    "out": str,
    "resume": bool,
    "overrides": dict,
}
BUNDLED = ("none", "digits", "tinytown")  # nothing to download


def refuse_unknown(parameters: Mapping[str, Any]) -> None:
    """Refuse parameters no chapter has, and values of the wrong type.

    Raises:
        ConfigError: the first of them.
    """
    for name, value in parameters.items():
        if name not in PARAMETERS:
            raise ConfigError(nearest(name, PARAMETERS, "parameter"))
        checked(name, value, PARAMETERS[name])


def check(presets: Presets, given: Mapping[str, Any]) -> tuple[str, Plan, torch.device]:
    """Check a chapter's parameters, all that can be checked before anything is written.

    Args:
        presets: the chapter's presets.
        given: {parameter: value}; those left out have the chapters' usual defaults.

    Returns:
        The task, its plan with overrides applied, and the device.

    Raises:
        ConfigError: unknown or mistyped parameter, preset, task or override; no such device.
        DataMissing: the plan's data is not on this machine.
    """
    refuse_unknown(given)
    seed = given.get("seed", 0)
    if seed < 0:
        raise ConfigError(f"'seed' must be at least 0, not {seed}")
    task, plan = resolve(
        presets, given.get("preset", "toy"), given.get("task", ""), given.get("overrides")
    )
    where = pick_device(given.get("device", "auto"))
    speed.refuse(plan.config, where)
    require_data(plan.data)
    return task, plan, where


def require_data(name: str) -> None:
    """Refuse to start without the data a plan names.

    Raises:
        DataMissing: it is not on this machine; the message names the command that gets it.
    """
    if name not in BUNDLED:
        data.dataset_folder(name)


def injected() -> dict[str, Any]:
    """The parameters that papermill put into the notebook this runs in, if it did.

    papermill itself only warns about a misspelt parameter; its cell is the one in the kernel's
    input history that starts with ``# Parameters``.
    """
    main = sys.modules.get("__main__")
    cells = [c for c in getattr(main, "In", []) if c.lstrip().startswith("# Parameters\n")]
    scope: dict[str, Any] = {}
    for cell in cells:
        exec(cell, {}, scope)
    return scope


def pick_device(name: str) -> torch.device:
    """``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        ConfigError: not a device, or not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise ConfigError(nearest(name, ("auto", "cpu", "cuda", "cuda:1", "mps"), "device"))
    there = {
        "cpu": True,
        "cuda": int(index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there[kind]:
        raise ConfigError(f"device '{name}' is not there: torch sees none; use 'cpu'")
    return torch.device(name)
