"""A detector learns from real images, end to end."""

import json
from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.record import find_runs

CONFIG = "configs/kernel_warehouse/coco_mini/resnet18_kw1x.yaml"
TINY = [
    *("--model.init_args.backbone", "mobilenetv3_small_050"),
    *("--model.init_args.cell_num_ratio", "1"),
    *("--model.init_args.rcnn.min_size", "64"),
    *("--model.init_args.rcnn.pyramid_channels", "32"),
    *("--data.init_args.sizes", "[64]"),
    *("--data.init_args.test_on_train", "false"),
    *("--data.init_args.validate_on_test", "true"),
    *("--trainer.limit_val_batches", "4"),
    *("--trainer.max_epochs", "2"),
    *("--trainer.check_val_every_n_epoch", "1"),
    *("--trainer.limit_train_batches", "8"),
    *("--trainer.accelerator", "cpu"),
    *("--trainer.enable_progress_bar", "false"),
    *("--wandb", "disabled"),
]


@pytest.mark.slow  # about twenty seconds: a real training and a prediction of 20 images
def test_a_detector_trains_on_coco_and_predicts(shared_data: Path, tmp_path: Path) -> None:
    data = ["--data.init_args.root", str(shared_data / "coco-mini"), "--runs", str(tmp_path)]
    assert main(["fit", "--config", CONFIG, *data, *TINY]) == 0
    (run,) = find_runs(tmp_path, "kernel_warehouse/coco_mini/resnet18_kw1x")
    assert run.facts["status"] == "finished"
    assert run.facts["parameters"]["training"] > 0
    assert run.facts["data"]["test"] == 20
    tested = run.facts["metrics"]["test"]
    assert {"test/box_ap", "test/mask_ap", "test/mask_ap_small"} <= tested.keys()
    assert "val/mask_ap" in run.facts["metrics"]["best"]
    assert (run.folder / "checkpoints" / "best.ckpt").is_file()
    assert len(list((run.folder / "detections").glob("*.png"))) == 8
    lines = (run.folder / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("train/loss")
    losses = [float(line.split(",")[column]) for line in lines[1:] if line.split(",")[column]]
    assert losses[-1] < losses[0]

    checkpoint = str(run.folder / "checkpoints" / "last.ckpt")
    assert main(["predict", "--config", CONFIG, *data, *TINY, "--ckpt_path", checkpoint]) == 0
    predicted = next(iter(tmp_path.rglob("predictions.json")))
    results = json.loads(predicted.read_text())
    assert all(result.keys() >= {"image_id", "category_id", "bbox", "score"} for result in results)
