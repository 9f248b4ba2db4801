"""How many random cases the tests draw."""

import os
from typing import Final

# Ten in `just thorough`. It multiplies keys, reads, documents, filters, requests and kills.
EFFORT: Final = int(os.environ.get("TEST_EFFORT", "1"))
