// mqtt.js over WebSocket: it publishes numbered calls, and subscribes to them and to numbered ticks, in two qualities.
//
// A second client, straight to the broker, is the witness: it receives the calls as well, and publishes the ticks.
"use strict";

const mqtt = require("mqtt");
const { spec, every, state, report, got, sent, lost, pause, until, end } = require("./reporting.js");

const main = async () => {
  const witness = await mqtt.connectAsync(spec.direct);
  const client = mqtt.connect(spec.url, { reconnectPeriod: 100, keepalive: 10, clean: spec.clean ?? true, clientId: "real" });
  let connected = 0;
  let closing = false;
  client.on("connect", () => report(connected++ === 0 ? { connected: true } : { back: true }));
  client.on("close", () => closing || lost("closed"));
  client.on("error", (error) => report({ error: String(error) }));
  const counts = { calls0: 0, calls: 0, answers0: 0, answers: 0, ticks: 0 };
  const tell = (streams) => (topic, payload) => {
    counts[streams[topic]] += 1;
    got(streams[topic], Number(payload.toString()));
  };
  client.on("message", tell({ calls0: "answers0", calls1: "answers", ticks: "ticks" }));
  witness.on("message", tell({ calls0: "calls0", calls1: "calls" }));
  await witness.subscribeAsync(["calls0", "calls1"], { qos: 1 });
  await client.subscribeAsync(["calls0", "calls1", "ticks"], { qos: 1 });
  report({ ready: true });
  let n = 0;
  while (!state.stop) {
    n += 1;
    client.publish("calls0", String(n), { qos: 0 });
    client.publish("calls1", String(n), { qos: 1 });
    witness.publish("ticks", String(n), { qos: 1 });
    await pause(every);
  }
  report({ called: n });
  sent("ticks", n);
  await until(() => (spec.owed ?? Object.keys(counts)).every((stream) => counts[stream] >= n));
  closing = true;
  // By force: the acknowledgements of a broker that was killed will never come.
  await Promise.all([client.endAsync(true), witness.endAsync(true)]);
  end();
};
main();
