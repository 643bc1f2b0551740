"""A partial map on the latent grid: its latents, how much of each cell is known, and putting known cells back (section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Partial maps on the latent grid.

    Attributes:
        ids: (B, h f, w f) the model's ids, VOID is unknown.
        latents: (B, C, h, w).
        validity: (B, 1, h, w) the share of known pixels under each cell, 0..1.
    """

    ids: Tensor
    latents: Tensor
    validity: Tensor

    def put_back(self, clean: Tensor, autoencoder: MaskAutoencoder) -> Tensor:
        """The estimate (B, C, h, w) with what is known put back (algorithm 3).

        A cell that is known to the last pixel gets the given latents. One that is known in part is decoded, gets its known pixels, and is
        encoded again, so that labels smaller than a cell count.
        """
        whole = torch.where(self.validity == 1, self.latents, clean)
        partly = (self.validity > 0) & (self.validity < 1)  # (B, 1, h, w)
        rows = partly.flatten(1).any(1).nonzero().flatten()
        if not len(rows):
            return whole
        drawn = autoencoder.decode(whole[rows])[:, 1:].argmax(1) + 1  # (K, h f, w f), void wins no pixel
        pasted = torch.where(self.ids[rows] != VOID, self.ids[rows], drawn)
        again = autoencoder.encode(pasted).to(whole.dtype)
        return whole.index_copy(0, rows, torch.where(partly[rows], again, whole[rows]))

    def rows(self, places: Sequence[int]) -> KnownCells:
        """The maps at these places; one may be named several times."""
        return KnownCells(*(part[list(places)] for part in (self.ids, self.latents, self.validity)))

    def to(self, dtype: torch.dtype) -> KnownCells:
        return KnownCells(self.ids, self.latents.to(dtype), self.validity.to(dtype))


def known_cells(autoencoder: MaskAutoencoder, ids: Tensor) -> KnownCells:
    """Encode partial maps; where an image has nothing known, its latents are zero.

    A cell of which anything is known is first filled with its own nearest known ids (`fill_cells`), so that a single pixel counts as
    much as a whole cell. `validity` is the share of the cell that was given.

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
    return KnownCells(padded, latents, validity)


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
