"""A chapter on weights that somebody released: its evaluation and explorer, without its training.

``python -m minilib run cyclegan -p preset full --released to_y=latest_net_G.pth`` puts one cell
into the chapter, after the one that opens the run; the chapter itself stays as it is.
The training whose networks are named then takes ``SHAM`` steps, which leave the curves that the
page draws, and the released tensors replace what these steps did.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilib import released, training
from minilib.config import ConfigError, Plan, nearest
from minilib.runs import Run

SHAM = 2  # steps of the training that is left out
OPENS = "runs.start("  # the cell after which the weights are announced


@dataclass(frozen=True, slots=True)
class Weights:
    """Where the tensors of one network lie.

    Args:
        file: the checkpoint.
        part: prefix of the network in a file that holds several ("E", "G"), or "".
    """

    file: str
    part: str = ""

    def described(self) -> str:
        """File name, part and SHA-256, for the record."""
        digest = hashlib.sha256(Path(self.file).read_bytes()).hexdigest()
        return f"{Path(self.file).name}{f' ({self.part})' if self.part else ''}, sha256 {digest}"


def parsed(texts: Sequence[str]) -> dict[str, Weights]:
    """``NETWORK=FILE`` or ``NETWORK=FILE#PART``, as ``--released`` takes them.

    Raises:
        ConfigError: another form, or a network that is named twice.
    """
    found: dict[str, Weights] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        file, _, part = file.partition("#")
        if not (name and equals and file):
            raise ConfigError(f"--released {text!r}: write NETWORK=FILE or NETWORK=FILE#PART")
        if name in found:
            raise ConfigError(f"--released names the network '{name}' twice")
        found[name] = Weights(str(Path(file).resolve()), part)
    return found


def packed(files: Mapping[str, Weights]) -> str:
    """The weights as text that may stand in a path, which papermill reads as a template."""
    plain = json.dumps({name: [w.file, w.part] for name, w in files.items()})
    return base64.urlsafe_b64encode(plain.encode()).decode()


def unpacked(text: str) -> dict[str, Weights]:
    """What ``packed`` made text of."""
    places = json.loads(base64.urlsafe_b64decode(text.encode()))
    return {name: Weights(file, part) for name, (file, part) in places.items()}


def check(module: Any, plan: Plan, files: Mapping[str, Weights]) -> None:
    """Fit every file into a network of the plan, before anything is started.

    Args:
        module: the chapter.
        plan: of the task that will run.
        files: network -> where its tensors lie.

    Raises:
        ConfigError: no such network, or a file that does not fit it; the message is one line.
    """
    if not files:
        return
    networks = module.networks(plan.config)
    for name, weights in files.items():
        if name not in networks:
            raise ConfigError(nearest(name, networks, "network"))
        try:
            released.load(networks[name], weights.file, weights.part)
        except released.ReleasedError as error:
            raise ConfigError(f"--released {name}: {error}") from None


def cell(files: Mapping[str, Weights]) -> str:
    """The source of the cell that announces the weights in a chapter."""
    named = {name: (weights.file, weights.part) for name, weights in files.items()}
    return (
        "# Released weights take the place of a training.\n"
        "from minilib import pretrained\n\n"
        f"pretrained.use(run, {named!r})"
    )


def insert(cells: list[Any], make: Callable[[str], Any], files: Mapping[str, Weights]) -> None:
    """Put ``cell`` behind the cell that opens the run, in place.

    Args:
        cells: of a notebook.
        make: source -> a code cell.
        files: network -> where its tensors lie.

    Raises:
        ConfigError: no cell opens a run.
    """
    places = [i for i, c in enumerate(cells) if c.cell_type == "code" and OPENS in c.source]
    if not places:
        raise ConfigError("this chapter opens no run: released weights have no place in it")
    cells.insert(places[0] + 1, make(cell(files)))


def use(run: Run, files: Mapping[str, tuple[str, str]]) -> None:
    """Let released weights take the place of the first training that holds all networks named.

    Other trainings, such as that of a judge or of another variant, run as usual.  The run's record
    names the weights under "released".

    Args:
        run: open, nothing trained yet.
        files: network -> (file, part).

    Raises:
        ConfigError: at the end of the run, where no training held these networks.
    """
    weights = {name: Weights(*place) for name, place in files.items()}
    fit, write, finish = run.train, run.record, run.finish
    served: list[str] = []

    def train(
        name: str, step: Callable, state: training.State, steps: int, **options: Any
    ) -> training.Fitted:
        if not weights.keys() <= state.networks.keys():
            return fit(name, step, state, steps, **options)
        if served:
            print(f"{name}: trained as usual; the released weights stand for '{served[0]}'")
            return fit(name, step, state, steps, **options)
        served.append(name)
        fitted = fit(name, step, state, min(steps, SHAM), **options)
        for network, place in weights.items():
            released.load(state.networks[network], place.file, place.part)
            if network in state.averages:
                released.load(state.averages[network].module, place.file, place.part)
        print(f"{name}: released weights for {', '.join(weights)}")
        return fitted

    def record(status: str = "finished") -> dict[str, Any]:
        return write(status) | {"released": {n: w.described() for n, w in weights.items()}}

    def end() -> Any:
        if not served:
            raise ConfigError(f"no training of this chapter has the networks {', '.join(weights)}")
        return finish()

    run.train, run.record, run.finish = train, record, end  # type: ignore[method-assign]
