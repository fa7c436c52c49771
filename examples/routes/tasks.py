"""The targets of `service.py`: plain functions, which get the dependencies that their signatures name."""


def test(payload, producer):
    if payload.get("fails"):
        raise ValueError("as asked")
    producer("event_name", payload)


def test2(payload):
    print("test2 got", payload, flush=True)


def test_failure(payload, producer, retry):
    print("test failed", retry.retry_count + 1, "times for", payload, flush=True)
    producer("event_name", {"failed": payload})
