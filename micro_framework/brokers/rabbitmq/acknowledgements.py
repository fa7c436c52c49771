"""Turns verdicts about deliveries into the fewest commands to the broker. Pure.

A channel's delivery tags are 1, 2, 3 and so on. The lowest unsettled tag is remembered, and which ones above it are
settled. All that finished since the last time goes out together: refusals one by one, then the run of settled tags
from the lowest on as one ``basic.ack`` with ``multiple``, then the later ones singly. A tag that still runs ends the
run, and later tags never wait for it.

``multiple`` must name a tag that is unsettled for the broker: for one that is settled the broker closes the channel
(406, unknown delivery tag; RabbitMQ 3.10 to 4.3). So the run ends at its highest newly acknowledged tag.
"""

from collections.abc import Sequence
from typing import NamedTuple

from micro_framework.brokers.port import Verdict

__all__ = ["Acknowledgements", "Command"]


class Command(NamedTuple):
    """One command to the broker.

    Args:
        verdict: ``basic.ack``, ``basic.nack`` for REQUEUE, ``basic.reject`` for REJECT.
        tag: The delivery tag.
        multiple: For ACK: whether it stands for every unsettled tag below, too.
    """

    verdict: Verdict
    tag: int
    multiple: bool = False


class Acknowledgements:
    """What is settled on one channel. Not thread safe."""

    def __init__(self) -> None:
        self._lowest = 1
        self._settled: set[int] = set()  # above the lowest unsettled one

    def settle(self, verdicts: Sequence[tuple[int, Verdict]]) -> list[Command]:
        """The commands for verdicts that came in; the first verdict about a tag wins, also over calls.

        Args:
            verdicts: Pairs of delivery tag and verdict, in any order.
        """
        if len(verdicts) == 1 and not self._settled and verdicts[0][0] == self._lowest:  # one after the other
            tag, verdict = verdicts[0]
            self._lowest += 1
            return [Command(verdict, tag)]
        commands: list[Command] = []
        acked: list[int] = []
        for tag, verdict in verdicts:
            if tag < self._lowest or tag in self._settled:
                continue
            self._settled.add(tag)
            if verdict is Verdict.ACK:
                acked.append(tag)
            else:
                commands.append(Command(verdict, tag))
        while self._lowest in self._settled:
            self._settled.remove(self._lowest)
            self._lowest += 1
        if len(acked) == 1:  # as most times where calls take their time
            return [*commands, Command(Verdict.ACK, acked[0])]
        return commands + self._acknowledge(acked)

    def _acknowledge(self, acked: list[int]) -> list[Command]:
        acked.sort()
        run = [tag for tag in acked if tag < self._lowest]
        commands = [Command(Verdict.ACK, run[-1], multiple=len(run) > 1)] if run else []
        commands += [Command(Verdict.ACK, tag) for tag in acked if tag >= self._lowest]
        return commands
