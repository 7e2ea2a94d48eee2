"""A hook of mkdocs: what pages of the repository write otherwise than the site's Markdown.

Links to files that are not part of the site become their names, and a fence's file name becomes its title.
"""

from __future__ import annotations

import re
from typing import Any

LINK = re.compile(r"\[([^\]]*)\]\((\.\./[^)\s]*)\)")
FILE = re.compile(r"^```(\w+) (\S+)$", re.MULTILINE)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """A page's text as the site has it. `../` from a page in a folder can stay within the site."""
    depth = page.file.src_uri.count("/")
    linked = LINK.sub(lambda found: found[0] if found[2].count("../") <= depth else found[1], markdown)
    return FILE.sub(r'```\1 title="\2"', linked)
