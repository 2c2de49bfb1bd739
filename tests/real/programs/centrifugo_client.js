// centrifuge-js: it publishes numbered calls to a channel that it subscribes to, and receives numbered ticks.
//
// A second client, straight to the server, is the witness: it receives the calls as well, and publishes the ticks.
"use strict";

const { Centrifuge } = require("centrifuge");
const { spec, every, state, report, got, sent, lost, pause, until, end } = require("./reporting.js");

const options = { websocket: require("ws"), minReconnectDelay: 100, maxReconnectDelay: 500 };

const subscribed = async (client, channel, take) => {
  const subscription = client.newSubscription(channel);
  subscription.on("publication", ({ data }) => take(data.n));
  subscription.on("error", ({ error }) => report({ error: String(error.message) }));
  subscription.subscribe();
  await subscription.ready();
  return subscription;
};

const main = async () => {
  const witness = new Centrifuge(spec.direct, options);
  const client = new Centrifuge(spec.url, options);
  let connected = 0;
  let closing = false;
  client.on("connected", () => report(connected++ === 0 ? { connected: true } : { back: true }));
  // "connecting" is also what it says when it has lost a connection.
  client.on("connecting", ({ code, reason }) => connected && !closing && lost(`${code} ${reason}`));
  client.on("disconnected", ({ code, reason }) => closing || report({ error: `${code} ${reason}` }));
  client.on("error", ({ error }) => report({ error: String(error.message) }));
  witness.connect();
  client.connect();
  await Promise.all([witness.ready(), client.ready()]);
  const counts = { calls: 0, answers: 0, ticks: 0 };
  const tell = (stream) => (n) => {
    counts[stream] += 1;
    got(stream, n);
  };
  await subscribed(witness, "calls", tell("calls"));
  await subscribed(client, "calls", tell("answers"));
  await subscribed(client, "ticks", tell("ticks"));
  report({ ready: true });
  let n = 0;
  let failed = 0;
  while (!state.stop) {
    n += 1;
    // One at a time: Centrifugo handles the publications of one client side by side, and keeps no order among them.
    const publish = (who, channel) => who.publish(channel, { n }).catch(() => (failed += 1));
    await Promise.all([publish(client, "calls"), publish(witness, "ticks")]);
    await pause(every);
  }
  report({ called: n });
  sent("ticks", n);
  await until(() => (spec.owed ?? Object.keys(counts)).every((stream) => counts[stream] >= n));
  report({ failed });
  closing = true;
  client.disconnect();
  witness.disconnect();
  end();
};
main();
