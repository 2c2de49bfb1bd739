// A chat of rooms with ws: what one says, all others in the room get; with ECHO=1 its sender too.
// BUG=race: a shared variable, and an await.
"use strict";

const { WebSocketServer, WebSocket } = require("ws");

const rooms = new Map();
let latest;

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.env.PORT) });
server.on("connection", (ws, request) => {
  const room = request.url.split("/")[2];
  if (!rooms.has(room)) rooms.set(room, new Set());
  rooms.get(room).add(ws);
  ws.send(JSON.stringify({ type: "welcome" }));
  ws.on("close", () => rooms.get(room).delete(ws));
  ws.on("message", async (data) => {
    let said = JSON.parse(data).text;
    if (process.env.BUG === "race") {
      latest = said;
      await new Promise((stored) => setTimeout(stored, 2));
      said = latest;
    }
    for (const member of rooms.get(room)) {
      if (member === ws && !process.env.ECHO) continue;
      if (member.readyState === WebSocket.OPEN) member.send(JSON.stringify({ type: "said", text: said }));
    }
  });
});
