"""Persons: the ledger names its authors by id, so that their e-mail addresses can be erased."""

from functools import partial

from sqlalchemy import or_, select, update

from app.database.clocks import Present
from app.database.engine import Database
from app.database.session import DriverSession
from app.database.tables import api_token, person
from app.domain.persons import ERASED, normalized_email
from app.errors import NotFound, invalid_field


async def erase_person(database: Database, tenant_id: str, email: str) -> None:
    """Erase an e-mail address from a tenant; what its owner did stays in the ledger.

    Raises:
        NotFound: the tenant knows no such address.
        ValidationFailed: it belongs to a valid token.

    """
    await database.write(partial(_erase, tenant_id, normalized_email(email)), tenant_id)


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
    erase_address = update(person).where(is_person).values(email=None, salt=None)
    erase_tokens = update(api_token).where(is_owner).values(name=ERASED, email=ERASED)
    erased = [
        *await session.execute(erase_address.returning(person.c.id)),
        *await session.execute(erase_tokens.returning(api_token.c.id)),
    ]
    if not erased:
        message = f"Tenant {tenant_id} knows no person with the e-mail address {email!r}."
        raise NotFound(message)
