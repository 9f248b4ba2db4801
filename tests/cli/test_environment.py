"""Settings from the environment, from `.env`, and from files with secrets."""

from pathlib import Path

import pytest

from app.settings import BadEnvironment, Settings
from tests.cli.conftest import Command


@pytest.fixture(autouse=True)
def directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Read `.env` from an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    return tmp_path


def test_the_environment_overrides_the_file(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / ".env").write_text(
        "DATABASE_URL=sqlite:///file.db\nINVENTORY_LOG_LEVEL='error'\nOTHER=1\n"
    )
    monkeypatch.setenv("DATABASE_URL", "sqlite:///environment.db")
    settings = Settings()

    assert (settings.database_url, settings.log_level) == ("sqlite:///environment.db", "error")
    assert Settings(database_url="sqlite:///argument.db").database_url == "sqlite:///argument.db"


def test_a_file_of_another_encoding_is_refused(directory: Path, command: Command) -> None:
    (directory / ".env").write_bytes(b"INVENTORY_LOG_LEVEL=\xff\n")
    done = command("tenant", "list")

    assert (done.status, done.errors) == (1, "inventory: The file .env is not UTF-8.\n")


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_is_read_from_its_file(
    ending: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = directory / "secret"
    secret.write_bytes(f"redis://:p w@h{ending}".encode())
    monkeypatch.setenv("INVENTORY_RATE_LIMIT_REDIS_URL_FILE", str(secret))

    assert Settings().rate_limit_redis_url == "redis://:p w@h"


def test_an_address_in_the_environment_excludes_the_file_of_another_source(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / ".env").write_text("DATABASE_URL_FILE=missing\n")
    monkeypatch.setenv("DATABASE_URL", "sqlite:///environment.db")

    assert Settings().database_url == "sqlite:///environment.db"
    monkeypatch.setenv("DATABASE_URL_FILE", "missing")
    with pytest.raises(BadEnvironment, match="both set"):
        Settings()


def test_both_forms_of_a_variable_in_the_file_are_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "secret").write_text("sqlite:///secret.db")
    (directory / ".env").write_text("DATABASE_URL=sqlite:///a.db\nDATABASE_URL_FILE=secret\n")
    with pytest.raises(BadEnvironment, match="DATABASE_URL and DATABASE_URL_FILE are both set"):
        Settings()

    (directory / ".env").write_text("DATABASE_URL=sqlite:///a.db\n")
    monkeypatch.setenv("DATABASE_URL_FILE", str(directory / "secret"))
    assert Settings().database_url == "sqlite:///secret.db"


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"INVENTORY_LOG_LEVLE": "info"}, "Did you mean INVENTORY_LOG_LEVEL"),
        ({"INVENTORY_DATABASE_URL": "sqlite://"}, "Did you mean DATABASE_URL"),
        ({"INVENTORY_DATABASE_URL": "x"}, "INVENTORY_DATABASE_URL is set"),
        ({"inventory_log_levle": "info"}, "INVENTORY_LOG_LEVLE"),
        ({"INVENTORY_XQ": "8000"}, "Unset it"),
        ({"DATABASE_URL_FILE": "missing"}, "No such file"),
        ({"DATABASE_URL_FILE": "."}, "Is a directory"),
        ({"INVENTORY_LOG_LEVEL": "loud"}, "INVENTORY_LOG_LEVEL: "),
        ({"INVENTORY_JWT_ISSUER": "x"}, "go together"),
    ],
)
def test_a_wrong_variable_stops_the_command_with_its_name(
    variables: dict[str, str], named: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = command("tenant", "list")

    assert done.status == 1
    assert named in done.errors
    assert len(done.errors.splitlines()) == 1


@pytest.mark.parametrize(
    "name",
    [
        *(
            "INVENTORY_SERVICE_HOST",
            "INVENTORY_PORT",
            "INVENTORY_SERVICE_PORT",
            "INVENTORY_SERVICE_PORT_HTTP",
        ),
        *("INVENTORY_PORT_8000_TCP", "INVENTORY_PORT_8000_TCP_ADDR"),
        "INVENTORY_API_PORT_8000_TCP_PROTO",
    ],
)
def test_variables_of_kubernetes_are_ignored(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "tcp://10.0.0.1:8000")

    assert Settings().log_level == "info"
