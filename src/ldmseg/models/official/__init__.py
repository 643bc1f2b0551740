"""The authors' released checkpoints: their files, their names, and this package's networks with those weights."""

from ldmseg.models.official.names import convert_autoencoder_keys
from ldmseg.models.official.networks import OfficialNetworks, build_networks
from ldmseg.models.official.reading import OfficialFile, OfficialSettings, open_official

__all__ = ["OfficialFile", "OfficialNetworks", "OfficialSettings", "build_networks", "convert_autoencoder_keys", "open_official"]
