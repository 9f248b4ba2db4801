"""Write the parts of the documentation that are derived from the code.

Run `python -m tests.house.generated` after a change of a setting, an error or an import.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from app.errors import ERRORS
from app.settings import Settings
from tests.house.architecture import draw
from tests.house.documents import ROOT, table, text_of

DOCS: Final = ROOT / "docs"
TABLE: Final = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)


def settings_table() -> str:
    """Render every setting with its default and its description."""
    rows = []
    for name, field in Settings.model_fields.items():
        variable = str(field.validation_alias or f"INVENTORY_{name.upper()}")
        default = "" if field.default is None else f"`{field.default}`"
        rows.append((f"`{variable}`", default, field.description or ""))
    return table(("variable", "default", "meaning"), rows)


def errors_table() -> str:
    """Render every error with its status, code and meaning."""
    rows = [
        (str(error.status), f"`{error.code}`", error.__doc__ or "")
        for error in sorted(ERRORS, key=lambda error: error.status)
    ]
    return table(("status", "code", "meaning"), rows)


def generated() -> Mapping[Path, str]:
    """Return the content of each file that has a derived part."""
    return {
        DOCS / "architecture.svg": draw(),
        DOCS / "errors.md": with_table(DOCS / "errors.md", errors_table()),
        DOCS / "settings.md": with_table(DOCS / "settings.md", settings_table()),
    }


def with_table(page: Path, rendered: str) -> str:
    """Replace the first table of a page."""
    return TABLE.sub(lambda _: rendered, text_of(page), count=1)


def main() -> None:
    """Write the files."""
    for path, content in generated().items():
        path.write_text(content, encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
