"""The JSON schemas of config nodes, with the keys that an option, a target, a transform or a metric takes."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import requires
from pathlib import Path
from typing import Any, Final

from lesion_exp.config.instantiate import resolve_target
from lesion_exp.config.json_types import (
    NULL,
    Schema,
    either,
    is_free,
    of_parameter,
    of_value,
    parameters,
    preprocessing_of_weights,
    shared_annotations,
)
from lesion_exp.config.option_tree import DEFAULTS, OptionTree, load_yaml, read_group, shared_keys
from lesion_exp.config.registered import (
    LIBRARY_OPTIONS,
    METRICS,
    OFFERED,
    TARGET,
    TRANSFORM,
    group_at,
    nodes_with_targets,
    registered_options,
)
from lesion_exp.config.schema import TRAINER_ARGUMENTS
from lesion_exp.config.shipped_conf import comments_of_file, conf_dir, group_names

NAMED_NODES: Final = ("augmentation.preprocess", "augmentation.transforms")
_LIBRARIES: Final = (
    "lesion_exp",
    *sorted({name.partition(".")[0] for found in LIBRARY_OPTIONS.values() for name in found}),
)
_OWN_TARGET: Final = rf"^(?!({'|'.join(_LIBRARIES)})\.)[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"
"""Targets in packages of the user's own, whose keys are not known here."""
_NO_DEFAULT: Final = object()
_SHORT: Final = 60
"""Characters of a schema up to which it is not replaced by a reference to a definition."""


class NodeWriter:
    """Writes the schemas of nodes, and the definitions that they refer to.

    Args:
        folders: the shipped `conf` and the user's own folders.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        self.definitions: dict[str, Schema] = {}
        self.names: dict[str, str] = {}
        self.uses: Counter[str] = Counter()
        self.groups = group_names(folders)

    def named(self, name: str, schema: Schema) -> Schema:
        """Returns a reference to `schema` among the definitions, which has equal schemas once; a short schema
        itself.
        """
        content = json.dumps(schema)
        if len(content) < _SHORT:
            return schema
        if content not in self.names:
            self.uses[name] += 1
            self.names[content] = name if self.uses[name] == 1 else f"{name}.{self.uses[name]}"
            self.definitions[self.names[content]] = schema
        return reference(self.names[content])

    def any_option(self, group: str) -> Schema:
        """Returns a reference to the node of any option of `group`, of which a preset or another option sets keys."""
        name = f"{group.replace('/', '.')}"
        if name not in self.definitions:
            self.definitions[name] = {}  # nodes may contain each other
            targets = registered_options().get(group, frozenset())
            branches = [
                {"if": has_target(target), "then": self.node_of_target(group, target)} for target in sorted(targets)
            ]
            branches.append({"if": {"not": {"required": [TARGET]}}, "then": self.union(group)})
            branches.append({"if": self.has_own_target(group), "then": self.open(group)})
            self.definitions[name] = {"type": "object", "allOf": branches, "description": self._meaning(group)}
        return reference(name)

    def _meaning(self, group: str) -> str:
        text = (conf_dir() / "config.yaml").read_text("utf-8")
        found = re.search(rf"^\s+- {group}: \S+\s+# (.*)$", text, re.MULTILINE)
        return found[1] if found else group

    def without_target(self, group: str, option: str) -> Schema:
        """Returns the node of `option` for a file that names no `_target_` of its own."""
        node = self.node(group, self.tree(group)[option])
        return self.named(f"{group}.{option}", {"anyOf": [{"required": [TARGET]}, node]})

    def node_of_target(self, group: str, target: str, *, file: bool = False) -> Schema:
        """Returns the node with `target`, an option of `group`: the keys of the YAMLs that name it, or its
        parameters.
        """
        trees = [tree for tree in self.tree(group).values() if tree.values.get(TARGET) == target]
        if trees:
            return self._closed(group, [self._properties(group, tree) for tree in trees], file)
        name = target
        if name not in self.definitions:
            found, takes_others = self._parameters(group, target)
            offered = OFFERED.get(group, frozenset())
            said = _comments_of_targets().get(target, {})
            properties = {
                key: {**({"description": said[key]} if key in said else {}), **of_parameter(hint)}
                for key, hint in found.items()
                if key not in offered
            }
            if group == TRANSFORM and "transforms" in properties:
                properties["transforms"] = self._steps()
            properties |= self._properties(group, self._shared(group))
            self.definitions[name] = {"properties": {**properties, TARGET: {"const": target}}}
            if not takes_others:
                self.definitions[name]["additionalProperties"] = False
        if not file:
            return reference(name)
        known = self.definitions[name]
        return {**known, "properties": {DEFAULTS: True, **known["properties"]}}

    def node(self, group: str, tree: OptionTree, *, file: bool = False) -> Schema:
        """Returns the node of the option whose keys are in `tree`; with `file`, it may contain a list of defaults."""
        return self._closed(group, [self._properties(group, tree)], file)

    def union(self, group: str, *, file: bool = False) -> Schema:
        """Returns the node of an option that is not known, with the keys of all options of the group."""
        return self._closed(group, [self._properties(group, tree) for tree in self.tree(group).values()], file)

    def _closed(self, group: str, all_properties: Sequence[dict[str, Schema]], file: bool) -> Schema:
        place = group.replace("/", ".")
        properties: dict[str, Schema] = {DEFAULTS: {}} if file else {}
        for key in dict.fromkeys(key for found in all_properties for key in found):
            properties[key] = self._joined(f"{place}.{key}", [found[key] for found in all_properties if key in found])
        rest: Schema | bool = False
        if group == METRICS:
            rest = self._any_metric()
        else:
            properties[TARGET] = self._target(group)
        return self.named(f"{place}.keys", {"properties": properties, "additionalProperties": rest})

    def _joined(self, name: str, schemas: Sequence[Schema]) -> Schema:
        """Returns a schema of a key that several options share: it accepts what one of them accepts."""
        distinct = [schema for number, schema in enumerate(schemas) if schema not in schemas[:number]]
        if len(distinct) == 1:
            return distinct[0]
        known = {json.dumps(reference(key)): schema for key, schema in self.definitions.items()}
        whole = [known.get(json.dumps(schema), schema) for schema in distinct]
        said = next((schema["description"] for schema in whole if "description" in schema), None)
        bare = [{key: value for key, value in schema.items() if key != "description"} for schema in whole]
        return self.named(name, {**({"description": said} if said else {}), **either(bare)})

    def open(self, group: str) -> Schema:
        """Returns the node of a target of the user's own: the keys that all options share, and any others."""
        return {"properties": {**self._properties(group, self._shared(group)), TARGET: self._target(group)}}

    def _target(self, group: str) -> Schema:
        targets = sorted(registered_options().get(group, ()))
        said = "the class or function of the option; one of your own package needs --trust PACKAGE"
        return self.named(
            f"{group.replace('/', '.')}.{TARGET}",
            {"description": said, "anyOf": [{"enum": targets}, {"type": "string", "pattern": _OWN_TARGET}]},
        )

    def has_own_target(self, group: str) -> Schema:
        """Returns the condition that the `_target_` of the node is not a registered option of `group`."""
        targets = sorted(registered_options().get(group, ()))
        own = {"required": [TARGET], "properties": {TARGET: {"not": {"enum": targets}}}}
        return self.named(f"{group.replace('/', '.')}.has_own_target", own)

    def _properties(self, group: str, tree: OptionTree) -> dict[str, Schema]:
        place = group.replace("/", ".")
        target = tree.values.get(TARGET)
        hints = self._parameters(group, str(target))[0] if target else {}
        found = {
            key: self.value(f"{place}.{key}", value, tree.comments, hints.get(key, _NO_DEFAULT), key)
            for key, value in tree.values.items()
            if key != TARGET
        }
        if group == "trainer":
            hints = _shared_annotations()
            found = {
                key: of_value(f"trainer.{key}", None, hints[f"trainer.{key}"]) for key in TRAINER_ARGUMENTS
            } | found
        return {key: self.named(f"{place}.{key}", schema) for key, schema in found.items()}

    def value(
        self, key: str, value: Any, comments: Mapping[str, str], hint: Any = _NO_DEFAULT, place: str = ""
    ) -> Schema:
        """Returns the schema of a key with its shipped value; `place` is the key in `comments`."""
        place = place or key
        said = {"description": comments[place]} if comments.get(place) else {}
        if key in NAMED_NODES:
            return {**said, **self._transforms(value)}
        if key == "backbone.preprocessing":
            return {**said, **preprocessing_of_weights()}
        if key == METRICS:
            return {**said, **self.any_option(METRICS)}
        group = group_at(key)
        if isinstance(value, Mapping) and group in self.groups and key not in self.groups:
            return {**said, **self.any_option(str(group))}
        if isinstance(value, Mapping) and TARGET in value and group == METRICS:
            return {**said, **self._any_metric()}
        if is_free(f"{key}.") or is_free(key) or (isinstance(value, Mapping) and not value):
            return {**said, **either([{"type": "object"}, NULL, {"const": "???"}])}
        if isinstance(value, Mapping):
            inner = {
                name: self.value(f"{key}.{name}", child, comments, place=f"{place}.{name}")
                for name, child in value.items()
            }
            return {**said, "type": "object", "properties": inner, "additionalProperties": False}
        if hint is _NO_DEFAULT:
            hint = _shared_annotations().get(key, _NO_DEFAULT)
        return {**said, **(of_value(key, value) if hint is _NO_DEFAULT else of_value(key, value, hint))}

    def _transforms(self, recipe: Mapping[str, Any]) -> Schema:
        """Returns the node of named transforms; those of `recipe` can be changed without naming their target again."""
        known = {name: self._changed_step(node) for name, node in recipe.items()}
        return {"type": "object", "properties": known, "additionalProperties": self._step()}

    def _changed_step(self, node: Mapping[str, Any]) -> Schema:
        target = str(node[TARGET])
        keys = {"anyOf": [{"required": [TARGET]}, self.node_of_target(TRANSFORM, target)]}
        if target not in registered_options()[TRANSFORM]:
            keys = {}
        return {"anyOf": [NULL, {"allOf": [{"type": "object"}, keys, self._step_keys()]}]}

    def _step(self) -> Schema:
        return {"anyOf": [NULL, {"allOf": [{"type": "object", "required": [TARGET]}, self._step_keys()]}]}

    def _steps(self) -> Schema:
        return {"anyOf": [
            {"type": "object", "additionalProperties": self._step()}, {"type": "array", "items": self._step()},
        ]}  # fmt: skip

    def _step_keys(self) -> Schema:
        """Returns a reference to the keys of a transform, which depend on its target if it names one."""
        if TRANSFORM not in self.definitions:
            self.definitions[TRANSFORM] = {}
            targets = sorted(registered_options()[TRANSFORM])
            branches = [
                {"if": has_target(target), "then": self.node_of_target(TRANSFORM, target)} for target in targets
            ]
            self.definitions[TRANSFORM] = {"properties": {TARGET: self._target(TRANSFORM)}, "allOf": branches}
        return reference(TRANSFORM)

    def _any_metric(self) -> Schema:
        name = "metric"
        if name not in self.definitions:
            targets = sorted(registered_options()[METRICS])
            branches = [{"if": has_target(target), "then": self.node_of_target(METRICS, target)} for target in targets]
            self.definitions[name] = {
                "type": "object",
                "properties": {TARGET: self._target(METRICS)},
                "required": [TARGET],
                "allOf": branches,
            }
        return reference(name)

    def tree(self, group: str) -> dict[str, OptionTree]:
        """Returns the options of `group` with their keys."""
        return _group_tree(group, tuple(self.folders))

    def _shared(self, group: str) -> OptionTree:
        return shared_keys(group, self.folders)

    def _parameters(self, group: str, target: str) -> tuple[dict[str, Any], bool]:
        if target not in registered_options().get(group, ()) or _is_extra(target):
            return {}, True  # an own package need not be trusted, and an extra not be installed, to edit a YAML
        place = {TRANSFORM: "augmentation.transforms.x", METRICS: "metrics.x"}.get(group, group.replace("/", "."))
        return parameters(resolve_target(target, place, group))


_group_tree = functools.cache(read_group)
_shared_annotations = functools.cache(shared_annotations)


@functools.cache
def _comments_of_targets() -> dict[str, dict[str, str]]:
    """Returns for each target its keys in the shipped YAMLs, each with its comment."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(conf_dir().rglob("*.yaml")):
        comments = comments_of_file(path)
        for place, node, _ in nodes_with_targets(load_yaml(path)):
            said = {key: comments.get(f"{place}.{key}".strip("."), "") for key in node}
            known = found.setdefault(str(node[TARGET]), {})
            known.update({key: text for key, text in said.items() if text and key not in known})
    return found


@functools.cache
def _is_extra(target: str) -> bool:
    """Returns whether `target` belongs to a library that only an extra of this package installs."""
    library = target.partition(".")[0].replace("_", "-")
    needed = [text for text in requires("lesion-exp") or () if re.match(rf"{library}\b", text.replace("_", "-"))]
    return bool(needed) and all("extra ==" in text for text in needed)


def reference(name: str) -> Schema:
    """Returns a reference to the definition `name`."""
    return {"$ref": f"#/$defs/{name.replace('/', '~1')}"}


def has_target(target: str) -> Schema:
    """Returns the condition that the node has this `_target_`."""
    return {"required": [TARGET], "properties": {TARGET: {"const": target}}}
