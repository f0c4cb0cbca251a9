"""The formats that a trained network is exported to: how a file is written, read back and loaded.

Batches are of any size in all of them; height and width are fixed.
"""

import importlib.util
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from experiments.compose import ConfigError
from lit_models.norm_folding import fold_norms

Program = Callable[[Tensor], Tensor]
"""From images `(N, C, H, W)` to logits `(N, num_classes)`, on the CPU."""

METADATA = "convsuite"
"""Name under which a file holds its metadata, as JSON."""


class Source(NamedTuple):
    """Python that makes a network whose weights have the names and shapes of the exported ones.

    Attributes:
        imports: Names of the modules to import.
        expression: An expression whose value is the network.
    """

    imports: tuple[str, ...]
    expression: str


# Not 0 or 1, which torch.export takes for special, and not a usual number of channels.
_EXAMPLES = 3


class Format(ABC):
    """A file format.

    Args:
        opset: ONNX's version of its operators; None for the exporter's own choice.

    Attributes:
        name: What `--to` calls it.
        suffix: Ending of its files.
        runtime: What runs a file that was read back.
        packages: Optional packages that it needs.
        least_opset: The oldest opset that it can be written in; infinite without opsets.

    Raises:
        ConfigError: A package is missing, or the format has no such opset.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    runtime: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    least_opset: ClassVar[float] = math.inf

    def __init__(self, opset: int | None = None) -> None:
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise ConfigError(
                f"--to {self.name} needs {', '.join(missing)}: pip install -e '.[{self.name}]' "
                "-c constraints.txt"
            )
        if opset is not None and opset < self.least_opset:
            raise ConfigError(
                f"--opset {opset}: {self.name} takes "
                + ("none" if self.least_opset == math.inf else f"{self.least_opset} and later")
            )
        self.opset = opset

    @abstractmethod
    def write(
        self, network: nn.Module, shape: tuple[int, int, int], file: Path, facts: dict[str, Any]
    ) -> None:
        """Write `network`, in evaluation mode, for images of `shape (C, H, W)`, and its `facts`.

        Raises:
            ValueError: The network cannot be written so; the message names layer and reason.
        """

    @abstractmethod
    def read(self, file: Path, source: Source) -> Program:
        """Read a file back as somebody who loads it does; `source` is that of `loading_code`."""

    @abstractmethod
    def loading_code(self, file: Path, source: Source) -> str:
        """Python that loads `file`.

        Args:
            file: The exported file.
            source: How a network to load weights into is made.
        """


class Safetensors(Format):
    """Weights alone, under the names that the plain network has."""

    name = "safetensors"
    suffix = ".safetensors"
    runtime = "torch"

    def write(
        self, network: nn.Module, shape: tuple[int, int, int], file: Path, facts: dict[str, Any]
    ) -> None:
        """Write the weights; those that layers share once."""
        from safetensors.torch import save_model

        save_model(network, str(file), {METADATA: json.dumps(facts)})

    def read(self, file: Path, source: Source) -> Program:
        """Run the very code that loads the file."""
        names: dict[str, Any] = {}
        exec(self.loading_code(file, source), names)
        network: Program = names["network"]
        return network

    def loading_code(self, file: Path, source: Source) -> str:
        """Python that makes the network and loads the file into it."""
        return (
            f"import {', '.join(source.imports)}; from safetensors.torch import load_model; "
            f"network = {source.expression}.eval(); load_model(network, {str(file)!r})"
        )


class TorchExport(Format):
    """A program of `torch.export`, which runs without this suite."""

    name = "torch.export"
    suffix = ".pt2"
    runtime = "torch.export"

    def write(
        self, network: nn.Module, shape: tuple[int, int, int], file: Path, facts: dict[str, Any]
    ) -> None:
        """Trace the network, its norms folded, and write the program."""
        network = fold_norms(network)
        try:
            program = torch.export.export(
                network, (torch.zeros(_EXAMPLES, *shape),), dynamic_shapes=_free_batch()
            )
        except Exception as error:
            raise _refusal(self, network, error) from error
        with open(file, "wb") as stream:  # the name of a file would have to end in .pt2
            torch.export.save(program, stream, extra_files={METADATA: json.dumps(facts)})

    def read(self, file: Path, source: Source) -> Program:
        """Load the program."""
        with open(file, "rb") as stream:
            program: Program = torch.export.load(stream).module()
        return program

    def loading_code(self, file: Path, source: Source) -> str:
        """Python that loads the program."""
        return f"import torch; network = torch.export.load({str(file)!r}).module()"


class Onnx(Format):
    """An ONNX model, whose input is called `images` and whose output `logits`."""

    name = "onnx"
    suffix = ".onnx"
    runtime = "onnxruntime"
    packages = ("onnx", "onnxscript", "onnxruntime")
    least_opset = 18  # to older ones torch's exporter converts with luck

    def write(
        self, network: nn.Module, shape: tuple[int, int, int], file: Path, facts: dict[str, Any]
    ) -> None:
        """Translate the network and write the model, all weights in the one file."""
        try:
            program = torch.onnx.export(
                network,
                (torch.zeros(_EXAMPLES, *shape),),
                input_names=["images"],
                output_names=["logits"],
                opset_version=self.opset,
                dynamic_shapes=_free_batch(),
                dynamo=True,
                # onnxruntime optimises when it loads. The exporter's own rewriting made the export
                # of a KernelWarehouse ResNet-18 four times as long, and its runs no faster.
                optimize=False,
                verbose=False,
            )
        except Exception as error:
            raise _refusal(self, network, error) from error
        assert program is not None
        written = program.model.opset_imports[""]
        if self.opset not in (None, written):
            # The exporter only warns that it could not convert.
            raise ValueError(
                f"only opset {written} could be written; give that, or leave --opset out"
            )
        for node in program.model.graph:
            node.metadata_props.clear()  # where in this machine's files each node comes from
        program.model.metadata_props[METADATA] = json.dumps(facts)
        program.save(file, external_data=False)

    def read(self, file: Path, source: Source) -> Program:
        """Open a session on the CPU with as many threads as torch has."""
        # onnxruntime writes telemetry files unless told not to.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime  # type: ignore[import-untyped]

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(
            file, sess_options=options, providers=["CPUExecutionProvider"]
        )

        def run(images: Tensor) -> Tensor:
            (logits,) = session.run(["logits"], {"images": images.numpy()})
            return torch.from_numpy(logits)

        return run

    def loading_code(self, file: Path, source: Source) -> str:
        """Python that loads the model and runs it on a numpy array of images."""
        return (
            f"import onnxruntime; session = onnxruntime.InferenceSession({str(file)!r}); "
            "network = lambda images: session.run(['logits'], {'images': images})[0]"
        )


FORMATS: dict[str, type[Format]] = {kind.name: kind for kind in (Safetensors, TorchExport, Onnx)}


def _free_batch() -> tuple[dict[int, Any], ...]:
    return ({0: torch.export.Dim("batch")},)


def _refusal(kind: Format, network: nn.Module, error: BaseException) -> ValueError:
    """The error of an exporter in one line: which layer, and why."""
    while (cause := error.__cause__) is not None:
        error = cause
    names = {id(module): name for name, module in network.named_modules()}
    layer: nn.Module | None = None
    trace = error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        # Not every `self` of a traced program is what it seems; a layer is one of these objects.
        if id(owner) in names:
            layer = owner
        trace = trace.tb_next
    where = ""
    if layer is not None and names[id(layer)]:
        where = f" in layer {names[id(layer)]} ({type(layer).__name__})"
    lines = [line for line in str(error).splitlines() if line.strip()]
    reason = lines[0].strip() if lines else type(error).__name__
    return ValueError(f"the network cannot be exported to {kind.name}{where}: {reason}")
