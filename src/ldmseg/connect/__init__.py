"""Connectors to other people's annotation tools: one small module each, to and from maps."""
