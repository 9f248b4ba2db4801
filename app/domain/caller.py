"""Who calls, and what the credential permits."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from app.errors import InsufficientScope

if TYPE_CHECKING:
    pass


class Scope(StrEnum):
    """What a credential may do."""

    READ = "inventory:read"
    WRITE = "inventory:write"
    ADMIN = "inventory:admin"


# Reading needs read or write, writing needs write, and admin implies both.
SUFFICIENT: Final = {
    Scope.READ: frozenset({Scope.READ, Scope.WRITE, Scope.ADMIN}),
    Scope.WRITE: frozenset({Scope.WRITE, Scope.ADMIN}),
    Scope.ADMIN: frozenset({Scope.ADMIN}),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller."""

    tenant: str
    subject: str
    email: str
    scopes: frozenset[Scope]
    cursor_key: bytes
    expires_at: datetime | None

    def require(self, needed: Scope) -> None:
        """Refuse what the scopes do not cover.

        Raises:
            InsufficientScope: none of the scopes suffices.

        """
        if self.scopes.isdisjoint(SUFFICIENT[needed]):
            message = f"This needs the scope {needed}, which the token does not have."
            raise InsufficientScope(message, details=[{"required_scope": needed.value}])


@dataclass(frozen=True, slots=True)
class Caller:
    """Who writes: a tenant, the credential, and the e-mail address that the ledger names."""

    tenant: str
    subject: str
    email: str
