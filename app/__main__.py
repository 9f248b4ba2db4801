"""`python -m app` is `inventory`."""

from app.cli import main

main()
