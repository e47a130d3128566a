"""A Kafka client (librdkafka). Usage: kafka_client.py BROKER produce|consume|create|delete|log-in TOPIC

Ends with 0 where the broker did what was asked, with 3 where it refused the log-in, with 1 otherwise.
From the environment: CA (the broker speaks TLS), MECHANISM, USERNAME and PASSWORD (SASL).
"""

import os
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

broker, what, topic = sys.argv[1:]
PATIENCE = 30


def trouble(error):
    print(f"error {error.code()}: {error.str()}", file=sys.stderr, flush=True)
    if error.code() == KafkaError._AUTHENTICATION:
        os._exit(3)


settings = {"bootstrap.servers": broker, "error_cb": trouble, "broker.address.family": "v4"}
security = []
if os.environ.get("MECHANISM"):
    security.append("SASL")
    settings["sasl.mechanism"] = os.environ["MECHANISM"]
    settings["sasl.username"] = os.environ["USERNAME"]
    settings["sasl.password"] = os.environ["PASSWORD"]
if os.environ.get("CA"):
    security.append("SSL")
    settings["ssl.ca.location"] = os.environ["CA"]
    settings["ssl.endpoint.identification.algorithm"] = "none"
elif security:
    security.append("PLAINTEXT")
if security:
    settings["security.protocol"] = "_".join(security)


def produce():
    failed = []
    producer = Producer(settings)
    producer.produce(topic, b"7.50 EUR", on_delivery=lambda error, message: failed.append(error))
    producer.flush(PATIENCE)
    if failed != [None]:
        sys.exit(f"not produced: {failed}")


def consume():
    consumer = Consumer(settings | {"group.id": f"of-{os.getpid()}", "enable.auto.commit": False})
    # From the beginning, whatever the group has read.
    consumer.assign([TopicPartition(topic, 0, 0)])
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            consumer.close()
            return
    sys.exit("nothing was read")


def administer(ask):
    # What it promised it forgets when it goes.
    admin = AdminClient(settings)
    for answer in ask(admin).values():
        answer.result(PATIENCE)


def log_in():
    producer = Producer(settings)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        # Here errors are told.
        producer.poll(0.1)
        try:
            producer.list_topics(timeout=1)
            return
        except KafkaException:
            pass
    sys.exit("no answer")


actions = {
    "produce": produce,
    "consume": consume,
    "create": lambda: administer(lambda admin: admin.create_topics([NewTopic(topic, 1, 1)])),
    "log-in": log_in,
    "delete": lambda: administer(lambda admin: admin.delete_topics([topic])),
}
actions[what]()
# Long enough to be looked at.
time.sleep(0.5)
