// A client of a scenario, in JSON lines. LOSE=1: what is sent while the connection is away is forgotten.
"use strict";

const readline = require("node:readline");
const { WebSocket } = require("ws");

const tell = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const waiting = [];
let ws;
let leaving = false;

const connect = () => {
  ws = new WebSocket(process.argv[2]);
  ws.on("open", () => {
    tell({ connected: true });
    for (const text of waiting.splice(0)) send(text);
  });
  ws.on("message", (data) => tell({ received: data.toString() }));
  ws.on("error", () => {});
  ws.on("close", (closed) => {
    tell({ closed });
    if (leaving) process.exit(0);
    setTimeout(connect, 50);
  });
};
const send = (text) => {
  if (ws.readyState === WebSocket.OPEN) ws.send(text);
  else if (!process.env.LOSE) return waiting.push(text);
  tell({ sent: text });
};

const lines = readline.createInterface({ input: process.stdin });
lines.on("line", (line) => send(JSON.parse(line).send));
lines.on("close", () => {
  leaving = true;
  ws.close();
});
connect();
