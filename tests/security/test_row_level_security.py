"""Row-level security on PostgreSQL: the serving role sees one tenant at a time."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

import pytest
from asyncpg import PostgresError
from sqlalchemy import URL, func, make_url, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import Executable
from ulid import ULID

from app.database.due_work import TENANT_SEARCHES
from app.database.engine import Database
from app.database.migration import grant
from app.database.schema import ISOLATED_TABLES, METADATA
from app.database.session import DriverSession
from app.database.tables import adjustment, api_token, ledger_sum, sku_count
from app.database.tables import sku as sku_table
from app.domain.filters import ChangeFilter
from app.ledger import rollup as summing
from app.ledger.verification import verify_tenant
from app.live.streams import Streams
from app.maintenance import purge_idempotency_keys, record_token_uses, roll_up_ledgers
from app.settings import Settings
from app.writes.idempotency_keys import delete_expired_keys
from tests.databases import create_database, migrated, with_fake_clock
from tests.engines import reader_of, transact, writer_of
from tests.graphql.test_access_matrix import CODE, WAREHOUSE
from tests.processes import run
from tests.security.test_isolation import everything_read, stock, write
from tests.security.test_tokens import authenticator
from tests.service import Service, new_tenant, running
from tests.webhooks.receiver import deliver_all, receiving
from tests.webhooks.stock import changes_of, hook


@dataclass(frozen=True)
class Walled:
    """A service with the serving role, two tenants, and the owner's service."""

    service: Service
    other: Service
    owner: Service


@pytest.fixture
def urls(postgresql: URL) -> tuple[str, str]:
    """Addresses of a database for its owner and for the serving role."""
    owner = with_fake_clock(migrated(create_database(postgresql, f"walled_{ULID()}".lower())))
    role = f"serving_{ULID()}".lower()

    async def prepare() -> None:
        database = Database(Settings(database_url=owner))
        async with writer_of(database).connect() as connection:
            await connection.execute(text(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'"))
            await connection.commit()
        await grant(database, role)
        await database.dispose()

    asyncio.run(prepare())
    url = make_url(owner).set(username=role, password="secret")
    return owner, url.render_as_string(hide_password=False)


@pytest.fixture
async def walled(urls: tuple[str, str]) -> AsyncIterator[Walled]:
    owner_url, url = urls
    async with (
        running(owner_url) as (owning, owning_client),
        running(url, row_level_security=True, webhooks_to_loopback=True) as (app, client),
    ):
        database = owning.state.database
        one, other = [await new_tenant(database) for _ in "ab"]
        for tenant in (one, other):
            await stock(Service(owning, owning_client, database, tenant), tenant, [CODE, "B"], 500)
        yield Walled(
            Service(app, client, app.state.database, one),
            Service(app, client, app.state.database, other),
            Service(owning, owning_client, database, one),
        )


async def test_a_stream_has_the_changes_of_its_tenant_alone(walled: Walled) -> None:
    streams = Streams(
        Settings(stream_interval_seconds=0.01), walled.service.database, authenticator(walled.owner)
    )
    opened = {}
    for service in (walled.service, walled.other):
        authorization = f"Bearer {service.token('read')}"
        principal = await authenticator(walled.service).identify(authorization)
        opened[service.tenant_id] = await streams.open(
            principal, authorization, ChangeFilter(), None
        )
    for number, service in enumerate((walled.service, walled.other)):
        assert (await write(service, number)).status_code == 200
    found = {}
    for tenant_id, stream in opened.items():
        [change] = [it.record for it in await stream.next_batch() if it.record.warehouse_id]
        found[tenant_id] = change.body.after.on_hand
        stream.close()
    await streams.aclose()
    assert found == {walled.service.tenant_id: 500, walled.other.tenant_id: 501}


async def test_webhooks_deliver_the_changes_of_their_tenant_alone(walled: Walled) -> None:
    tenants = (walled.service, walled.other)
    async with receiving() as receiver:
        for service in tenants:
            await hook(service, f"{receiver.url}/{service.tenant_id}")
        for number, service in enumerate(tenants):
            assert (await write(service, number)).status_code == 200
        await deliver_all(walled.service.database)
    sent = {
        each.path.removeprefix("/hook/"): each.json["data"]["changes"] for each in receiver.received
    }
    assert sent == {service.tenant_id: await changes_of(service) for service in tenants}
    assert sent[walled.service.tenant_id] != sent[walled.other.tenant_id]


async def test_reads_are_the_same_with_row_level_security(walled: Walled) -> None:
    assert await everything_read(walled.service) == await everything_read(walled.owner)


async def test_writes_and_maintenance_work_with_row_level_security(walled: Walled) -> None:
    first, again = await write(walled.service, 1), await write(walled.service, 1)
    created = await walled.service.graphql(
        'mutation { createSku(input: {sku: "NEW", title: "New"}) { sku { sku } } }', token="admin"
    )
    update_ = {"warehouse_id": WAREHOUSE, "quantity": 9, "reason": "cycle_count"}
    bulk = await walled.service.rest(
        "POST", "/api/inventory/bulk", json={"updates": [{"sku": "NEW", **update_}]}
    )
    refused = await walled.service.rest("PUT", "/api/inventory/NONE", json=update_)
    checks = authenticator(walled.service)
    await checks.authenticate(f"Bearer {walled.service.token('read')}")
    await record_token_uses(walled.service.database, checks)
    await purge_idempotency_keys(walled.service.database)

    assert (first.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert created["data"]["createSku"]["sku"] == {"sku": "NEW"}
    assert (bulk.status_code, refused.status_code) == (200, 404)
    assert await delete_expired_keys(walled.service.database, walled.service.tenant_id) == 0
    for tenant in (walled.service.tenant_id, walled.other.tenant_id):
        await verify_tenant(walled.owner.database, tenant)
    of_tenant = api_token.c.tenant_id == walled.service.tenant_id
    used = select(func.count()).where(of_tenant, api_token.c.last_used_at.is_not(None))
    async with reader_of(walled.owner.database).connect() as connection:
        assert await connection.scalar(used) == 1


async def test_the_rollup_covers_every_tenant_with_row_level_security(
    walled: Walled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summing, "MIN_ENTRIES", 1)
    kept = select(ledger_sum.c.tenant_id).distinct()
    totals = "{ adjustments { totals { entries increase } } }"
    tenants = sorted([walled.service.tenant_id, walled.other.tenant_id])
    before = await walled.service.data(totals)
    await roll_up_ledgers(walled.service.database)

    async with reader_of(walled.owner.database).connect() as connection:
        assert sorted(await connection.scalars(kept)) == tenants
    async with walled.service.database.snapshot(tenant_id=walled.service.tenant_id) as snapshot:
        assert [row.tenant_id for row in await snapshot.rows(kept, {})] == [
            walled.service.tenant_id
        ]
    assert await walled.service.data(totals) == before
    # The totals follow a write after the rollup.
    assert (await write(walled.service, 1)).status_code == 200
    assert (await walled.service.data(totals))["adjustments"]["totals"] == {
        "entries": before["adjustments"]["totals"]["entries"] + 1,
        "increase": before["adjustments"]["totals"]["increase"] + 1,
    }
    assert await everything_read(walled.service) == await everything_read(walled.owner)
    for each in tenants:
        await verify_tenant(walled.owner.database, each)


async def test_a_statement_without_a_tenant_condition_sees_one_tenant(walled: Walled) -> None:
    forgetful = select(sku_table.c.tenant_id).distinct()
    database = walled.service.database
    async with database.snapshot(tenant_id=walled.service.tenant_id) as snapshot:
        mine = await snapshot.rows(forgetful, {})
    async with database.snapshot(tenant_id=walled.other.tenant_id, single=True) as snapshot:
        theirs = await snapshot.rows(forgetful, {})
    # The tenant ends with its transaction, also on a reused connection.
    async with database.snapshot() as snapshot:
        without_tenant = await snapshot.rows(forgetful, {})

    assert [row.tenant_id for row in mine] == [walled.service.tenant_id]
    assert [row.tenant_id for row in theirs] == [walled.other.tenant_id]
    assert list(without_tenant) == []


async def test_a_connection_outside_a_transaction_sees_no_tenant(walled: Walled) -> None:
    process = text("SELECT pg_backend_pid()")
    seen = select(func.count()).select_from(sku_table)
    database = walled.service.database
    for beginning in ("read", "write", "lane"):
        begin = getattr(database._beginnings, beginning)
        within = await database.write_session(begin(walled.service.tenant_id), None)
        used = await within.scalar(process)
        assert await within.scalar(seen)
        await within.close()
        outside = await database.write_session("", None)

        assert await outside.scalar(process) == used
        assert await outside.scalar(seen) == 0
        await outside.close()


@pytest.mark.parametrize(
    "claimed",
    [
        "x'; SET LOCAL inventory.tenant = '{other}",
        "{other}\x00",
    ],
    ids=["quote", "NUL"],
)
async def test_a_claimed_tenant_id_cannot_enter_another_tenant(
    walled: Walled, claimed: str
) -> None:
    database = walled.service.database
    tenant_id = claimed.format(other=walled.other.tenant_id)
    seen = select(func.count()).select_from(sku_table)
    async with database.snapshot(tenant_id=tenant_id) as snapshot:
        assert [row[0] for row in await snapshot.rows(seen, {})] == [0]

    session = await database.write_session(database._beginnings.lane(tenant_id), None)
    assert await session.scalar(seen) == 0
    await session.close()


@pytest.mark.parametrize("token", ["inv_it's-secret", "inv_'-'", "inv_\\'-'"])
async def test_an_unknown_token_with_quotes_is_refused_as_any_other(
    walled: Walled, token: str
) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    answer = await walled.service.client.get("/api/inventory", headers=headers)

    assert answer.status_code == 401


async def test_the_serving_role_has_exactly_the_rights_to_serve(
    walled: Walled, urls: tuple[str, str]
) -> None:
    may = text("SELECT has_table_privilege(:role, :table, :right)")
    role = make_url(urls[1]).username
    rights = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
    granted: dict[str, list[str]] = {}
    async with reader_of(walled.owner.database).connect() as connection:
        for table in (*METADATA.tables, "alembic_version"):
            granted[table] = [
                right
                for right in rights
                if await connection.scalar(may, {"role": role, "table": table, "right": right})
            ]

    expected = {table: list(rights[:4]) for table in METADATA.tables}
    assert granted == {
        **expected,
        adjustment.name: ["SELECT", "INSERT"],
        "alembic_version": ["SELECT"],
    }


async def test_only_the_owner_and_the_serving_role_can_search_for_due_work(
    walled: Walled, urls: tuple[str, str]
) -> None:
    stranger = f"stranger_{ULID()}".lower()
    await transact(walled.owner.database, partial(_execute, f"CREATE ROLE {stranger}"))
    may = text(
        "SELECT has_function_privilege(CAST(:role AS text), oid, 'EXECUTE') FROM pg_proc"
        " WHERE prosecdef"
    )
    seen = {}
    async with reader_of(walled.owner.database).connect() as connection:
        for role in (stranger, make_url(urls[1]).username):
            seen[role == stranger] = [*await connection.scalars(may, {"role": role})]

    assert seen == {
        True: [False] * len(TENANT_SEARCHES),
        False: [True] * len(TENANT_SEARCHES),
    }


async def test_a_search_for_due_work_reads_no_table_of_its_caller(
    walled: Walled, urls: tuple[str, str]
) -> None:
    owner = walled.owner.database
    role = make_url(urls[1]).username
    await transact(owner, partial(_execute, f"CREATE SCHEMA own AUTHORIZATION {role}"))
    planted = (
        "CREATE FUNCTION own.note() RETURNS text LANGUAGE plpgsql AS"
        " $$BEGIN INSERT INTO own.noted VALUES (current_user); RETURN 'planted'; END$$",
        "CREATE TABLE own.noted (role text)",
        "CREATE TEMP VIEW tenant AS SELECT own.note() AS tenant_id,"
        " NULL::timestamptz AS deleted_since",
        "CREATE VIEW own.tenant AS SELECT own.note() AS tenant_id,"
        " NULL::timestamptz AS deleted_since",
        "SET LOCAL search_path = pg_temp, own, public",
    )

    async def work(session: DriverSession) -> list[str]:
        for statement in planted:
            await session.execute(text(statement))
        search = "SELECT * FROM public.tenants_with_due_rollups(1, 1, 100)"
        return [row[0] for row in await session.execute(text(search))]

    found = await walled.service.database.transaction(work)
    tenants = [walled.service.tenant_id, walled.other.tenant_id]
    assert sorted(found) == sorted(tenants)
    async with reader_of(owner).connect() as connection:
        assert [*await connection.scalars(text("SELECT role FROM own.noted"))] == []


async def _execute(statement: str, connection: AsyncConnection) -> None:
    await connection.execute(text(statement))


async def test_a_write_to_another_tenant_is_refused_or_changes_nothing(
    walled: Walled,
) -> None:
    theirs = walled.other.tenant_id
    foreign = {"tenant_id": theirs, "warehouse_id": "", "status": "low", "skus": 1}

    database, own = walled.service.database, walled.service.tenant_id
    with pytest.raises(PostgresError, match="row-level security"):
        await database.transaction(
            lambda session: session.insert(sku_count, [foreign]), tenant_id=own
        )
    change = update(sku_table).where(sku_table.c.tenant_id == theirs).values(title="x")
    changed = await database.transaction(
        lambda session: session.execute(change.returning(sku_table.c.sku)), tenant_id=own
    )
    assert list(changed) == []


@pytest.mark.parametrize(
    "statement",
    [
        update(adjustment).values(note="x"),
        text("ALTER TABLE sku DISABLE ROW LEVEL SECURITY"),
        text("DROP POLICY sku_of_the_tenant ON sku"),
        text("DROP TRIGGER adjustment_is_append_only ON adjustment"),
        text("TRUNCATE idempotency_key"),
    ],
    ids=str,
)
async def test_the_serving_role_cannot_disable_row_level_security(
    walled: Walled, statement: Executable
) -> None:
    with pytest.raises(PostgresError, match=r"permission denied|must be owner"):
        await walled.service.database.transaction(
            lambda session: session.execute(statement), tenant_id=walled.service.tenant_id
        )


async def test_every_tenant_table_has_a_policy(walled: Walled) -> None:
    walled_tables = text(
        "SELECT relname FROM pg_class JOIN pg_policy ON polrelid = pg_class.oid"
        " WHERE relrowsecurity"
    )
    async with reader_of(walled.owner.database).connect() as connection:
        assert set(await connection.scalars(walled_tables)) == set(ISOLATED_TABLES)


async def test_readiness_fails_if_the_role_contradicts_the_setting(
    urls: tuple[str, str],
) -> None:
    owner, role = urls
    result = {}
    for url, is_set in ((owner, False), (owner, True), (role, False), (role, True)):
        async with running(url, row_level_security=is_set) as (_app, client):
            answer = await client.get("/readyz")
            result[url == role, is_set] = (answer.status_code, answer.text)

    assert result[False, False][0] == result[True, True][0] == 200
    assert result[False, True][0] == result[True, False][0] == 503
    assert "bypasses it" in result[False, True][1]
    assert "serve with INVENTORY_ROW_LEVEL_SECURITY=true" in result[True, False][1]


def test_a_command_with_the_serving_role_fails_with_an_explanation(urls: tuple[str, str]) -> None:
    owner, role = urls
    run("tenant", "create", "shop", database_url=owner)

    for words in (
        ("verify",),
        ("token", "list", "shop"),
        ("export", "stock", "--tenant", "shop"),
        ("import", "."),
        ("serve", "--port", "1"),
    ):
        refused = run(*words, database_url=role)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith("inventory: The role of DATABASE_URL")
        assert refused.stderr.count("\n") == 1


async def test_a_claimed_tenant_id_cannot_end_its_literal_by_a_backslash(
    urls: tuple[str, str],
) -> None:
    owner, url = urls
    database = Database(Settings(database_url=owner))
    tenant_id = await new_tenant(database)
    name = make_url(owner).database
    escaping = f'ALTER DATABASE "{name}" SET standard_conforming_strings = off'
    async with writer_of(database).begin() as connection:
        await connection.execute(text(escaping))
    await database.dispose()
    claims = ["'", "\\", "\\'", "\\\\'", "\\'; SELECT ("]

    async with running(url, row_level_security=True) as (app, client):
        service = Service(app, client, app.state.database, tenant_id)
        for claim in claims:
            answer = await service.rest("GET", "/api/inventory", token=f"inv_{claim}-x")
            assert answer.status_code == 401
        accepted = await service.rest("GET", "/api/inventory", token="read")

    assert accepted.status_code == 200
