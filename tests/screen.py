"""What a browser shows of a file, as pixels."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Page

CHROMIUM = "/usr/bin/chromium"
PATIENCE_MS = 300_000
"""Within which a page must do what is waited for: it may run beside much else."""
SANDBOX = ["--no-sandbox"] if os.geteuid() == 0 else []
GPU = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
"""Chromium draws as it does on a GPU, which a program stands for. Without one it turns YUV to RGB
with 7 bits a coefficient, and 2.112, BT.709's part of Cb in blue, comes out as 2.0."""

READ = """
const read = (source, width, height) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(source, 0, 0);
  const bytes = context.getImageData(0, 0, width, height).data;
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768)
    text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return [width, height, btoa(text)];
};
"""
VIDEO = f"""async ([url, times]) => {{ {READ}
  const video = document.createElement("video");
  video.muted = true;
  document.body.append(video);
  const shown = () => new Promise((done, fail) => {{
    video.onerror = () => fail(new Error(video.error.message));
    video.requestVideoFrameCallback(done);
  }});
  const first = shown();
  video.src = url;
  await first;
  const frames = [];
  for (const time of times) {{
    const next = shown();
    video.currentTime = time;
    await next;
    frames.push(read(video, video.videoWidth, video.videoHeight));
  }}
  return frames;
}}"""
PICTURE = f"""async (url) => {{ {READ}
  const image = new Image();
  image.src = url;
  await image.decode();
  return read(image, image.naturalWidth, image.naturalHeight);
}}"""

Shown = NDArray[np.uint8]
"""[H, W, 3]."""


@dataclass(frozen=True, slots=True)
class Screen:
    page: Page

    def video(self, data: bytes, times: Sequence[float]) -> list[Shown]:
        """Frames of an mp4 at these moments, in seconds."""
        return [
            _pixels(*each) for each in self.page.evaluate(VIDEO, [_url("video/mp4", data), times])
        ]

    def picture(self, kind: str, data: bytes) -> Shown:
        """A still; `kind` is its media type."""
        return _pixels(*self.page.evaluate(PICTURE, _url(kind, data)))


def _url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _pixels(width: int, height: int, text: str) -> Shown:
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)[..., :3]
