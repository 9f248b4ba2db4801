"""Every read of the service with every combination of its conditions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from types import SimpleNamespace
from typing import Any, Final

from app.database.tables import LINK_COLUMNS
from app.domain.changes import ChangeType
from app.domain.filters import AdjustmentFilter, Order, ReservationFilter, Sign, SkuFilter
from app.domain.object_details import ExternalIdRecord, ObjectKind
from app.domain.periods import Interval, PeriodRun
from app.domain.quantities import Status
from app.domain.records import ReservationStatus
from app.reads.adjustment_totals import (
    count_adjustments,
    count_adjustments_of,
    sum_adjustments,
    sum_adjustments_of,
)
from app.reads.adjustments import (
    get_adjustments,
    get_reversals,
    list_adjustments,
    list_adjustments_of,
    list_adjustments_of_group,
)
from app.reads.availability import get_availabilities, list_availabilities
from app.reads.changes import get_feed_position, list_changes
from app.reads.due_webhooks import list_due_webhooks
from app.reads.object_details import find_by_external_ids, get_external_ids, get_metadata
from app.reads.reservations import (
    count_holds_of,
    count_reservations,
    count_reservations_of_stock,
    get_reservations,
    list_due_reservations,
    list_holds_of,
    list_reservations,
    sum_held,
)
from app.reads.similar_codes import find_other_spellings, find_similar_codes
from app.reads.sku_words import list_codes_with_word
from app.reads.skus import count_skus, get_skus, get_titles, get_update_times, list_skus
from app.reads.stock_history import get_stock_as_of, sum_adjustments_by_period
from app.reads.stock_levels import (
    count_levels_of_warehouses,
    count_stocked_levels,
    list_changed_codes,
    list_levels_of_warehouses,
)
from app.reads.warehouses import get_warehouses, list_warehouses
from app.reads.webhooks import (
    count_attempts,
    count_webhooks,
    get_webhooks,
    list_attempts,
    list_webhooks,
)
from benchmarks.data import OPENING, WAREHOUSES
from tests.service import EMAIL

PAGE: Final = 51
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
MAIN: Final = WAREHOUSES[1].id
# A warehouse and a reason without adjustments: a bad plan reads all rows to find none.
UNUSED: Final = WAREHOUSES[3].id
RARE: Final = "loss"
STATUSES: Final = (None, (Status.CRITICAL,), (Status.CRITICAL, Status.LOW))
# Whole days, in which the large tenant has many adjustments.
DAYS: Final = START, START + timedelta(days=3)
# Time between two SKUs, and between two entries of a history.
STEP: Final = timedelta(seconds=4)


@dataclass(frozen=True)
class ReadCase:
    """A call of a query; `grows` marks one whose cost is known to grow with the data."""

    name: str
    call: partial[Any]
    grows: bool = False


@dataclass(frozen=True)
class Data:
    """Some SKUs of a tenant, the length of its ledger in steps of time, and a middle position."""

    tenant: str
    codes: Sequence[str]
    steps: int
    position: int

    @property
    def code(self) -> str:
        return self.codes[len(self.codes) // 2]

    @property
    def period(self) -> tuple[datetime, datetime]:
        return START + STEP * (self.steps // 4), START + STEP * (3 * self.steps // 4)


def availability_reads(data: Data) -> Iterator[ReadCase]:
    """Yield reads of the availability of SKUs."""
    call: partial[Any]
    tenant = data.tenant
    call = partial(get_availabilities, tenant_id=tenant, codes=data.codes)
    yield ReadCase("availabilities of codes", call)
    for after, found in product((None, data.code), (None, data.codes)):
        call = partial(list_availabilities, tenant_id=tenant, after=after, found=found, limit=PAGE)
        yield ReadCase(f"availabilities {named(after=after, found=found)}", call)


def sku_reads(data: Data) -> Iterator[ReadCase]:
    """Yield reads of SKUs, levels and warehouses."""
    call: partial[Any]
    tenant = data.tenant
    by_code = (Order.CODE_ASCENDING, Order.CODE_DESCENDING)
    for statuses, warehouse, sku_code, position, order in product(
        STATUSES, (None, MAIN), (None, data.code), (None, [data.code]), by_code
    ):
        conditions = named(
            order=order, status=statuses, warehouse=warehouse, sku=sku_code, after=position
        )
        where = SkuFilter(statuses=statuses, warehouse_id=warehouse, sku=sku_code)
        call = partial(
            list_skus, tenant_id=tenant, where=where, after=position, order=order, limit=PAGE
        )
        yield ReadCase(f"SKUs {conditions}", call)
    yield from ordered_reads(data)
    yield ReadCase("SKUs of codes", partial(get_skus, tenant_id=tenant, codes=data.codes))
    call = partial(get_update_times, tenant_id=tenant, codes=data.codes)
    yield ReadCase("times of changes", call)
    yield from feed_reads(data)
    yield from webhook_reads(data)
    yield from details_reads(data)
    yield ReadCase("titles", partial(get_titles, tenant_id=tenant, codes=data.codes))
    for statuses, after in product(STATUSES, (None, data.code)):
        call = partial(list_levels_of_warehouses, tenant_id=tenant, warehouses=WAREHOUSES)
        call = partial(call, where=SkuFilter(statuses=statuses), after=after, limit=PAGE)
        yield ReadCase(f"levels {named(status=statuses, after=after)}", call)
    ids = [warehouse.id for warehouse in WAREHOUSES]
    # As many SKUs changed last in every tenant.
    since = START + STEP * (data.steps - len(data.codes))
    call = partial(list_changed_codes, tenant_id=tenant, since=since)
    yield ReadCase("codes of changed SKUs", call)
    changed = SkuFilter(updated_since=since)
    for statuses in STATUSES:
        where = replace(changed, statuses=statuses)
        call = partial(count_levels_of_warehouses, tenant_id=tenant, ids=ids, where=where)
        yield ReadCase(
            f"total of changed levels {named(status=statuses)}", partial(call, changed=data.codes)
        )
        call = partial(list_levels_of_warehouses, tenant_id=tenant, warehouses=WAREHOUSES)
        call = partial(call, where=where, changed=data.codes, after=None, limit=PAGE)
        yield ReadCase(f"changed levels {named(status=statuses)}", call)
    prefixed = SkuFilter(code_prefix=data.code[:-1])
    call = partial(count_levels_of_warehouses, tenant_id=tenant, ids=ids, where=prefixed)
    yield ReadCase("total of levels of a prefix", call)
    for statuses in STATUSES:
        for sku_code in (None, data.code):
            where = SkuFilter(statuses=statuses, sku=sku_code)
            call = partial(count_levels_of_warehouses, tenant_id=tenant, ids=ids, where=where)
            yield ReadCase(f"total of levels {named(status=statuses, sku=sku_code)}", call)
    call = partial(
        find_similar_codes, tenant_id=tenant, codes=[code.lower() for code in data.codes]
    )
    yield ReadCase("similar codes", call)
    spellings = {code: [code.lower(), code] for code in data.codes}
    call = partial(find_other_spellings, tenant_id=tenant, spellings=spellings)
    yield ReadCase("other spellings", call)
    # It counts the levels of a warehouse that is closed, which is seldom.
    call = partial(count_stocked_levels, tenant_id=tenant, warehouse_id=MAIN)
    yield ReadCase("stocked levels", call, grows=True)
    yield ReadCase("warehouses", partial(list_warehouses, tenant_id=tenant))
    yield ReadCase("warehouses of ids", partial(get_warehouses, tenant_id=tenant, ids=ids))
    entries = [f"adj_{number}" for number in range(9)]
    yield ReadCase("adjustments of ids", partial(get_adjustments, tenant_id=tenant, ids=entries))


def details_reads(data: Data) -> Iterator[ReadCase]:
    """Yield reads of external ids and metadata, and look-ups by external ids."""
    call: partial[Any]
    warehouses = [warehouse.id for warehouse in WAREHOUSES]
    for kind, keys in ((ObjectKind.SKU, data.codes), (ObjectKind.WAREHOUSE, warehouses)):
        for query in (get_external_ids, get_metadata):
            call = partial(query, tenant_id=data.tenant, kind=kind, ids=keys)
            yield ReadCase(f"{query.__name__} {kind}", call)
        wanted = [ExternalIdRecord("erp", key) for key in keys]
        call = partial(find_by_external_ids, tenant_id=data.tenant, kind=kind, ids=wanted)
        yield ReadCase(f"objects by external ids {kind}", call)


def ordered_reads(data: Data) -> Iterator[ReadCase]:
    """Yield reads of SKUs in every order, by prefix, by words and by the last change."""
    call: partial[Any]
    since = data.period[0]
    positions: dict[str, list[object]] = {
        "code": [data.code],
        "available": [5, data.code],
        "updated": [since, data.code],
    }
    prefixed, changed = SkuFilter(code_prefix=data.code[:-1]), SkuFilter(updated_since=since)
    filters = {"code": prefixed, "updated": changed}
    for order, is_first in product(Order, (True, False)):
        position = None if is_first else positions[order.subject]
        call = partial(list_skus, tenant_id=data.tenant, after=position, order=order, limit=PAGE)
        for where in (SkuFilter(), filters.get(order.subject, SkuFilter())):
            prefix, at = where.code_prefix, where.updated_since
            conditions = named(order=order, after=position, prefix=prefix, updated=at)
            yield ReadCase(f"SKUs in order {conditions}", partial(call, where=where))
    for order in Order:
        call = partial(list_skus, tenant_id=data.tenant, where=SkuFilter(), order=order, limit=PAGE)
        call = partial(call, after=positions[order.subject], found=data.codes)
        yield ReadCase(f"found SKUs in order {named(order=order)}", call)
    call = partial(count_skus, tenant_id=data.tenant, where=SkuFilter(), found=data.codes)
    yield ReadCase("total of found SKUs", call)
    # Ten SKUs have a word that begins so.
    number = data.code.removeprefix("SKU-")[:-1]
    call = partial(list_codes_with_word, tenant_id=data.tenant, word=number)
    yield ReadCase("SKUs with a word", call)
    total = partial(count_skus, tenant_id=data.tenant, where=prefixed)
    yield ReadCase("total of SKUs of a prefix", total)


def past_reads(data: Data) -> Iterator[ReadCase]:
    """Yield reads of stock as of an early and a late instant."""
    for warehouse, end in product((None, MAIN), data.period):
        keys = [(each, warehouse) for each in data.codes]
        call = partial(get_stock_as_of, tenant_id=data.tenant, skus=keys, end=end)
        yield ReadCase(f"stock as of {end} {named(warehouse=warehouse)}", call)


def history_reads(data: Data) -> Iterator[ReadCase]:
    """Yield reads of stock histories by hour and by day, for a period of fixed length."""
    call: partial[Any]
    start, _ = data.period
    for warehouse, interval in product((None, MAIN), Interval):
        call = partial(sum_adjustments_by_period, tenant_id=data.tenant)
        keys = [(each, warehouse) for each in data.codes]
        for offset in (timedelta(), timedelta(hours=1)):
            run = PeriodRun(start, start, start + STEP * 75, offset)
            name = f"changes by {interval} at {offset} {named(warehouse=warehouse)}"
            series = SimpleNamespace(interval=interval, runs=[run])
            yield ReadCase(name, partial(call, skus=keys, series=series))


def warehouse_reads(data: Data) -> Iterator[ReadCase]:
    """Yield reads of the adjustments of every warehouse."""
    call: partial[Any]
    parents = [(None, warehouse.id) for warehouse in WAREHOUSES]
    for reason, period, after in product((None, RARE), (None, data.period), (None, data.position)):
        conditions = named(reason=reason, period=period)
        where = within(period, reason=reason)
        call = partial(list_adjustments_of, tenant_id=data.tenant, parents=parents)
        call = partial(call, where=where, after=after, limit=PAGE)
        yield ReadCase(f"ledgers of warehouses {conditions} {named(after=after)}", call)
    for reason, period in product((None, "initial_stock", RARE), (None, DAYS, data.period)):
        conditions = named(reason=reason, period=period)
        where = within(period, reason=reason)
        for query in (count_adjustments_of, sum_adjustments_of):
            call = partial(query, tenant_id=data.tenant, parents=parents, where=where)
            yield ReadCase(f"{query.__name__} warehouses {conditions}", call)


def reservation_reads(data: Data) -> Iterator[ReadCase]:
    """Yield reads of reservations, and the look-ups of commits, releases and reversals."""
    call: partial[Any]
    tenant, middle = data.tenant, f"rsv_01J0000000000{1_000_000_000_000 + data.steps * 2}"
    for status, reference, after in product(
        (None, ReservationStatus.OPEN, ReservationStatus.EXPIRED), (None, "nobody"), (None, middle)
    ):
        conditions = named(status=status, reference=reference)
        where = ReservationFilter(status=status, reference=reference)
        call = partial(list_reservations, tenant_id=tenant, where=where, limit=PAGE)
        yield ReadCase(
            f"reservations {conditions} {named(after=after)}", partial(call, after=after)
        )
        call = partial(count_reservations, tenant_id=tenant, where=where)
        yield ReadCase(f"total of reservations {conditions}", call)
    yield from reservations_of_stock(data, middle)
    levels = [(each, MAIN) for each in data.codes]
    for after in (None, middle):
        call = partial(list_holds_of, tenant_id=tenant, levels=levels, after=after, limit=PAGE)
        yield ReadCase(f"holds {named(after=after)}", call)
    yield ReadCase("total of holds", partial(count_holds_of, tenant_id=tenant, levels=levels))
    ids = [f"rsv_01J0000000000{1_000_000_000_000 + number}" for number in range(0, 80, 4)]
    yield ReadCase("reservations of ids", partial(get_reservations, tenant_id=tenant, ids=ids))
    call = partial(list_due_reservations, tenant_id=tenant, limit=PAGE)
    yield ReadCase("due reservations", call)
    for name in ("id", "bulk_id", "transfer_id"):
        call = partial(list_adjustments_of_group, tenant_id=tenant, name=name)
        yield ReadCase(f"adjustments of one {name}", partial(call, id_="nobody", limit=1_001))
    yield ReadCase("reversals", partial(get_reversals, tenant_id=tenant, ids=["adj_1"]))


def reservations_of_stock(data: Data, middle: str) -> Iterator[ReadCase]:
    """Yield reads of the reservations of a SKU, a warehouse or a stock level."""
    call: partial[Any]
    for sku_code, warehouse, status in product(
        (None, data.code), (None, MAIN), (None, ReservationStatus.OPEN)
    ):
        where = ReservationFilter(sku=sku_code, warehouse_id=warehouse, status=status)
        conditions = named(sku=sku_code, warehouse=warehouse, status=status)
        call = partial(sum_held, tenant_id=data.tenant, where=where)
        yield ReadCase(f"held {conditions}", call)
        if not where.names_stock:
            continue
        for after in (None, middle):
            call = partial(list_reservations, tenant_id=data.tenant, where=where, limit=PAGE)
            yield ReadCase(
                f"reservations of stock {conditions} {named(after=after)}",
                partial(call, after=after),
            )
        # It reads a limited number of lines.
        call = partial(count_reservations_of_stock, tenant_id=data.tenant, where=where)
        grows = sku_code is None
        yield ReadCase(f"total of reservations of stock {conditions}", call, grows=grows)


def sign_reads(data: Data) -> Iterator[ReadCase]:
    """Yield reads by sign, for a sign that is frequent everywhere."""
    for warehouse in (None, MAIN):
        where = AdjustmentFilter(warehouse_id=warehouse, sign=Sign.INCREASE)
        call = partial(list_adjustments, tenant_id=data.tenant, where=where, limit=PAGE)
        yield ReadCase(f"increases {named(warehouse=warehouse)}", call)
        where = replace(where, sku=data.code)
        call = partial(list_adjustments, tenant_id=data.tenant, where=where, limit=PAGE)
        yield ReadCase(f"increases of a SKU {named(warehouse=warehouse)}", call)


def link_reads(data: Data) -> Iterator[ReadCase]:
    """Yield reads by author, bulk, transfer, reservation and reference."""
    call: partial[Any]
    for name, period in product(("created_by", *LINK_COLUMNS), (None, data.period)):
        link: dict[str, Any] = {name: "nobody"}
        where = replace(within(period), **link)
        conditions = named(link=name, period=period)
        call = partial(list_adjustments, tenant_id=data.tenant, where=where, limit=PAGE)
        yield ReadCase(f"ledger by {name} {conditions}", call)
        call = partial(count_adjustments, tenant_id=data.tenant, where=where)
        yield ReadCase(f"total of ledger by {name} {conditions}", call)
    # A value without rows, combined with a value with many rows.
    for name, more in product(
        ("sku", *LINK_COLUMNS),
        (
            {"created_by": EMAIL},
            {"warehouse_id": MAIN},
            {"warehouse_id": MAIN, "reason": "initial_stock"},
        ),
    ):
        none: dict[str, Any] = {name: "nobody", **more}
        for total in (count_adjustments, sum_adjustments):
            call = partial(total, tenant_id=data.tenant, where=AdjustmentFilter(**none))
            yield ReadCase(f"{total.__name__} of no {name} among {' '.join(more)}", call)
    # One author and one reference have nearly all rows.
    for (name, value), sku_code, period in product(
        (("created_by", EMAIL), ("reference", OPENING)),
        (None, data.code),
        (None, DAYS, data.period),
    ):
        who: dict[str, Any] = {name: value}
        where = replace(within(period, sku=sku_code), **who)
        conditions = named(link=value, sku=sku_code, period=period)
        for query in (
            count_adjustments,
            sum_adjustments,
            partial(list_adjustments, limit=PAGE),
        ):
            call = partial(query, tenant_id=data.tenant, where=where)
            yield ReadCase(f"{call.func.__name__} of most {conditions}", call)


def ledger_reads(data: Data, *, of_sku: bool) -> Iterator[ReadCase]:
    """Yield reads of adjustments, of the whole ledger or of one SKU."""
    for warehouse, reason, period, after in product(
        (None, MAIN, UNUSED),
        (None, "initial_stock", RARE),
        (None, data.period),
        (None, data.position),
    ):
        conditions = named(sku=of_sku or None, warehouse=warehouse, reason=reason, period=period)
        where = within(
            period, sku=data.code if of_sku else None, warehouse=warehouse, reason=reason
        )
        call = partial(list_adjustments, tenant_id=data.tenant, where=where, limit=PAGE)
        # Of one SKU, the adjustments are scanned for a reason, and within a period for a
        # warehouse.
        yield ReadCase(
            f"ledger {conditions} {named(after=after)}",
            partial(call, after=after),
            grows=of_sku and (reason is not None or (warehouse == UNUSED and period is not None)),
        )
    for warehouse, reason, period in product(
        (None, MAIN, UNUSED), (None, "initial_stock", RARE), (None, DAYS, data.period)
    ):
        conditions = named(sku=of_sku or None, warehouse=warehouse, reason=reason, period=period)
        where = within(
            period, sku=data.code if of_sku else None, warehouse=warehouse, reason=reason
        )
        for query in (count_adjustments, sum_adjustments):
            yield ReadCase(
                f"{query.__name__} {conditions}", partial(query, tenant_id=data.tenant, where=where)
            )


def occurrence_reads(data: Data) -> Iterator[ReadCase]:
    """Yield reads of the adjustments that occurred in a short period, long ago."""
    call: partial[Any]
    period = AdjustmentFilter(occurred_from=START, occurred_to=START + 100 * STEP)
    for code, warehouse, reason in product((None, data.code), (None, MAIN), (None, RARE)):
        where = replace(period, sku=code, warehouse_id=warehouse, reason=reason)
        conditions = named(sku=code, warehouse=warehouse, reason=reason)
        for query in (count_adjustments, sum_adjustments, partial(list_adjustments, limit=PAGE)):
            call = partial(query, tenant_id=data.tenant, where=where)
            yield ReadCase(f"{call.func.__name__} by occurrence {conditions}", call)
    for kind, parents in (
        ("SKUs", [(code, None) for code in data.codes]),
        ("levels", [(code, MAIN) for code in data.codes]),
        ("warehouses", [(None, warehouse.id) for warehouse in WAREHOUSES]),
    ):
        for grouped in (
            count_adjustments_of,
            sum_adjustments_of,
            partial(list_adjustments_of, limit=PAGE),
        ):
            call = partial(grouped, tenant_id=data.tenant, parents=parents, where=period)
            yield ReadCase(f"{call.func.__name__} {kind} by occurrence", call)


def grouped_ledger_reads(data: Data) -> Iterator[ReadCase]:
    """Yield reads of the adjustments of many SKUs or many levels."""
    call: partial[Any]
    for of_level, warehouse, reason, period, after in product(
        (None, MAIN), (None, MAIN), (None, RARE), (None, data.period), (None, data.position)
    ):
        conditions = named(level=of_level, warehouse=warehouse, reason=reason, period=period)
        where = within(period, warehouse=warehouse, reason=reason)
        parents = [(each, of_level) for each in data.codes]
        call = partial(list_adjustments_of, tenant_id=data.tenant, parents=parents)
        deep = len(parents) == 1
        yield ReadCase(
            f"ledgers {conditions} {named(after=after)}",
            partial(call, where=where, after=after, limit=PAGE),
            grows=deep and reason is not None,
        )
        for query in (count_adjustments_of, sum_adjustments_of):
            call = partial(query, tenant_id=data.tenant, parents=parents, where=where)
            yield ReadCase(f"{query.__name__} {conditions}", call)


def feed_reads(data: Data) -> Iterator[ReadCase]:
    """Yield reads of the feed, in which UNUSED has no change."""
    tenant = data.tenant
    yield ReadCase("position of the feed", partial(get_feed_position, tenant_id=tenant))
    for after, types, warehouses in product(
        (None, data.position // 2), (None, [ChangeType.STATUS_CHANGED]), (None, [UNUSED])
    ):
        call = partial(list_changes, tenant_id=tenant, after=after, limit=PAGE)
        call = partial(call, types=types, warehouse_ids=warehouses)
        yield ReadCase(f"changes {named(after=after, types=types, warehouse=warehouses)}", call)


def webhook_reads(data: Data) -> Iterator[ReadCase]:
    """Yield reads of webhooks. The tenant has none."""
    tenant = data.tenant
    one: dict[str, Any] = {"tenant_id": tenant, "webhook_id": "whk_01J00000000000000000000000"}
    yield ReadCase("webhooks", partial(list_webhooks, tenant_id=tenant, limit=PAGE))
    yield ReadCase("total of webhooks", partial(count_webhooks, tenant_id=tenant))
    ids = [one["webhook_id"]]
    yield ReadCase("webhooks of ids", partial(get_webhooks, tenant_id=tenant, ids=ids))
    yield ReadCase("due webhooks", partial(list_due_webhooks, tenant_id=tenant, limit=PAGE))
    yield ReadCase("total of attempts", partial(count_attempts, **one))
    for before in (None, "01J00000000000000000000000"):
        call = partial(list_attempts, **one, before=before, limit=PAGE)
        yield ReadCase(f"attempts {named(before=before)}", call)


def named(**conditions: object) -> str:
    """Return the names of the conditions, with some of their values."""
    shown = {"warehouse", "reason", "order", "link"}
    return " ".join(
        f"{name}={value}" if name in shown else name
        for name, value in conditions.items()
        if value is not None
    )


def within(
    period: tuple[datetime, datetime] | None,
    *,
    sku: str | None = None,
    warehouse: str | None = None,
    reason: str | None = None,
) -> AdjustmentFilter:
    """Build a filter of adjustments."""
    start, end = period or (None, None)
    return AdjustmentFilter(sku=sku, warehouse_id=warehouse, reason=reason, start=start, end=end)
