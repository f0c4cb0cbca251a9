"""What is timed: rows, whole tables and timm's networks, found by the words of a command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.compose import ConfigError
from experiments.record import row_of
from experiments.tables.spec import nearest
from experiments.tables.table_files import CONFIGS, find_tables, load_table

if TYPE_CHECKING:
    from lit_models import ImageClassifier

NO_ROWS = ("tables", "recipes", "scale")


class Subject(NamedTuple):
    """A network to time.

    Attributes:
        name: A row's name (its config's path below `configs/`), or timm's name.
        config: The row's config file; None for a timm name.
    """

    name: str
    config: Path | None

    @property
    def row(self) -> str:
        """The row's name; empty for a timm name."""
        return self.name if self.config else ""


def find_subjects(words: Sequence[str], rows: Sequence[str] | None = None) -> list[Subject]:
    """Return what the words name, each once, in their order.

    A word is a config file, a row's name (or its end from a slash on), a table's id, which stands
    for its rows, or a name that timm knows.

    Args:
        words: The words.
        rows: Keys of rows, which every table among the words is narrowed to; None for all.

    Raises:
        ConfigError: A word names nothing, or several rows; or `rows` without a table, or a row
            that the table doesn't have.
    """
    tables = {file.stem for file in find_tables()}
    if rows and not tables.intersection(words):
        raise ConfigError("--rows narrows a table; name one (`table list` shows all)")
    found: list[Subject] = []
    for word in words:
        if word in tables:
            found += _rows_of(word, rows)
        else:
            found.append(find_subject(word, tables))
    return list(dict.fromkeys(found))


def find_subject(word: str, tables: set[str] | None = None) -> Subject:
    """Return the row or the timm network that a word names.

    Args:
        word: See `find_subjects`.
        tables: Ids of tables that could have been meant, too.

    Raises:
        ConfigError: The word names nothing, or several rows.
    """
    path = Path(word)
    if path.suffix == ".yaml":
        if not path.is_file():
            raise ConfigError(f"no config file {word}")
        return Subject(row_of(path), path)
    rows = {
        row_of(file): file
        for file in sorted(CONFIGS.rglob("*.yaml"))
        if file.relative_to(CONFIGS).parts[0] not in NO_ROWS
    }
    if word in rows:
        return Subject(word, rows[word])
    ends = [name for name in rows if "/" in word and name.endswith(f"/{word}")]
    if len(ends) == 1:
        return Subject(ends[0], rows[ends[0]])
    if ends:
        raise ConfigError(f"more than one row ends in {word!r}: {', '.join(ends)}")
    return _timm_network(word, [*rows, *(tables or ())])


def build_classifier(subject: Subject) -> "tuple[ImageClassifier, tuple[int, int, int]]":
    """Return the subject's classifier, on the CPU, and the size (C, H, W) of its images.

    A timm network is trained as an `ImageClassifier` trains by default.

    Raises:
        ConfigError: The config is wrong, or doesn't describe a classifier.
    """
    import timm

    from experiments.cli import build
    from lit_models import ImageClassifier

    if subject.config is None:
        facts = timm.models.get_pretrained_cfg(subject.name)
        size = facts.input_size if facts else (3, 224, 224)
        classes = (facts.num_classes if facts else None) or 1000
        return ImageClassifier(subject.name, num_classes=classes, in_chans=size[0]), size
    built: tuple[Any, Any] = build([subject.config], device="cpu")
    classifier, data = built
    if not isinstance(classifier, ImageClassifier):
        raise ConfigError(f"{subject.config}: {type(classifier).__name__} classifies no images")
    return classifier, data.input_size


def _rows_of(table: str, keys: Sequence[str] | None) -> list[Subject]:
    selected = load_table(table).select(keys)
    return [Subject(row.name, row.config) for row in selected if row.name and row.config]


def _timm_network(word: str, others: Sequence[str]) -> Subject:
    import timm

    import lit_models  # noqa: F401 - registers our networks

    if timm.is_model(word.split(".")[0]):
        return Subject(word, None)
    near = nearest(word, [*others, *timm.list_models()])
    hint = near or "; give a config file, a row, a table (`table list`) or a network's name in timm"
    raise ConfigError(f"no row, table or network is called {word!r}{hint}")
