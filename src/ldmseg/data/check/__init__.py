"""What is wrong with a data set, file by file, and what a mixture of several holds."""

from ldmseg.data.check.contents import PartContents, mixture_contents
from ldmseg.data.check.findings import KINDS, CheckReport, Finding, FindingKind
from ldmseg.data.check.run import check_dataset

__all__ = ["KINDS", "CheckReport", "Finding", "FindingKind", "PartContents", "check_dataset", "mixture_contents"]
