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


# The most warehouses that a credential is bound to.
MAX_BOUND_WAREHOUSES: Final = 100
# Any scope of the set on the right satisfies the scope on the left.
SUFFICIENT: Final = {
    Scope.AVAILABILITY: frozenset(Scope),
    Scope.READ: frozenset({Scope.READ, Scope.WRITE, Scope.ADMIN}),
    Scope.WRITE: frozenset({Scope.WRITE, Scope.ADMIN}),
    Scope.ADMIN: frozenset({Scope.ADMIN}),
}


def insufficient_scope(needed: Scope) -> InsufficientScope:
    """Create the refusal of a credential without a scope."""
    message = f"This needs the scope {needed}, which the token does not have."
    return InsufficientScope(message, details=[{"required_scope": needed.value}])


@dataclass(frozen=True, slots=True)
class Caller:
    """The author of a write: tenant, credential, and the e-mail address in the ledger."""

    tenant_id: str
    subject: str
    email: str
    # The warehouses that the credential is bound to; None: all.
    warehouse_ids: frozenset[str] | None = None

    def can_use(self, warehouse_id: str) -> bool:
        """Whether a warehouse exists for the caller."""
        return self.warehouse_ids is None or warehouse_id in self.warehouse_ids


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller."""

    tenant_id: str
    subject: str
    email: str
    scopes: frozenset[Scope]
    cursor_key: bytes
    expires_at: datetime | None
    # The warehouses that the credential is bound to; None: all.
    warehouse_ids: frozenset[str] | None = None

    def require_unbound(self, subject: str) -> None:
        """Refuse a credential that is bound to warehouses.

        Raises:
            InsufficientScope: the credential is bound.

        """
        if self.warehouse_ids is not None:
            message = f"The token is bound to warehouses and gives no access to {subject}."
            raise InsufficientScope(message)

    def require(self, needed: Scope) -> None:
        """Require a scope.

        Raises:
            InsufficientScope: none of the scopes suffices.

        """
        if not self.has(needed):
            raise insufficient_scope(needed)

    def has(self, needed: Scope) -> bool:
        """Whether one of the scopes suffices."""
        return not self.scopes.isdisjoint(SUFFICIENT[needed])

    @property
    def caller(self) -> Caller:
        """The author of the writes of this caller."""
        return Caller(self.tenant_id, self.subject, self.email, self.warehouse_ids)
