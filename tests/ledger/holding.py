"""Holds a write before a chosen statement, while others continue."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final
from unittest.mock import patch

from app.database.compilation import AnyRow
from app.database.session import DriverSession


class Hold:
    """Stops a write before its statement number `before`, until it is released."""

    def __init__(self, before: int) -> None:
        self.is_reached = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self._left = before

    async def pass_by(self) -> None:
        """Count a statement; wait before the chosen one."""
        self._left -= 1
        if self._left == -1:
            self.is_reached.set()
            await self.may_go_on.wait()


# The hold of the current task's write. Child tasks inherit it.
HOLD: Final[ContextVar[Hold | None]] = ContextVar("hold", default=None)


@contextmanager
def holding() -> Iterator[None]:
    """Make every statement of a session pass the hold of its write."""

    def stopping(original: Any) -> Any:
        async def rows(self: Any, statement: Any, parameters: Any) -> Sequence[AnyRow]:
            hold = HOLD.get()
            if hold is not None:
                await hold.pass_by()
            result: Sequence[AnyRow] = await original(self, statement, parameters)
            return result

        return rows

    with patch.object(DriverSession, "rows", stopping(DriverSession.rows)):
        yield
