"""Three timers: on every replica, by the clock on the wall, and once for all replicas."""

from micro_framework.dependencies import Logger
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.retry import AsyncBackOff, BackOffData
from micro_framework.routes import route


class Reports:
    name = "reports"

    log = Logger()
    retry = BackOffData()

    @TimeEntrypoint(interval=5)
    def alive(self):
        self.log.info("this replica lives")

    @TimeEntrypoint(cron="30 2 * * MON-FRI", timezone="Europe/Berlin")
    def clean_up(self):
        self.log.info("half past two in Berlin, on a working day")

    @route(
        TimeEntrypoint(interval=10, cluster=True),
        backoff=AsyncBackOff(max_retries=3, interval=500, factor=2),
        on_failure="not_sent",
    )
    def send(self):
        if self.retry.retry_count == 0:
            raise ConnectionError("the mail server does not answer")
        self.log.info("sent by this replica alone, at attempt %s", self.retry.retry_count + 1)

    def not_sent(self, exception):
        self.log.error("not sent: %s", exception)
