"""The command in this process: faster than a process of its own."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.cli.main import main


@dataclass(frozen=True)
class Done:
    """The result of a command."""

    status: int
    output: str
    errors: str


Command = Callable[..., Done]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Run `inventory` with some words, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)

    def run_here(*words: str) -> Done:
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["inventory", *words])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        code = exit_.value.code
        return Done(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run_here


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Restore the environment, which `serve` changes for its workers."""
    before = os.environ.copy()
    yield
    os.environ.clear()
    os.environ.update(before)
