"""Entry points of an installation: the command `inventory`, and the application of a worker."""

from app.__main__ import create_app, main

__all__ = ["create_app", "main"]

if __name__ == "__main__":
    main()
