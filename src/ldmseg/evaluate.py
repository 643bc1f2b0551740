"""Run a model over a data set and measure it."""

from __future__ import annotations

import numpy as np
import torch

from ldmseg.codes import assign_ids, limit_segments
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.panoptic import PanopticMap
from ldmseg.postprocess import to_panoptic


@torch.no_grad()
def reconstruct(autoencoder: MaskAutoencoder, pmap: PanopticMap, seed: int = 0) -> PanopticMap:
    """Encode and decode a map with random ids; the result has the map's own ids and no void (the ceiling of stage 2)."""
    num_ids, device = autoencoder.config.num_ids, next(autoencoder.parameters()).device
    kept = limit_segments(pmap, num_ids)
    assigned = assign_ids(kept, num_ids, "random", np.random.default_rng(seed))
    coded = kept.relabel(assigned)
    height, width = pmap.shape
    logits = autoencoder.decode(autoencoder.encode(torch.from_numpy(coded.ids.astype(np.int64))[None].to(device)))
    drawn = to_panoptic(logits[0, :, :height, :width])
    own_id = {code: segment_id for segment_id, code in assigned.items()}
    spare = (i for i in range(1, num_ids + len(own_id)) if i not in assigned)
    return drawn.relabel({s.id: own_id[s.id] if s.id in own_id else next(spare) for s in drawn.segments})
