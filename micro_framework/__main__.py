"""``python -m micro_framework`` is the ``micro-framework`` command."""

from micro_framework.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
