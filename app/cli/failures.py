"""Errors of commands as one line: the fault, its cause, and the next step."""

import errno
import sqlite3
from typing import Final

import asyncpg
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from app.cli.listening import CannotListen
from app.cli.options import BadOption
from app.database.address import BadAddress
from app.database.faults import DatabaseFault
from app.demo import NotADemoDatabase
from app.errors import InventoryError, Unavailable
from app.files.imports import FileRefused
from app.files.layouts import BadLayout
from app.files.tenant_files import TenantRefused
from app.graphql.trusted_documents import BadManifest
from app.ledger.replay import LedgerBroken
from app.settings import BadEnvironment, variable_of

# Errors whose message is complete.
PLAIN_ERRORS: Final = (
    *(BadAddress, BadEnvironment, BadLayout, BadManifest, BadOption, CannotListen),
    *(FileRefused, LedgerBroken, NotADemoDatabase, TenantRefused),
)
REFUSED: Final = "No server listens there. Start PostgreSQL, or correct the host and the port"
# By SQLSTATE, or by the type of an error without one.
DATABASE_ADVICE: Final = {
    "28P01": "The password is wrong. Correct it in DATABASE_URL",
    "28000": "The server refuses this user. Correct the user in DATABASE_URL, or pg_hba.conf",
    "3D000": "The database does not exist. Create it (createdb), or correct DATABASE_URL",
    "42501": "The user lacks a privilege. Use the owner of the tables",
    "53300": "The server has no free connection. Reduce INVENTORY_DATABASE_POOL_SIZE",
    "gaierror": "The name of the host does not resolve. Correct the host in DATABASE_URL",
    "ConnectionRefusedError": REFUSED,
    "TimeoutError": "The server does not respond. Check the host, the port and firewalls",
    "ClientConfigurationError": "Correct DATABASE_URL",
    "SQLITE_NOTADB": "The file is not a SQLite database. Name another file in DATABASE_URL",
    "SQLITE_CANTOPEN": "The file cannot be opened. Check that it and its folder are readable",
    "SQLITE_READONLY": "The file or its folder is read-only. Change its permissions",
}


def explain(error: Exception) -> str | None:
    """Return the message of an error; None if it is unexpected."""
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{_variable(str(problem['loc'][0])) if problem['loc'] else 'settings'}: "
            f"{problem['msg']}"
            for problem in error.errors()
        )
    if isinstance(error, InventoryError):
        return _explain_refusal(error)
    if isinstance(error, (DBAPIError, asyncpg.PostgresError, sqlite3.Error)):
        return f"The database reports an error: {getattr(error, 'orig', error)}"
    if isinstance(error, PLAIN_ERRORS):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'the file'}: {error.strerror or error}"
    return None


def _explain_refusal(error: InventoryError) -> str:
    message = error.message
    if isinstance(error, DatabaseFault):
        # asyncio joins the errors of several addresses in one OSError.
        is_refused = f"[Errno {errno.ECONNREFUSED}]" in error.fault.text
        state = "ConnectionRefusedError" if is_refused else error.fault.state
        if advice := DATABASE_ADVICE.get(state):
            message = f"{advice}."
    cause = error.cause if isinstance(error, Unavailable) else ""
    return f"{message} ({cause})" if cause else message


def _variable(location: str) -> str:
    return location if location.isupper() else variable_of(location)
