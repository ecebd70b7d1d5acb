"""The command line: ``python -m minilib list | describe | run | compare | confirm``."""

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from minilib import chapters, compare, confirm, notebooks, pretrained, processes, results
from minilib.config import ConfigError
from minilib.data import DataError, DataMissing


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python -m minilib", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="chapters with one-line claims")
    describe = commands.add_parser("describe", help="networks, data, time and settings of a preset")
    describe.add_argument("chapter")
    describe.add_argument("--preset", default="toy")
    describe.add_argument("--task", default="")
    describe.add_argument("--json", action="store_true", help="machine-readable")
    run = commands.add_parser("run", help="execute a chapter under papermill")
    run.add_argument("chapter")
    run.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="parameters",
        help="a parameter of the chapter, as in: -p preset small -p overrides '{steps: 100}'",
    )  # fmt: skip
    run.add_argument("--out", type=named_folder, help="run folder (default: a new one under runs/)")
    run.add_argument("--resume", action="store_true", help="go on where a run stopped")
    run.add_argument(
        "--processes", type=int, default=1, metavar="N", help="share the work, one process a GPU"
    )
    run.add_argument(
        "--released", action="append", default=[], metavar="NETWORK=FILE",
        help="weights that somebody released take the place of a training; FILE#PART for a part",
    )  # fmt: skip
    both = commands.add_parser("compare", help="two run records side by side")
    both.add_argument(
        "records", nargs=2, type=Path, metavar="RECORD", help="a record, or the folder of a run"
    )
    again = commands.add_parser("confirm", help="does a record hold for today's code as well?")
    again.add_argument("record", type=Path, metavar="RECORD")
    again.add_argument(
        "--overrides", help="settings that cut its own run short, as '{steps: 3}'; default: smoke"
    )
    return top


def named_folder(text: str) -> Path:
    """The value of ``--out``; an empty one, as an unset variable gives, is refused."""
    if not text:
        raise argparse.ArgumentTypeError("name a folder")
    return Path(text)


class Loader(yaml.SafeLoader):
    """YAML as one expects it: ``1e-4`` is a number, ``010`` ten, ``1:30`` text, keys are unique."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; a key that stands twice is an error, not the second's value."""
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"'{key}' stands twice")
        return super().construct_mapping(node, deep)


WHOLE = re.compile(r"^[-+]?[0-9][0-9_]*$")
Loader.yaml_implicit_resolvers = {  # without YAML 1.1's octal, sexagesimal and binary integers
    start: [(tag, WHOLE if tag.endswith(":int") else form) for tag, form in forms]
    for start, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_constructor(
    "tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node))
)
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def parsed(pairs: list[list[str]]) -> dict[str, Any]:
    """``-p NAME VALUE`` pairs with values read as YAML (``3``, ``true``, ``{steps: 100}``).

    Raises:
        ConfigError: a value that is not YAML.
    """
    values: dict[str, Any] = {}
    for name, text in pairs:
        if name in values:
            raise ConfigError(f"parameter '{name}' is given twice")
        try:
            values[name] = yaml.load(text, Loader=Loader)
        except yaml.YAMLError as error:
            why = getattr(error, "problem", None) or "unreadable"
            raise ConfigError(
                f"cannot read the value of '{name}': {text!r} is not YAML ({why})"
            ) from None
    return values


def do_list() -> None:
    """Print every chapter with its claim."""
    for name in chapters.names():
        print(f"{name:22} {chapters.claim(name)}")


def do_describe(chapter: str, preset: str, task: str, as_json: bool) -> None:
    """Print what a preset trains."""
    items = chapters.describe(chapter, preset, task)
    if as_json:
        print(json.dumps(notebooks.description_json(items), indent=1))
    else:
        print("\n\n".join(notebooks.description_text(item) for item in items))


def do_run(
    chapter: str,
    pairs: list[list[str]],
    out: Path | None,
    resume: bool,
    count: int,
    weights: list[str],
) -> None:
    """Execute a chapter and say where its notebook and record are."""
    parameters = parsed(pairs)
    if count < 1:
        raise ConfigError(f"--processes {count}: at least 1")
    home = os.environ.get("MINILIB_WEIGHTS")
    if home and not Path(home).is_dir():
        raise ConfigError(f"no folder of weights '{home}' ($MINILIB_WEIGHTS)")
    if home:
        os.environ["TORCH_HOME"] = str(Path(home).resolve())  # the chapter's kernel inherits it
    if {"out", "resume"} & parameters.keys():
        raise ConfigError("use --out DIR and --resume, not -p out or -p resume")
    files = pretrained.parsed(weights)
    folder = notebooks.run(chapter, parameters, out, resume, count, files)
    if not processes.world().first:
        return
    print(f"notebook  {folder / 'notebook.ipynb'}\nrecord    {folder / 'record.json'}")


def do_compare(paths: list[Path]) -> None:
    """Print two records side by side."""
    records = [compare.read(path) for path in paths]
    print("\n".join(f"{letter}  {path}" for letter, path in zip("AB", paths, strict=True)))
    for table in compare.compare(*records):
        print(f"\n{table!r}")


def do_confirm(path: Path, text: str | None) -> None:
    """Confirm a record and say by what."""
    overrides = None if text is None else parsed([["overrides", text]])["overrides"]
    if not isinstance(overrides, dict | None):
        raise ConfigError(f"--overrides {text!r}: name the settings, as in '{{steps: 3}}'")
    entry = confirm.confirm(path, overrides)["confirmed"][-1]
    odd = ", ".join(entry["unsteady"])
    print(f"{path}: confirmed, {entry['metrics']} metrics agree to the last digit")
    print(f"left out, since no two runs agree: {odd}" if odd else "no metric was left out")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; anything asked for that does not exist is one line and status 2."""
    args = parser().parse_args(arguments)
    try:
        if args.command == "list":
            do_list()
        elif args.command == "describe":
            do_describe(args.chapter, args.preset, args.task, args.json)
        elif args.command == "run":
            given = (args.chapter, args.parameters, args.out, args.resume, args.processes)
            do_run(*given, args.released)
        elif args.command == "compare":
            do_compare(args.records)
        else:
            do_confirm(args.record, args.overrides)
        sys.stdout.flush()
    except BrokenPipeError:  # the other end of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ConfigError, results.RecordError, DataMissing, DataError) as error:
        print(f"minilib: {error}", file=sys.stderr)
        return 2
    except notebooks.Failed as error:
        print(f"minilib: {error}", file=sys.stderr)
        return 1
    except notebooks.Stopped as error:
        print(f"minilib: {error}", file=sys.stderr)
        return 130
    except Exception as error:
        if type(error).__name__ != "PapermillExecutionError":
            raise
        # the notebook with the failing cell is in the run folder; its last line says why
        print(f"minilib: {error.ename}: {error.evalue}", file=sys.stderr)  # type: ignore[attr-defined]
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
