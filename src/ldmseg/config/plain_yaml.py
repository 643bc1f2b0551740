"""YAML of plain values: what a configuration needs, and nothing that expands, refers or makes objects."""

from __future__ import annotations

import re
from typing import Any

import yaml

DEPTH, SIZE = 16, 2**17
"""Limits of nesting and of characters. A configuration is far below them."""


class PlainYamlError(ValueError):
    """A text is no plain YAML. The message gives the reason in one line."""


def read_yaml(text: str) -> Any:
    """YAML -> None, bool, int, float, str, and lists and dicts of such with text as keys.

    Dates are text. Aliases (which make a few lines expand to gigabytes) and tags are refused.

    Raises:
        PlainYamlError: it is no YAML, or more than that.
    """
    if len(text) > SIZE:
        raise PlainYamlError(f"expected at most {SIZE} characters, got more")
    try:
        return yaml.load(text, _PlainLoader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise PlainYamlError(" ".join(str(error).split())[:300]) from None
    except (ValueError, OverflowError, RecursionError) as error:  # numbers and characters that Python cannot hold
        raise PlainYamlError(" ".join(str(error).split())[:300]) from None


class _PlainLoader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.composer.ComposerError(None, None, "aliases and anchors are not read", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise yaml.composer.ComposerError(None, None, "tags are not read", event.start_mark)
        self.depth += 1
        if self.depth > DEPTH:
            raise yaml.composer.ComposerError(None, None, f"expected at most {DEPTH} levels", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise yaml.constructor.ConstructorError(None, None, "expected text as keys", key.start_mark)
        names = [key.value for key, _ in node.value]
        if len(set(names)) < len(names):
            raise yaml.constructor.ConstructorError(None, None, "expected each key once", node.start_mark)
        return super().construct_mapping(node, deep)

    def plain_int(self, node: Any) -> Any:
        return node.value if _BASE_60.fullmatch(node.value) else self.construct_yaml_int(node)

    def plain_float(self, node: Any) -> Any:
        return node.value if _BASE_60.fullmatch(node.value) else self.construct_yaml_float(node)


# Dates stay text, and so do numbers of base 60 (10:30 is a name with a colon, not 630).
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.plain_int)
_PlainLoader.add_constructor("tag:yaml.org,2002:float", _PlainLoader.plain_float)
