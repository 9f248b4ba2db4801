"""Ids are ULIDs."""

from datetime import UTC, datetime, timedelta

from ulid import ULID

from app.domain.ids import ulid


def test_id_is_a_ulid_with_its_creation_time() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    ids = [ulid() for _ in range(1_000)]
    after = datetime.now(UTC)

    assert len(set(ids)) == len(ids)
    for each in ids:
        assert str(ULID.from_str(each)) == each
        assert before <= ULID.from_str(each).datetime <= after
