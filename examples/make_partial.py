"""Make partial maps for `ldmseg inpaint` from full ones: brush strokes, boxes, dots or blocks of the labels are kept.

python examples/make_partial.py --data coco-panoptic:demo/scenes -o demo/partial
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

import numpy as np

from ldmseg.data.datasets import load_dataset
from ldmseg.data.partial import PartialKind, make_partial
from ldmseg.errors import InputError
from ldmseg.formats.label_png import write_label_png


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="FORMAT:ROOT[:SPLIT]", help="full maps, e.g. coco-panoptic:DIR")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="gets <photo's stem>.png, a label PNG, 0 = unknown")
    parser.add_argument(
        "--kind", nargs="+", choices=get_args(PartialKind), default=["strokes", "boxes"], help="several take turns (default: strokes boxes)"
    )
    parser.add_argument("--share", type=float, default=0.5, help="of the image, or of the segments for strokes and points (default: 0.5)")
    parser.add_argument("--block-size", type=int, default=16, help="pixels of a block's side (default: 16)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        dataset = load_dataset(args.data)
        for index in range(len(dataset)):
            rng = np.random.default_rng([args.seed, index])
            partial = make_partial(dataset.map(index), args.kind[index % len(args.kind)], args.share, rng, args.block_size)
            write_label_png(args.output / f"{Path(dataset.name(index)).stem}.png", partial)
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
