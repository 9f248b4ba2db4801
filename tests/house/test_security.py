"""The threat table names real tests, and unwanted packages are not required."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_threat_table_names_exists() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    files = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    written = set(re.findall(r"def (test_\w+)\(", "\n".join(files)))

    assert len(named) > 25
    assert named - written == set()


def test_no_form_parser_is_required() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    required = [*project["dependencies"], *(line for extra in extras for line in extra)]

    assert not [line for line in required if "multipart" in line.lower()]
    floors = {
        "h11": "0.16",
        "starlette": "1.10",
        "strawberry-graphql": "0.341",
        "PyJWT[crypto]": "2.13",
    }
    for name, floor in floors.items():
        assert any(line.startswith(f"{name}>={floor}") for line in required), name
