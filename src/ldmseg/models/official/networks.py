"""This package's networks with the weights of the authors' release: every key is accounted for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from ldmseg.errors import InputError
from ldmseg.models.denoiser import Denoiser
from ldmseg.models.image_encoder import FrozenImageEncoder
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.models.official.names import (
    Shapes,
    autoencoder_name,
    autoencoder_origin,
    autoencoder_sizes,
    denoiser_sizes,
    image_encoder_name,
    image_encoder_sizes,
    listed,
)
from ldmseg.models.official.reading import OfficialFile, OfficialSettings, load_weights


@dataclass(frozen=True)
class OfficialNetworks:
    """The networks of a checkpoint, ready to use; a stage-1 file has the mask autoencoder only."""

    mask_autoencoder: MaskAutoencoder
    image_encoder: FrozenImageEncoder | None = None
    unet: Denoiser | None = None


@dataclass(frozen=True)
class _Plan:
    """A network without weights, and which key of which of the file's networks each of its weights is."""

    source: str
    model: Any
    keys: dict[str, str]


def build_networks(
    file: OfficialFile,
    dtype: torch.dtype = torch.float32,
    settings: OfficialSettings | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> OfficialNetworks:
    """The networks that the file's tensors describe, with these weights.

    Where the file has `dtype` already, the weights stay a mapping of it: leave the file as it is while the networks live.

    Args:
        dtype: of all weights.
        settings: in place of the file's own.
        progress: called with the weights done and their number.

    Raises:
        InputError: keys are missing, left over or of another shape (they are listed), or a weight is not finite in `dtype`.
    """
    settings = settings or file.settings
    autoencoder = _plan_autoencoder(file, settings.mask_scale)
    if file.stage == 1:
        plans: list[_Plan] = [autoencoder]
    else:
        encoder = _plan_image_encoder(file, settings.image_scale)
        plans = [autoencoder, encoder, _plan_denoiser(file, encoder.model.latent_channels)]
        _check_fit(file, autoencoder.model, encoder.model, plans[2].model)
    total, done = sum(len(plan.keys) for plan in plans), 0

    def each() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    return OfficialNetworks(*(_with_weights(file, plan, dtype, each) for plan in plans))


def _with_weights(file: OfficialFile, plan: _Plan, dtype: torch.dtype, each: Callable[[], None]) -> Any:
    weights = load_weights(file, plan.source, list(plan.keys.values()), dtype, each)
    plan.model.load_state_dict({ours: weights[theirs] for ours, theirs in plan.keys.items()}, strict=True, assign=True)
    return plan.model.eval()


def _plan_autoencoder(file: OfficialFile, scale: float) -> _Plan:
    source = "vae" if file.stage == 1 else "vae_semseg"
    with _named(file, source):
        sizes = autoencoder_sizes(_shapes(file, source))
        with torch.device("meta"):
            model = MaskAutoencoder(**sizes, scaling_factor=scale, latent_scale=scale)
        return _match(file, source, model, autoencoder_name, autoencoder_origin)


def _plan_image_encoder(file: OfficialFile, scale: float) -> _Plan:
    with _named(file, "vae_image"):
        shapes = {name: shape for key, shape in _shapes(file, "vae_image").items() if (name := image_encoder_name(key))}
        sizes = image_encoder_sizes(shapes)
        with torch.device("meta"):
            model = FrozenImageEncoder.from_vae(AutoencoderKL(**sizes, scaling_factor=scale, sample_size=512))
        return _match(file, "vae_image", model, image_encoder_name)


def _plan_denoiser(file: OfficialFile, image_channels: int) -> _Plan:
    with _named(file, "unet"):
        sizes = denoiser_sizes(_shapes(file, "unet"), image_channels)
        with torch.device("meta"):
            model = Denoiser(**sizes)
        return _match(file, "unet", model, lambda key: key)


def _match(
    file: OfficialFile,
    source: str,
    model: Any,
    name: Callable[[str], str | None],
    origin: Callable[[str], str] = lambda name: name,
) -> _Plan:
    """Pair the file's keys with the model's; `name` gives ours for theirs (None: not needed), `origin` theirs for ours.

    Raises:
        InputError: a key has no partner, or a partner of another shape; such keys are listed under the file's names.
    """
    shapes = _shapes(file, source)
    expected = {ours: tuple(tensor.shape) for ours, tensor in model.state_dict().items()}
    keys: dict[str, str] = {}
    unexpected, other = [], []
    for key, shape in shapes.items():
        ours = name(key)
        if ours is None:
            continue
        if ours in expected and ours not in keys:  # an old and a new name may both be there
            keys[ours] = key
            if shape != expected[ours]:
                other.append(f"{key} {shape} instead of {expected[ours]}")
        else:
            unexpected.append(key)
    missing = [origin(ours) for ours in expected.keys() - keys.keys()]
    found = [("missing", missing), ("unexpected", unexpected), ("mismatched", other)]
    wrong = [f"{len(those)} {kind} keys: {listed(those)}" for kind, those in found if those]
    if wrong:
        raise InputError(f"expected exactly the weights of the release's architecture, got {'; '.join(wrong)}")
    return _Plan(source, model, keys)


def _check_fit(file: OfficialFile, autoencoder: MaskAutoencoder, encoder: FrozenImageEncoder, unet: Denoiser) -> None:
    """The three networks belong together."""
    latents, mask = autoencoder.config["latent_channels"], unet.config["mask_channels"]
    if latents != mask:
        raise InputError(f"checkpoint: '{file.path}': unet: expected {latents} output channels, the mask latents', got {mask}")
    if autoencoder.downscale != encoder.downscale:
        raise InputError(
            f"checkpoint: '{file.path}': vae_image: expected the mask autoencoder's downscale {autoencoder.downscale}, "
            f"got {encoder.downscale}"
        )


def _shapes(file: OfficialFile, source: str) -> Shapes:
    return {key: tuple(tensor.shape) for key, tensor in file.networks[source].items()}


@contextmanager
def _named(file: OfficialFile, source: str) -> Iterator[None]:
    """Name the file and its network in errors about them."""
    try:
        yield
    except InputError as error:
        raise InputError(f"checkpoint: '{file.path}': {source}: {error}") from None
