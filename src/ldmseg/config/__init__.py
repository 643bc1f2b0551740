"""Typed, validated run configurations, and the presets that ship with the package.

Every key is read somewhere and checked; an unknown key is an error. YAML files may begin with `extends: PRESET_OR_FILE`.
"""

from ldmseg.config.loading import load_config, preset_names, validate_config
from ldmseg.config.schema import (
    INFERENCE,
    AutoencoderConfig,
    AutoencoderRunConfig,
    CheckpointConfig,
    ColorConfig,
    DataConfig,
    DenoiserConfig,
    DenoisingConfig,
    DepthConfig,
    DescriptorsConfig,
    DiffusionRunConfig,
    ImageEncoderConfig,
    Labelling,
    MaskAugmentConfig,
    MixedSet,
    OptimConfig,
    PartialConfig,
    ReconstructionConfig,
    RunConfig,
    ScheduleConfig,
    ValidationConfig,
)

__all__ = [
    "INFERENCE",
    "AutoencoderConfig",
    "AutoencoderRunConfig",
    "CheckpointConfig",
    "ColorConfig",
    "DataConfig",
    "DenoiserConfig",
    "DenoisingConfig",
    "DepthConfig",
    "DescriptorsConfig",
    "DiffusionRunConfig",
    "ImageEncoderConfig",
    "Labelling",
    "MaskAugmentConfig",
    "MixedSet",
    "OptimConfig",
    "PartialConfig",
    "ReconstructionConfig",
    "RunConfig",
    "ScheduleConfig",
    "ValidationConfig",
    "load_config",
    "preset_names",
    "validate_config",
]
