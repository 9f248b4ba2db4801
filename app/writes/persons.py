"""Persons: the ledger names its authors by id, so that their e-mail addresses can be erased."""

from functools import partial

from sqlalchemy import func, or_, select, update

from app.database.clocks import Present
from app.database.engine import Database
from app.database.session import DriverSession
from app.database.tables import api_token, person
from app.errors import NotFound, invalid_field

# The name and the e-mail address of the tokens of an erased person.
ERASED_OWNER = "erased"


async def erase_person(database: Database, tenant_id: str, email: str) -> None:
    """Erase an e-mail address from a tenant; what its owner did stays in the ledger.

    Raises:
        NotFound: the tenant knows no such address.
        ValidationFailed: it belongs to a valid token.

    """
    await database.write(partial(_erase, tenant_id, email), tenant_id)


async def _erase(tenant_id: str, email: str, session: DriverSession) -> None:
    is_owner = (api_token.c.tenant_id == tenant_id) & (api_token.c.email == email)
    is_person = (person.c.tenant_id == tenant_id) & (person.c.email == email)
    is_valid = api_token.c.revoked_at.is_(None) & or_(
        api_token.c.expires_at.is_(None), api_token.c.expires_at > Present()
    )
    token_ids = await session.execute(select(api_token.c.id).where(is_owner, is_valid))
    if token_ids:
        commands = ", ".join(f"`inventory token revoke {tenant_id} {row.id}`" for row in token_ids)
        raise invalid_field("email", f"belongs to a valid token; revoke it first: {commands}")
    known = 0
    for table, condition in ((person, is_person), (api_token, is_owner)):
        known += await session.scalar(select(func.count()).select_from(table).where(condition))
    if not known:
        message = f"Tenant {tenant_id} knows no person with the e-mail address {email!r}."
        raise NotFound(message)
    await session.execute(update(person).where(is_person).values(email=None))
    erased = {"name": ERASED_OWNER, "email": ERASED_OWNER}
    await session.execute(update(api_token).where(is_owner).values(**erased))
