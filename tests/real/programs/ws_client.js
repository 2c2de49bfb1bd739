// The client of ws.
"use strict";

const WebSocket = require("ws");
const { spec, report, lost, end } = require("./reporting.js");
const { heard, converse } = require("./conversation.js");

const socket = new WebSocket(spec.url);
let closing = false;
socket.on("message", (data) => heard(data.toString()));
socket.on("error", (error) => report({ error: String(error) }));
socket.on("close", (code, reason) => (closing ? end() : lost(`${code} ${reason}`)));
socket.on("open", async () => {
  report({ ready: true });
  await converse((message) => socket.send(message));
  closing = true;
  socket.close(1000);
});
