"""The command `inventory doctor`: checks of an installation."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import typer

from app.cli.database import require_file, run_with_database, settings_for
from app.cli.options import DatabaseOption, JsonOption, with_examples
from app.cli.output import print_json

if TYPE_CHECKING:
    from app.database.engine import Database

# Above it, JWTs and the times in the ledger disagree noticeably.
MAX_CLOCK_DIFFERENCE_SECONDS: Final = 5

doctor_commands = typer.Typer()


@dataclass(frozen=True)
class _Check:
    """The result of a check: `ok`, `failed`, or `skipped` after a failure it depends on."""

    name: str
    result: str
    message: str


@doctor_commands.command(
    "doctor", epilog=with_examples("inventory doctor", "inventory doctor --json")
)
def doctor(*, json: JsonOption = False, database_url: DatabaseOption = None) -> None:
    """Check the settings, the database, its migrations, its role, its replica and its clock.

    Nothing is changed. Each failure has its cause and the next step; the exit status is then 1.
    """
    from app.cli.failures import explain

    checks: list[_Check] = []
    try:
        settings = settings_for(database_url)
        steps = run_with_database(_check_database, settings, creates=True)
        checks = [_Check("settings", "ok", "All settings are valid."), *steps]
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        names = ("settings", *DATABASE_CHECKS)
        checks = [_Check("settings", "failed", message)]
        checks += [_Check(name, "skipped", "") for name in names[1:]]
    if json:
        print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            typer.echo(f"{check.result:<8}  {check.name:<10}  {check.message}".rstrip())
    if any(check.result == "failed" for check in checks):
        raise typer.Exit(1)


async def _check_database(database: "Database") -> list[_Check]:
    from app.cli.failures import explain

    checks: list[_Check] = []
    for name, check in DATABASE_CHECKS.items():
        if any(earlier.result == "failed" for earlier in checks):
            checks.append(_Check(name, "skipped", ""))
            continue
        try:
            checks.append(_Check(name, "ok", await check(database)))
        except Exception as error:
            message = explain(error)
            if message is None:
                raise
            checks.append(_Check(name, "failed", message))
    return checks


async def _connection(database: "Database") -> str:
    from app.database.poolers import require_fit_pooler

    require_file(database)
    await require_fit_pooler(database)
    await database.require_writable()
    return f"{database.address} responds and accepts writes."


async def _migrations(database: "Database") -> str:
    from app.database.migration import newest_revision, require_current
    from app.database.placement import read_placement

    await require_current(database)
    async with database.reading() as session:
        placement = await read_placement(session)
    return (
        f"The database is at revision {newest_revision()}, the newest. Its tables are {placement}."
    )


async def _role(database: "Database") -> str:
    from app.database.migration import is_restricted_role, require_matching_role

    await require_matching_role(database)
    if await is_restricted_role(database):
        return "Row-level security isolates tenants; other commands need the owner of the tables."
    return "The role sees the rows of all tenants."


async def _replica(database: "Database") -> str:
    from app.database.replication import require_replica_of

    if database.replica is None:
        return "Late reads have no replica."
    await require_replica_of(database, database.replica)
    return f"{database.replica.address} is a replica of the database."


async def _clock(database: "Database") -> str:
    from datetime import UTC, datetime

    from sqlalchemy import select

    from app.database.clocks import Present
    from app.errors import Unavailable
    from app.reads.tenants import list_tenants_ahead

    async with database.reading() as session:
        present = await session.scalar(select(Present()))
        ahead = await list_tenants_ahead(session, seconds=MAX_CLOCK_DIFFERENCE_SECONDS)
    difference = abs((present - datetime.now(UTC)).total_seconds())
    if difference > MAX_CLOCK_DIFFERENCE_SECONDS:
        message = (
            f"The clock of the database is {difference:.0f} s from the clock of this machine. "
            "Synchronise both (NTP); after a change of the clock of a SQLite file, restart the "
            "service."
        )
        raise Unavailable(message)
    if ahead:
        message = (
            f"Ledgers with entries that are dated in the future: {len(ahead):,}, among them that "
            f"of {ahead[0]}. The clock of the database was ahead when they were written. New "
            "entries of these tenants get the same time until the clock reaches it."
        )
        raise Unavailable(message)
    return f"The clock of the database is within {MAX_CLOCK_DIFFERENCE_SECONDS} s of this machine."


DATABASE_CHECKS: Final[dict[str, Callable[["Database"], Awaitable[str]]]] = {
    "database": _connection,
    "migrations": _migrations,
    "role": _role,
    "replica": _replica,
    "clock": _clock,
}
