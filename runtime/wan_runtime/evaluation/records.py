"""What the steps of an evaluation hand to each other, as JSON in the sets that they commit.

`collect` commits `clips.json` and a first frame for each clip; `generate` commits `videos.json`;
`score` commits `scores.json`; `rate` commits `ratings.json`; `compare` commits `evaluation.json`
and `report.html`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from wan_runtime.contract.base import Contract
from wan_runtime.contract.evaluation import Dimension, FloorRender
from wan_runtime.contract.sampling import Size
from wan_runtime.data.dataset import Clip

CLIPS = "clips.json"
VIDEOS = "videos.json"
SCORES = "scores.json"
RATINGS = "ratings.json"
EVALUATION = "evaluation.json"
REPORT = "report.html"
FIRST_FRAMES = "first-frames"
"""Folder of the set of clips."""
RENDERS = "renders"
"""Folder of the cache, shared by all runs of a store prefix, with every video that was rendered:
named after the weights, the settings, the seed and the first frame that it was made from."""


Render = Literal["First", FloorRender]
"""The render that is compared, and those that it is repeated by."""


class TestClip(Contract):
    """A recorded clip that candidates are compared on."""

    __test__ = False  # no class of tests

    id: Annotated[str, Field(pattern=r"^clip-[0-9]{4}$")]
    """Name of files of its videos: prompts and paths never are."""
    prompt: str
    recorded: Clip
    """The recording, of which the window that begins with its first start is compared."""
    first_frame: str
    """Path in the set: a PNG of exactly `size`, which all candidates start from."""
    size: Size
    frames: int
    fps: float
    seed: int
    """Seed of its videos, alike for all candidates."""


class TestClips(Contract):
    """clips.json."""

    __test__ = False

    clips: tuple[TestClip, ...]


class Stored(Contract):
    """A file in the store."""

    uri: str
    sha256: str
    bytes: int


class Video(Contract):
    """What one candidate made of one clip: a video, or the reason why there is none."""

    clip: str
    """Id of the clip."""
    candidate: str
    render: Render = "First"
    """Renders but the first are the noise floor."""
    video: Stored | None = None
    failure: str = ""
    """Why there is no video."""
    seed: int | None = None
    gpu_seconds: float | None = None
    """GPU-seconds of the render. None: not known."""
    gpu: str = ""
    """Type of the GPU, or `CPU`."""
    profile: str = ""
    """Arithmetic of the transformers."""
    weights: str = ""
    """Digest of the base weights and of what was put on them."""


class Videos(Contract):
    """videos.json of one candidate."""

    candidate: str
    videos: tuple[Video, ...]


class Measured(Contract):
    """What the metrics found of one video, or why it could not be measured."""

    clip: str
    candidate: str
    render: Render = "First"
    values: dict[str, float] = Field(default_factory=dict)
    """Metric -> its value."""
    missing: dict[str, str] = Field(default_factory=dict)
    """Metric of the evaluation without a value -> why."""
    failure: str = ""
    """Why nothing was measured: there is no video, or none that can be compared."""
    frames: int = 0
    """Frames that were compared, without the first."""
    legacy_psnr_uint8: float | None = None
    """PSNR from errors that wrap around at 256, if the evaluation wants it: it means nothing."""
    seconds: float = 0.0
    """Duration of the measurement."""


class Scores(Contract):
    """scores.json."""

    measured: tuple[Measured, ...]
    device: str = ""
    """Processor that measured."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the libraries that measured, by name."""
    settings: dict[str, str] = Field(default_factory=dict)
    """Choices that change a number, by name."""


class Rating(Contract):
    """Judgement of one video by one rater: an object in the store before the page says saved."""

    rater: str
    clip: str
    candidate: str
    """Name of a candidate, or `reference` for the recorded clip."""
    scores: dict[Dimension, Annotated[int, Field(ge=1, le=5)]]
    repeat: bool = False
    """Whether the rater has judged the same video before."""
    time: AwareDatetime


class Choice(Contract):
    """The better of two videos of one clip, by one rater."""

    rater: str
    clip: str
    left: str
    right: str
    """Names of the candidates, as they stood on the page."""
    chosen: Literal["Left", "Right", "Tie", "BothBad"]
    repeat: bool = False
    time: AwareDatetime


class Ratings(Contract):
    """ratings.json."""

    ratings: tuple[Rating, ...] = ()
    choices: tuple[Choice, ...] = ()
    raters: tuple[str, ...] = ()
    """All who were invited, whether or not they rated."""
    complete: bool
    """Whether all have rated all. False: the deadline came first."""
    simulated: bool = False
    """Whether scores were made up from the metrics."""
