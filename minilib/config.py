"""Hyper-parameters: frozen dataclasses, presets, and strict overrides.

A chapter declares every hyper-parameter once, with its unit, its origin and its allowed values::

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        steps: int = option(1500, "optimiser steps", "ours", low=0)

and its presets as ``{preset: {task: Plan(Config(...), ...)}}``.  ``resolve`` picks one of them and
refuses everything it does not know, in one line that names the nearest thing it does know.
"""

import dataclasses
import difflib
import hashlib
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PRESET_NAMES = ("smoke", "toy", "study", "small", "full")


class ConfigError(ValueError):
    """Something was asked for that does not exist; the message is one line."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One task at one preset: the hyper-parameters, and what it takes to run them.

    Args:
        config: the chapter's own frozen dataclass.
        data: name of the data set (see ``minilib.data``).
        hardware: what it is meant to run on, in words.
        minutes: estimated wall-clock minutes there; replaced by a measurement where one exists.
    """

    config: Any
    data: str
    hardware: str
    minutes: float


Presets = Mapping[str, Mapping[str, Plan]]


def option(
    default: Any,
    unit: str,
    origin: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] | None = None,
    last: bool = False,
) -> Any:
    """A dataclass field with a unit, an origin, and the values it may take.

    Args:
        default: the value unless a preset or an override says otherwise.
        unit: what the number counts ("optimiser steps", "pixels", "nats"), or what it is.
        origin: where the value comes from: "paper 4.1", "released code" or "ours".
        low: smallest allowed value, or None.
        high: largest allowed value, or None.
        choices: the only allowed values, or None.
        last: whether it stands at the end of the chapter's table, wherever it was declared.
    """
    metadata = {"unit": unit, "origin": origin, "low": low, "high": high, "choices": choices}
    metadata["last"] = last
    return dataclasses.field(default=default, metadata=metadata)


def nearest(wrong: str, allowed: Iterable[str], what: str) -> str:
    """One line: ``unknown WHAT 'wrong': did you mean 'right'? Allowed: a, b, c``."""
    names = [str(name) for name in allowed]
    close = difflib.get_close_matches(str(wrong), names, n=1, cutoff=0.5)
    hint = f" did you mean '{close[0]}'?" if close else ""
    return f"unknown {what} '{wrong}':{hint} Allowed: {', '.join(names)}"


def resolve(
    presets: Presets, preset: str, task: str = "", overrides: Mapping[str, Any] | None = None
) -> tuple[str, Plan]:
    """Pick a preset's task and apply overrides to its config.

    Args:
        presets: the chapter's presets.
        preset: one of its names.
        task: one of the preset's tasks; "" takes the first.
        overrides: {field: value}; values are checked against the field's type and range.

    Returns:
        The task's name, and its plan with the overridden config.

    Raises:
        ConfigError: unknown preset, task or field; wrong type; value out of range.
    """
    if preset not in presets:
        raise ConfigError(nearest(preset, presets, "preset"))
    tasks = presets[preset]
    task = task or next(iter(tasks))
    if task not in tasks:
        raise ConfigError(nearest(task, tasks, f"task of preset '{preset}'"))
    plan = tasks[task]
    return task, dataclasses.replace(plan, config=override(plan.config, overrides or {}))


def override(config: Any, overrides: Mapping[str, Any]) -> Any:
    """A copy of ``config`` with some fields replaced, every value checked.

    Raises:
        ConfigError: unknown field, wrong type, or value out of range.
    """
    fields = {f.name: f for f in dataclasses.fields(config)}
    hints = typing.get_type_hints(type(config))
    changed = {}
    for name, value in overrides.items():
        if name not in fields:
            raise ConfigError(nearest(name, fields, "override"))
        changed[name] = checked(name, value, hints[name])
    new = dataclasses.replace(config, **changed)
    validate(new)
    return new


def checked(name: str, value: Any, hint: Any) -> Any:
    """``value`` if it fits the annotation ``hint`` (an int passes for a float, a list for a tuple).

    Raises:
        ConfigError: it does not fit.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(nearest(value, arguments, f"value of '{name}'"))
        return value
    if origin is tuple and isinstance(value, list | tuple):
        kinds = (arguments[0],) * len(value) if Ellipsis in arguments else arguments
        if len(kinds) == len(value):
            return tuple(checked(name, v, kind) for v, kind in zip(value, kinds, strict=True))
    elif origin in (typing.Union, types.UnionType):
        for kind in arguments:
            try:
                return checked(name, value, kind)
            except ConfigError:
                continue
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif hint is int and isinstance(value, float) and value.is_integer():
        return int(value)  # 1e5 is how one writes a hundred thousand
    elif isinstance(value, origin or hint) and (hint is bool or not isinstance(value, bool)):
        return value
    wanted = getattr(hint, "__name__", str(hint)) if origin is None else str(hint)
    raise ConfigError(f"'{name}' wants {wanted}, not {type(value).__name__} {value!r}")


def validate(config: Any) -> None:
    """Check every field of a config against its ``low``, ``high`` and ``choices``.

    Raises:
        ConfigError: the first field that is out of range.
    """
    for field in dataclasses.fields(config):
        value, rule = getattr(config, field.name), field.metadata
        if rule.get("choices") is not None and value not in rule["choices"]:
            raise ConfigError(nearest(value, rule["choices"], f"value of '{field.name}'"))
        for number in value if isinstance(value, tuple) else (value,):
            _check_range(field.name, number, rule)


def _check_range(name: str, number: Any, rule: Mapping[str, Any]) -> None:
    low, high = rule.get("low"), rule.get("high")
    if isinstance(number, float) and not math.isfinite(number):
        raise ConfigError(f"'{name}' must be a finite number, not {number}")
    if number is None:
        return
    if low is not None and number < low:
        raise ConfigError(f"'{name}' must be at least {low}, not {number}")
    if high is not None and number > high:
        raise ConfigError(f"'{name}' must be at most {high}, not {number}")


def fingerprint(*parts: Any) -> str:
    """12 hex digits that change when any part (dataclasses, dicts, numbers, strings) changes."""

    def plain(value: Any) -> Any:
        is_config = dataclasses.is_dataclass(value) and not isinstance(value, type)
        return dataclasses.asdict(value) if is_config else str(value)

    text = json.dumps(parts, default=plain, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def rows(config: Any) -> list[tuple[str, Any, str, str]]:
    """``(name, value, unit, origin)`` for every hyper-parameter, in order: the chapter's table."""
    fields = sorted(dataclasses.fields(config), key=lambda f: f.metadata.get("last", False))
    return [
        (f.name, getattr(config, f.name), f.metadata.get("unit", ""), f.metadata.get("origin", ""))
        for f in fields
    ]
