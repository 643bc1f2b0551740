"""Segment a video: the map of each frame is made from the one before, and a segment keeps its id and its colour.

python examples/video.py clip.mp4 --output out --every 5

It needs the extra `video` (pip install 'ldmseg[video]').
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ldmseg import LDMSegPipeline
from ldmseg.errors import InputError
from ldmseg.formats.coco_panoptic import CocoPanopticWriter
from ldmseg.formats.video import read_frames
from ldmseg.palette import Color, segment_colors
from ldmseg.segmenters.video import segment_frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--output", type=Path, default=Path("out"), help="gets frame_0000.png (ids), frame_0000_overlay.png, panoptic.json")
    parser.add_argument("--every", type=int, default=1, help="take every so many-th frame")
    parser.add_argument("--strength", type=float, default=0.5, help="how far from the map before, above 0 to 1")
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()
    try:
        pipe = LDMSegPipeline.from_pretrained(arguments.model)
        pipe.set_progress_bar_config(disable=True)
        frames = list(read_frames(arguments.video, arguments.every))
        colors: dict[int, Color] = {}
        with CocoPanopticWriter(arguments.output, png_dir=arguments.output) as writer:
            for number, (frame, pmap) in enumerate(zip(frames, segment_frames(pipe, frames, strength=arguments.strength), strict=True)):
                writer.add(f"frame_{number:04d}.png", number + 1, pmap)
                colors |= segment_colors(pmap, keep=colors)
                pmap.plot(frame, colors=colors).save(arguments.output / f"frame_{number:04d}_overlay.png")
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
