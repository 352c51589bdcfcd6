"""The documents: the README is short, every link leads somewhere, and the site needs no network."""

import importlib
import re
from pathlib import Path

import pytest
import yaml

from lesion_exp.config.shipped_conf import conf_dir, group_names, option_names
from scripts import reference
from scripts.reference import outdated

REPOSITORY = Path(__file__).parents[1]
PAGES = sorted((REPOSITORY / "docs").rglob("*.md"))
DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *PAGES]


def name_of(path):
    return path.relative_to(REPOSITORY).as_posix()


def without_code(text):
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(page):
    """The ids that MkDocs and GitHub give the headings of a page."""
    titles = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.S | re.M), re.MULTILINE
    )
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def config():
    return yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text("utf-8"))


def in_navigation(entry):
    if isinstance(entry, str):
        return [entry]
    entries = entry.values() if isinstance(entry, dict) else entry
    return [page for one in entries for page in in_navigation(one)]


def test_the_readme_is_at_most_8_kb():
    assert (REPOSITORY / "README.md").stat().st_size <= 8192


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_of_a_document_leads_to_a_file_and_a_heading(document):
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text("utf-8"))):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        page = (document.parent / path).resolve() if path else document
        if not page.is_file() or (anchor and anchor not in anchors(page)):
            missing.append(target)
    assert not missing


def test_every_page_is_in_the_navigation_once():
    named = in_navigation(config()["nav"])
    assert sorted(named) == [page.relative_to(REPOSITORY / "docs").as_posix() for page in PAGES]


def test_the_site_opens_from_a_disk_and_fetches_nothing():
    settings = config()
    assert settings["use_directory_urls"] is False
    assert settings["theme"]["font"] is False
    assert {"search", "offline"} <= set(settings["plugins"])
    assert any("iframe-worker" in script for script in settings["extra"]["polyfills"])
    assert not [one for one in (*settings.get("extra_css", []), *settings.get("extra_javascript", [])) if "//" in one]


def test_the_built_site_takes_nothing_from_the_network(tmp_path):
    build = pytest.importorskip("mkdocs.commands.build", reason="needs the extra docs")
    pytest.importorskip("material", reason="needs the extra docs")
    from mkdocs.config import load_config

    build.build(load_config(str(REPOSITORY / "mkdocs.yml"), site_dir=str(tmp_path), strict=True))
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) >= len(PAGES)
    elsewhere = r"=\"(?:https?:)?//"
    loaded = rf"<(?:script|img|iframe|source)[^>]+src{elsewhere}|<link[^>]+(?:style|preconnect)[^>]+href{elsewhere}"
    assert [page.name for page in pages if re.search(loaded, page.read_text("utf-8"))] == []
    assert (tmp_path / "search" / "search_index.js").is_file()


def test_the_reference_is_what_code_and_config_declare():
    assert set(outdated()) == set(), "make reference writes these pages anew"


def test_a_page_of_the_reference_that_nothing_makes_is_named(tmp_path, monkeypatch):
    (tmp_path / "reference" / "config").mkdir(parents=True)
    for name in ("index.md", "config/loss.md", "config/gone.md"):
        (tmp_path / "reference" / name).write_text("# Loss\n")
    monkeypatch.setattr(reference, "DOCS", tmp_path)
    monkeypatch.setattr(reference, "pages", lambda: {"reference/config/loss.md": "# Loss\n"})
    assert reference.outdated() == {"reference/config/gone.md": None}
    assert reference.main() == 0
    assert not (tmp_path / "reference" / "config" / "gone.md").exists()


def test_every_option_of_every_group_is_in_the_reference():
    for group in group_names([conf_dir()]):
        page = (REPOSITORY / "docs" / "reference" / "config" / f"{group.replace('/', '_')}.md").read_text("utf-8")
        titles = set(re.findall(r"^## (.+)$", page, re.MULTILINE))
        assert set(option_names(group, [conf_dir()])) <= titles, group


@pytest.mark.parametrize("option", option_names("dataset", [conf_dir()]))
def test_every_data_set_has_a_page_with_what_a_reader_needs(option):
    text = (REPOSITORY / "docs" / "datasets" / f"{option}.md").read_text("utf-8")
    assert f"dataset={option}" in text
    assert "## Known traps" in text
    info = getattr(importlib.import_module(f"lesion_exp.dataset.{option}"), "INFO", None)
    if info is not None and info.published_counts:
        assert "## Layout on disk" in text
        assert "## Labels" in text
        assert info.licence in text
        assert info.citation in text
        assert f"| {sum(info.published_counts.values()):,} |" in text
