"""``python -m benchmarks.soak``: an hour's worth of messages at the highest rate, each exactly once, in flat memory."""

__all__: list[str] = []
