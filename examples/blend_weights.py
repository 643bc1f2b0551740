"""Save a pipeline whose weights lie between those of a model and of the one that its training began with.

    python examples/blend_weights.py --model runs/photos-128/pipeline --before runs/last/pipeline --share 0.3 -o runs/blended

Fine-tuning on photographs costs a model some of what it knew of other pictures; a part of the old weights brings it back, and often makes
the new task better too. `--dtype fp16` halves the folder's size.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from ldmseg import LDMSegPipeline
from ldmseg.errors import InputError
from ldmseg.models.blending import blend_denoisers, blend_encoders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="the fine-tuned one")
    parser.add_argument("--before", required=True, help="the one that it began with; the mask autoencoder must be the same")
    parser.add_argument("--share", type=float, required=True, help="of the old weights, 0..1")
    parser.add_argument("--dtype", choices=("fp32", "fp16"), default="fp32")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        pipe, before = (LDMSegPipeline.from_pretrained(source) for source in (arguments.model, arguments.before))
        mine, theirs = (each.mask_autoencoder.state_dict() for each in (pipe, before))
        if mine.keys() != theirs.keys() or not all(torch.equal(mine[name], theirs[name]) for name in mine):
            raise InputError("--before: expected the mask autoencoder of --model, which both denoisers draw for, got another")
        blend_denoisers(pipe.unet, before.unet, arguments.share)
        blend_encoders(pipe.image_encoder, before.image_encoder, arguments.share)
    except InputError as error:
        parser.error(str(error))
    if arguments.dtype == "fp16":
        pipe.to(torch.float16)
    pipe.save_pretrained(arguments.output)
    print(f"saved in {arguments.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
