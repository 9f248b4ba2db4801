"""A tenant with rows of every kind, its exports and imports, and damage to its files."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from msgspec import structs

from app.database.engine import Database
from app.database.session import DriverSession
from app.domain.caller import Scope
from app.domain.hash_chain import Head, chain_hash
from app.files.tenant_exports import export_tenant
from app.files.tenant_imports import import_tenant
from app.ledger.verification import Proof
from app.settings import Settings
from app.writes.persons import erase_person
from app.writes.tenants import create_token, insert_token, revoke_token, update_permissions
from tests.files.importing import silent
from tests.graphql.operations import bulk_item
from tests.graphql.test_access_matrix import CODE, OTHER, WAREHOUSE
from tests.ledger.dying import Clock
from tests.ledger.reservations import COMMIT, RELEASE, line, reserve
from tests.ledger.test_reversals import REVERSE
from tests.ledger.writes import (
    ARCHIVE,
    BULK,
    CREATE_WAREHOUSE,
    REORDER,
    SAFETY,
    SET,
    SYNC,
    TITLE,
    TRANSFER,
    UPDATE_WAREHOUSE,
)
from tests.security.test_isolation import everything_read
from tests.service import EMAIL, Service, level, sku, warehouse

Json = dict[str, Any]
UNUSUAL: Final = 'é ∑ 5/8"'
PAGES: Final = """
query ($skus: String, $entries: String, $reservations: String) {
  skus(first: 2, after: $skus, filter: {archived: null}) {
    totalCount pageInfo { hasNextPage endCursor }
    edges {
      cursor
      node {
        externalIds { namespace value } metadata { key value }
        id sku title totalOnHand totalReserved totalAvailable safetyStock reorderPoint status
        version archivedAt
        stock {
          id onHand reserved safetyStock reorderPoint available status version adjustedAt syncedAt
          warehouse {
            id name type address marketplace isActive isReadonly isSellable
            externalIds { namespace value } metadata { key value }
          }
          reservations { totalCount nodes { reservation { id } quantity held committed } }
        }
        adjustments { totals { entries increase decrease netChange } nodes { id } }
      }
    }
  }
  adjustments(first: 3, after: $entries) {
    totalCount totals { entries increase decrease netChange }
    pageInfo { hasNextPage endCursor }
    edges {
      cursor
      node {
        id position sequence beforeQuantity afterQuantity delta reason note createdBy createdAt
        bulkId transferId reservationId reversalOf reference sku { id } warehouse { id }
      }
    }
  }
  reservations(first: 1, after: $reservations) {
    totalCount pageInfo { hasNextPage endCursor }
    edges {
      cursor
      node {
        id status reference note createdBy createdAt expiresAt endedAt version
        lines { quantity held committed sku { id } warehouse { id } }
      }
    }
  }
}
"""


async def used(service: Service) -> None:
    """Give a tenant rows of every kind, by every kind of write."""
    own = [structs.replace(warehouse(), id=id_) for id_ in (WAREHOUSE, OTHER)]
    levels = [level(each, 500, reserved=2) for each in own]
    await service.load(own, [sku(code, *levels) for code in (CODE, "B", UNUSUAL)])
    admin = {"token": "admin"}

    async def done(query: str, **content: object) -> Json:
        [answer] = (await service.data(query, {"input": content}, **admin)).values()
        return dict(answer)

    market = await done(CREATE_WAREHOUSE, name="FBA", type="FBA", marketplace="amazon_eu")
    closed = await done(CREATE_WAREHOUSE, name="Closed", type="OWN", address="Hafenweg 7")
    market_id, closed_id = market["warehouse"]["id"], closed["warehouse"]["id"]
    counted = {"sku": CODE, "warehouseId": WAREHOUSE, "reason": "cycle_count"}
    await done(SET, **counted, quantity=480, note=f"{UNUSUAL}\n", idempotencyKey="once")
    filling = {"sku": "B", "warehouseId": closed_id, "reason": "initial_stock", "quantity": 7}
    bulk = [bulk_item({**counted, "quantity": 490, "reference": "PO-1"}), bulk_item(filling)]
    await done(BULK, updates=bulk)
    await done(UPDATE_WAREHOUSE, id=closed_id, isActive=False)
    details = {
        "externalIds": [{"namespace": "gtin", "values": ["4006381333931"]}],
        "metadata": [{"key": "color", "value": UNUSUAL}],
    }
    await done(TITLE, sku=CODE, **details)
    await done(UPDATE_WAREHOUSE, id=OTHER, **details)
    moved = await done(
        TRANSFER,
        fromWarehouseId=WAREHOUSE,
        toWarehouseId=OTHER,
        lines=[{"sku": CODE, "quantity": 5}],
        reference="PO-1",
    )
    await done(REVERSE, target={"transferId": moved["transferId"]})
    report = [{"sku": UNUSUAL, "onHand": 12}]
    await done(SYNC, warehouseId=market_id, reportedAt="2026-02-01T00:00:00Z", levels=report)
    uncounted = {"sku": "B", "warehouseId": market_id, "safetyStock": 1}
    safe = {"sku": CODE, "warehouseId": OTHER, "safetyStock": 490}
    await done(SAFETY, levels=[safe, uncounted])
    await done(REORDER, levels=[{"sku": CODE, "warehouseId": OTHER, "reorderPoint": 495}])
    await done(UPDATE_WAREHOUSE, id=market_id, isSellable=False)
    await update_permissions(service.database, service.tenant_id, oversell=True, no_expiry=True)
    await reserve(service, line(CODE, 3, WAREHOUSE), line("B", 1, OTHER), reference="PO-1")
    await reserve(service, line(CODE, 600, OTHER), allowOversell=True, note="Oversold")
    sold, freed = [await reserve(service, line("B", 9, WAREHOUSE)) for _ in "ab"]
    await done(COMMIT, id=sold["id"], lines=[line("B", 4, WAREHOUSE)])
    await done(RELEASE, id=freed["id"])
    await _count_by_an_erased_person(service, counted)
    await done(ARCHIVE, sku=UNUSUAL)


async def _count_by_an_erased_person(service: Service, counted: Json) -> None:
    database, tenant_id, email = service.database, service.tenant_id, "gone@example.com"
    token = await create_token(database, tenant_id, name="x", email=email, scopes=[Scope.WRITE])
    await service.data(SET, {"input": {**counted, "quantity": 470}}, token=token.token)
    await revoke_token(database, tenant_id, token.id)
    await erase_person(database, tenant_id, email)


async def walked(service: Service) -> list[tuple[str, str]]:
    """Read everything that moves through both APIs, with all pages.

    Returns pairs of request and response. The changes of the feed do not move.
    """
    result = [it for it in await everything_read(service) if "changes" not in it[0]]
    cursors: dict[str, str | None] = {"skus": None, "entries": None, "reservations": None}
    has_next = True
    while has_next:
        data = await service.data(PAGES, cursors)
        result.append((str(cursors), json.dumps(data)))
        pages = [data[name]["pageInfo"] for name in ("skus", "adjustments", "reservations")]
        has_next = any(page["hasNextPage"] for page in pages)
        for name, page in zip(cursors, pages, strict=True):
            cursors[name] = page["endCursor"] or cursors[name]
    for path in ("", f"/{CODE}/adjustments", "/reservations"):
        cursor = ""
        while cursor is not None:
            response = await service.rest("GET", f"/api/inventory{path}?limit=2{cursor}")
            result.append((path + cursor, response.text))
            following = response.json()["meta"]["nextCursor"]
            cursor = following and f"&cursor={following}"
    return result


async def exported_to(service: Service, directory: Path) -> Path:
    """Export the tenant of a service."""
    await export_tenant(service.database, service.tenant_id, directory, silent)
    return directory


async def imported_from(directory: Path, database: Database) -> Proof:
    """Import a tenant."""
    return await import_tenant(database, directory, silent)


async def add_tokens(database: Database, tenant_id: str) -> None:
    """Give a moved tenant the tokens that `tests.service.Service` uses."""

    async def work(session: DriverSession) -> None:
        for scope in Scope:
            token = f"inv_{tenant_id}-{scope.name.lower()}"
            await insert_token(
                session, tenant_id, token=token, name="x", email=EMAIL, scopes=[scope]
            )

    await database.transaction(work)


def content_of(directory: Path) -> dict[str, bytes]:
    """Return the files of a directory."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def rows_of(directory: Path, table: str) -> list[Json]:
    """Read the rows of the file of a table."""
    text = (directory / f"{table}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def change_rows(directory: Path, table: str, change: Callable[[list[Json]], object]) -> None:
    """Change the rows of a file, and let the manifest agree."""
    rows = rows_of(directory, table)
    change(rows)
    lines = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    replace_file(directory, table, "".join(f"{line}\n" for line in lines).encode())


def replace_file(directory: Path, table: str, content: bytes) -> None:
    """Replace the file of a table, and let the manifest agree."""
    name = f"{table}.jsonl"
    (directory / name).write_bytes(content)
    entry = {"rows": content.count(b"\n"), "sha256": hashlib.sha256(content).hexdigest()}
    change_manifest(directory, lambda manifest: manifest["files"].update({name: entry}))


def change_manifest(directory: Path, change: Callable[[Json], object]) -> None:
    """Change the manifest of an export."""
    manifest = manifest_of(directory)
    change(manifest)
    text = json.dumps(manifest, ensure_ascii=False, indent=2)
    (directory / "manifest.json").write_text(f"{text}\n", encoding="utf-8")


def give_to(tenant_id: str, directory: Path) -> None:
    """Make an export one of another tenant, with a valid chain of hashes."""
    last = None

    def rehash(rows: list[Json]) -> None:
        nonlocal last
        for row in rows:
            row["hash"] = last = chain_hash(last, tenant_id, row)

    change_rows(directory, "adjustment", rehash)
    end = rows_of(directory, "adjustment")[-1]
    head = str(Head(tenant_id, end["position"], end["hash"]))
    change_manifest(directory, lambda manifest: manifest.update(tenant=tenant_id, head=head))


def manifest_of(directory: Path) -> Json:
    """Read the manifest of an export."""
    manifest: Json = json.loads((directory / "manifest.json").read_bytes())
    return manifest


def die_moving(moment: int, database_url: str, directory: str, tenant_id: str | None) -> None:
    """Export a tenant, or without one import the directory, in a process that kills itself.

    The moments are those of `tests.ledger.dying`.
    """

    async def move_until_killed() -> None:
        database = Database(Settings(database_url=database_url))
        with Clock(moment).watching():
            if tenant_id is None:
                await import_tenant(database, Path(directory), silent)
            else:
                await export_tenant(database, tenant_id, Path(directory), silent)
        await database.dispose()

    asyncio.run(move_until_killed())
