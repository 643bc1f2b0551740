"""The networks, and loading them."""

from ldmseg.models.quiet import drop_empty_warnings

drop_empty_warnings()
