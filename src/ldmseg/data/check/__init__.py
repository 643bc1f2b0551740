"""What is wrong with a data set, file by file."""

from ldmseg.data.check.findings import KINDS, CheckReport, Finding, FindingKind
from ldmseg.data.check.run import check_dataset

__all__ = ["KINDS", "CheckReport", "Finding", "FindingKind", "check_dataset"]
