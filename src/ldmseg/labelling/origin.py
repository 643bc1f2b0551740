"""Where a map comes from: what `panoptic.json` says of the program, the model and the options that made it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ldmseg import __version__

if TYPE_CHECKING:
    from ldmseg.formats.coco_json import Provenance
    from ldmseg.options import InferenceOptions


def made_by(command: str, model: str, folder: str, seed: int, options: InferenceOptions, *, dated: bool = True) -> Provenance:
    """COCO's `info` for the maps of one run.

    Args:
        command: the verb, `segment`, `inpaint` or `label`.
        model: as the user named it.
        folder: where it lies; its files are hashed if it is on this machine.
        seed: of the noise.
        options: those of the calls, resolved.
        dated: whether the date is told, too. Two runs of one command then differ in it.
    """
    from ldmseg.formats.coco_json import Provenance
    from ldmseg.models.manifest import fingerprint

    digest = fingerprint(folder)
    return Provenance(
        info={
            "description": f"ldmseg {command}",
            "version": __version__,
            **({"date_created": datetime.now(UTC).isoformat(timespec="seconds")} if dated else {}),
            "model": model,
            **({} if digest is None else {"model_sha256": digest}),
            "seed": seed,
            "steps": options.num_inference_steps,
            "inference": options.to_dict(),
        }
    )
