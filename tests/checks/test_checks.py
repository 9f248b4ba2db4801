"""The checks for any database pass on both engines."""

from tests.checks.driver import check_database


async def test_every_check_passes(database_url: str) -> None:
    findings = await check_database(database_url, reads=False, requests=40)

    assert findings.failed == {}
    assert findings.passed > 50
