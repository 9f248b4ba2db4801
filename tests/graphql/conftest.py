"""A service with the catalogue."""

import pytest

from tests.graphql.lists import Stocked
from tests.graphql.model import catalogue
from tests.service import Service


@pytest.fixture
async def stocked(service: Service) -> Stocked:
    """Load the catalogue."""
    model = catalogue()
    await service.load(model.warehouses, model.skus)
    return Stocked(service, model)
