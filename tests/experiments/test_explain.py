"""The command `explain` on small runs and networks."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from real_runs import fit, newest
from safetensors.torch import save_file

from experiments.__main__ import main
from experiments.commands import explain as command
from experiments.explain.cam import METHODS
from experiments.record import RunRecord
from lit_models.registry import create_network

pytest.importorskip("captum", reason="needs the extra `explain`")

CONFIG = """\
seed_everything: 0
threads: 1
model:
  class_path: lit_models.{model}
  init_args: {{backbone: mnist_demo_tensorflow, optimizer: {{name: adamw, lr: 0.01}}}}
data:
  class_path: datamodules.DigitsDataModule
  init_args: {{batch_size: 32, holdout: 180}}
trainer: {{max_epochs: 1, limit_train_batches: 4}}
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three grey images with a bright square each."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(3):
        image = Image.new("L", (40, 28))
        image.paste(255, (8 + 4 * number, 4, 20 + 4 * number, 16))
        image.save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunRecord]:
    """A run of a few steps with each of the two operators that learn something."""
    folder = tmp_path_factory.mktemp("runs")
    records = {}
    for model in ("KWClassifier", "DOConvClassifier"):
        row = folder / f"{model}.yaml"
        row.write_text(CONFIG.format(model=model))
        quiet = ["--trainer.enable_progress_bar", "false", "--test_after_fit", "false"]
        assert fit(row, *quiet) == 0
        records[model] = newest(row)
    return records


def explain(*words: object) -> int:
    return main(["explain", *map(str, words)])


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_the_command_names_the_methods_there_are() -> None:
    assert command.METHODS == METHODS


def test_a_kernel_warehouse_run_has_a_page_of_its_own(
    runs: dict[str, RunRecord], images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs["KWClassifier"].folder
    assert explain(folder, "--images", images, "--count", 2) == 0
    printed = capsys.readouterr().out
    assert "last.ckpt of step 4" in printed
    assert "layer act2 (24x24)" in printed
    assert {file.name for file in (folder / "explain").iterdir()} == {
        "explain.html",
        "explain.json",
        "heat_maps.png",
        "warehouse_1.png",
        "warehouse_2.png",
    }
    (facts,) = json.loads((folder / "explain" / "explain.json").read_text())
    assert [Path(image["file"]).name for image in facts["images"]] == ["0.png", "1.png"]
    first = facts["warehouses"][0]
    assert first["temperatures"] == [1, 0.5, 0]
    layer = first["layers"]["conv1"]
    assert layer["effective_cells"][0] == 1  # the initial assignment
    assert layer["effective_cells"][2] > 1
    page = (folder / "explain" / "explain.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert 'src="data:' in page
    assert "http://" not in page
    assert "light-dark(" in page


def test_the_same_again_gives_the_same_files(
    runs: dict[str, RunRecord], images: Path, tmp_path: Path
) -> None:
    record = runs["DOConvClassifier"]
    checkpoint = record.last_checkpoint
    assert checkpoint is not None
    before = checkpoint.read_bytes()
    for name in ("one", "two"):
        options = ("--images", images, "--out", tmp_path / name, "--method", "hires-cam")
        assert explain(checkpoint, *options) == 0
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    assert checkpoint.read_bytes() == before
    (facts,) = json.loads((tmp_path / "one" / "explain.json").read_text())
    distances = facts["distance_of_d_from_identity"]
    assert set(distances) == {"conv1", "conv2"}
    assert all(0 < distance < 1 for distance in distances.values())
    assert (tmp_path / "one" / "do_conv.png").is_file()


def test_a_row_stands_for_its_newest_run_and_is_untrained_without_one(
    runs: dict[str, RunRecord],
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = runs["DOConvClassifier"]
    row, runs_folder = run.folder.parents[2] / "DOConvClassifier.yaml", run.folder.parents[1]
    options = ("--images", images, "--count", 1, "--out", tmp_path)
    assert explain(row, *options, "--runs", runs_folder) == 0
    assert f"run {run.folder.name}, last.ckpt" in capsys.readouterr().out
    row.with_name("other.yaml").write_text(row.read_text())
    assert explain(row.with_name("other.yaml"), *options, "--runs", runs_folder) == 0
    assert "other: untrained (drawn with seed 0)" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_a_file_are_explained(
    images: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    network = create_network("mnist_demo_tensorflow")
    with torch.no_grad():
        network.get_submodule("fc").get_parameter("bias")[7] = 1000
    state, file = network.state_dict(), tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, file)
    else:
        save_file(state, file)
    options = ("--images", images, "--weights", file, "--out", tmp_path)
    assert explain("mnist_demo_tensorflow", *options) == 0
    assert f"mnist_demo_tensorflow: {file}; layer" in capsys.readouterr().out
    (facts,) = json.loads((tmp_path / "explain.json").read_text())
    assert {image["probability"] for image in facts["images"]} == {1.0}
    assert explain("mnist_demo_pytorch", *options) == 1
    assert "weights of" in last_line(capsys)


def test_networks_stand_side_by_side_and_their_localisation_is_measured(
    runs: dict[str, RunRecord],
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    boxes = tmp_path / "boxes.json"
    annotations = [
        {"image_id": number, "category_id": 7, "bbox": [8 + 4 * number, 4, 12, 12]}
        for number in range(2)
    ]
    names = [{"id": number, "file_name": f"{number}.png"} for number in range(3)]
    categories = [{"id": 7, "name": "7"}]
    content = {"images": names, "annotations": annotations, "categories": categories}
    boxes.write_text(json.dumps(content))
    run = runs["DOConvClassifier"]
    words = (run.folder.name, "mnist_demo_tensorflow", "--runs", run.folder.parents[1])
    options = ("--images", images, "--boxes", boxes, "--out", tmp_path, "--target", 3)
    # timm's name alone takes images of the size that its facts give: here 1x28x28.
    assert explain(*words, *options) == 0
    printed = capsys.readouterr().out
    assert "mnist_demo_tensorflow: untrained (drawn with seed 0)" in printed
    assert printed.count("all objects, class-agnostic: pointing game") == 2
    of_run, _ = json.loads((tmp_path / "explain.json").read_text())
    assert len(of_run["images"]) == 2  # the third has no box
    assert {image["class"] for image in of_run["images"]} == {"3"}
    assert of_run["all_objects"]["maps"] == 2
    assert 0 < of_run["all_objects"]["area"] < 0.3
    assert of_run["objects_of_the_class"]["maps"] == 2  # the digits have a class 7
    page = (tmp_path / "explain.html").read_text()
    assert "How well it localises" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", "nowhere"], "--images: no folder nowhere"),
        (["--images", "{empty}"], "--images: no images in "),
        (["--images", "{broken}"], "broken.png cannot be read as an image"),
        (["--images", "{images}", "--layer", "act3"], "no layer 'act3'; did you mean act"),
        (["--images", "{images}", "--target", "cat"], "no class is called 'cat'"),
        (["--images", "{images}", "--target", "1000000"], "has no class 1000000"),
        (["--images", "{images}", "--weights", "no.pth"], "--weights: no file no.pth"),
        (["other", "--images", "{images}", "--weights", "no.pth"], "for one network"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: list[str],
    message: str,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"images": images, "empty": tmp_path / "empty", "broken": tmp_path / "broken"}
    for name in ("empty", "broken"):
        places[name].mkdir()
    (places["broken"] / "broken.png").write_bytes(b"no image")
    filled = [word.format(**places) for word in words]
    assert explain("mnist_demo_tensorflow", *filled, "--runs", tmp_path) == 2
    lines = capsys.readouterr().err.splitlines()
    assert message in lines[-1]
    assert not any("Traceback" in line for line in lines)


def test_an_unknown_network_is_answered_with_the_nearest(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain("mnist_demo_tensorflo", "--images", images) == 2
    assert "did you mean 'mnist_demo_tensorflow'?" in last_line(capsys)


def test_a_missing_package_is_named_with_the_way_to_install_it(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "captum" else find(name)
    )
    assert explain("resnet18", "--images", images) == 2
    assert "pip install -e '.[explain]'" in last_line(capsys)
