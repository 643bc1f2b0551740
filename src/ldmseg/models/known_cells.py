"""A partial map on the latent grid: its latents, how much of each cell is known, and putting known cells back (section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.panoptic import VOID, PanopticMap


@dataclass(frozen=True)
class KnownCells:
    """`latents` (B, C, h, w) of the partial maps, and `validity` (B, 1, h, w), the share of known pixels under each cell, 0..1."""

    latents: Tensor
    validity: Tensor

    def put_back(self, clean: Tensor) -> Tensor:
        """The estimate (B, C, h, w) with the given latents in the cells that are known to the last pixel."""
        return torch.where(self.validity == 1, self.latents, clean)

    def to(self, dtype: torch.dtype) -> KnownCells:
        return KnownCells(self.latents.to(dtype), self.validity.to(dtype))


def known_cells(autoencoder: MaskAutoencoder, ids: Tensor) -> KnownCells:
    """Encode partial maps; where an image has nothing known, its latents are zero.

    A cell of which anything is known is first filled with its own nearest known ids (`fill_cells`), so that a single pixel speaks as
    clearly as a whole cell; `validity` tells how much of it was given.

    Args:
        ids: (B, H, W) integers in 0..N-1, VOID is unknown.
    """
    f = autoencoder.downscale
    padded = F.pad(ids, (0, -ids.shape[2] % f, 0, -ids.shape[1] % f), value=VOID)
    known = (padded != VOID).float()[:, None]
    validity = F.avg_pool2d(known, f)  # (B, 1, h, w)
    latents = torch.zeros(len(ids), autoencoder.config["latent_channels"], *validity.shape[-2:], device=ids.device, dtype=autoencoder.dtype)
    rows = known.flatten(1).any(1).nonzero().flatten()
    if len(rows):
        latents[rows] = autoencoder.encode(fill_cells(padded[rows], f)).to(latents.dtype)  # autocast may have narrowed it
    return KnownCells(latents, validity)


def fill_cells(ids: Tensor, size: int) -> Tensor:
    """(B, H, W) -> the same, where each unknown pixel of a cell of `size` x `size` pixels takes the cell's nearest known id.

    H and W divide by `size`; a cell with nothing known stays as it is.
    """
    batch, height, width = ids.shape
    rows, columns = height // size, width // size
    cells = ids.reshape(batch, rows, size, columns, size).transpose(2, 3).reshape(-1, size * size)  # (B h w, f f)
    known = cells != VOID
    some = (known.any(1) & ~known.all(1)).nonzero().flatten()
    filled = cells.clone()
    distance = _cell_distances(size, ids.device)
    for part in some.split(max(1, 2**24 // size**4)):
        nearest = distance.masked_fill(~known[part][:, None, :], torch.inf).argmin(2)  # (K, f f)
        filled[part] = cells[part].gather(1, nearest)
    return filled.reshape(batch, rows, columns, size, size).transpose(2, 3).reshape(batch, height, width)


def _cell_distances(size: int, device: torch.device) -> Tensor:
    """(1, f f, f f) squared distance of each pixel of a cell from each other."""
    y, x = torch.meshgrid(torch.arange(size, device=device), torch.arange(size, device=device), indexing="ij")
    place = torch.stack([y.flatten(), x.flatten()], dim=1).float()
    return torch.cdist(place, place).square()[None]


def shrink_partial(partial: PanopticMap, size: int) -> NDArray[np.int32]:
    """(H, W) -> (size, size) ids by nearest neighbour, except that known pixels are not lost.

    Where the nearest pixel is unknown and another one under the same target pixel is known, that one is taken; a segment that vanished
    all the same gets one pixel at its place.
    """
    height, width = partial.shape
    ids = np.array(partial.resize(size, size).ids)
    ys, xs = np.nonzero(partial.ids != VOID)
    rows, columns, values = ys * size // height, xs * size // width, partial.ids[ys, xs]
    empty = ids[rows, columns] == VOID
    ids[rows[empty], columns[empty]] = values[empty]
    for lost in np.setdiff1d(values, ids):
        where = np.flatnonzero(values == lost)[0]
        ids[rows[where], columns[where]] = lost
    return ids
