"""Verifies that the feed of a tenant has every change that it keeps, and agrees with the ledger."""

from functools import cache
from typing import Any, Final

from msgspec import MsgspecError, json
from sqlalchemy import BigInteger, Select, bindparam, literal_column, select

from app.database.parameters import TENANT, in_key_array
from app.database.session import DriverSession
from app.database.tables import adjustment, change, tenant
from app.domain.changes import ChangeBody
from app.ledger.replay import VERIFY_BATCH_ROWS, LedgerBroken, require_equal

_DECODE_BODY: Final = json.Decoder(ChangeBody).decode


async def require_changes(session: DriverSession, tenant_id: str, *, adjustments: int) -> int:
    """Check the kept changes of a feed, and return their number.

    Their positions have no gaps. From the first adjustment that a change names to the last of the
    ledger, which has `adjustments` entries, each has its change with the same values.

    Raises:
        LedgerBroken: names the first break.

    """
    parameters: dict[str, object] = {"tenant_id": tenant_id}
    [(deleted_until,)] = await session.rows(_deleted_until(), parameters)
    position, ledger_position = deleted_until, 0
    # A change before the first position that is kept would be an error too.
    read_to = 0
    while changes := await session.rows(_next_changes(), {**parameters, "after": read_to}):
        bodies = [_body_of(row) for row in changes]
        ids = [body.adjustment_id for body in bodies if body.adjustment_id]
        entries = await session.rows(_entries(session.dialect), {**parameters, "ids": ids})
        by_id = {entry.id: entry for entry in entries}
        for row, body in zip(changes, bodies, strict=True):
            require_equal(
                f"the position of the change after {position}", row.position, position + 1
            )
            position = read_to = row.position
            if body.adjustment_id:
                _require_entry(row, body, by_id.get(body.adjustment_id), ledger_position)
                ledger_position = by_id[body.adjustment_id].position
    if ledger_position:
        require_equal("the last adjustment of the feed", ledger_position, adjustments)
    return int(position - deleted_until)


def _body_of(row: Any) -> ChangeBody:  # noqa: ANN401 - a row
    try:
        return _DECODE_BODY(row.body)
    except MsgspecError as error:
        message = f"change {row.position} has no valid body: {error}"
        raise LedgerBroken(message) from error


def _require_entry(
    row: Any,  # noqa: ANN401 - a row
    body: ChangeBody,
    entry: Any,  # noqa: ANN401 - a row
    last_position: int,
) -> None:
    """Check the change of a stock level against the ledger entry that it names."""
    name = f"change {row.position}"
    if entry is None:
        message = f"{name} names adjustment {body.adjustment_id}, which does not exist"
        raise LedgerBroken(message)
    if last_position:
        require_equal(
            f"the position of the adjustment of {name}", entry.position, last_position + 1
        )
    before = body.before.on_hand if body.before else 0
    values = (row.sku, row.warehouse_id, before, body.after.on_hand, body.after.version)
    expected = (entry.sku, entry.warehouse_id, entry.before_quantity, entry.after_quantity)
    require_equal(f"the stock level of {name}", values, (*expected, entry.sequence))
    links = (body.reason, body.reference, body.reservation_id, body.occurred_at)
    expected_links = (entry.reason, entry.reference, entry.reservation_id, entry.occurred_at)
    require_equal(f"the reason and the reference of {name}", links, expected_links)


@cache
def _deleted_until() -> Select[Any]:
    return select(tenant.c.changes_deleted_until).where(tenant.c.tenant_id == TENANT)


@cache
def _next_changes() -> Select[Any]:
    names = ("position", "sku", "warehouse_id", "body")
    return (
        select(*(change.c[name] for name in names))
        .where(
            change.c.tenant_id == TENANT,
            change.c.position > bindparam("after", type_=BigInteger),
        )
        .order_by(change.c.position)
        .limit(literal_column(str(VERIFY_BATCH_ROWS)))
    )


@cache
def _entries(dialect: str) -> Select[Any]:
    names = ("id", "position", "sku", "warehouse_id", "sequence", "before_quantity")
    columns = (*names, "after_quantity", "reason", "reference", "reservation_id", "occurred_at")
    return select(*(adjustment.c[name] for name in columns)).where(
        adjustment.c.tenant_id == TENANT, in_key_array(dialect, adjustment.c.id, "ids")
    )
