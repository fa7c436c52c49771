"""The HTTP port for operators: metrics, health and the status page. It is given callables and knows no runner."""

__all__: list[str] = []
