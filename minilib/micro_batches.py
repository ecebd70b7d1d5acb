"""Gradient accumulation: a step does its batch in parts, one after another, and steps once.

A chapter's step stays as it is printed.  It runs once for every part; ``batch_indices`` hands it
that part of the batch, and until the last part ``optimizer.step`` only gathers the gradients.  The
last one steps with their mean, which is the whole batch's gradient where a loss is a mean over the
batch.  Batch normalisation sees a part, clipping a part's gradient; and a network that is updated
in the middle of a step (G before D) is the old one in all parts but the last.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import torch
from torch import Tensor
from torch.optim import Optimizer

from minilib import processes

Step = Callable[[int], Mapping[str, Tensor]]
Gradients = dict[Tensor, Tensor]


class Accumulation:
    """Runs a step in parts.  While it is entered, the optimisers' ``step`` is replaced.

    Args:
        optimizers: all that the step uses.
        parts: into how many parts a batch is split; 1 changes nothing at all.
    """

    def __init__(self, optimizers: Iterable[Optimizer], parts: int) -> None:
        """Keep them."""
        self.optimizers, self.parts = list(optimizers), parts
        self.last = True
        self.calls: dict[int, int] = defaultdict(int)  # of each optimiser, in this part
        self.gathered: dict[tuple[int, int], Gradients] = {}  # of each optimiser and call

    def __enter__(self) -> Self:
        if self.parts > 1:
            for optimizer in self.optimizers:
                optimizer.step = self._replaced(optimizer)  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        for optimizer in self.optimizers:
            vars(optimizer).pop("step", None)  # the class's own is back

    def __call__(self, step_fn: Step, step: int) -> Mapping[str, Tensor]:
        """One optimisation step; its loss terms, averaged over the parts."""
        if self.parts == 1:
            return step_fn(step)
        self.gathered.clear()
        sums: dict[str, Tensor] = {}
        for part in range(self.parts):
            self.calls.clear()
            self.last = part == self.parts - 1
            with processes.in_part(part, self.parts):
                terms = step_fn(step)
            for name, value in terms.items():
                share = torch.as_tensor(value).detach() / self.parts
                sums[name] = sums[name] + share if name in sums else share
        return sums

    def _replaced(self, optimizer: Optimizer) -> Callable[..., Any]:
        own = optimizer.step

        def step(*arguments: Any) -> Any:
            key = (id(optimizer), self.calls[id(optimizer)])
            self.calls[id(optimizer)] += 1
            sums = self.gathered.setdefault(key, {})
            self._gather(optimizer, sums)
            if not self.last:
                return None
            parts_own = {parameter: parameter.grad for parameter in sums}
            for parameter, gradient in sums.items():
                parameter.grad = gradient
            result = own(*arguments)
            for parameter, before in parts_own.items():
                parameter.grad = before  # another backward adds to this, not to the sum
            return result

        return step

    def _gather(self, optimizer: Optimizer, sums: Gradients) -> None:
        """Add the gradients that the parameters hold now."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    share = parameter.grad / self.parts
                    sums[parameter] = sums[parameter] + share if parameter in sums else share
