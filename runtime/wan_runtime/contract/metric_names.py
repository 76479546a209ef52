"""Metrics that an evaluation can ask for: their names, and what each number means. No numpy.

`wan_runtime.evaluation.metrics` computes them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal, get_args

from wan_runtime.contract.base import Contract

MetricName = Literal[
    "psnr",
    "ssim",
    "ms_ssim",
    "vmaf",
    "ffmpeg_psnr",
    "ffmpeg_ssim",
    "lpips",
    "motion_ratio",
    "camera_agreement",
    "first_frame_fidelity",
    "identity_drift",
    "colour_shift",
    "sharpness",
    "clip_similarity",
    "flicker",
    "warping_error",
    "vbench_temporal_flickering",
    "vbench_subject_consistency",
    "vbench_background_consistency",
    "vbench_aesthetic_quality",
    "vbench_dynamic_degree",
    "vbench_i2v_subject",
]
Better = Literal["Higher", "Lower", "NearerToOne"]
Beside = Literal["Reference", "FirstFrame", "Nothing"]

PSNR_CAP = 100.0
"""Decibels of identical pictures, whose ratio is infinite."""


class Weights(Contract):
    """Files of a network, in a folder of the evaluation's metric weights."""

    folder: str
    files: tuple[str, ...]


TRANSFORMERS = ("config.json", "model.safetensors")


class MetricDefinition(Contract):
    """What a number of one name means."""

    name: MetricName
    definition: str
    """Sentences that tell this number from others of its kind."""
    version: int = 1
    """Counted up by a release that computes another number by this name: kept ones are then
    measured again."""
    unit: str = ""
    """Empty: a plain number."""
    better: Better
    beside: Beside
    """What a clip is compared with: a reference clip, the picture that it starts from, or
    nothing."""
    worst: float = 0.0
    """Value that a clip counts with whose video failed."""
    cap: float | None = None
    """Largest value, where the formula has none."""
    mounted: str | None = None
    """Weights that have to be mounted for it, since no image holds them. None: none."""
    weights: Weights | None = None
    """Their files."""
    smallest: int = 1
    """Pixels at the shorter side of a picture, at least."""
    most_without_gpu: int | None = None
    """Pixels of a picture, at most, where no GPU computes it. None: any number."""
    sampling_rate: int | None = None
    """Frames a second that are looked at, about, of which two are needed. None: all are."""

    @property
    def limited(self) -> bool:
        """Whether some clips have no number, however good their videos are."""
        return (
            self.smallest > 1 or self.most_without_gpu is not None or self.sampling_rate is not None
        )

    def fault(
        self, width: int, height: int, frames: int, fps: float, *, on_gpu: bool
    ) -> str | None:
        """Why no video of a clip has a number. None: each that is whole has.

        Args:
            width, height, frames, fps: of the clip.
            on_gpu: whether a GPU measures.
        """
        if min(width, height) < self.smallest:
            return f"needs {self.smallest} pixels at the shorter side"
        most = None if on_gpu else self.most_without_gpu
        if most is not None and width * height > most:
            return f"needs a GPU for pictures of more than {most:,} pixels (set scoreOnGpu)"
        if self.sampling_rate is not None and -(-frames // stride_of(fps, self.sampling_rate)) < 2:
            return f"needs two of about {self.sampling_rate} frames a second"
        return None


def stride_of(fps: float, rate: int) -> int:
    """Distance in frames of those that are looked at, about `rate` a second."""
    return max(1, round(fps / rate))


def _definitions() -> tuple[MetricDefinition, ...]:
    return (
        MetricDefinition(
            name="psnr",
            definition="Peak signal-to-noise ratio of the displayed RGB pictures: the squared "
            "error is averaged over all samples of all frames but the first, then "
            "taken to one logarithm.",
            unit="dB",
            better="Higher",
            beside="Reference",
            cap=PSNR_CAP,
        ),
        MetricDefinition(
            name="ssim",
            definition="Structural similarity by Wang et al. (2004) with their Gaussian window "
            "of 11 pixels and a standard deviation of 1.5: mean over the red, green "
            "and blue of the displayed pictures without the window's border, and over "
            "all frames but the first.",
            better="Higher",
            beside="Reference",
        ),
        MetricDefinition(
            name="ms_ssim",
            definition="Structural similarity on five scales by Wang et al. (2003), with the "
            "window of ssim: mean over red, green and blue, and over all frames but "
            "the first.",
            better="Higher",
            beside="Reference",
            smallest=161,
        ),
        MetricDefinition(
            name="vmaf",
            definition="VMAF by Netflix' model vmaf_float_v0.6.1 on luma: mean over all frames but "
            "the first. A clip of which nothing moves scores about 97 beside itself.",
            version=2,
            better="Higher",
            beside="Reference",
            smallest=32,
        ),
        MetricDefinition(
            name="ffmpeg_psnr",
            definition="The average of FFmpeg's filter psnr: over luma and the halved chroma of "
            "yuv420p, each sample alike, from the mean of the squared errors of all "
            "frames but the first.",
            unit="dB",
            better="Higher",
            beside="Reference",
            cap=PSNR_CAP,
        ),
        MetricDefinition(
            name="ffmpeg_ssim",
            definition="The value All of FFmpeg's filter ssim: windows of 8x8 pixels without "
            "weights, over luma and the halved chroma of yuv420p, each sample alike. "
            "Luma alone decides two thirds.",
            better="Higher",
            beside="Reference",
        ),
        MetricDefinition(
            name="lpips",
            definition="Learned perceptual distance by Zhang et al. (2018), version 0.1 on "
            "AlexNet: mean over all frames but the first.",
            better="Lower",
            worst=1.0,
            beside="Reference",
            mounted="the weights of LPIPS and AlexNet",
            weights=Weights(folder="lpips", files=("alexnet-owt-7be5be79.pth", "alex.pth")),
        ),
        MetricDefinition(
            name="motion_ratio",
            definition="Mean length of the optical flow of the clip, over that of the reference.",
            better="NearerToOne",
            beside="Reference",
        ),
        MetricDefinition(
            name="camera_agreement",
            definition="How alike the camera moves: 1 minus the summed distance between the "
            "displacements of the picture's corners in the two clips, over the summed "
            "lengths of both. A homography from each frame to the next gives the "
            "displacements. 1: the same move, or none in either; 0: opposite ones, or "
            "only one moves.",
            better="Higher",
            beside="Reference",
        ),
        MetricDefinition(
            name="first_frame_fidelity",
            definition="Peak signal-to-noise ratio in RGB of the first frame beside the picture "
            "that the clip starts from.",
            unit="dB",
            better="Higher",
            beside="FirstFrame",
            cap=PSNR_CAP,
        ),
        MetricDefinition(
            name="identity_drift",
            definition="Hellinger distance between the colour histograms in CIELAB of each later "
            "frame and of the picture that the clip starts from: mean over the last "
            "quarter of the frames. 0: the same colours, 1: none in common. Where "
            "they lie does not matter.",
            better="Lower",
            worst=1.0,
            beside="FirstFrame",
        ),
        MetricDefinition(
            name="colour_shift",
            definition="Distance in CIELAB (CIE76) between the mean colours of each later frame "
            "and of the picture that the clip starts from: mean over the frames.",
            unit="ΔE",
            better="Lower",
            worst=100.0,
            beside="FirstFrame",
        ),
        MetricDefinition(
            name="sharpness",
            definition="Variance of the Laplacian of luma: mean over all frames but the first, "
            "over that of the picture that the clip starts from.",
            better="NearerToOne",
            beside="FirstFrame",
        ),
        MetricDefinition(
            name="clip_similarity",
            definition="Cosine between the CLIP embeddings of each later frame and of the "
            "picture that the clip starts from: mean over the frames.",
            better="Higher",
            beside="FirstFrame",
            mounted="the weights of a CLIP image encoder",
            weights=Weights(
                folder="clip",
                files=("config.json", "preprocessor_config.json", "model.safetensors"),
            ),
        ),
        MetricDefinition(
            name="flicker",
            definition="Mean absolute difference between the luma of a block of 16x16 pixels and "
            "the mean of the same block one frame earlier and one later, without the "
            "first frame. A steady change counts nothing, a wavering one fully.",
            unit="levels of 255",
            better="Lower",
            worst=255.0,
            beside="Nothing",
        ),
        MetricDefinition(
            name="warping_error",
            definition="Mean squared difference, in RGB from 0 to 1, between a frame and the one "
            "before it moved along the optical flow, where the flow there and back "
            "agrees (Lai et al. 2018).",
            better="Lower",
            worst=1.0,
            beside="Nothing",
        ),
        MetricDefinition(
            name="vbench_temporal_flickering",
            definition="VBench's temporal flickering: 1 minus the mean absolute difference in RGB "
            "between each frame and the next, over 255. VBench measures it of scenes that stand "
            "still: whatever moves lowers it.",
            better="Higher",
            beside="Nothing",
        ),
        MetricDefinition(
            name="vbench_subject_consistency",
            definition="VBench's subject consistency: cosines between the DINO features of each "
            "frame and of both the frame before and the first one, negative ones as 0: mean over "
            "the frames.",
            better="Higher",
            beside="Nothing",
            mounted="the weights of DINO ViT-B/16",
            weights=Weights(folder="dino-vitb16", files=TRANSFORMERS),
        ),
        MetricDefinition(
            name="vbench_background_consistency",
            definition="VBench's background consistency: as its subject consistency, by the "
            "features of CLIP ViT-B/32.",
            better="Higher",
            beside="Nothing",
            mounted="the weights of CLIP ViT-B/32",
            weights=Weights(folder="clip-vit-base-patch32", files=TRANSFORMERS),
        ),
        MetricDefinition(
            name="vbench_aesthetic_quality",
            definition="VBench's aesthetic quality: mark of LAION's predictor on features of CLIP "
            "ViT-L/14, over 10: mean over all frames.",
            better="Higher",
            beside="Nothing",
            mounted="the weights of CLIP ViT-L/14 and of LAION's aesthetic predictor",
            weights=Weights(
                folder="clip-vit-large-patch14",
                files=(*TRANSFORMERS, "sa_0_4_vit_l_14_linear.pth"),
            ),
        ),
        MetricDefinition(
            name="vbench_dynamic_degree",
            definition="VBench's dynamic degree: 1 if at least a quarter of the frames move, of "
            "about 8 a second, else 0. A frame moves whose fastest 5 % of pixels do, by RAFT's "
            "optical flow, on average by more than 6 pixels of 256 of the shorter side.",
            better="Higher",
            beside="Nothing",
            mounted="the weights of RAFT",
            smallest=128,
            most_without_gpu=2**18,
            sampling_rate=8,
            weights=Weights(folder="raft", files=("raft_large_C_T_V1-22a6c225.pth",)),
        ),
        MetricDefinition(
            name="vbench_i2v_subject",
            definition="VBench's I2V subject: 0.4 times the largest cosine between the DINO "
            "features of a frame and of the picture that the clip starts from, 0.3 times the mean "
            "and 0.3 times the smallest one between a frame and the next, negative ones as 0.",
            better="Higher",
            beside="FirstFrame",
            mounted="the weights of DINO ViT-B/16",
            weights=Weights(folder="dino-vitb16", files=TRANSFORMERS),
        ),
    )


METRICS = MappingProxyType({each.name: each for each in _definitions()})
"""Every metric by its name, in the order of reports."""

METRIC_NAMES: tuple[MetricName, ...] = get_args(MetricName)
