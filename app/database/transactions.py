"""The outcome of transactions: conflicts, and commits with an unknown outcome."""

from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Final

from app.database.faults import DatabaseFault, Fault, FaultKind
from app.runtime.deadlines import OutOfTime, Uncertain

REPEATABLE: Final = {FaultKind.REPEATABLE, FaultKind.LOST}
# A write without locks is repeated under locks after these faults.
REPEATABLE_UNDER_LOCKS: Final = {*REPEATABLE, FaultKind.LOCKED}


class Conflict(Exception):
    """A concurrent change; the transaction must start over."""


class Commit(AbstractContextManager[None]):
    """The progress of a commit: from its start until its response, the outcome is unknown.

    Raises:
        Uncertain: on leaving the block, if the commit may have taken effect.

    """

    def __init__(self) -> None:
        self.is_under_way = False

    def may_repeat(self, fault: Fault, kinds: Collection[FaultKind]) -> bool:
        """Check whether the transaction can be repeated after a fault of these kinds."""
        return fault.kind in kinds and not (self.is_under_way and fault.is_ambiguous)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Replace an error that leaves the outcome unknown."""
        if not self.is_under_way:
            return
        if isinstance(error, OutOfTime) or (
            isinstance(error, DatabaseFault) and error.fault.is_ambiguous
        ):
            raise Uncertain(error.cause) from error
