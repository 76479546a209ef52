"""Which reader reads which format."""

from __future__ import annotations

from dataclasses import replace

from wan_runtime.contract.dataset import Columns, DatasetFormat
from wan_runtime.contract.reasons import Reason
from wan_runtime.data.formats import folder, metadata, musubi, webdataset
from wan_runtime.data.formats.rows import Listing, Read
from wan_runtime.data.source import Source, counted
from wan_runtime.errors import InputError

READERS: dict[DatasetFormat, Read] = {
    "DiffSynth": metadata.read,
    "Musubi": musubi.read,
    "Folder": folder.read,
    "WebDataset": webdataset.read,
}


def read_listing(source: Source, format: DatasetFormat, columns: Columns) -> Listing:
    """All rows of a dataset.

    Raises InputError(DATASET_NOT_FOUND with what is there instead, DATASET_INVALID,
    DATASET_EMPTY).
    """
    listing = READERS[format](source, columns)
    if not listing.rows:
        raise InputError(Reason.DATASET_EMPTY, f"there is no clip in {listing.name}")
    if count := sum(row.video.archive is None and "\\" in row.video.path for row in listing.rows):
        verb = "holds" if count == 1 else "hold"
        said = f"{counted(count, 'path')} {verb} a backslash, read as / where no file is named so"
        return replace(listing, notes=(*listing.notes, said))
    return listing
