"""Fixtures of the ledger tests."""

import random

import pytest

from app.ledger import rollup as summing
from tests.ledger.rollup import load
from tests.service import Service


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Roll up a few adjustments at a time, and consider every group."""
    monkeypatch.setattr(summing, "MIN_ENTRIES", 3)
    monkeypatch.setattr(summing, "ENTRIES_PER_ROW", 1)
    monkeypatch.setattr(summing, "SAMPLED_IDS", "%")


@pytest.fixture
async def shop(service: Service) -> Service:
    """Service whose ledger covers some days, one of them without entries."""
    await load(service, random.Random(1))
    return service
