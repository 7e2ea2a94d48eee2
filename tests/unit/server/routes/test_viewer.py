"""The viewer's files: vendored ones match their release, the package holds them all, shared ones are identical."""

import hashlib
import re
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from forkpoint_clients import notebook
from forkpoint_policies.spec.connectors import FAMILIES
from forkpoint_server.routes.viewer import PAGE

SERVER = Path(__file__).parents[4] / "server"
D3 = {
    "d3.min.js": "f2094bbf6141b359722c4fe454eb6c4b0f0e42cc10cc7af921fc158fceb86539",
    "LICENSE": "3e6849627f74ff73c257a3ae1efb574015d94fc1035c05ec3c15805165efcbc4",
}
"""SHA-256 of the files `dist/d3.min.js` and `LICENSE` of the npm package d3 7.9.0."""
JS_YAML = {
    "js-yaml.min.js": "45dc3dd03dc07a06705a2c2989b8c7f709013f04bd5386e3279d4e447f07ebd7",
    "LICENSE": "a07bc24468b9654ce76a547d47a2db282d07733b715db4c73a98bd63961f9550",
}
"""The same of `dist/js-yaml.min.js` and `LICENSE` of js-yaml 4.1.0."""


@pytest.mark.parametrize(("folder", "files"), [("d3-7.9.0", D3), ("js-yaml-4.1.0", JS_YAML)])
def test_a_vendored_library_is_the_published_release(folder: str, files: dict[str, str]) -> None:
    assert {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (PAGE / folder).iterdir()} == files


def test_the_wheel_holds_the_page(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(SERVER)).build(directory=str(tmp_path), versions=["standard"])
    packed = set(zipfile.ZipFile(wheel).namelist())
    wanted = {file.relative_to(SERVER).as_posix() for file in PAGE.rglob("*") if file.is_file()}
    assert len(wanted) > 10
    assert wanted <= packed


def test_the_page_loads_nothing_external_and_has_no_inline_script() -> None:
    page = (PAGE / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)|\son\w+=|\bstyle=", page) == []
    own = (*PAGE.glob("*.js"), *PAGE.glob("pages/*.js"), *PAGE.glob("*.css"), PAGE / "index.html")
    for file in own:
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert re.findall(r"https?://|\binnerHTML\b|\beval\(", text) == [], file.name


def test_the_notebooks_and_the_page_have_one_scale() -> None:
    (most,) = re.findall(r"MOST_NATS = ([\d.]+);", (PAGE / "scale.js").read_text())
    assert float(most) == notebook.MAX_NATS


def test_each_family_of_connectors_has_a_sign() -> None:
    (signs,) = re.findall(r"SIGNS = \{(.*?)\}", (PAGE / "families.js").read_text())
    assert set(re.findall(r"(\w+):", signs)) == set(FAMILIES)
