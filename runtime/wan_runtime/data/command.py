"""`wan-runtime dataset`: what `prepare` would say of a folder, and its upload, from a desk."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from wan_runtime.contract.dataset import Bucket, Columns, DatasetFormat, DatasetSpec, WindowKind
from wan_runtime.contract.job import ExitClass, StoreSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.strides import LENGTHS, RATES, SIDES, SPATIAL_STRIDE
from wan_runtime.errors import InputError, StepError
from wan_runtime.presets import PRESETS
from wan_runtime.process import logs

if TYPE_CHECKING:
    from wan_runtime.artifacts.store import Store
    from wan_runtime.data.dataset import Clip, Dataset
    from wan_runtime.data.formats.rows import Listing
    from wan_runtime.process.progress import Reporter

EPILOG = """\
The checks are those of the step `prepare`: give the preset, and what the WanFineTune changes of it.

environment:
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN   credentials
  AWS_ENDPOINT_URL, AWS_REGION                                  defaults of --endpoint, --region

exit codes: 0 done; 10 the dataset is refused; 30 the store failed: run it again to go on
"""
INTERRUPTED = 130
REFUSED = 10
BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
FIELDS = (
    (r"set dataset\.rejectedClips: Skip", "--skip-rejected"),
    (r"set dataset\.columns\.(\w+): (\S+)", r"--column \1=\2"),
    (r"set dataset\.columns\.(\w+)", r"--column \1=NAME"),
    (
        r"dataset\.window: Spread with windowsPerClip: (\d+)",
        r"--window Spread --windows-per-clip \1",
    ),
    (r"dataset\.window: (\w+)", r"--window \1"),
    (r"dataset\.format: (\w+)", r"--format \1"),
    (r"check dataset\.source and dataset\.format", "check the folder and --format"),
    (r"dataset\.buckets", "--bucket"),
    (r"dataset\.source", "the folder"),
)
"""What messages name by a field of WanFineTune, and the option here."""
PATIENCE_SECONDS = 30.0
"""Somebody waits at the terminal, and may run it again."""


def add_to(commands: Any) -> None:
    """The command line of `dataset`. `commands`: of the root parser."""
    text = "check a folder of clips, and upload it to the bucket"
    dataset = commands.add_parser("dataset", help=text, description=f"wan-runtime dataset: {text}.")
    actions = dataset.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, text in (
        ("check", "say what a run would make of every clip"),
        ("push", "check, then upload what the bucket lacks"),
    ):
        command = actions.add_parser(
            action,
            help=text,
            description=f"wan-runtime dataset {action}: {text}.",
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("folder", type=_folder, metavar="DIR", help="folder of the dataset")
        if action == "push":
            _add_upload(command)
        _add_checks(command)
        command.set_defaults(run=run)


def _add_upload(command: argparse.ArgumentParser) -> None:
    command.add_argument("target", metavar="s3://BUCKET/PREFIX", help="what will be dataset.source")
    command.add_argument(
        "--endpoint",
        default=os.environ.get("AWS_ENDPOINT_URL"),
        metavar="URL",
        help="http(s)://host[:port] of the S3 API",
    )
    command.add_argument("--region", default=os.environ.get("AWS_REGION", "us-east-1"))
    command.add_argument("--ca-file", metavar="FILE", help="PEM of a private authority")
    command.add_argument(
        "--dry-run", action="store_true", help="check and compare, but upload nothing"
    )


def _add_checks(command: argparse.ArgumentParser) -> None:
    command.add_argument("--format", choices=get_args(DatasetFormat), default="DiffSynth")
    command.add_argument(
        "--preset",
        choices=list(PRESETS),
        default="Wan2.1-I2V-14B-720P",
        help="default: %(default)s",
    )
    for name, number in (("frames", _frames), ("fps", _rate), ("width", _side), ("height", _side)):
        command.add_argument(f"--{name}", type=number, metavar="N", help="default: the preset's")
    command.add_argument(
        "--bucket",
        action="append",
        type=_bucket,
        default=[],
        metavar="WxHxF",
        help="width, height and frames, in place of the three; may be given again",
    )
    command.add_argument("--window", choices=get_args(WindowKind), default="First")
    command.add_argument(
        "--windows-per-clip", type=_whole, metavar="N", help="of Spread; default: 2"
    )
    command.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="FIELD=NAME",
        help=f"another name of a column: {', '.join(_columns())}",
    )
    command.add_argument(
        "--skip-rejected", action="store_true", help="leave out rejected clips instead of stopping"
    )
    command.add_argument(
        "--report", type=_report, metavar="FILE", help="write the verdicts with thumbnails, as HTML"
    )


def run(options: argparse.Namespace) -> int:
    """Check, and upload where a target is given. Returns the exit code."""
    logs.configure("dataset", level=logging.WARNING, terminal=True)
    logging.getLogger("wan_runtime.data.review").setLevel(logging.ERROR)  # printed below
    try:
        _run(options)
    except StepError as error:
        print(f"error: {error.reason}: {with_options(error.message)}", file=sys.stderr)
        return int(error.exit_class)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror}", file=sys.stderr)
        full = error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT)
        return int(ExitClass.INFRASTRUCTURE) if full else REFUSED
    except KeyboardInterrupt:
        print("interrupted: run it again to go on", file=sys.stderr)
        return INTERRUPTED
    return 0


def _run(options: argparse.Namespace) -> None:
    # Imported here: NumPy and FFmpeg take long, and no step's supervisor needs them.
    from wan_runtime.data.captions import estimate
    from wan_runtime.data.report import write_report
    from wan_runtime.data.review import decide, review
    from wan_runtime.data.source import FolderSource
    from wan_runtime.process.progress import Reporter

    spec = dataset_spec(options)
    target = _target(options) if options.action == "push" else None
    report = Reporter("dataset")
    with tempfile.TemporaryDirectory(prefix="wan-dataset-") as scratch:
        try:
            found = review(FolderSource(options.folder), spec, Path(scratch), estimate, report)
        except InputError as error:
            if options.report is None:
                raise
            text = f"{error.message}. No report was written to {options.report}"
            raise InputError(error.reason, text) from error
    dataset, refusal = found.dataset, None
    try:
        dataset = decide(dataset, spec, found.alike)
    except InputError as error:
        refusal = error
    report.close()
    if options.report is not None:
        write_report(options.report, dataset, found.thumbnails)
    _print_verdicts(dataset, found.listing)
    if refusal is not None:
        raise refusal
    if target is not None:
        _upload(options, found.listing, dataset, *target, report)


def with_options(message: str) -> str:
    """A message of `prepare` with the options of this command in place of fields."""
    for field, option in FIELDS:
        message = re.sub(field, option, message)
    return message


def _print_verdicts(dataset: Dataset, listing: Listing) -> None:
    from wan_runtime.data.report import summary
    from wan_runtime.data.source import printable

    def name(clip: Clip) -> str:
        return (
            f"row {clip.row}  {printable(clip.path)}" if listing.numbered else printable(clip.path)
        )

    for clip in dataset.rejected:
        said = with_options(clip.message)
        print(f"rejected  {name(clip)}  {clip.code}: {said}")
    for clip in dataset.warned:
        for warned in clip.warnings:
            said = with_options(warned.message)
            print(f"warning   {name(clip)}  {warned.code}: {said}")
    for note in dataset.notes:
        print(f"note      {with_options(note)}")
    print(summary(dataset))


def _upload(
    options: argparse.Namespace,
    listing: Listing,
    dataset: Dataset,
    store: Store,
    prefix: str,
    report: Reporter,
) -> None:
    from wan_runtime.data.push import files_of, push
    from wan_runtime.data.source import counted

    groups = files_of(listing, dataset)
    sent = push(options.folder, groups, store, prefix, report, dry_run=options.dry_run)
    report.close()
    new = [each for each in sent if each.new]
    size = sum(each.bytes for each in new) / 1e6
    verb = "would be uploaded" if options.dry_run else "uploaded"
    old = len(sent) - len(new)
    print(f"{counted(len(new), 'file')} {verb} ({size:.1f} MB), {old} were there already.")
    print(f"dataset.source: {options.target}")
    print(f"dataset.format: {options.format}")
    if dataset.rejected:
        print(f"{listing.name} still lists rejected clips: set dataset.rejectedClips: Skip")


def dataset_spec(options: argparse.Namespace) -> DatasetSpec:
    """What the options ask for. Raises InputError for a column that there is not."""
    preset, columns = PRESETS[options.preset], {}
    for text in options.column:
        field, _, name = text.partition("=")
        if field not in _columns() or not name:
            fields = ", ".join(_columns())
            raise InputError(
                Reason.DATASET_INVALID, f"--column {text} is not FIELD=NAME, FIELD one of {fields}"
            )
        columns[field] = name
    if options.windows_per_clip and options.window != "Spread":
        text = f"--windows-per-clip is for --window Spread: {options.window} is one window"
        raise InputError(Reason.DATASET_INVALID, text)
    if options.bucket and (options.frames or options.width or options.height):
        text = "--bucket says width, height and frames: leave --width, --height and --frames out"
        raise InputError(Reason.DATASET_INVALID, text)
    whole = Bucket(
        width=options.width or preset.width,
        height=options.height or preset.height,
        frames=options.frames or preset.frames,
    )
    return DatasetSpec(
        source=str(options.folder),
        format=options.format,
        columns=Columns.model_validate(columns),
        buckets=tuple(dict.fromkeys(options.bucket)) or (whole,),
        fps=options.fps or preset.fps,
        window=options.window,
        windows_per_clip=(options.windows_per_clip or 2) if options.window == "Spread" else 1,
        rejected_clips="Skip" if options.skip_rejected else "Fail",
    )


def _target(options: argparse.Namespace) -> tuple[Store, str]:
    """The store and the key prefix to upload to. Raises InputError, InfrastructureError."""
    from wan_runtime.artifacts.patience import Patience
    from wan_runtime.artifacts.store import Store

    try:
        bucket, prefix = Store.parse(options.target)
    except ValueError as error:
        raise InputError(Reason.DATASET_NOT_FOUND, str(error)) from error
    if not re.fullmatch(BUCKET, bucket):
        said = f"{bucket!r} names no bucket: 3 to 63 of the characters a-z, 0-9, . and -"
        raise InputError(Reason.DATASET_NOT_FOUND, said)
    if not options.endpoint:
        raise InputError(
            Reason.DATASET_NOT_FOUND, "no endpoint: give --endpoint or set AWS_ENDPOINT_URL"
        )
    spec = StoreSpec(
        endpoint=options.endpoint, bucket=bucket, region=options.region, ca_file=options.ca_file
    )
    store = Store.connect(spec, patience=Patience(seconds=PATIENCE_SECONDS))
    store.stat(prefix or "metadata.csv")  # wrong credentials show before clips are decoded
    return store, prefix


def _columns() -> list[str]:
    return [str(field.alias) for field in Columns.model_fields.values()]


def _folder(text: str) -> Path:
    path = Path(text)
    if path.is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is a file: name the folder that holds it")
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no folder")
    return path


def _report(text: str) -> Path:
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder: name a file, {path}/report.html")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is in no folder that there is")
    return path


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def _within(text: str, ends: tuple[int, int]) -> int:
    number, (least, most) = _whole(text), ends
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"must be from {least} to {most}, not {number}")
    return number


def _rate(text: str) -> int:
    return _within(text, RATES)


def _bucket(text: str) -> Bucket:
    sides = text.split("x")
    if len(sides) != 3:
        raise argparse.ArgumentTypeError(f"must be WIDTHxHEIGHTxFRAMES, not {text!r}")
    width, height, frames = sides
    return Bucket(width=_side(width), height=_side(height), frames=_frames(frames))


def _frames(text: str) -> int:
    number = _within(text, LENGTHS)
    if (number - 1) % 4:
        low = number - (number - 1) % 4
        raise argparse.ArgumentTypeError(f"must be 4n+1: {low} or {low + 4}, not {number}")
    return number


def _side(text: str) -> int:
    number = _within(text, SIDES)
    if number % SPATIAL_STRIDE:
        low = number - number % SPATIAL_STRIDE
        raise argparse.ArgumentTypeError(
            f"must be a multiple of {SPATIAL_STRIDE}: {low} or {low + SPATIAL_STRIDE}, not {number}"
        )
    return number
