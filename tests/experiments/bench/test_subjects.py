from pathlib import Path

import pytest

from experiments.bench.subjects import Subject, build_classifier, find_subject, find_subjects
from experiments.compose import ConfigError
from experiments.tables.table_files import load_table

ROW = "parameter_free/imagenet/r50_hybrid"
TABLE = "parameter_free_resnet50_imagenet"


@pytest.fixture(autouse=True)
def in_the_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)


@pytest.mark.parametrize("word", [ROW, f"configs/{ROW}.yaml", "imagenet/r50_hybrid"])
def test_a_row_is_found_by_file_by_name_and_by_the_end_of_its_name(word: str) -> None:
    assert find_subject(word) == Subject(ROW, Path(f"configs/{ROW}.yaml"))


def test_a_table_stands_for_its_rows_in_their_order() -> None:
    found = [subject.row for subject in find_subjects([TABLE])]
    assert found == [row.name for row in load_table(TABLE).rows if row.config]
    assert len(found) > 2


def test_rows_narrow_a_table() -> None:
    found = find_subjects([TABLE], ["r50_max", "r50_hybrid"])
    assert {subject.name.rsplit("/")[-1] for subject in found} == {"r50_max", "r50_hybrid"}


def test_what_is_named_twice_is_timed_once() -> None:
    assert [
        subject.name for subject in find_subjects([ROW, "resnet18", f"configs/{ROW}.yaml"])
    ] == [
        ROW,
        "resnet18",
    ]


def test_timms_names_and_ours_are_no_rows() -> None:
    found = find_subjects(["resnet18", "mnist_demo_pytorch"])
    assert [(subject.config, subject.row) for subject in found] == [(None, "")] * 2


def test_a_networks_own_size_and_channels_are_used() -> None:
    classifier, size = build_classifier(find_subject("mnist_demo_pytorch"))
    assert size == (1, 28, 28)
    assert classifier.hparams["num_classes"] == 10


@pytest.mark.parametrize(
    ("words", "rows", "said"),
    [
        (["resnet81"], None, "did you mean 'resnet18'"),
        ([TABLE.replace("50", "05")], None, f"did you mean '{TABLE}'"),
        ([ROW.replace("hybrid", "hybird")], None, f"did you mean '{ROW}'"),
        (["nothing at all like it"], None, "give a config file, a row, a table"),
        (["configs/none.yaml"], None, "no config file configs/none.yaml"),
        (["imagenet/resnext_50_32x4d"], None, "more than one row ends in 'imagenet/resnext"),
        (["resnet18"], ["r50"], "--rows narrows a table; name one"),
        ([TABLE], ["r50_hybird"], "did you mean 'r50_hybrid'"),
    ],
)
def test_a_wrong_name_gets_one_line_that_helps(
    words: list[str], rows: list[str] | None, said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        find_subjects(words, rows)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
