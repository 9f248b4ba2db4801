"""After any write, every stored figure equals its plain definition.

Hypothesis draws a stock and writes of all kinds. A model that stores only the entries of each level
predicts every response, every list and every total.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from json import dumps
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Select, select

from app.database.tables import adjustment, sku_count, stock_level
from app.database.tables import sku as sku_table
from app.files.seeding import LoadedLevel
from tests.graphql.model import sum_of
from tests.ledger.stock_model import (
    BY_ID,
    CODES,
    REASONS,
    STATUSES,
    UNKNOWN,
    WAREHOUSES,
    Level,
    Model,
    Update,
)
from tests.ledger.writes import (
    ADJUST,
    ARCHIVE,
    BULK,
    REORDER,
    RESTORE,
    SAFETY,
    SET,
    SYNC,
    TRANSFER,
    assert_proven,
)
from tests.service import Service, counted, new_tenant, sku

FILTERS: Final = {
    f"list{number}": pair for number, pair in enumerate(product((None, *STATUSES), (None, *BY_ID)))
}
ARCHIVED: Final = {"archived": True, "with_archived": None}
OF_WAREHOUSES: Final = {
    f"of_warehouse{number}": warehouse_id for number, warehouse_id in enumerate(BY_ID)
}
COUNTED: Final = "{ totalCount nodes { sku } }"
LEVELS: Final = "{ totalCount nodes { sku { sku } } }"
LISTS: Final = " ".join(
    [
        "{",
        *(
            f"{name}: skus(filter: {{status: {status or 'null'}, "
            f"warehouseId: {dumps(warehouse_id)}}}) {COUNTED}"
            for name, (status, warehouse_id) in FILTERS.items()
        ),
        *(
            f"{name}: skus(filter: {{archived: {dumps(archived)}}}) {COUNTED}"
            for name, archived in ARCHIVED.items()
        ),
        f"warehouses {{ id all: stock {LEVELS}",
        *(f"{status}: stock(filter: {{status: {status}}}) {LEVELS}" for status in STATUSES),
        "} }",
    ]
)
LEDGER: Final = " ".join(
    [
        "query ($sku: String, $start: DateOrDateTime) {",
        "of_all: adjustments(first: 200, filter: {sku: $sku}) { ...Entries }",
        "of_period: adjustments(first: 200, filter: {sku: $sku, startDate: $start}) { ...Entries }",
        'lost: adjustments(first: 200, filter: {sku: $sku, reason: "loss"}) { ...Entries }',
        *(
            f"{name}{suffix}: adjustments(first: 200, "
            f'filter: {{sku: $sku, warehouseId: "{id_}", reason: {reason}}}) {{ ...Entries }}'
            for name, id_ in OF_WAREHOUSES.items()
            for suffix, reason in (("", "null"), ("_lost", '"loss"'))
        ),
        "}",
        "fragment Entries on AdjustmentConnection { totalCount nodes { sku { sku } "
        "warehouse { id } sequence beforeQuantity afterQuantity reason createdAt } }",
    ]
)
quantities = st.integers(-1, 9)
updates = st.builds(
    Update,
    code=st.sampled_from((*CODES * 8, "GONE")),
    warehouse_id=st.sampled_from((*[*BY_ID][:2] * 6, *BY_ID, UNKNOWN)),
    quantity=quantities,
    reason=st.sampled_from(REASONS[1:]),
    expected_quantity=st.sampled_from([None] * 20 + [0, 1, 2]),
    expected_version=st.sampled_from([None] * 20 + [0, 1, 2]),
    expected_sku_versions=st.sampled_from([None, None, (), (1, 2, 3, 4), (5, 6, 7, 8)]),
    by_delta=st.booleans(),
)
sets = st.tuples(st.just("set"), updates.map(lambda update: [update]))
bulks = st.tuples(
    st.sampled_from(("ABORT", "CONTINUE", "CONTINUE")),
    st.lists(
        updates.map(lambda update: replace(update, expected_sku_versions=None)),
        min_size=1,
        max_size=8,
        unique_by=lambda update: (update.code, update.warehouse_id),
    ),
)


# Transfers: each line is a decrease of one level and an increase of another.
transfers = st.tuples(
    st.just("transfer"),
    st.builds(
        lambda pair, lines: [
            Update(code, warehouse_id, sign * quantity, "transfer", by_delta=True)
            for code, quantity in lines.items()
            for warehouse_id, sign in zip(pair, (-1, 1), strict=True)
        ],
        st.permutations([*[*BY_ID][:2], *BY_ID, UNKNOWN])
        .map(lambda drawn: drawn[:2])
        .filter(lambda drawn: drawn[0] != drawn[1]),
        st.dictionaries(st.sampled_from((*CODES, "GONE")), st.integers(1, 5), min_size=1),
    ),
)
catalogue = st.tuples(
    st.sampled_from(("archive", "restore", "safety", "reorder", "sync", "sync")),
    st.lists(
        updates.filter(lambda update: update.code in CODES and update.warehouse_id in BY_ID).map(
            lambda update: replace(update, quantity=abs(update.quantity))
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda update: update.code,
    ),
)
levels = st.builds(
    Level,
    counts=st.lists(quantities.map(abs), max_size=3).map(
        lambda counts: tuple((quantity, REASONS[0]) for quantity in counts)
    ),
    reserved=st.integers(0, 4),
    safety_stock=st.integers(0, 4),
    reorder_point=st.sampled_from((None, None, 0, 3, 8)),
)
stocks = st.dictionaries(st.tuples(st.sampled_from(CODES), st.sampled_from([*BY_ID])), levels)


@settings(
    derandomize=True,
    deadline=None,
    max_examples=15,
    # Shrinking takes minutes, and the examples are small.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(stock=stocks, writes=st.lists(sets | bulks | transfers | catalogue, min_size=3, max_size=8))
async def test_stored_figures_match_the_model_after_any_write(
    service: Service,
    stock: dict[tuple[str, str], Level],
    writes: list[tuple[str, list[Update]]],
) -> None:
    shop = replace(service, tenant_id=await new_tenant(service.database))
    model = Model(dict(stock))
    await load(shop, model)
    await assert_all_figures(shop, model)
    for kind, changes in writes:
        if kind == "set":
            await assert_set(shop, model, changes[0])
        elif kind in ("archive", "restore", "safety", "reorder", "sync"):
            await assert_catalogue(shop, model, kind, changes)
        elif kind == "transfer":
            await assert_transfer(shop, model, changes)
        else:
            await assert_bulk(shop, model, changes, abort=kind == "ABORT")
        await assert_all_figures(shop, model)


async def load(shop: Service, model: Model) -> None:
    """Load the stock of a model."""
    skus = [
        sku(
            code,
            *(
                LoadedLevel(
                    warehouse_id=warehouse_id,
                    reserved=level.reserved,
                    safety_stock=level.safety_stock,
                    reorder_point=level.reorder_point,
                    history=[counted(quantity) for quantity, _ in level.counts],
                )
                for warehouse_id, level in model.of(code).items()
            ),
        )
        for code in CODES
    ]
    await shop.load(WAREHOUSES, skus)


async def assert_set(shop: Service, model: Model, update: Update) -> None:
    """Set or adjust one level, and compare the response with the model."""
    [refusal] = model.write([update], abort=True)
    query = ADJUST if update.by_delta else SET
    answer = await shop.graphql(query, {"input": update.as_input(bulk=False)})
    if refusal:
        assert answer["errors"][0]["extensions"]["code"] == refusal
        return
    [payload] = answer["data"].values()
    level = model.levels[update.code, update.warehouse_id]
    assert payload["sku"] == changed(model, update.code)
    assert payload["stockLevel"] == {"onHand": level.on_hand, "version": len(level.counts)}


async def assert_catalogue(
    shop: Service, model: Model, kind: str, changes: Sequence[Update]
) -> None:
    """Archive, restore, set safety stock or reorder points, or apply a report."""
    if kind in ("archive", "restore"):
        model.archive(changes[0].code, is_archived=kind == "archive")
        query = ARCHIVE if kind == "archive" else RESTORE
        await shop.data(query, {"input": {"sku": changes[0].code}}, token="admin")
    elif kind == "safety":
        levels = [
            {"sku": it.code, "warehouseId": it.warehouse_id, "safetyStock": it.quantity}
            for it in changes
        ]
        for it in changes:
            model.keep_safe(it.code, it.warehouse_id, it.quantity)
        await shop.data(SAFETY, {"input": {"levels": levels}}, token="admin")
    elif kind == "reorder":
        # A quantity of 0 stands for the removal.
        points = {(it.code, it.warehouse_id): it.quantity or None for it in changes}
        for key, point in points.items():
            model.reorder_at(*key, point)
        levels = [
            {"sku": code, "warehouseId": id_, "reorderPoint": point}
            for (code, id_), point in points.items()
        ]
        await shop.data(REORDER, {"input": {"levels": levels}}, token="admin")
    else:
        content = {
            "warehouseId": WAREHOUSES[-1].id,
            "reportedAt": "2026-01-01T00:00:00Z",
            "onError": "CONTINUE",
            "levels": [{"sku": it.code, "onHand": it.quantity} for it in changes],
        }
        expected = [model.sync(it.code, it.quantity) for it in changes]
        answer = await shop.data(SYNC, {"input": content}, token="admin")
        assert [it["status"] for it in answer["syncStock"]["results"]] == expected


async def assert_transfer(shop: Service, model: Model, halves: Sequence[Update]) -> None:
    """Transfer stock, and compare the response with the model."""
    refusals = model.write(halves, abort=True)
    content = {
        "fromWarehouseId": halves[0].warehouse_id,
        "toWarehouseId": halves[1].warehouse_id,
        "lines": [{"sku": it.code, "quantity": it.quantity} for it in halves[1::2]],
    }
    answer = await shop.graphql(TRANSFER, {"input": content})
    if any(refusals):
        details = answer["errors"][0]["extensions"]["details"]
        result = [(it["index"], it["error"]["code"]) for it in details]
        assert result == [(index // 2, code) for index, code in enumerate(refusals) if code]
        return
    lines = answer["data"]["transferStock"]["lines"]
    assert [line["sku"] for line in lines] == [changed(model, it.code) for it in halves[1::2]]


async def assert_bulk(
    shop: Service, model: Model, changes: Sequence[Update], *, abort: bool
) -> None:
    """Set and adjust many levels, and compare the response with the model."""
    refusals = model.write(changes, abort=abort)
    content = {
        "updates": [update.as_input(bulk=True) for update in changes],
        "onError": "ABORT" if abort else "CONTINUE",
    }
    answer = await shop.graphql(BULK, {"input": content})
    if abort and any(refusals):
        extensions = answer["errors"][0]["extensions"]
        result = {it["index"]: it["error"]["code"] for it in extensions["details"]}
        assert result == {index: code for index, code in enumerate(refusals) if code}
        return
    payload = answer["data"]["bulkSetStock"]
    assert [it["error"] and it["error"]["code"] for it in payload["results"]] == refusals
    done = {update.code for update, code in zip(changes, refusals, strict=True) if code is None}
    assert payload["skus"] == [changed(model, code) for code in sorted(done)]


def changed(model: Model, code: str) -> dict[str, object]:
    """SKU as write payloads show it."""
    on_hand = sum(level.on_hand for level in model.of(code).values())
    return {"sku": code, "version": model.version(code), "totalOnHand": on_hand}


async def assert_all_figures(shop: Service, model: Model) -> None:
    """Compare every stored figure and every response with the model."""
    await assert_proven(shop)
    await assert_kept(shop, model)
    await assert_records(shop, model)
    await assert_lists(shop, model)
    await assert_ledger(shop, model)


async def assert_kept(shop: Service, model: Model) -> None:
    """Compare the tables with the model."""
    skus = await rows(shop, select(sku_table.c.sku, sku_table.c.status, sku_table.c.version))
    assert skus == {(code, model.status(code).lower(), model.version(code)) for code in CODES}
    columns = stock_level.c
    kept = await rows(
        shop,
        select(columns.sku, columns.warehouse_id, columns.on_hand, columns.status, columns.version),
    )
    assert kept == {
        (*key, level.on_hand, model.status(*key).lower(), len(level.counts))
        for key, level in model.levels.items()
    }
    prefix = {code: "archived_" if code in model.archived else "" for code in CODES}
    derived = Counter(("", prefix[code] + model.status(code).lower()) for code in CODES)
    derived.update(
        (warehouse_id, prefix[code] + model.status(code, warehouse_id).lower())
        for code, warehouse_id in model.levels
    )
    of = sku_count.c
    counts = await rows(shop, select(of.warehouse_id, of.status, of.skus).where(of.skus != 0))
    assert counts == {(*key, number) for key, number in derived.items()}
    of_entry = adjustment.c
    ledger = await rows(
        shop,
        select(
            of_entry.sku,
            of_entry.warehouse_id,
            of_entry.sequence,
            of_entry.before_quantity,
            of_entry.after_quantity,
            of_entry.reason,
        ),
    )
    assert ledger == set(model.entries())


async def rows(shop: Service, statement: Select[Any]) -> set[tuple[Any, ...]]:
    """Return the tenant's rows."""
    [table] = statement.get_final_froms()
    of_tenant = statement.where(table.c.tenant_id == shop.tenant_id)
    async with shop.database.snapshot() as snapshot:
        return {tuple(row) for row in await snapshot.rows(of_tenant, {})}


async def assert_records(shop: Service, model: Model) -> None:
    """Compare the figures of every SKU and level with the model."""
    document = (
        "{ skus(filter: {archived: null}) { nodes { sku status version totalOnHand "
        "totalReserved safetyStock reorderPoint totalAvailable adjustments { totalCount } stock { "
        "warehouse { id } onHand reserved available status "
        "version adjustments { totalCount } } } } }"
    )
    data = await shop.data(document)
    assert data["skus"]["nodes"] == [record(model, code) for code in CODES]


def record(model: Model, code: str) -> dict[str, object]:
    """SKU as lists show it."""
    levels, for_sale = model.of(code), model.for_sale(code)
    return {
        "sku": code,
        "status": model.status(code),
        "version": model.version(code),
        "totalOnHand": sum(level.on_hand for level in levels.values()),
        "totalReserved": sum(level.reserved for level in levels.values()),
        "safetyStock": sum(level.safety_stock for level in levels.values()),
        "reorderPoint": sum_of(level.reorder_point for level in for_sale.values()),
        "totalAvailable": sum(level.available for level in for_sale.values()),
        "adjustments": {"totalCount": sum(len(level.counts) for level in levels.values())},
        "stock": [
            {
                "warehouse": {"id": warehouse_id},
                "onHand": level.on_hand,
                "reserved": level.reserved,
                "available": level.available if warehouse_id in for_sale else 0,
                "status": model.status(code, warehouse_id),
                "version": len(level.counts),
                "adjustments": {"totalCount": len(level.counts)},
            }
            for warehouse_id, level in levels.items()
        ],
    }


async def assert_lists(shop: Service, model: Model) -> None:
    """Compare every filtered list of SKUs and levels, and its total, with the model."""
    data = await shop.data(LISTS)
    for name, (status, warehouse_id) in FILTERS.items():
        expected = [
            code
            for code in model.listed()
            if (warehouse_id is None or (code, warehouse_id) in model.levels)
            and status in (None, model.status(code))
        ]
        assert codes(data[name]) == expected
    for name, archived in ARCHIVED.items():
        assert codes(data[name]) == model.listed(archived)
    assert {it["id"]: codes(it["all"]) for it in data["warehouses"]} == {
        warehouse_id: [code for code in model.listed() if (code, warehouse_id) in model.levels]
        for warehouse_id in BY_ID
    }
    for it, status in product(data["warehouses"], STATUSES):
        assert codes(it[status]) == [
            code
            for code in model.listed()
            if (code, it["id"]) in model.levels and model.status(code, it["id"]) == status
        ]


def codes(connection: Mapping[str, Any]) -> list[str]:
    """SKU codes of a list of SKUs or levels; asserts that `totalCount` matches."""
    nodes = [it["sku"] for it in connection["nodes"]]
    assert connection["totalCount"] == len(nodes)
    return [it if isinstance(it, str) else it["sku"] for it in nodes]


async def assert_ledger(shop: Service, model: Model) -> None:
    """Compare every filtered list of adjustments, and its total, with the model."""
    expected = set(model.entries())
    whole = (await shop.data(LEDGER, {"sku": None, "start": None}))["of_all"]
    instants = sorted(it["createdAt"] for it in whole["nodes"])
    middle = instants[len(instants) // 2] if instants else None
    since = {entry(it) for it in whole["nodes"] if middle and it["createdAt"] >= middle}
    assert {entry(it) for it in whole["nodes"]} == expected
    for code in (None, CODES[0]):
        data = await shop.data(LEDGER, {"sku": code, "start": middle})
        matching = {it for it in expected if code in (None, it[0])}
        assert entries_in(data["of_all"]) == matching
        assert entries_in(data["of_period"]) == (matching & since if middle else matching)
        for name, warehouse_id in OF_WAREHOUSES.items():
            of_warehouse = {it for it in matching if it[1] == warehouse_id}
            assert entries_in(data[name]) == of_warehouse
            assert entries_in(data[f"{name}_lost"]) == {
                it for it in of_warehouse if it[5] == "loss"
            }
        assert entries_in(data["lost"]) == {it for it in matching if it[5] == "loss"}


def entries_in(connection: Mapping[str, Any]) -> set[tuple[object, ...]]:
    """Return adjustments of a list; asserts that `totalCount` matches."""
    result = {entry(it) for it in connection["nodes"]}
    assert connection["totalCount"] == len(connection["nodes"]) == len(result)
    return result


def entry(node: Mapping[str, Any]) -> tuple[object, ...]:
    """Return adjustment as a tuple of the model."""
    return (
        node["sku"]["sku"],
        node["warehouse"]["id"],
        node["sequence"],
        node["beforeQuantity"],
        node["afterQuantity"],
        node["reason"],
    )
