"""Nameko's wire conventions as pure functions: no input or output, no clock, no threads.

``naming`` builds exchanges and queues, ``headers`` context data and call id stacks, ``messages`` properties
and bodies, ``errors`` error objects, ``json_types`` the JSON itself. Everything is checked against messages
captured from nameko 2.14.1 and 3.0.0rc11; "seen on the wire" in a docstring means seen on both.
"""

__all__: list[str] = []
