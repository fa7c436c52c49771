"""End-to-end benchmarks against Nameko and raw client loops; ``python -m benchmarks --quick``, see README.md."""

__all__: list[str] = []
