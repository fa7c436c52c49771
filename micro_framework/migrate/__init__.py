"""Leaving Nameko: what ``micro-framework migrate`` does.

Rooms: `management` (the broker's HTTP API), `operations` (what can be done to a broker, each as one line of a plan),
`probes` (who answers), `takeover` (the order of it all, with its checks).
"""

__all__: list[str] = []
