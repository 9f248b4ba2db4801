"""What a shop's frontend may see of a SKU: whether it is in stock, and how many up to a limit."""

from dataclasses import dataclass
from typing import Final

from app.domain.quantities import MAX_QUANTITY, Status

# The limit of a new tenant.
DEFAULT_AVAILABILITY_LIMIT: Final = 10


@dataclass(frozen=True, slots=True)
class AvailabilityRecord:
    """The availability of a SKU, without its exact quantities."""

    sku: str
    title: str
    status: Status
    is_in_stock: bool
    # From 0 to the limit of the tenant.
    available: int
    # Whether the exact quantity may be larger.
    is_limited: bool


@dataclass(frozen=True, slots=True)
class AvailabilityChangeRecord:
    """The availability of a SKU after a change. None: the SKU is missing or archived."""

    sku: str
    availability: AvailabilityRecord | None


def availability_of(
    sku: str, title: str, status: Status, available: int, *, limit: int
) -> AvailabilityRecord:
    """Reduce the available quantity of a SKU to the availability that a frontend may see."""
    is_in_stock = available > 0
    return AvailabilityRecord(
        sku,
        title,
        status,
        is_in_stock,
        min(max(available, 0), limit),
        is_in_stock and available >= limit,
    )


def availability_limit_problem(limit: int) -> str | None:
    """Describe the fault of the availability limit of a tenant, if any."""
    if not 0 <= limit <= MAX_QUANTITY:
        return f"must be 0 to {MAX_QUANTITY}"
    return None
