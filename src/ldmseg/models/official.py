"""Key names of the authors' release, and ours."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ldmseg.errors import InputError

# Theirs holds two placeholders (encoder.12, decoder.1) that ours leaves out, so later indices shift by one.
_ENCODER = {0: 0, 2: 2, 3: 3, 5: 5, 6: 6, 8: 8, 9: 9, 11: 11, 13: 12, 15: 14}
_DECODER = {0: 0, 2: 1, 3: 2, 5: 4, 6: 5, 8: 7, 10: 9}


def convert_autoencoder_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' mask autoencoder (`vae_semseg`, `vae`) under the names of `MaskAutoencoder`, for `load_state_dict(strict=True)`.

    A `module.` prefix is dropped.

    Raises:
        InputError: a key is not one of the release's; all such keys are listed.
    """
    tables = {"encoder": _ENCODER, "decoder": _DECODER}
    converted, unknown = {}, []
    for key, value in state.items():
        part, _, rest = key.removeprefix("module.").partition(".")
        index, _, name = rest.partition(".")
        if part in tables and index.isdigit() and int(index) in tables[part] and name in ("weight", "bias"):
            converted[f"{part}.{tables[part][int(index)]}.{name}"] = value
        else:
            unknown.append(key)
    if unknown:
        raise InputError(f"checkpoint: expected the keys of the release's mask autoencoder, got also {', '.join(unknown)}")
    return converted
