"""What is counted of a running service, and how it is told: `tallies` count, `snapshots` add up, `exposition` writes.

Nothing here knows who counts or who reads: the pipeline's half that counts is `micro_framework.measured`, the port is
`micro_framework.observe`.
"""

__all__: list[str] = []
