"""TensorBoard event files in the store, so that a run can be watched with the field's own tool."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter

from wan_runtime.artifacts.store import Store
from wan_runtime.rendering.media import Frames


class EventFiles:
    """The events of one attempt: one file at `<prefix>/`, sent whole at each `upload`.

    Event files only grow and are small (about 300 bytes a step); a store cannot append. Files of
    earlier attempts stay beside it: TensorBoard reads them as one run.
    """

    def __init__(self, store: Store, prefix: str, folder: Path, *, resumed_from: int) -> None:
        """`resumed_from`: what an earlier attempt wrote of later steps is dropped by the reader."""
        self._store, self._prefix, self._folder = store, prefix, folder
        self._writer = SummaryWriter(str(folder), purge_step=resumed_from + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point a tag."""
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)

    def picture(self, step: int, tag: str, frames: Frames) -> None:
        """Frames [F, H, W, 3] side by side."""
        strip = frames.transpose(1, 0, 2, 3).reshape(frames.shape[1], -1, 3)
        self._writer.add_image(tag, strip, step, dataformats="HWC")

    def upload(self) -> None:
        """Send what there is so far."""
        self._writer.flush()
        for path in sorted(self._folder.iterdir()):
            self._store.put_file(f"{self._prefix}/{path.name}", path)

    def close(self) -> None:
        """Ends the writer's thread."""
        self._writer.close()
