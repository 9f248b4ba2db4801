"""Every read of the maintenance of the ledger."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from sqlalchemy import Executable

from app.database.snapshot import Snapshot
from app.ledger.derived_figures import wrong_sums
from app.ledger.rollup import grown_groups, next_sums
from app.ledger.totals import Group
from benchmarks.data import OPENING
from tests.graphql.read_cases import Data, ReadCase


def rollup_reads(data: Data) -> Iterator[ReadCase]:
    """Yield the reads of the rollup."""
    part = {"since": data.position - 50, "until": data.position + 50}
    for kind in Group:
        conditions: dict[str, Any] = {"tenant_id": data.tenant, **part, "last": part["since"]}
        conditions |= {
            "drawn": "%",
            "enough": 1,
            "per_row": 1,
            "sku": data.code,
            "reference": OPENING,
        }
        for statement in (grown_groups(kind), next_sums(kind)):
            call = partial(
                read, statement=statement, tenant=conditions["tenant_id"], parameters=conditions
            )
            yield ReadCase(f"{statement.get_final_froms()[0].description} of {kind}", call)


def verification_read(data: Data) -> ReadCase:
    """Build the read that compares the rollup with the ledger."""
    conditions = {"tenant_id": data.tenant}
    call = partial(read, statement=wrong_sums(), tenant=data.tenant, parameters=conditions)
    return ReadCase("wrong sums", partial(call, is_found=False))


async def read(
    snapshot: Snapshot,
    *,
    statement: Executable,
    tenant: str,
    parameters: dict[str, Any],
    is_found: bool = True,
) -> None:
    """Run a statement of maintenance."""
    rows = await snapshot.rows(statement, {**parameters, "tenant_id": tenant})
    assert bool(rows) == is_found
