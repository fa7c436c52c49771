"""What every service of the cluster reports: one line of JSON on stdout for each event and each call that has arrived.

Imported by the Nameko services and by those on micro_framework, so it needs neither.
"""

import json
import os

__all__ = ["arrow"]


def arrow(kind, name, order, sender, receiver):
    """Report that something has arrived.

    Args:
        kind: ``event``, reported by who hears it, or ``call``, reported by the caller once it has the answer.
        name: Of the event or the method.
        order: The number of the order that it is about.
        sender: Service and what it runs on.
        receiver: The same.
    """
    line = json.dumps({"kind": kind, "name": name, "order": order, "sender": sender, "receiver": receiver})
    # All processes share one pipe; a short line in one piece is never torn by another.
    os.write(1, f"{line}\n".encode())
