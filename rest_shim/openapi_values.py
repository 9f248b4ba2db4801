"""Facts of the code that replace the placeholders `$NAME` of `openapi.yaml`."""

from collections.abc import Mapping
from typing import Final

from app.domain.caller import Scope
from app.domain.quantities import MAX_QUANTITY
from app.domain.reservations import DEFAULT_HOLD, MAX_HOLD, MAX_LINE_WAREHOUSES
from app.domain.validation import (
    MAX_BULK_UPDATES,
    MAX_NOTE_LENGTH,
    MAX_REFERENCE_LENGTH,
    MAX_SKU_LENGTH,
    REASON_PATTERN,
    USUAL_REASONS,
)
from app.errors import ERRORS, InventoryError, PreconditionFailed, meanings
from app.graphql.schema import cursors
from app.graphql.schema.relay import DEFAULT_PAGE, MAX_PAGE
from app.reads.changes import MOST_EXAMINED
from app.reads.reservations import MOST_COUNTED_LINES
from rest_shim.binding import MAX_PARAMETERS
from rest_shim.rendering import (
    CHANGE_TYPES,
    ON_ERROR,
    RESERVATION_STATUSES,
    STATUSES,
    WAREHOUSE_TYPES,
)
from rest_shim.routes import MAX_CHANGES

# PreconditionFailed has the code of StaleVersion; a route with If-Match adds it.
ERROR_BY_CODE: Final[Mapping[str, type[InventoryError]]] = {
    error.code: error for error in ERRORS if error is not PreconditionFailed
}
PLACEHOLDER_VALUES: Final[Mapping[str, object]] = {
    "CHANGE_TYPES": list(CHANGE_TYPES),
    "COMMON_REASONS": ", ".join(f"`{reason}`" for reason in USUAL_REASONS),
    "CURSOR_PREFIX": cursors.PREFIX,
    "DEFAULT_HOLD": DEFAULT_HOLD,
    "DEFAULT_PAGE": DEFAULT_PAGE,
    "ERROR_CODES": list(ERROR_BY_CODE),
    "ERROR_MEANINGS": meanings(ERRORS),
    "FOREIGN_WAREHOUSE_TYPES": [name for name in WAREHOUSE_TYPES.values() if name != "own"],
    "LAST_BULK_INDEX": MAX_BULK_UPDATES - 1,
    "MAX_BULK_UPDATES": MAX_BULK_UPDATES,
    "MAX_CHANGES": MAX_CHANGES,
    "MAX_HOLD": MAX_HOLD,
    "MAX_LINE_WAREHOUSES": MAX_LINE_WAREHOUSES,
    "MAX_NOTE_LENGTH": MAX_NOTE_LENGTH,
    "MAX_PAGE": MAX_PAGE,
    "MAX_PARAMETERS": MAX_PARAMETERS,
    "MAX_QUANTITY": MAX_QUANTITY,
    "MAX_REFERENCE_LENGTH": MAX_REFERENCE_LENGTH,
    "MAX_SKU_LENGTH": MAX_SKU_LENGTH,
    "MIN_DELTA": -MAX_QUANTITY,
    "MOST_COUNTED_LINES": MOST_COUNTED_LINES,
    "MOST_EXAMINED": MOST_EXAMINED,
    "ON_ERROR": list(ON_ERROR),
    "REASON_PATTERN": REASON_PATTERN.pattern,
    "RESERVATION_STATUSES": list(RESERVATION_STATUSES),
    "SCOPES": ", ".join(f"`{scope}`" for scope in Scope),
    "STATUSES": list(STATUSES),
    "WAREHOUSE_TYPES": list(WAREHOUSE_TYPES.values()),
}
