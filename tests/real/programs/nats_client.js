// nats.ws: as `nats_client.py`.
"use strict";

globalThis.WebSocket = require("ws");
const { connect, Events, StringCodec } = require("nats.ws");
const { spec, every, state, report, got, sent, lost, pause, until, end } = require("./reporting.js");

const text = StringCodec();

const main = async () => {
  const client = await connect({ servers: spec.url, reconnectTimeWait: 100, maxReconnectAttempts: -1 });
  const witness = await connect({ servers: spec.direct, reconnectTimeWait: 100, maxReconnectAttempts: -1 });
  (async () => {
    for await (const status of client.status()) {
      if (status.type === Events.Disconnect) lost(status.data);
      else if (status.type === Events.Reconnect) report({ back: true });
      else if (status.type === Events.Error) report({ error: String(status.data) });
    }
  })();
  const counts = { calls: 0, answers: 0, ticks: 0 };
  const tell = (stream) => ({
    callback: (error, message) => {
      if (error) return report({ error: String(error) });
      counts[stream] += 1;
      got(stream, Number(text.decode(message.data)));
    },
  });
  witness.subscribe("calls", tell("calls"));
  await witness.flush();
  client.subscribe("calls", tell("answers"));
  client.subscribe("ticks", tell("ticks"));
  await client.flush();
  report({ ready: true });
  let n = 0;
  while (!state.stop) {
    n += 1;
    client.publish("calls", text.encode(String(n)));
    witness.publish("ticks", text.encode(String(n)));
    await pause(every);
  }
  report({ called: n });
  sent("ticks", n);
  await until(() => (spec.owed ?? Object.keys(counts)).every((stream) => counts[stream] >= n));
  end();
};
main();
