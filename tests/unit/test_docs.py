"""The documentation read without a server: its policies parse, its links resolve, and its lists are complete.

tests/integration/api/test_documentation.py runs its code blocks; the blocks that cannot be run are checked here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase
from typer.main import get_command

from forkpoint_policies.spec import parse_policy
from forkpoint_server import cli, metrics
from tools import architecture, reference
from tools.documented import BLOCKS, ELSEWHERE, LONG, PAGES, ROOT, RUN, SHOWN, Block, commands

TYPED = ("README.md", "docs/client.md")
POLICIES = [block for block in BLOCKS if block.language == "json"]
NOT_RUN = [block for block in BLOCKS if block.starts_with(ELSEWHERE)]


@pytest.mark.parametrize("block", POLICIES, ids=[block.name for block in POLICIES])
def test_a_policy_of_the_documentation(block: Block) -> None:
    assert parse_policy(json.loads(block.text)).rules


def test_each_condition_and_action_has_an_example() -> None:
    policies = [parse_policy(json.loads(block.text)) for block in POLICIES]
    rules = [rule for policy in policies for rule in policy.rules]
    shown = {name for rule in rules for name in (*rule.when.model_fields_set, *rule.do.model_fields_set)}
    wanted = {*type(rules[0].when).model_fields, *type(rules[0].do).model_fields}
    assert wanted <= shown
    assert {kind for rule in rules if rule.do.truncate for kind in rule.do.truncate.model_fields_set} >= {
        "min_p",
        "top_k",
    }


def test_each_metric_is_documented() -> None:
    reference_page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    documented = dict(re.findall(r"^\| `(forkpoint_\w+)` \| \w+ \|([^|]*)\|", reference_page, re.MULTILINE))
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            name = next(iter(metric.describe())).name + ("_total" if isinstance(metric, Counter) else "")
            assert re.findall(r"`(\w+)`", documented.pop(name)) == list(metric._labelnames), name
    assert not documented


def test_monitoring_names_only_metrics_that_exist() -> None:
    """docs/monitoring.md explains some metrics and labels; the reference lists them all."""
    monitoring = (ROOT / "docs" / "monitoring.md").read_text()
    reference_page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    for name in re.findall(r"`(forkpoint_\w+)`", monitoring):
        assert f"`{name}`" in reference_page, name


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_is_what_the_code_says(name: str) -> None:
    assert (reference.FOLDER / f"{name}.md").read_text() == reference.page(name), "make reference"


def test_the_map_is_what_the_modules_say() -> None:
    """One line per module, from its docstring."""
    page = architecture.PAGE.read_text()
    assert page == architecture.with_map(page), "make reference"


def test_the_reference_has_no_other_pages() -> None:
    assert {file.stem for file in reference.FOLDER.iterdir()} == set(reference.PAGES)


def test_each_block_is_run_or_listed_with_the_reason() -> None:
    """A block's language says whether it is run, and the lists of exceptions name only existing blocks."""
    assert {block.language for block in BLOCKS} <= {*RUN, *SHOWN}
    runnable = [block for block in BLOCKS if block.language in RUN]
    for beginning in (*ELSEWHERE, *LONG):
        assert any(block.starts_with((beginning,)) for block in runnable), beginning


@pytest.mark.parametrize("block", NOT_RUN, ids=[block.name for block in NOT_RUN])
def test_blocks_that_are_not_run_are_well_formed(block: Block) -> None:
    """Python or bash parses it, make knows its targets, and each of our commands accepts its arguments."""
    if block.language == "python":
        compile(block.text, block.name, "exec")
        return
    read = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True, check=False)
    assert read.returncode == 0, read.stderr
    for program, *arguments in commands(block.text):
        if program == "make":
            subprocess.run(["make", "-n", *arguments], cwd=ROOT, check=True, capture_output=True)
        elif program == "forkpoint":
            _takes(arguments)


@pytest.mark.slow
def test_python_code_passes_the_strictest_type_check(tmp_path: Path) -> None:
    """What readers copy into a typed project, against our clients and the SDK as they are."""
    for page in TYPED:
        code = "".join(block.text for block in BLOCKS if block.page == page and block.language == "python")
        (tmp_path / f"{Path(page).stem.lower()}_code.py").write_text(code)
    check = [sys.executable, "-m", "mypy", "--strict", "--follow-imports", "silent", *map(str, tmp_path.glob("*.py"))]
    checked = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert checked.stdout.startswith(f"Success: no issues found in {len(TYPED)} source files"), checked.stdout


def _takes(arguments: list[str]) -> None:
    """Parse a command's arguments as the command would. Raises what it would raise, or SystemExit."""
    if arguments[0] == "serve":
        cli.parse(arguments[1:])
    else:
        command = get_command(reference.COMMANDS[arguments[0]])
        command.make_context(arguments[0], arguments[1:], typer.Context(command))


def test_a_wrong_argument_would_be_found() -> None:
    with pytest.raises(SystemExit):
        _takes(["serve", "--no-such-argument", "1"])


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "yaml"], ids=lambda block: block.name)
def test_yaml_is_yaml(block: Block) -> None:
    assert isinstance(yaml.safe_load(block.text), dict)


LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize(
    "page", [*PAGES, *reference.FOLDER.glob("*.md")], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_links_resolve(page: Path) -> None:
    """Each leads to a file, and within it to a heading, as GitHub names its anchors."""
    for link in LINK.findall(page.read_text()):
        file, _, anchor = link.partition("#")
        if re.match(r"\w+:", link):
            continue
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


FILE = re.compile(r"`((?:policies|server|clients|tests|docs|tools|monitoring|benchmarks|requirements)/[\w./-]*)`")
TEST = re.compile(r"`((?:unit|integration)/[\w/]+\.py)`")
MODULE = re.compile(r"`((?:\w+/)*\w+\.py|(?:\w+/)+)`")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/faults.md", "docs/security.md"])
def test_named_files_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    for name in (*FILE.findall(text), *(f"tests/{name}" for name in TEST.findall(text))):
        assert (ROOT / name).exists() or "NAME" in name, name


def test_the_life_of_a_request_names_modules_that_exist() -> None:
    """Paths are relative to the package of their process."""
    steps = architecture.PAGE.read_text().partition("## The life of a request")[2].partition("## Modules")[0]
    packages = [ROOT / package for package in architecture.PACKAGES]
    for name in MODULE.findall(steps):
        assert any((folder / name).exists() for folder in (ROOT, *packages)), name


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings on GitHub: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
