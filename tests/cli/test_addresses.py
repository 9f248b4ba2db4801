"""Addresses of databases, as platforms give them."""

import asyncio
import re
import socket

import pytest
from sqlalchemy import URL, make_url
from ulid import ULID

from app.database.address import (
    BadAddress,
    describe_address,
    dsn_of,
    hosts_of,
    parse_address,
    without_hosts,
)
from app.database.engine import Database
from app.database.migration import current_revision, migrate, newest_revision
from app.settings import Settings
from tests.cli.conftest import Command
from tests.databases import create_database

CERTIFICATE = "postgresql://u:p@h/d?sslmode=verify-full&sslrootcert=%2Fca.pem"


@pytest.mark.parametrize(
    ("address", "where", "dsn"),
    [
        ("postgres://u:p@h/d", "postgresql h:5432/d", "postgresql://u:p@h/d"),
        ("postgresql://u:p@h:6432/d", "postgresql h:6432/d", "postgresql://u:p@h:6432/d"),
        ("postgres://u:p/#,@h/d", "postgresql h:5432/d", "postgresql://u:p%2F%23%2C@h/d"),
        ("postgresql+asyncpg://u@[::1]/d", "postgresql [::1]:5432/d", "postgresql://u@[::1]/d"),
        (
            "postgresql://u:p@[2001:db8::1]:6000/d",
            "postgresql [2001:db8::1]:6000/d",
            "postgresql://u:p@[2001:db8::1]:6000/d",
        ),
        ("postgresql://u:p%40%2F@h/d", "postgresql h:5432/d", "postgresql://u:p%40%2F@h/d"),
        (
            "postgres://u:p@h1:1,h2:2/d?target_session_attrs=read-write",
            "postgresql h1:1,h2:2/d",
            "postgresql://u:p@/d?host=h1%3A1%2Ch2%3A2&target_session_attrs=read-write",
        ),
        (
            "postgresql://u@/d?host=%2Frun&port=5433",
            "postgresql /run:5433/d",
            "postgresql://u@/d?host=%2Frun&port=5433",
        ),
        (
            "postgresql+asyncpg://u:p@h/d?ssl=require",
            "postgresql h:5432/d",
            "postgresql://u:p@h/d?sslmode=require",
        ),
        (
            "postgres://u:p@h/d?channel_binding=prefer",
            "postgresql h:5432/d",
            "postgresql://u:p@h/d",
        ),
        (CERTIFICATE, "postgresql h:5432/d", CERTIFICATE),
    ],
)
def test_postgresql_addresses_of_platforms_are_accepted(address: str, where: str, dsn: str) -> None:
    url = parse_address(address)

    assert (describe_address(url), dsn_of(url)) == (where, dsn)


@pytest.mark.parametrize(
    ("address", "hosts"),
    [
        ("postgresql://u@/d", ["localhost"]),
        ("postgresql://u@h:6432/d", ["h:6432"]),
        ("postgresql://u@h1:1,h2:2/d", ["h1:1", "h2:2"]),
        ("postgresql://u@h1,h2:2/d", ["h1", "h2:2"]),
        ("postgresql://u@[::1]:1,h2/d", ["::1:1", "h2"]),
        ("postgresql://u@/d?host=h1,h2&port=1,2", ["h1:1", "h2:2"]),
        ("postgresql://u@/d?host=h1,h2&port=7", ["h1:7", "h2:7"]),
        ("postgresql://u@/d?host=h1:1&host=h2:2", ["h1:1", "h2:2"]),
        ("postgresql://u@/d?host=/run,h2", ["/run", "h2"]),
    ],
)
def test_several_hosts_have_two_spellings(address: str, hosts: list[str]) -> None:
    parsed = hosts_of(parse_address(address))

    assert [str(host) for host in parsed.hosts] == hosts
    assert parsed.role == ("read-write" if len(hosts) > 1 else "any")


def test_an_address_can_set_the_role_and_the_time_of_a_host() -> None:
    given = "target_session_attrs=standby&connect_timeout=7"
    parsed = hosts_of(parse_address(f"postgresql://u@h1,h2/d?{given}"))

    assert (parsed.role, parsed.seconds) == ("standby", 7)
    assert str(without_hosts(parse_address(f"postgresql://u@h1,h2/d?{given}"))).endswith("u@/d")


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("sqlite:///x.db", "x.db"),
        ("sqlite+aiosqlite:////data/x.db", "/data/x.db"),
        ("sqlite:///./a b,c.db", "./a b,c.db"),
    ],
)
def test_sqlite_addresses_name_a_file(address: str, file: str) -> None:
    assert parse_address(address).database == file


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("", "must be the address"),
        ("inventory.db", "must be the address"),
        ("mysql://u:secret@h/d", "must be the address"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://host/x.db", "has only a file"),
        ("sqlite:///x.db?mode=ro", "has only a file"),
        ("postgres://u:sec@ret:x/y@h/d", "percent-encoded"),
        ("postgres://u:secret@h:x/d", "percent-encoded"),
        ("postgres://u:secret@h/d?port=x", "not a number"),
        ("postgres://u:secret@h/d?connect_timeout=soon", "wrong connect_timeout"),
        ("postgres://u:secret@h1,h2/d?port=1,2,3", "2 hosts and 3 ports"),
        ("postgres://u:secret@h1:1:2,h2/d", "HOST or HOST:PORT"),
        ("postgres://u:secret@h/d?sslmode=on", "wrong sslmode"),
        ("postgres://u:secret@h/d?target_session_attrs=rw", "wrong target_session_attrs"),
        ("postgres://u:secret@h/d?channel_binding=require", "channel_binding"),
        ("postgres://u:secret@h/d?pgbouncer=true", "pgbouncer"),
        ("postgres://u:secret@h/d?options=-c%20work_mem%3D1GB", "options"),
    ],
)
def test_other_addresses_are_refused_without_their_password(address: str, named: str) -> None:
    with pytest.raises(BadAddress, match=named) as refusal:
        parse_address(address)

    assert "\n" not in str(refusal.value)
    assert not {"secret", "sec", "ret"} & set(re.findall(r"\w+", str(refusal.value)))


async def test_a_platform_address_with_several_hosts_serves(postgresql: URL) -> None:
    name = f"test_{ULID()}".lower()
    url = make_url(await asyncio.to_thread(create_database, postgresql, name))
    socket_directory = url.query.get("host") or f"{url.host}:{url.port}"
    user = f"{url.username}:{url.password or ''}@" if url.username else ""
    hosts = f"127.0.0.1:1,{socket_directory}"
    address = f"postgres://{user}/{name}?host={hosts}&sslmode=disable"
    database = Database(Settings(database_url=address))
    await migrate(database)

    assert await current_revision(database) == newest_revision()
    await database.dispose()


def test_faults_of_a_connection_say_which_it_is(command: Command, postgresql: URL) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    missing = postgresql.set(database="missing").render_as_string(hide_password=False)
    stranger = postgresql.set(username="stranger").render_as_string(hide_password=False)
    faults = {
        "postgres://u:secret@host.invalid/d": ("does not resolve", "host.invalid:5432/d"),
        f"postgres://u:secret@127.0.0.1:{port}/d": ("No server listens", f"127.0.0.1:{port}/d"),
        missing: ("database does not exist", "3D000"),
        stranger: ("server refuses this user", "28000"),
    }
    for address, parts in faults.items():
        done = command("tenant", "list", "--database-url", address)
        assert done.status == 1
        assert len(done.errors.splitlines()) == 1
        assert all(part in done.errors for part in parts), done.errors
        assert "secret" not in done.errors
