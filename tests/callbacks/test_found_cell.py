from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from media_shelf import MediaShelf, quiet_trainer

from callbacks import FoundCellCallback
from callbacks.found_cell import as_yaml, describe, draw
from lit_models import ArchitectureSearch, ImageClassifier
from lit_models.parameter_free.cells import Genotype, read_genotype

GENOTYPE: Genotype = {
    "normal": [[(0, "max_pool"), (1, "conv")], [(1, "identity"), (2, "avg_pool")]],
    "reduction": [[(0, "depthwise_conv"), (1, "max_pool")], [(2, "conv")]],
}


def test_cells_are_described_in_words() -> None:
    assert describe(GENOTYPE).splitlines()[:3] == [
        "normal:",
        "  node 0 = before last max_pool + last conv",
        "  node 1 = last identity + node 0 avg_pool",
    ]


def test_a_written_genotype_is_read_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "genotype.yaml"
    file.write_text(as_yaml(GENOTYPE))
    assert read_genotype(file) == GENOTYPE
    assert len(file.read_text().splitlines()) == 6


@pytest.mark.parametrize("names", [["normal"], ["normal", "reduction"], ["a", "b", "c"]])
def test_every_cell_is_drawn(tmp_path: Path, names: list[str]) -> None:
    from matplotlib.image import imread

    file = tmp_path / "cells.png"
    draw(dict.fromkeys(names, GENOTYPE["normal"]), file)
    picture = imread(file)[..., :3]
    height, width = picture.shape[:2]
    for index in range(len(names)):
        row, column = divmod(index, 2)
        rows, columns = -(-len(names) // 2), min(2, len(names))
        part = picture[
            row * height // (rows + 1) : (row + 1) * height // (rows + 1),
            column * width // columns : (column + 1) * width // columns,
        ]
        assert (part < 0.5).any(axis=2).mean() > 0.001


def test_found_cells_are_in_the_folder_the_record_and_the_logger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    model = ArchitectureSearch(
        num_classes=10, in_chans=1, backbone_args={"cells": 3, "channels": 2, "nodes": 2}
    )
    callback = FoundCellCallback()
    trainer = quiet_trainer(tmp_path, callback)
    callback.setup(trainer, model, "fit")
    callback.on_train_end(trainer, model)
    found = model.network.genotype()
    assert read_genotype(tmp_path / "genotype.yaml") == found
    assert (tmp_path / "genotype.png").stat().st_size > 10_000
    facts = callback.run_facts()
    assert read_genotype(facts["genotype"]) == found
    assert facts["parameter_free"].keys() == {"normal", "reduction"}
    (shelf,) = trainer.loggers
    assert isinstance(shelf, MediaShelf)
    assert "found_cells" in shelf.media
    assert describe(found) in capsys.readouterr().out


def test_a_module_that_searches_nothing_is_refused() -> None:
    with torch.device("meta"):
        model: L.LightningModule = ImageClassifier("mnist_demo_pytorch", in_chans=1, num_classes=10)
    with pytest.raises(ValueError, match="ImageClassifier searches for no cells"):
        FoundCellCallback().setup(SimpleNamespace(), model, "fit")  # type: ignore[arg-type]
