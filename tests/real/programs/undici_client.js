// The WebSocket of undici, which is Node's own and follows the browsers' interface.
"use strict";

const { WebSocket } = require("undici");
const { spec, report, lost, end } = require("./reporting.js");
const { heard, converse } = require("./conversation.js");

const socket = new WebSocket(spec.url);
socket.binaryType = "arraybuffer";
let closing = false;
socket.onmessage = ({ data }) => heard(typeof data === "string" ? data : Buffer.from(data).toString());
socket.onerror = ({ error }) => report({ error: String(error) });
socket.onclose = ({ code, reason }) => (closing ? end() : lost(`${code} ${reason}`));
socket.onopen = async () => {
  report({ ready: true });
  await converse((message) => socket.send(message));
  closing = true;
  socket.close(1000);
};
