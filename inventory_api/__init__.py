"""The installed package, whose name collides with no other.

The code imports its rooms as `app` and `rest_shim`. In an installed package they are folders of
this package, which it puts first on the import path of the process. In a checkout they stand
beside it.
"""

import sys
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent

if (_FOLDER / "app").is_dir():
    sys.path.insert(0, str(_FOLDER))
