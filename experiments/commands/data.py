"""`data`: whether a data set is what it should be, and putting it where it is looked for."""

import argparse
import errno
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from experiments.command_parser import CommandParser

if TYPE_CHECKING:
    from datamodules.ilsvrc import Kind
    from datamodules.official import OfficialDataModule
    from datamodules.progress import Track
    from datamodules.verification import Verification

IMAGENET, COCO = "imagenet", "coco"
NAMES = ("mnist", "cifar10", "cifar100", IMAGENET, COCO)
# Width of the first column of a report.
WIDTH = 12

Step = TypeVar("Step")


def main(arguments: Sequence[str]) -> int:
    """Verify or prepare a data set; returns the exit status."""
    options = _parser().parse_args(arguments[1:])
    if options.action == "verify":
        return _verify(options)
    try:
        return _prepare(options)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        from datamodules.official import data_root

        raise OSError(
            f"no space left on the disk of {data_root(options.root)}; free some and give the same "
            f"command again: what has been written is kept"
        ) from error


def _verify(options: argparse.Namespace) -> int:
    # Only now: what is wrong on the command line is said at once.
    from datamodules.coco_verification import verify_coco
    from datamodules.image_loader import share_of_cores
    from datamodules.image_verification import verify_images
    from datamodules.official import data_root
    from datamodules.verification import verify_official

    workers = share_of_cores(1) if options.workers is None else options.workers
    if options.name == COCO:
        with _progress() as track:
            found = verify_coco(options.root, quick=options.quick, workers=workers, track=track)
    elif options.name == IMAGENET:
        with _progress() as track:
            root = data_root(options.root)
            found = verify_images(
                root,
                quick=options.quick,
                workers=workers,
                track=track,
                fewer_in_val=options.fewer_classes_in_val,
            )
    else:
        found = verify_official(_official(options, download=False))
    if options.json:
        print(json.dumps({**asdict(found), "good": not found.problems}))
    else:
        _print(found)
    return 1 if found.problems else 0


def _print(found: "Verification") -> None:
    print(f"{found.name} in {found.root}")
    for split, counts in found.counts.items():
        low, high = min(counts.values()), max(counts.values())
        each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        total = sum(counts.values())
        print(f"  {split:<{WIDTH}}{total:,} images in {len(counts):,} classes, {each} in each")
    for subject, fact in found.facts.items():
        print(f"  {subject:<{WIDTH}}{fact}")
    if found.fingerprint is not None:
        print(f"  {'fingerprint':<{WIDTH}}{json.dumps(found.fingerprint)}")
    for problem in found.problems:
        # Names of files may be no text, which standard output refuses.
        print(f"wrong: {problem.encode(errors='surrogateescape').decode(errors='replace')}")
    count = len(found.problems)
    print(f"{count:,} problem{'s' * (count > 1)}" if count else "good")


def _prepare(options: argparse.Namespace) -> int:
    files = [Path(name) for name in options.files]
    for path in files:
        if not path.is_file():
            raise SystemExit(f"no file at {path} (--from)")
    if options.name == IMAGENET:
        return _prepare_imagenet(options, files)
    if options.name == COCO:
        raise SystemExit(
            "coco is prepared by unpacking: train2017.zip, val2017.zip and "
            "annotations_trainval2017.zip (cocodataset.org) into one folder, its --root"
        )
    if options.shards is not None:
        raise SystemExit(f"--shards is for {IMAGENET} alone; {options.name} is held in memory")
    data = _official(options, download=not files)
    data.place(files)
    data.prepare_data()
    print(f"{data.name} in {data.root}: all {len(data.checksums)} official files")
    return 0


def _prepare_imagenet(options: argparse.Namespace, files: Sequence[Path]) -> int:
    from datamodules.image_splits import SPLITS, class_names, root_of_splits
    from datamodules.official import data_root

    root = root_of_splits(data_root(options.root))
    with _progress() as track:
        _unpack(root, files, track)
        for split in SPLITS:
            print(f"{root / split}: {len(class_names(root / split)):,} classes")
        if options.shards is not None:
            _write_shards(root, options.shards, track, options.fewer_classes_in_val)
    print(f"check every image with: data verify {IMAGENET} --root {root}")
    return 0


def _unpack(root: Path, files: Sequence[Path], track: "Track") -> None:
    from datamodules import ilsvrc

    archives = ilsvrc.recognise(files or ilsvrc.official_archives(root))
    if not archives and not any((root / split).is_dir() for split in ("train", "val")):
        raise FileNotFoundError(
            f"no ImageNet in {root}, and nothing to make it from: its archives are given to "
            f"registered users (image-net.org); put {', '.join(ilsvrc.OFFICIAL_NAMES)} there, or "
            f"say where they are with --from"
        )
    if "val" in archives and "labels" not in archives:
        raise FileNotFoundError(
            f"{archives['val']} does not say the classes of its images: give "
            f"{ilsvrc.OFFICIAL_NAMES[-1]} as well, or a text file with them"
        )
    if "train" in archives:
        _note_unofficial(archives["train"], "train", root, track)
        ilsvrc.unpack_train(archives["train"], root / "train", track)
    if "val" in archives:
        _note_unofficial(archives["val"], "val", root, track)
        ilsvrc.unpack_val(archives["val"], archives["labels"], root / "val", track)


def _note_unofficial(archive: Path, kind: "Kind", root: Path, track: "Track") -> None:
    from datamodules.ilsvrc import is_official

    # Five minutes for train: not again once it has been unpacked.
    if not (root / kind).is_dir() and not is_official(archive, kind, track):
        print(f"note: {archive} is not the official file (MD5 sum)")


def _write_shards(root: Path, count: int, track: "Track", fewer_in_val: bool) -> None:
    from datamodules.image_shards import write_shards
    from datamodules.image_splits import SPLITS, class_faults, layout_faults, read_split

    splits = [read_split(root / split) for split in SPLITS]
    for fault in (
        *(fault for images in splits for fault in layout_faults(images)),
        *class_faults(root, fewer_in_val=fewer_in_val),
    ):
        raise fault
    target = root / "shards"
    for images in splits:
        name = images.folder.name
        for _ in track(write_shards(images, target / name, count), f"{name}: shards", count):
            pass
    print(f"{target}: {count:,} shards of each; use them with --data.init_args.root {target}")


def _official(options: argparse.Namespace, download: bool) -> "OfficialDataModule":
    import datamodules

    modules: dict[str, type[OfficialDataModule]] = {
        "mnist": datamodules.MNISTDataModule,
        "cifar10": datamodules.CIFAR10DataModule,
        "cifar100": datamodules.CIFAR100DataModule,
    }
    return modules[options.name](root=options.root, download=download)


@contextmanager
def _progress() -> Iterator["Track"]:
    """Progress bars on standard error, which vanish when all is done; none but on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:

        def track(steps: Iterable[Step], description: str, total: int) -> Iterable[Step]:
            return progress.track(steps, total=total, description=description)

        yield track


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m experiments data", description=__doc__, allow_abbrev=False
    )
    actions = parser.add_subparsers(dest="action", required=True, parser_class=CommandParser)
    verify = actions.add_parser(
        "verify",
        help="count and decode everything; exit status 1 if anything is wrong",
        allow_abbrev=False,
    )
    prepare = actions.add_parser(
        "prepare", help="put official files where they are looked for", allow_abbrev=False
    )
    for action in (verify, prepare):
        action.add_argument("name", metavar="NAME", choices=NAMES, help=", ".join(NAMES))
        action.add_argument(
            "--root", metavar="DIR", help="folder of the data sets (CONVSUITE_DATA, else data)"
        )
        action.add_argument(
            "--fewer-classes-in-val",
            action="store_true",
            help=f"{IMAGENET}: val may lack classes of train (ImageNet-5K)",
        )
    verify.add_argument("--quick", action="store_true", help="read the headers of images only")
    verify.add_argument("--workers", type=_count, metavar="N", help="processes (one for each core)")
    verify.add_argument("--json", action="store_true", help="write one JSON object")
    prepare.add_argument(
        "--from",
        dest="files",
        nargs="+",
        default=[],
        metavar="FILE",
        help="files that are here already, instead of fetching; for imagenet the archives of "
        "ILSVRC 2012: train, val, and the development kit or a text file with val's classes",
    )
    prepare.add_argument(
        "--shards",
        type=_count,
        metavar="N",
        help=f"{IMAGENET}: write N tar files of each split, too",
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no count")
    return int(text)
