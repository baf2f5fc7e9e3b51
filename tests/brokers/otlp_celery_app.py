"""An application on Celery, with the public OpenTelemetry instrumentation: run as processes.

python -m tests.brokers.otlp_celery_app send ENDPOINT BROKER ID...
python -m tests.brokers.otlp_celery_app work ENDPOINT BROKER
"""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery, signals
from opentelemetry.instrumentation.celery import CeleryInstrumentor

from tests.brokers.otlp_apps import observed

QUEUE = "bills"


def application(broker: str) -> Celery:
    """The tasks; a bill that is bad at first is tried again, one that is bad for good fails."""
    app = Celery("shop", broker=broker)
    app.conf.task_default_queue = QUEUE

    @app.task(name="bill", bind=True, max_retries=1)
    def bill(task: Any, what: str) -> None:
        if what == "again" and not task.request.retries:
            raise task.retry(countdown=0)
        if what == "bad":
            raise ValueError(what)

    return app


def send(endpoint: str, broker: str, ids: list[str]) -> None:
    """The id of a task is the application's own; what is to be billed is what the id begins with."""
    provider = observed(endpoint, "checkout")
    CeleryInstrumentor().instrument()
    bill = application(broker).tasks["bill"]
    for one in ids:
        bill.apply_async((one.partition("-")[0],), task_id=one)
    provider.shutdown()


def work(endpoint: str, broker: str) -> None:
    """A worker, until SIGTERM. As the instrumentation's page says, each process of its pool is set up by itself."""

    @signals.worker_process_init.connect(weak=False)
    def begin(**_: Any) -> None:
        observed(endpoint, "billing")
        CeleryInstrumentor().instrument()

    application(broker).worker_main(["worker", "--concurrency=1"])


def main() -> None:
    """One process."""
    role, endpoint, broker, *ids = sys.argv[1:]
    if role == "send":
        send(endpoint, broker, ids)
    else:
        work(endpoint, broker)


if __name__ == "__main__":
    main()
