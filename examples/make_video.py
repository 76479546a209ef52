"""Make a video of a picture, with nothing but OpenAI's own SDK (pip install openai).

python make_video.py photo.png "the man waves" --url http://videos.example.com --key KEY
python make_video.py photo.png "" --model anime-fairy --size 720x1280 --out fairy.mp4
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

from openai import APIConnectionError, APIStatusError, OpenAI

warnings.filterwarnings("ignore", "The Sora API")  # of OpenAI's own service, not of this one


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a video of a picture.")
    parser.add_argument("image", type=Path, help="first frame: PNG, JPEG or WebP")
    parser.add_argument("prompt", help="what happens; may be empty for an effect")
    parser.add_argument("--url", default=os.environ.get("WAN_URL"), help="of the service (WAN_URL)")
    parser.add_argument("--key", default=os.environ.get("WAN_API_KEY"), help="(WAN_API_KEY)")
    parser.add_argument("--model", help="the service's model or an effect (default: its model)")
    parser.add_argument("--size", help="1280x720; one of the service's (default: its first)")
    parser.add_argument("--seconds", help="length (default: the service's or the effect's)")
    parser.add_argument("--out", type=Path, default=Path("video.mp4"), help="default: %(default)s")
    options = parser.parse_args()
    if not options.url or not options.key:
        parser.error("--url and --key, or WAN_URL and WAN_API_KEY, say which service to ask")
    if not options.image.is_file():
        parser.error(f"{options.image} is no file")
    client = OpenAI(base_url=f"{options.url.rstrip('/')}/v1", api_key=options.key)
    try:
        return make(client, options)
    except APIStatusError as error:
        print(f"refused ({error.status_code}): {error.message}", file=sys.stderr)
    except APIConnectionError as error:
        print(f"{options.url} does not answer: {error.__cause__ or error}", file=sys.stderr)
    return 1


def make(client: OpenAI, options: argparse.Namespace) -> int:
    """Ask, wait, fetch. The exit code."""
    model = options.model or client.models.list().data[0].id
    asked = {"model": model, "prompt": options.prompt}
    for name in ("size", "seconds"):
        if getattr(options, name):
            asked[name] = getattr(options, name)
    with options.image.open("rb") as picture:
        video = client.videos.create(**asked, input_reference=picture)
    shown = ""
    while video.status in ("queued", "in_progress"):
        line = f"{video.id} {video.status} {video.progress or 0} %"
        if line != shown:
            print(line)
            shown = line
        time.sleep(1)
        video = client.videos.retrieve(video.id)
    if video.status != "completed":
        why = video.error.message if video.error else video.status
        print(f"{video.id} was not made: {why}", file=sys.stderr)
        return 1
    for variant, out in (("thumbnail", options.out.with_suffix(".webp")), ("video", options.out)):
        client.videos.download_content(video.id, variant=variant).write_to_file(out)
        print(f"{out}: {out.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
