"""Data sets in the formats of annotation tools: one module each, read into records and written from maps."""
