"""The id of an import is the same in every process, so that an interrupted one continues."""

import json
import os
import subprocess
import sys
from typing import Final

from app.files.columns import FileKind

DIGESTS: Final = (
    "import json, sys; from tests.files.importing import staged; "
    "from app.files.columns import FileKind; "
    "print([staged(text, FileKind(kind)).digest for kind, text in json.loads(sys.argv[1]).items()])"
)
CONTENTS: Final = {
    FileKind.SKUS: "sku,title\nA,Thing\n",
    FileKind.WAREHOUSES: "name,type\nMain,own\n",
    FileKind.COUNTS: "sku,warehouse_id,quantity\nA,wh_01J00000000000000000000000,5\n",
    FileKind.LEVELS: "sku,warehouse_id,on_hand\nA,wh_01J00000000000000000000000,5\n",
}


def test_the_rows_of_a_file_have_the_same_digest_in_every_process() -> None:
    digests = set()
    for seed in ("1", "2", "3"):
        done = subprocess.run(  # noqa: S603 - the words are constants
            [sys.executable, "-c", DIGESTS, json.dumps(CONTENTS)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout)

    assert len(digests) == 1
