"""The Nameko service that is taken over (2.14.1 and 3.0.0rc11)."""

from nameko.rpc import rpc


def note(call):
    path, _, identifier = call.rpartition("|")
    with open(path, "a") as executed:
        executed.write(f"{identifier}\n")
    return "old"


class Orders:
    """What the new class takes over."""

    name = "orders"

    @rpc
    def alpha(self, call):
        return note(call)

    @rpc
    def beta(self, call):
        return note(call)
