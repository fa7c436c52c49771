"""Taking RPC methods over from a Nameko service in the broker: what ``micro-framework migrate move`` and the like do.

Rooms: `management` (the broker's HTTP API), `operations` (what can be done to a broker, each as one line of a plan),
`probes` (who answers), `state` (what is there), `status` (told in lines), `procedure` (the order of it all).
"""

__all__: list[str] = []
