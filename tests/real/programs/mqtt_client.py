"""paho-mqtt over WebSocket: as `mqtt_client.js`."""

from __future__ import annotations

import threading
import time
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from reporting import EVERY, SPEC, STOP, got, lost, report, sent

counts = {"calls0": 0, "calls": 0, "answers0": 0, "answers": 0, "ticks": 0}
connected = threading.Event()
subscribed = threading.Semaphore(0)


def make(url: str, client_id: str) -> mqtt.Client:
    """Return a client that has a connection to `url`, and has said nothing there."""
    parts = urlsplit(url)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, transport="websockets")
    client.ws_set_options(path=parts.path or "/")
    client.reconnect_delay_set(min_delay=1, max_delay=1)
    client.on_subscribe = lambda *_: subscribed.release()
    client.connect(parts.hostname, parts.port, keepalive=10)
    return client


def tell(streams: dict[str, str]):
    """Return a callback that reports the messages of each topic as a stream."""

    def on_message(_: mqtt.Client, __: object, message: mqtt.MQTTMessage) -> None:
        stream = streams[message.topic]
        counts[stream] += 1
        got(stream, int(message.payload))

    return on_message


def on_connect(client: mqtt.Client, *_: object) -> None:
    """Subscribe, on every connection: a clean session keeps no subscriptions."""
    if connected.is_set():
        report(back=True)
    connected.set()
    client.subscribe([("calls0", 1), ("calls1", 1), ("ticks", 1)])


witness = make(SPEC["direct"], "witness")
witness.on_message = tell({"calls0": "calls0", "calls1": "calls"})
witness.on_connect = lambda client, *_: client.subscribe([("calls0", 1), ("calls1", 1)])
client = make(SPEC["url"], "real")
client.on_message = tell({"calls0": "answers0", "calls1": "answers", "ticks": "ticks"})
client.on_connect = on_connect
closing = False
client.on_disconnect = lambda *arguments: closing or lost(arguments[3])
witness.loop_start()
subscribed.acquire()
client.loop_start()
subscribed.acquire()
report(ready=True)
n = 0
while not STOP.wait(EVERY):
    n += 1
    client.publish("calls0", str(n), qos=0)
    client.publish("calls1", str(n), qos=1)
    witness.publish("ticks", str(n), qos=1)
report(called=n)
sent("ticks", n)
while not all(counts[stream] >= n for stream in SPEC.get("owed", counts)):
    time.sleep(0.01)
closing = True
client.disconnect()
client.loop_stop()
witness.disconnect()
witness.loop_stop()
report(end=True)
