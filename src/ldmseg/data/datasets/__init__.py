"""Photos with their panoptic maps, behind one name: `FORMAT:ROOT[:SPLIT]`."""

from ldmseg.data.datasets.base import AnnotatedDataset, FileDataset, MapTargets, PanopticDataset
from ldmseg.data.datasets.files import AnnotatorDataset, CityscapesDataset, CocoPanopticDataset, LabelFolderDataset, ToolDataset
from ldmseg.data.datasets.loading import FORMATS, DataSpec, load_dataset, load_mixture, parse_spec
from ldmseg.data.datasets.parts import MixedPart, Mixture, Subset, labelling_of
from ldmseg.data.datasets.scenes import SceneDataset

__all__ = [
    "FORMATS",
    "AnnotatedDataset",
    "AnnotatorDataset",
    "CityscapesDataset",
    "CocoPanopticDataset",
    "DataSpec",
    "FileDataset",
    "LabelFolderDataset",
    "MapTargets",
    "MixedPart",
    "Mixture",
    "PanopticDataset",
    "SceneDataset",
    "Subset",
    "ToolDataset",
    "labelling_of",
    "load_dataset",
    "load_mixture",
    "parse_spec",
]
