"""A data set in another format."""

from ldmseg.data.convert.registry import TARGETS
from ldmseg.data.convert.run import ConversionReport, convert_dataset, write_dataset

__all__ = ["TARGETS", "ConversionReport", "convert_dataset", "write_dataset"]
