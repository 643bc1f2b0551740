"""A data set in another format."""

from ldmseg.data.convert.run import ConversionReport, convert_dataset
from ldmseg.data.convert.targets import TARGETS

__all__ = ["TARGETS", "ConversionReport", "convert_dataset"]
