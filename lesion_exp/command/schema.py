"""The verb `schema`: JSON schemas with which an editor completes and checks presets and the YAMLs of options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lesion_exp.command.arguments import Arguments
from lesion_exp.config.shipped_conf import PRESET, conf_dir, document_names
from lesion_exp.errors import ConfigError, check_output, told_if_full
from lesion_exp.option import folder, option


@dataclass(frozen=True)
class SchemaOptions:
    """The options of `schema`."""

    output: Path | None = option(
        None, folder("schemas"), "folder to write all schemas to; without it, one of them is printed"
    )


def schema(arguments: Arguments) -> int:
    """Prints one schema, or writes all of them; with folders of the user, their options are included."""
    output = arguments.read(SchemaOptions).output
    if output is not None:
        check_output(output, is_folder=True)
    if arguments.overrides:
        raise ConfigError(
            f"expected the name of a schema or output=DIR, got {arguments.overrides[0]}"
            f"{arguments.nearest_own(arguments.overrides[0])}; leave it out"
        )
    if len(arguments.names) > 1 or (arguments.names and output is not None):
        raise ConfigError(
            f"expected one name of a schema, or output=DIR for all, got {' '.join(arguments.names)}; leave one out"
        )
    from lesion_exp.config.compose import config_folders
    from lesion_exp.config.json_schema import SUFFIX, document, in_lines, published

    folders = config_folders(arguments.config_dirs)
    names = document_names(folders)
    name = arguments.names[0] if arguments.names else PRESET
    if name not in names:
        document(name, folders)  # raises the error that lists the names

    def text(one: str) -> str:
        return in_lines(document(one, folders)) if folders != [conf_dir()] else published(one).read_text("utf-8")

    if output is None:
        print(text(name), end="")
        return 0
    output.mkdir(parents=True, exist_ok=True)
    with told_if_full(output, "choose another folder with output=DIR"):
        for one in names:
            (output / f"{one}{SUFFIX}").write_text(text(one), "utf-8")
    print(_said(output.resolve(), len(names), SUFFIX, PRESET))
    return 0


def _said(output: Path, count: int, suffix: str, preset: str) -> str:
    return (
        f"{count} schemas are in {output}\n"
        f"VS Code, extension YAML: a comment in the file, such as\n"
        f"  # yaml-language-server: $schema={output / preset}{suffix}\n"
        f"PyCharm: Settings, Languages & Frameworks, Schemas and DTDs, JSON Schema Mappings: a schema and the files it "
        f"is for, such as {preset}{suffix} for experiment/*.yaml"
    )
