"""Prints data as a table, JSON, CSV or Markdown.

A table for a terminal fits its width. Anywhere else (a file, a pipe) it is neither wrapped nor cut, and has no frames.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from forkpoint_clients.evaluate.formatting import MINUS


class Format(StrEnum):
    """How a command prints its data."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MD = "md"


FormatOption = Annotated[
    Format, typer.Option("--format", show_default=True, help="how to print the data; json and csv hold all digits")
]

Record = Mapping[str, Any]


def print_data(form: Format, document: Any, records: Sequence[Record], tables: Sequence[Table]) -> None:
    """Print the same data in the requested form: `document` as JSON, `records` as CSV, `tables` for people."""
    if form is Format.JSON:
        print(json.dumps(document, indent=2, ensure_ascii=False))
    elif form is Format.CSV:
        _print_csv(records)
    elif form is Format.MD:
        print("\n\n".join(markdown(table) for table in tables))
    else:
        print_tables(tables)


def print_tables(tables: Sequence[Table]) -> None:
    """Print tables to a terminal in its width, or to anything else without wrapping or cutting."""
    if sys.stdout.isatty():
        Console().print(*tables)
    else:
        print("\n\n".join(plain(table) for table in tables))


def plain(table: Table) -> str:
    """A table as aligned lines, one per row; a title above it, and ASCII minus signs."""
    headings, rows = _cells(table)
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [headings, *rows]
    ]
    title = [_text(table.title)] if table.title else []
    return "\n".join([*title, *lines]).replace(MINUS, "-")


def markdown(table: Table) -> str:
    """A table in GitHub's Markdown."""
    headings, rows = _cells(table)
    title = [f"**{_text(table.title)}**", ""] if table.title else []
    lines = [headings, ["---"] * len(headings), *rows]
    escaped = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines)
    return "\n".join([*title, *(f"| {line} |" for line in escaped)])


def flat(record: Record, prefix: str = "") -> dict[str, Any]:
    """A record with its nested fields as `outer_inner`; lists as JSON."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}_")
        else:
            found[prefix + name] = json.dumps(value, ensure_ascii=False) if isinstance(value, list | tuple) else value
    return found


def _print_csv(records: Sequence[Record]) -> None:
    rows = [flat(record) for record in records]
    writer = csv.DictWriter(sys.stdout, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _cells(table: Table) -> tuple[list[str], list[list[str]]]:
    headings = [_text(column.header).replace(";", "") for column in table.columns]
    columns = [[_text(cell) for cell in column.cells] for column in table.columns]
    return headings, [list(row) for row in zip(*columns, strict=True)]


def _text(cell: Any) -> str:
    """A cell's text on one line."""
    shown = cell.plain if isinstance(cell, Text) else str(cell)
    return "; ".join(" ".join(line.split()) for line in shown.splitlines())
