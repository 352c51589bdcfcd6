"""JSON schemas of the YAML files in `conf/` and in a user's own folder, with which editors complete and check them.

The schemas are generated from the shipped YAMLs with their comments, the choices and ranges with which a config is
checked, the registered options and the signatures of their targets. The drafts 2020-12 and 7 agree on every keyword in
them except `$defs`. Definitions are only referred to, so editors that know only the older draft work as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from lesion_exp.config.json_nodes import NodeWriter, has_target
from lesion_exp.config.json_types import DEFINITION_OF_REFERENCE, Schema
from lesion_exp.config.option_tree import DEFAULTS, SELF, load_yaml, shared_keys, summary_of
from lesion_exp.config.registered import METRICS, TARGET, registered_options
from lesion_exp.config.shipped_conf import (
    CONFIG,
    PRESET,
    PRESET_GROUPS,
    PRIVATE_OPTION,
    comments_of_file,
    conf_dir,
    default_options,
    document_names,
    option_names,
)
from lesion_exp.errors import ConfigError

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
SUFFIX: Final = ".schema.json"


def in_lines(schema: Schema) -> str:
    """Returns `schema` as JSON with each definition on a line of its own, so that versions can be compared."""
    outer = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in schema.items() if key != "$defs"]
    inner = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in schema["$defs"].items()]
    outer.append('"$defs": {\n' + ",\n".join(inner) + "\n}")
    return "{\n" + ",\n".join(outer) + "\n}\n"


def published(name: str) -> Path:
    """Returns the file of the schema `name` of the shipped options, which is part of the package."""
    return Path(__file__).parent.parent / "schemas" / f"{name}{SUFFIX}"


def document(name: str, folders: Sequence[Path]) -> Schema:
    """Returns the schema of one kind of file.

    Args:
        name: one of `document_names`.
        folders: the shipped `conf` and the user's own folders, whose options are included.

    Raises:
        ConfigError: there is no such schema.
    """
    known = document_names(folders)
    if name not in known:
        raise ConfigError(f"expected the name of a schema, got {name!r}; the schemas are {', '.join(known)}")
    writer = _Writer(folders)
    body = writer.whole_config(name) if name in (PRESET, CONFIG) else writer.group_file(name.replace(".", "/"))
    definitions = {"reference": DEFINITION_OF_REFERENCE, **dict(sorted(writer.definitions.items()))}
    return {"$schema": DRAFT, **body, "$defs": definitions}


class _Writer(NodeWriter):
    """Writes a whole document."""

    def whole_config(self, name: str) -> Schema:
        """Returns the schema of a preset, or of a `config.yaml`, with the keys of all groups."""
        conf = conf_dir()
        top = load_yaml(conf / "config.yaml")
        comments = comments_of_file(conf / "config.yaml")
        top.pop(DEFAULTS)
        defaults = default_options(conf)
        groups = [group for group in defaults if group not in PRESET_GROUPS]
        properties = {DEFAULTS: self._defaults_of_config(name, defaults)}
        properties |= {group: self.any_option(group) for group in groups}
        properties |= {key: self.value(key, value, comments) for key, value in top.items()}
        chosen = [
            _if_chosen(_default_keys(name, group), option, {group: self.without_target(group, option)})
            for group in groups
            for option in option_names(group, self.folders)
        ]
        title = "A preset of lesion_exp" if name == PRESET else "The whole config of lesion_exp"
        return {"title": title, "type": "object", "properties": properties, "additionalProperties": False,
                "allOf": chosen}  # fmt: skip

    def group_file(self, group: str) -> Schema:
        """Returns the schema of a YAML of `group`."""
        options = option_names(group, self.folders)
        branches = [
            {"if": _all_of(_has_default(option), {"not": self.has_own_target(group)}),
             "then": self.node(group, self.tree(group)[option], file=True)}
            for option in options
        ]  # fmt: skip
        built_on = _any_of(_has_default(option) for option in options)
        branches += [
            {
                "if": _all_of(has_target(target), {"not": built_on}),
                "then": self.node_of_target(group, target, file=True),
            }
            for target in sorted(registered_options().get(group, ()))
        ]
        plain = _all_of({"not": {"required": [TARGET]}}, {"not": built_on})
        branches += [
            {"if": plain, "then": self.union(group, file=True)},
            {"if": self.has_own_target(group), "then": self.open(group)},
        ]
        return {
            "title": f"An option of the group {group} of lesion_exp",
            "description": _listed(self._summaries(group)),
            "type": ["object", "null"] if group == METRICS else "object",
            "properties": {DEFAULTS: self._defaults_of_group(group)},
            "allOf": branches,
        }

    def _defaults_of_config(self, name: str, defaults: Mapping[str, str | None]) -> Schema:
        keys, patterns = {}, {}
        for group in self.groups:
            names: list[str | None] = [*option_names(group, self.folders)]
            if group in defaults and defaults[group] is None:
                names.append(None)
            choice: Schema = {"enum": names, "description": _listed(self._summaries(group))}
            if group in defaults and not (group in PRESET_GROUPS and name == PRESET):
                keys[_default_keys(name, group)[0]] = choice
            key = f"(override )?{'/' if name == PRESET else '/?'}{group}(@[\\w.]+)?"
            if name == PRESET and defaults.get(group) is not None:  # config.yaml has chosen an option already
                key = f"(override /{group}(@[\\w.]+)?|/{group}@[\\w.]+)"
            patterns[f"^{key}$"] = {"enum": choice["enum"]}
        presets = [option for group in PRESET_GROUPS for option in option_names(group, self.folders)]
        return _list_of_defaults([SELF] if name == CONFIG else [SELF, *presets], keys, patterns)

    def _defaults_of_group(self, group: str) -> Schema:
        keys, patterns = {}, {}
        for other in self.groups:
            choice = {"enum": option_names(other, self.folders), "description": _listed(self._summaries(other))}
            patterns[f"^(override )?/{other}(@[\\w.]+)?$"] = {"enum": choice["enum"]}
            if other.startswith(f"{group}/"):
                inner = other.removeprefix(f"{group}/")
                keys[inner] = choice
                patterns[f"^(override )?{inner}(@[\\w.]+)?$"] = {"enum": choice["enum"]}
        base = [PRIVATE_OPTION] if shared_keys(group, self.folders).values else []
        return _list_of_defaults([*base, *option_names(group, self.folders), SELF], keys, patterns)

    def _summaries(self, group: str) -> dict[str, str]:
        files = {option: folder / group / f"{option}.yaml" for folder in self.folders
                 for option in option_names(group, [folder])}  # fmt: skip
        return {option: summary_of(path) for option, path in sorted(files.items())}


def _list_of_defaults(names: Sequence[str], keys: Mapping[str, Schema], patterns: Mapping[str, Schema]) -> Schema:
    """Returns the schema of a list of defaults: options of the same group, and pairs of a group and its option."""
    pair = {
        "type": "object",
        "properties": dict(keys),
        "patternProperties": dict(patterns),
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {
        "description": "the options on which this file builds",
        "type": "array",
        "items": {"anyOf": [{"enum": list(names)}, pair]},
    }


def _default_keys(name: str, group: str) -> list[str]:
    """Returns the keys with which a list of defaults chooses an option of `group`."""
    return [f"override /{group}"] if name == PRESET else [group, f"override {group}"]


def _if_chosen(keys: Sequence[str], option: str, then: Mapping[str, Schema]) -> Schema:
    entry = _any_of({"properties": {key: {"const": option}}, "required": [key]} for key in keys)
    has_it = {"required": [DEFAULTS], "properties": {DEFAULTS: {"contains": {"type": "object", **entry}}}}
    return {"if": has_it, "then": {"properties": dict(then)}}


def _has_default(option: str) -> Schema:
    return {"required": [DEFAULTS], "properties": {DEFAULTS: {"contains": {"const": option}}}}


def _all_of(*schemas: Schema) -> Schema:
    return {"allOf": list(schemas)}


def _any_of(schemas: Iterable[Schema]) -> Schema:
    found = list(schemas)
    return found[0] if len(found) == 1 else {"anyOf": found} if found else {"not": {}}


def _listed(summaries: Mapping[str, str]) -> str:
    return "\n".join(f"{option}: {text}" if text else option for option, text in summaries.items())
