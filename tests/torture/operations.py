"""The writes that clients draw at random: of every kind, by REST and by GraphQL."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from tests.graphql.operations import bulk_item
from tests.torture.audit import Entry

Json = dict[str, Any]

ENTRY: Final = "id sku { sku } warehouse { id } beforeQuantity afterQuantity note"
SET: Final = f"""
mutation ($input: SetStockInput!) {{
  setStock(input: $input) {{ adjustment {{ {ENTRY} }} }}
}}
"""
ADJUST: Final = SET.replace("SetStockInput", "AdjustStockInput").replace("setStock", "adjustStock")
BULK: Final = f"""
mutation ($input: BulkSetStockInput!) {{
  bulkSetStock(input: $input) {{
    results {{ status adjustment {{ {ENTRY} }} error {{ code }} }}
  }}
}}
"""
TRANSFER: Final = f"""
mutation ($input: TransferStockInput!) {{
  transferStock(input: $input) {{
    transferId
    lines {{ outgoing {{ {ENTRY} }} incoming {{ {ENTRY} }} }}
  }}
}}
"""
REVERSE: Final = f"""
mutation ($input: ReverseAdjustmentsInput!) {{
  reverseAdjustments(input: $input) {{ adjustments {{ {ENTRY} }} }}
}}
"""
SYNC: Final = f"""
mutation ($input: SyncStockInput!) {{
  syncStock(input: $input) {{
    results {{ code status adjustment {{ {ENTRY} }} error {{ code }} }}
  }}
}}
"""
RESERVE: Final = """
mutation ($input: ReserveStockInput!) {
  reserveStock(input: $input) { reservation { id } }
}
"""
COMMIT: Final = f"""
mutation ($input: CommitReservationInput!) {{
  commitReservation(input: $input) {{
    reservation {{ id }}
    successor {{ id }}
    adjustments {{ {ENTRY} }}
  }}
}}
"""
AMEND: Final = """
mutation ($input: AmendReservationInput!) {
  amendReservation(input: $input) { reservation { id version } }
}
"""
RELEASE: Final = """
mutation ($input: ReleaseReservationInput!) {
  releaseReservation(input: $input) { reservation { id } }
}
"""
EXTEND: Final = """
mutation ($input: ExtendReservationInput!) {
  extendReservation(input: $input) { reservation { id version } }
}
"""
SAFETY_STOCK: Final = """
mutation ($input: SetSafetyStockInput!) {
  setSafetyStock(input: $input) { skus { sku version } }
}
"""
TITLE: Final = """
mutation ($input: UpdateSkuInput!) {
  updateSku(input: $input) { sku { sku title version } }
}
"""
ARCHIVE: Final = """
mutation ($input: SkuInput!) {
  archiveSku(input: $input) { sku { sku isArchived version } }
}
"""
RESTORE: Final = ARCHIVE.replace("archiveSku", "restoreSku")
WAREHOUSE: Final = """
mutation ($input: UpdateWarehouseInput!) {
  updateWarehouse(input: $input) { warehouse { id name isActive } }
}
"""
MAX_BULK: Final = 12


@dataclass(frozen=True, slots=True)
class Stock:
    """The warehouses and SKUs of the tenant of a run."""

    tenant_id: str
    # Tokens by scope.
    tokens: Mapping[str, str]
    skus: Sequence[str]
    # SKUs that only imports write to.
    imported: Sequence[str]
    warehouses: Sequence[str]
    # The warehouse of a marketplace.
    readonly: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A write, as each attempt sends it."""

    key: str
    method: str
    path: str
    body: Json
    headers: dict[str, str]
    # Of a set, an adjustment or a bulk by REST, whose responses do not name them.
    updates: Sequence[Json] = ()


class Drawer:
    """Draws operations from a random generator."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        # The last known `on_hand` of levels.
        self.seen: dict[tuple[str, str], int] = {}
        # Open reservations of the client.
        self.held: list[str] = []
        # Adjustments that may be reversed.
        self.reversible: list[str] = []

    def learn(self, entry: Entry) -> None:
        """Remember an acknowledged ledger entry."""
        self.seen[entry.sku, entry.warehouse_id] = entry.after
        if entry.id:
            self.reversible.append(entry.id)

    def draw(self, stock: Stock, key: str) -> Operation:
        """Draw a write."""
        kind = self._dice.random()
        if kind < 0.25:
            return self._about_reservation(stock, key)
        if kind < 0.4:
            return self._other(stock, key)
        return self._about_stock(stock, key)

    def _about_stock(self, stock: Stock, key: str) -> Operation:
        """Set or adjust one stock level or several."""
        is_rest, is_bulk = self._dice.random() < 0.5, self._dice.random() < 0.4
        levels = list(self._levels(stock, self._dice.randint(2, MAX_BULK) if is_bulk else 1))
        updates = [
            {
                "sku": sku,
                "warehouseId": warehouse,
                **self._change(),
                "reason": "cycle_count",
                "note": f"{key}/{index}",
            }
            for index, (sku, warehouse) in enumerate(levels)
        ]
        for update, level in zip(updates, levels, strict=True):
            if self._dice.random() < 0.2:
                update["expectedQuantity"] = self.seen.get(level, 0)
        on_error = self._dice.choice(("abort", "continue"))
        headers = _authorization(stock, "write")
        if is_rest:
            headers["Idempotency-Key"] = key
            items = [_in_rest_names(update) for update in updates]
            if is_bulk:
                body: Json = {"updates": items, "on_error": on_error}
                return Operation(key, "POST", "/api/inventory/bulk", body, headers, updates)
            path = f"/api/inventory/{items[0].pop('sku')}"
            if self._dice.random() < 0.1:
                headers["If-Match"] = f'"{self._dice.randint(1, 20)}"'
            if "delta" in items[0]:
                return Operation(key, "POST", f"{path}/adjustments", items[0], headers, updates)
            return Operation(key, "PUT", path, items[0], headers, updates)
        content = updates[0]
        if is_bulk:
            items = [bulk_item(update) for update in updates]
            content = {"updates": items, "onError": on_error.upper()}
        single = ADJUST if "delta" in content else SET
        return _graphql(stock, key, BULK if is_bulk else single, content)

    def _about_reservation(self, stock: Stock, key: str) -> Operation:
        """Reserve, or change or end a reservation of this client, which may have expired."""
        content: Json
        if not self.held or self._dice.random() < 0.4:
            seconds = self._dice.choice((1, 2, 600))
            lines = [self._line(stock)]
            rest = {"lines": [_in_rest_names(line) for line in lines], "expires_in": seconds}
            return self._either(
                stock, key, ("", rest), (RESERVE, {"lines": lines, "expiresIn": seconds})
            )
        id_ = self._dice.choice(self.held)
        kind = self._dice.random()
        if kind < 0.15:
            content = {"id": id_, "lines": [self._line(stock) for _ in range(2)]}
            return _graphql(stock, key, AMEND, content)
        if kind < 0.3:
            return _graphql(stock, key, EXTEND, {"id": id_, "expiresIn": 600})
        self.held.remove(id_)
        if kind < 0.5:
            return self._either(stock, key, (f"/{id_}/release", {}), (RELEASE, {"id": id_}))
        note = {"note": f"{key}/0"}
        if kind < 0.6:
            [(sku, warehouse)] = self._levels(stock, 1)
            lines = [{"sku": sku, "warehouseId": warehouse, "quantity": 1}]
            content = {"id": id_, "lines": lines, "keepRest": True, **note}
            return _graphql(stock, key, COMMIT, content)
        return self._either(stock, key, (f"/{id_}/commit", note), (COMMIT, {"id": id_, **note}))

    def _line(self, stock: Stock) -> Json:
        [(sku, warehouse)] = self._levels(stock, 1)
        return {"sku": sku, "warehouseId": warehouse, "quantity": self._dice.randint(1, 30)}

    def _either(
        self, stock: Stock, key: str, rest: tuple[str, Json], graphql: tuple[str, Json]
    ) -> Operation:
        """Send a write of a reservation by REST or by GraphQL."""
        if self._dice.random() < 0.5:
            return _graphql(stock, key, *graphql)
        path, body = rest
        headers = {**_authorization(stock, "write"), "Idempotency-Key": key}
        return Operation(key, "POST", f"/api/inventory/reservations{path}", body, headers)

    def _other(self, stock: Stock, key: str) -> Operation:
        """Transfer, reverse, synchronise, or change the catalogue."""
        content: Json
        kind = self._dice.choice(("transfer", "reverse", "sync", "safety stock", "catalogue"))
        if kind == "transfer":
            source, target = self._dice.sample(stock.warehouses, 2)
            skus = self._dice.sample(stock.skus, self._dice.randint(1, 3))
            lines = [{"sku": sku, "quantity": self._dice.randint(1, 20)} for sku in skus]
            ends = {"fromWarehouseId": source, "toWarehouseId": target}
            return _graphql(stock, key, TRANSFER, {**ends, "lines": lines, "note": f"{key}/0"})
        if kind == "reverse" and self.reversible:
            target_id = self._dice.choice(self.reversible)
            content = {"target": {"adjustmentId": target_id}, "note": f"{key}/0"}
            return _graphql(stock, key, REVERSE, content)
        if kind == "sync":
            skus = self._dice.sample(stock.skus, self._dice.randint(1, MAX_BULK))
            content = {
                "warehouseId": stock.readonly,
                "reportedAt": datetime.now(UTC).isoformat(),
                "levels": [{"sku": sku, "onHand": self._dice.randint(0, 60)} for sku in skus],
                "onError": "CONTINUE",
            }
            return _graphql(stock, key, SYNC, content, scope="admin")
        if kind == "safety stock":
            levels = [
                {"sku": sku, "warehouseId": warehouse, "safetyStock": self._dice.randint(0, 5)}
                for sku, warehouse in self._levels(stock, self._dice.randint(1, 3))
            ]
            return _graphql(stock, key, SAFETY_STOCK, {"levels": levels}, scope="admin")
        return self._about_catalogue(stock, key)

    def _about_catalogue(self, stock: Stock, key: str) -> Operation:
        """Rename, archive or restore a SKU, or (de)activate a warehouse; all are restored often."""
        sku = self._dice.choice(stock.skus)
        choices: tuple[tuple[str, Json], ...] = (
            (TITLE, {"sku": sku, "title": f"Title of {key}"}),
            (ARCHIVE, {"sku": sku}),
            *((RESTORE, {"sku": code}) for code in self._dice.sample(stock.skus, 3)),
            (WAREHOUSE, {"id": self._dice.choice(stock.warehouses), "name": f"W {key}"}),
            (WAREHOUSE, {"id": stock.warehouses[0], "isActive": self._dice.random() < 0.5}),
            (WAREHOUSE, {"id": stock.warehouses[0], "isActive": True}),
        )
        query, content = self._dice.choice(choices)
        return _graphql(stock, key, query, content, scope="admin")

    def _change(self) -> Json:
        """Draw a quantity or a delta; some of them lead below zero."""
        if self._dice.random() < 0.3:
            return {"delta": self._dice.randint(-30, 30)}
        return {"quantity": self._dice.choice((-1, 0, *range(1, 60)))}

    def _levels(self, stock: Stock, number: int) -> Iterator[tuple[str, str]]:
        """Draw stock levels, each once; a few of them cannot be set."""
        drawn: set[tuple[str, str]] = set()
        while len(drawn) < number:
            sku = "NOPE" if self._dice.random() < 0.01 else self._dice.choice(stock.skus)
            is_readonly = self._dice.random() < 0.01
            level = sku, stock.readonly if is_readonly else self._dice.choice(stock.warehouses)
            if level not in drawn:
                drawn.add(level)
                yield level


def _in_rest_names(update: Json) -> Json:
    names = {"warehouseId": "warehouse_id", "expectedQuantity": "expected_quantity"}
    return {names.get(name, name): value for name, value in update.items()}


def _graphql(
    stock: Stock, key: str, query: str, content: Json, *, scope: str = "write"
) -> Operation:
    body = {"query": query, "variables": {"input": {**content, "idempotencyKey": key}}}
    return Operation(key, "POST", "/graphql", body, _authorization(stock, scope))


def _authorization(stock: Stock, scope: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {stock.tokens[scope]}"}
