"""An outcome that is stored under an idempotency key can be replayed by later versions."""

from datetime import UTC, datetime
from typing import Any, Final

import pytest

from app.domain.records import (
    AdjustmentRecord,
    LevelRecord,
    ReservationChange,
    ReservationLineRecord,
    ReservationRecord,
    ReservationStatus,
    SkuRecord,
    WarehouseRecord,
)
from app.domain.warehouses import WarehouseType
from app.errors import NegativeQuantity
from app.writes.idempotency_keys import StoredRow, WriteRequest, replay, stored_row
from app.writes.stock import BulkOutcome, Refusal, UpdatedStock

AT: Final = datetime(2026, 12, 1, 8, 30, tzinfo=UTC)
MAIN: Final = WarehouseRecord("wh_1", "Main", WarehouseType.OWN, None, None, is_active=True)
LEVEL: Final = LevelRecord(7, 2, 1, 4, 3, AT, AT, None, "wh_1", sku="A", warehouse=MAIN)
SKU: Final = SkuRecord("A", "Thing", 4, None, [LEVEL])
ENTRY: Final = AdjustmentRecord(
    "adj_1", "A", "wh_1", 3, 5, 7, "loss", None, "a@b.example", AT, reference="PO-1", position=9
)
CHANGE: Final = UpdatedStock(ENTRY, SKU)
LINE: Final = ReservationLineRecord("rsv_1", "A", "wh_1", 2, 2, 0)
RESERVATION: Final = ReservationRecord(
    "rsv_1", ReservationStatus.OPEN, None, None, "a@b.example", AT, AT, None, 1, [LINE]
)

SKU_TEXT: Final = (
    '["A","Thing",4,null,[[7,2,1,4,3,"2026-12-01T08:30:00Z","2026-12-01T08:30:00Z",null,"wh_1","A",'
    '["wh_1","Main","own",null,null,true,true,null]]],null,null]'
)
ENTRY_TEXT: Final = (
    '{"id":"adj_1","sku":"A","warehouse_id":"wh_1","sequence":3,"before_quantity":5,'
    '"after_quantity":7,"reason":"loss","note":null,"created_by":"a@b.example",'
    '"created_at":"2026-12-01T08:30:00Z","bulk_id":null,"transfer_id":null,'
    '"reservation_id":null,"reversal_of":null,"reference":"PO-1","occurred_at":null,'
    '"position":9}'
)
CHANGE_TEXT: Final = f'{{"adjustment":{ENTRY_TEXT},"sku":{SKU_TEXT}}}'
RESERVATION_TEXT: Final = (
    '{"id":"rsv_1","status":"open","reference":null,"note":null,"created_by":"a@b.example",'
    '"created_at":"2026-12-01T08:30:00Z","expires_at":"2026-12-01T08:30:00Z","ended_at":null,'
    '"version":1,"lines":[{"reservation_id":"rsv_1","sku":"A","warehouse_id":"wh_1",'
    '"quantity":2,"held":2,"committed":0}]}'
)
# Each outcome with its type and the text of version 1. From the first release on, a text may not
# change: a new form gets a new version, and the old texts stay here.
VERSION_1: Final[dict[str, tuple[Any, Any, str]]] = {
    "a change": (UpdatedStock, CHANGE, f'"result":{CHANGE_TEXT}'),
    "a bulk": (
        list[BulkOutcome],
        [BulkOutcome(CHANGE, None), BulkOutcome(None, Refusal("X", "y", []))],
        f'"result":[{{"change":{CHANGE_TEXT},"refusal":null}},'
        '{"change":null,"refusal":{"code":"X","message":"y","details":[]}}]',
    ),
    "a reservation": (
        ReservationChange,
        ReservationChange(RESERVATION, [SKU], [ENTRY]),
        f'"result":{{"reservation":{RESERVATION_TEXT},"skus":[{SKU_TEXT}],'
        f'"adjustments":[{ENTRY_TEXT}],"successor":null}}',
    ),
    "a SKU": (SkuRecord, SKU, f'"result":{SKU_TEXT}'),
    "a warehouse": (
        WarehouseRecord,
        MAIN,
        '"result":["wh_1","Main","own",null,null,true,true,null]',
    ),
}


@pytest.mark.parametrize("name", VERSION_1)
def test_a_result_of_version_1_is_replayed(name: str) -> None:
    type_, result, text = VERSION_1[name]
    request = WriteRequest("write", name, type_)
    stored = StoredRow(request.fingerprint, f'{{"version":1,{text}}}')

    assert replay(request, stored).result == result
    assert stored_row(request, result) == stored


def test_a_refusal_of_version_1_is_replayed() -> None:
    refusal = '{"code":"NEGATIVE_QUANTITY","message":"No.","details":[{"field":"quantity"}]}'
    request = WriteRequest("write", "refused", UpdatedStock)
    stored = StoredRow(request.fingerprint, f'{{"version":1,"refusal":{refusal}}}')

    replayed = replay(request, stored).result

    assert isinstance(replayed, NegativeQuantity)
    assert (replayed.message, replayed.details) == ("No.", [{"field": "quantity"}])
    assert stored_row(request, replayed) == stored
