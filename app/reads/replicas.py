"""The choice between the primary and the replica for a read."""

from app.database.engine import Database
from app.reads.changes import get_feed_position
from app.runtime.request_facts import current_request_facts


async def choose_reader(database: Database, tenant_id: str) -> Database:
    """Return the database for a read: the replica if it has the changes that the request requires.

    A request without a position reads from the primary, and so does every one while the replica is
    down or late. A replica never loses changes, so it is asked before the read.
    """
    facts, replica = current_request_facts.get(), database.replica
    if replica is None or not replica.is_usable or facts is None or facts.read_position is None:
        return database
    try:
        async with replica.snapshot(single=True, tenant_id=tenant_id) as snapshot:
            reached = await get_feed_position(snapshot, tenant_id)
    except Exception as error:  # noqa: BLE001 - a late replica may also lack a table
        replica.avoid(error)
        return database
    return replica if reached >= facts.read_position else database
