"""The floor: a hand-written service for these requests only, on Starlette and asyncpg.

A list or a SKU takes two statements, without a total; a set takes five in a transaction; a bulk
takes one `unnest` per table, and a reservation one conditional UPDATE. It has one tenant, and no
tokens, rules or idempotency keys.
"""

import os
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from ulid import ULID

from app.domain.quantities import Figures

TENANT: Final = os.environ.get("TENANT", "")
PAGE: Final = """
SELECT sku, title, status FROM sku WHERE tenant_id = $1 AND sku > $2 ORDER BY sku LIMIT $3
"""
ONE: Final = "SELECT sku, title, status FROM sku WHERE tenant_id = $1 AND sku = $2"
LEVELS: Final = """
SELECT l.sku, l.warehouse_id, l.on_hand, l.reserved, l.safety_stock, w.name, w.type
FROM stock_level l JOIN warehouse w ON w.tenant_id = l.tenant_id AND w.id = l.warehouse_id
WHERE l.tenant_id = $1 AND l.sku = ANY($2) ORDER BY l.sku, l.warehouse_id
"""
LOCK: Final = "SELECT sku FROM sku WHERE tenant_id = $1 AND sku = ANY($2) ORDER BY sku FOR UPDATE"
FIGURES: Final = """
SELECT sku, warehouse_id, on_hand, reserved, safety_stock, version
FROM stock_level WHERE tenant_id = $1 AND sku = ANY($2)
"""
WRITE_LEVELS: Final = """
UPDATE stock_level l SET on_hand = n.on_hand, status = n.status, version = n.version,
  adjusted_at = $2
FROM unnest($3::text[], $4::text[], $5::bigint[], $6::text[], $7::bigint[])
  AS n(sku, warehouse_id, on_hand, status, version)
WHERE l.tenant_id = $1 AND l.sku = n.sku AND l.warehouse_id = n.warehouse_id
"""
WRITE_LEDGER: Final = """
INSERT INTO adjustment (tenant_id, id, sku, warehouse_id, sequence, before_quantity,
  after_quantity, delta, reason, created_by, created_at)
SELECT $1, n.id, n.sku, n.warehouse_id, n.sequence, n.old, n.new, n.new - n.old, 'cycle_count',
  'bench@example.com', $2
FROM unnest($3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[])
  AS n(id, sku, warehouse_id, sequence, old, new)
"""
WRITE_SKUS: Final = """
UPDATE sku s SET status = n.status, available = n.available, version = s.version + 1,
  updated_at = $2
FROM unnest($3::text[], $4::text[], $5::bigint[]) AS n(sku, status, available)
WHERE s.tenant_id = $1 AND s.sku = n.sku
"""
RESERVE: Final = """
UPDATE stock_level SET reserved = reserved + $4
WHERE tenant_id = $1 AND sku = $2 AND warehouse_id = $3 AND on_hand - reserved - safety_stock >= $4
RETURNING reserved
"""

Update = Mapping[str, Any]


def json_response(content: object) -> Response:
    """Return a JSON response."""
    return Response(orjson.dumps(content), media_type="application/json")


def records(skus: Iterable[Any], levels: Iterable[Any]) -> list[dict[str, Any]]:
    """Return SKUs with their levels and totals."""
    by_sku: dict[str, list[dict[str, Any]]] = defaultdict(list)
    safety: dict[str, int] = defaultdict(int)
    for row in levels:
        safety[row["sku"]] += row["safety_stock"]
        by_sku[row["sku"]].append(
            {
                "on_hand": row["on_hand"],
                "reserved": row["reserved"],
                "available": row["on_hand"] - row["reserved"] - row["safety_stock"],
                "warehouse": {
                    "id": row["warehouse_id"],
                    "name": row["name"],
                    "type": row["type"],
                },
            }
        )
    return [
        {
            "sku": row["sku"],
            "title": row["title"],
            "status": row["status"],
            "total_on_hand": sum(level["on_hand"] for level in by_sku[row["sku"]]),
            "total_reserved": sum(level["reserved"] for level in by_sku[row["sku"]]),
            "total_available": sum(level["available"] for level in by_sku[row["sku"]]),
            "safety_stock": safety[row["sku"]],
            "stock": by_sku[row["sku"]],
        }
        for row in skus
    ]


async def list_skus(request: Request) -> Response:
    """Respond with the page after a code."""
    async with request.app.state.pool.acquire() as connection:
        parameters = request.query_params
        after, limit = parameters.get("after", ""), int(parameters["limit"])
        skus = await connection.fetch(PAGE, TENANT, after, limit)
        levels = await connection.fetch(LEVELS, TENANT, [row["sku"] for row in skus])
    return json_response(records(skus, levels))


async def one_sku(request: Request) -> Response:
    """Respond with one SKU."""
    code = request.path_params["sku"]
    async with request.app.state.pool.acquire() as connection:
        skus = await connection.fetch(ONE, TENANT, code)
        levels = await connection.fetch(LEVELS, TENANT, [code])
    return json_response(records(skus, levels)[0])


async def set_stock(request: Request) -> Response:
    """Set one level."""
    update = orjson.loads(await request.body())
    [result] = await write(request, [update])
    return json_response(result)


async def bulk(request: Request) -> Response:
    """Set many levels, all or none."""
    return json_response(await write(request, orjson.loads(await request.body())))


async def reserve(request: Request) -> Response:
    """Reserve a quantity of one level, if it is available."""
    line = orjson.loads(await request.body())
    async with request.app.state.pool.acquire() as connection:
        key = line["sku"], line["warehouse_id"], line["quantity"]
        row = await connection.fetchrow(RESERVE, TENANT, *key)
    return json_response({"sku": line["sku"], "reserved": row["reserved"]})


async def write(request: Request, updates: Sequence[Update]) -> list[dict[str, Any]]:
    """Lock, read, write levels, ledger and SKUs: five statements in a transaction."""
    codes = sorted({update["sku"] for update in updates})
    now = datetime.now(UTC)
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        await connection.execute(LOCK, TENANT, codes)
        old = {
            (row["sku"], row["warehouse_id"]): row
            for row in await connection.fetch(FIGURES, TENANT, codes)
        }
        figures = {
            key: Figures(row["on_hand"], row["reserved"], row["safety_stock"], None)
            for key, row in old.items()
        }
        results = []
        for update in updates:
            key = update["sku"], update["warehouse_id"]
            row = old[key]
            figures[key] = Figures(update["quantity"], row["reserved"], row["safety_stock"], None)
            results.append(
                {
                    "id": f"adj_{ULID()}",
                    "sku": key[0],
                    "warehouse_id": key[1],
                    "sequence": row["version"] + 1,
                    "before": row["on_hand"],
                    "after": update["quantity"],
                }
            )
        sums: dict[str, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
        for (code, _), level in figures.items():
            on_hand, reserved, safety = sums[code]
            sums[code] = (
                on_hand + level.on_hand,
                reserved + level.reserved,
                safety + level.safety_stock,
            )
        totals = [Figures(*sums[code], None) for code in codes]
        statuses = [total.status for total in totals]
        available = [total.available for total in totals]
        skus, warehouse_ids, sequences, after = (
            [result[name] for result in results]
            for name in ("sku", "warehouse_id", "sequence", "after")
        )
        level_statuses = [figures[key].status for key in zip(skus, warehouse_ids, strict=True)]
        await connection.execute(
            WRITE_LEVELS, TENANT, now, skus, warehouse_ids, after, level_statuses, sequences
        )
        ids, before = ([result[name] for result in results] for name in ("id", "before"))
        await connection.execute(
            WRITE_LEDGER, TENANT, now, ids, skus, warehouse_ids, sequences, before, after
        )
        await connection.execute(WRITE_SKUS, TENANT, now, codes, statuses, available)
    return results


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Open the connection pool."""
    size = int(os.environ["POOL"])
    url = os.environ["DATABASE_URL"].replace("+asyncpg", "")
    async with asyncpg.create_pool(url, min_size=size, max_size=size) as pool:
        app.state.pool = pool
        yield


app = Starlette(
    routes=[
        Route("/skus", list_skus),
        Route("/skus/{sku}", one_sku),
        Route("/set", set_stock, methods=["POST"]),
        Route("/bulk", bulk, methods=["POST"]),
        Route("/reserve", reserve, methods=["POST"]),
    ],
    lifespan=lifespan,
)
