"""What is explained: the networks of runs, of rows and of timm, with weights or without."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from experiments.bench.subjects import build_classifier, find_subject
from experiments.cli import build
from experiments.commands.export import find_checkpoint
from experiments.compose import ConfigError
from experiments.export.trained import Normalising, TrainedClassifier
from experiments.record import FILE_NAME, find_runs, row_of
from lit_models import ImageClassifier, load_official
from lit_models.official import read_official

_SEED = 0


@dataclass(frozen=True)
class Subject:
    """A network in evaluation mode and what it takes.

    Attributes:
        name: Of the run and its row, or of timm's network.
        weights: Where its weights are from.
        network: Takes pixels from 0 to 1 and normalises them, if it was trained so.
        size: `(C, H, W)` of its images.
        classes: Names of its classes.
        folder: The run's folder; None without a run.
    """

    name: str
    weights: str
    network: Normalising
    size: tuple[int, int, int]
    classes: list[str]
    folder: Path | None = None

    @property
    def bare(self) -> nn.Module:
        """The network without the normalisation."""
        return self.network.network

    def normalised(self, pixels: Tensor) -> Tensor:
        """What the bare network gets for pixels from 0 to 1."""
        return (pixels - self.network.mean) / self.network.std


def find_networks(
    words: list[str], runs: Path, checkpoint: str | None, weights: Path | None
) -> list[Subject]:
    """Return the network of each word.

    Args:
        words: A run (folder, id or checkpoint), a row, which stands for its newest run that has the
            checkpoint, or a name that timm knows. A row without a run is untrained.
        runs: Folder of all runs.
        checkpoint: `last`, `best` or a file; None for last.
        weights: The authors' weights, or ours, for the only word, a row or a name.

    Raises:
        ConfigError: A word names nothing, or the checkpoint or the weights are not there.
        ValueError: The weights are another network's.
    """
    if weights and len(words) > 1:
        raise ConfigError("--weights is for one network; name one alone")
    found = []
    for word in words:
        run = _run_of(word, runs, checkpoint)
        if run and weights:
            if _names_run(word, runs):
                raise ConfigError(f"--weights: {word} is a run, which has weights")
            run = None
        if run:
            found.append(_of_run(*find_checkpoint(run, runs, _choice(run, checkpoint))))
        else:
            found.append(_of_row(word, weights))
    return found


def _names_run(word: str, runs: Path) -> bool:
    path = Path(word)
    if path.suffix == ".yaml":
        return False
    return path.exists() or any(file.parent.name == word for file in runs.rglob(FILE_NAME))


def _run_of(word: str, runs: Path, checkpoint: str | None) -> str | None:
    """The run that a word stands for; None for a row without one, and for timm's names."""
    if _names_run(word, runs):
        return word
    subject = find_subject(word)
    if not subject.config:
        return None
    wanted = checkpoint if checkpoint in ("last", "best") else "last"
    having = (run for run in find_runs(runs, row_of(subject.config)) if run.checkpoint(wanted))
    newest = next(having, None)
    return str(newest.folder) if newest else None


def _choice(run: str, checkpoint: str | None) -> str | None:
    return None if Path(run).is_file() else checkpoint


def _of_run(folder: Path, checkpoint: Path) -> Subject:
    trained = TrainedClassifier(folder, checkpoint)
    facts = trained.folder.resolve()
    weights = f"run {facts.name}, {checkpoint.name} of step {trained.state['global_step']}"
    return Subject(
        f"{row_of(folder / 'config.yaml')} {facts.name}",
        weights,
        _normalising(trained.network, trained.mean, trained.std, trained.data.input_size),
        trained.data.input_size,
        _class_names(trained.data, trained.data.num_classes),
        folder,
    )


def _of_row(word: str, weights: Path | None) -> Subject:
    subject = find_subject(word)
    torch.manual_seed(_SEED)
    classifier, size = build_classifier(subject)
    said = f"untrained (drawn with seed {_SEED})"
    facts: Any = getattr(classifier.network, "pretrained_cfg", None) or {}
    mean, std = facts.get("mean"), facts.get("std")
    data = None
    if subject.config:
        _, data = build([subject.config])
        prepared: Any = getattr(data, "eval_transform", data)
        mean, std = prepared.mean, prepared.std
    if weights:
        _load(classifier, weights)
        said = str(weights)
    number = int(classifier.hparams["num_classes"])
    normalising = _normalising(classifier.network, mean, std, size)
    return Subject(subject.name, said, normalising, size, _class_names(data, number))


def _load(classifier: ImageClassifier, file: Path) -> None:
    if not file.is_file():
        raise ConfigError(f"--weights: no file {file}")
    if file.suffix == ".safetensors":
        classifier.load_weights(load_file(file))
    else:
        load_official(classifier.network, read_official(file))


def _normalising(
    network: nn.Module, mean: Any, std: Any, size: tuple[int, int, int]
) -> Normalising:
    channels = size[0]
    fits = mean is not None and std is not None and len(mean) == len(std) == channels
    mean, std = (list(mean), list(std)) if fits else ([0.0] * channels, [1.0] * channels)
    return Normalising(network, mean, std).eval()


def _class_names(data: Any, number: int) -> list[str]:
    """Names of the classes: ImageNet's if there are a thousand, else the data's, else numbers."""
    if number == 1000:
        known = timm.data.ImageNetInfo()
        return [str(known.index_to_description(index)) for index in range(number)]
    try:
        names = getattr(data, "classes", None) or []
    except (OSError, ValueError):  # the data are not on this machine
        names = []
    return list(names) if len(names) == number else [str(index) for index in range(number)]
