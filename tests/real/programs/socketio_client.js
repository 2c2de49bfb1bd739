// A Socket.IO client, which connects again by itself; over WebSocket if `transports` does not say otherwise.
"use strict";

const { io } = require("socket.io-client");
const { spec, every, state, report, got, sent, lost, pause, until, end } = require("./reporting.js");

const transports = spec.transports ?? ["websocket"];
const socket = io(spec.url, { transports, reconnectionDelayMax: 500 });
let connected = 0;
let closing = false;
socket.on("connect", () => connected++ && report({ back: true }));
socket.on("disconnect", (why) => closing || lost(why));
socket.on("connect_error", (error) => report({ error: String(error) }));
socket.on("tick", (n) => got("ticks", n));

const main = async () => {
  let n = 0;
  let answers = 0;
  // With polling first, requests come before the WebSocket, which then takes over.
  await until(() => connected > 0 && socket.io.engine.transport.name === "websocket");
  report({ ready: true });
  while (!state.stop) {
    n += 1;
    // What is emitted while it is not connected is sent afterwards; what was not acknowledged is sent again.
    socket.timeout(60_000).emit("call", n, (error, answer) => {
      if (!error) {
        answers += 1;
        got("answers", answer);
      }
    });
    await pause(every);
  }
  report({ called: n });
  if ((spec.owed ?? ["answers"]).length) await until(() => answers === n);
  sent("ticks", await socket.emitWithAck("end"));
  closing = true;
  socket.disconnect();
  end();
};
main();
