// A Socket.IO server that acknowledges numbered calls, and sends each client numbered ticks of its own.
"use strict";

const { createServer } = require("node:http");
const { Server } = require("socket.io");
const { spec, every, report, got } = require("./reporting.js");

const http = createServer();
const io = new Server(http);
io.on("connection", (socket) => {
  report({ opened: true });
  let ticks = 0;
  const ticking = setInterval(() => socket.emit("tick", (ticks += 1)), every);
  socket.on("call", (n, acknowledge) => {
    got("calls", n);
    acknowledge(n);
  });
  socket.on("end", (acknowledge) => {
    clearInterval(ticking);
    acknowledge(ticks);
  });
  socket.on("disconnect", () => clearInterval(ticking));
});
http.listen(spec.port, "127.0.0.1", () => report({ ready: true }));
