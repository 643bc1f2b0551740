"""Methods that segment photos and complete maps, with one interface: the pipeline, and what it is compared with."""

from ldmseg.segmenters.base import Photo, Segmenter
from ldmseg.segmenters.baselines import Baseline, BaselineSegmenter
from ldmseg.segmenters.diffusion import PipelineSegmenter, as_segmenter
from ldmseg.segmenters.loading import SEGMENTERS, load_segmenter
from ldmseg.segmenters.mask2former import QueryKind, QuerySegmenter
from ldmseg.segmenters.queries import QueryThresholds
from ldmseg.segmenters.regions import RegionMethod, RegionSegmenter, RegionSettings

__all__ = [
    "SEGMENTERS",
    "Baseline",
    "BaselineSegmenter",
    "Photo",
    "PipelineSegmenter",
    "QueryKind",
    "QuerySegmenter",
    "QueryThresholds",
    "RegionMethod",
    "RegionSegmenter",
    "RegionSettings",
    "Segmenter",
    "as_segmenter",
    "load_segmenter",
]
