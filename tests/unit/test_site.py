"""The documentation as a site: built strictly, so a link, an anchor or a page out of the navigation is an error."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tools.documented import GENERATED, PAGES
from tools.site_markdown import on_page_markdown

ROOT = Path(__file__).parents[2]
MKDOCS = ROOT / ".venv-docs" / "bin" / "mkdocs"


class _File:
    def __init__(self, src_uri: str) -> None:
        self.src_uri = src_uri


class _Page:
    def __init__(self, src_uri: str) -> None:
        self.file = _File(src_uri)


@pytest.mark.parametrize(
    ("page", "written", "shown"),
    [
        ("own-policy.md", "see [how](../CONTRIBUTING.md#adding-a-policy)", "see how"),
        ("own-policy.md", "see [how](policies.md#do)", "see [how](policies.md#do)"),
        ("reference/routes.md", "see [how](../serving.md)", "see [how](../serving.md)"),
        ("reference/routes.md", "see [how](../../README.md)", "see how"),
        ("ab.md", "```yaml calm.yaml\nx: 1\n```", '```yaml title="calm.yaml"\nx: 1\n```'),
    ],
)
def test_a_page_is_written_for_the_site(page: str, written: str, shown: str) -> None:
    assert on_page_markdown(written, page=_Page(page)) == shown


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    build = [str(MKDOCS), "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stderr[-4000:]
    docs = [page for page in (*PAGES, *GENERATED.glob("*.md")) if page.is_relative_to(ROOT / "docs")]
    for page in docs:
        name = (
            "index.html"
            if page == ROOT / "docs" / "README.md"
            else page.relative_to(ROOT / "docs").with_suffix(".html")
        )
        assert (tmp_path / name).exists(), page
    index = json.loads((tmp_path / "search" / "search_index.json").read_text())
    assert any("fork threshold" in entry["text"] for entry in index["docs"]), "the search finds the text"
    html = (tmp_path / "index.html").read_text()
    assert "fonts.g" not in html, "nothing is loaded from elsewhere"
