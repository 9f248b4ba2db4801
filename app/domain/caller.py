"""The authenticated caller and the scopes of its credential."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from app.errors import InsufficientScope


class Scope(StrEnum):
    """A permission of a credential."""

    AVAILABILITY = "inventory:availability"
    READ = "inventory:read"
    WRITE = "inventory:write"
    ADMIN = "inventory:admin"


# Any scope of the set on the right satisfies the scope on the left.
SUFFICIENT: Final = {
    Scope.AVAILABILITY: frozenset(Scope),
    Scope.READ: frozenset({Scope.READ, Scope.WRITE, Scope.ADMIN}),
    Scope.WRITE: frozenset({Scope.WRITE, Scope.ADMIN}),
    Scope.ADMIN: frozenset({Scope.ADMIN}),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller."""

    tenant_id: str
    subject: str
    email: str
    scopes: frozenset[Scope]
    cursor_key: bytes
    expires_at: datetime | None

    def require(self, needed: Scope) -> None:
        """Require a scope.

        Raises:
            InsufficientScope: none of the scopes suffices.

        """
        if self.scopes.isdisjoint(SUFFICIENT[needed]):
            message = f"This needs the scope {needed}, which the token does not have."
            raise InsufficientScope(message, details=[{"required_scope": needed.value}])


@dataclass(frozen=True, slots=True)
class Caller:
    """The author of a write: tenant, credential, and the e-mail address in the ledger."""

    tenant_id: str
    subject: str
    email: str
