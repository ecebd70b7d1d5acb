"""PyTorch module to a small ONNX graph that onnxruntime-web runs."""

import contextlib
import copy
import importlib.util
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minilib.config import ConfigError, nearest

OPSET = 18
WEIGHTS = ("float16", "float32")
SMALLEST = 64  # initializers with fewer numbers stay float32: nothing to gain
HALF_MAX = 65504.0


@dataclass(frozen=True, slots=True)
class Exported:
    """A network for the browser.

    Args:
        graph: the ONNX file, or b"" when there is none.
        batch: "any", or "one" when the graph only takes one input at a time.
        trouble: why there is no graph, in one clause; "" when there is one.
    """

    graph: bytes
    batch: str
    trouble: str


class Positional(nn.Module):
    """A module as a function of a fixed number of positional tensors (what the exporter wants)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Tensor:
        """The module's answer, contiguous."""
        return self.module(*inputs).contiguous()


def frozen(module: nn.Module) -> nn.Module:
    """A copy of ``module`` on the CPU, in evaluation mode, in float32, without gradients.

    Raises:
        ConfigError: it is not a module.
    """
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"explorers take a torch.nn.Module, not a {type(module).__name__}: wrap the function "
            "in a module so that its weights are found"
        )
    return copy.deepcopy(module).to("cpu", torch.float32).eval().requires_grad_(False)


def export(
    module: nn.Module, names: Sequence[str], inputs: Sequence[Tensor], weights: str = "float16"
) -> Exported:
    """Export ``module(*inputs)``; failing is an answer too, in ``Exported.trouble``.

    Args:
        module: from ``frozen``; returns one tensor.
        names: one name per input.
        inputs: example inputs (B, ...), B >= 2, so that the batch size stays free.
        weights: "float16" stores weights in half the bytes and computes in float32; "float32".

    Raises:
        ConfigError: unknown ``weights``.
    """
    if weights not in WEIGHTS:
        raise ConfigError(nearest(weights, WEIGHTS, "weights"))
    if importlib.util.find_spec("onnxscript") is None:
        return Exported(b"", "any", "onnxscript is not installed where the page was made")
    problem: Exception | None = None
    for batch, free in (("any", True), ("one", False)):
        examples = tuple(x if free else x[:1] for x in inputs)
        try:
            graph = _graph(Positional(module), tuple(names), examples, free)
            return Exported(_finish(graph, weights), batch, "")
        except Exception as error:  # the exporter's own errors are many and undocumented
            problem = problem or error
            if "No ONNX function" in _chain(error):
                break  # an operator is missing whatever the batch size
    trouble = _reason(problem)
    warnings.warn(f"explorer without a live network: {trouble}", stacklevel=4)
    return Exported(b"", "any", trouble)


def _graph(
    module: nn.Module, names: tuple[str, ...], inputs: tuple[Tensor, ...], free: bool
) -> Any:
    dynamic = ({0: torch.export.Dim.DYNAMIC},) * len(inputs) if free else None
    shapes = (dynamic,) if free else None  # Positional.forward has one argument, *inputs
    with _quiet():
        program = torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=names,
            output_names=["y_hat"],
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None  # it is when dynamo=True
    return program.model_proto


def _finish(model: Any, weights: str) -> bytes:
    """Strip what only a debugger reads (it names local paths), shrink the weights, serialise.

    Raises:
        Exception: onnx found the graph to be wrong.
    """
    graph = model.graph
    for part in [model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info]:
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
        part.doc_string = ""
    for tensor in graph.initializer:
        if hasattr(tensor, "metadata_props"):
            del tensor.metadata_props[:]
    del graph.value_info[:]
    if weights == "float16":
        _store_half(graph)
    from onnx import checker

    checker.check_model(model, full_check=True)  # types too: what fails here fails in the browser
    return model.SerializeToString()


def _store_half(graph: Any) -> None:
    """Store large float32 weights as float16, each followed by a Cast back to float32."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST:
            continue
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max() > HALF_MAX:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No prints, warnings or log lines from the exporter."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    sink = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sink):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(sink):
                yield
    finally:
        logging.disable(level)


def _chain(error: BaseException | None) -> str:
    """The messages of an exception and of its causes."""
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__
    return "\n".join(texts)


def _reason(error: BaseException | None) -> str:
    """One clause that names the operator, or the innermost error's first line."""
    text = _chain(error)
    for pattern in (
        r"No ONNX function found for <OpOverload\(op='([\w.:]+)'",
        r"torch\.ops\.([\w.]+)",
    ):
        if found := re.search(pattern, text):
            return f"operator {found.group(1)} has no ONNX form"
    while error is not None and error.__cause__ is not None:
        error = error.__cause__
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "data-dependent" in text:
        return f"a branch depends on the data ({first[:90]})"
    return f"the network cannot be exported ({first[:110]})"


def answer(net: nn.Module, inputs: Sequence[Tensor], who: str) -> Tensor:
    """``net(*inputs)`` without gradients; a shape error of torch becomes one line.

    Raises:
        ConfigError: the network refused its inputs.
    """
    try:
        with torch.no_grad():
            return net(*inputs).float().cpu()
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        sizes = " and ".join(str(tuple(x.shape)) for x in inputs)
        first = str(error).strip().splitlines()[0][:160]
        raise ConfigError(f"{who}: the network refused inputs of shape {sizes}: {first}") from error


def answers(who: str, net: nn.Module, zs: Tensor, stacked: Tensor | None) -> Tensor:
    """What a decoder makes of latents (T, Z) under every condition (N, ...): (N, T, ...).

    Without conditions N is 1 and the decoder takes z alone.

    Raises:
        ConfigError: the network refused its inputs.
    """
    out = []
    for c in [None] if stacked is None else list(stacked):
        inputs = [zs] if c is None else [zs, c.expand(len(zs), *c.shape).clone()]
        out.append(answer(net, inputs, who))
    return torch.stack(out)


def export_decoder(
    net: nn.Module, zs: Tensor, stacked: Tensor | None, weights: str
) -> tuple[Exported, dict[str, Any]]:
    """Export ``net(z)`` or ``net(z, c)``; zs: (2, Z) examples, stacked: (N, ...) conditions.

    Returns:
        The network, and its part of an explorer's spec.
    """
    inputs = [zs.clone(), *([] if stacked is None else [stacked[[0, -1]].clone()])]
    exported = export(net, ["z", "c"][: len(inputs)], inputs, weights)
    return exported, facts(exported)


def facts(exported: Exported) -> dict[str, Any]:
    """What the page must know of an exported network."""
    return {"batch": 1 if exported.batch == "one" else 0, "trouble": exported.trouble}
