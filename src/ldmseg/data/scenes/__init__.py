"""An endless set of generated scenes with exact labels: a seed gives the same photo-like picture, segments and depth everywhere."""

from ldmseg.data.scenes.categories import CATEGORIES, Category
from ldmseg.data.scenes.compose import VALIDATION_SEED, Scene, generate_ids, generate_scene

__all__ = ["CATEGORIES", "VALIDATION_SEED", "Category", "Scene", "generate_ids", "generate_scene"]
