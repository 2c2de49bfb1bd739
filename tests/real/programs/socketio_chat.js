// A chat of rooms with Socket.IO. BUG=room: a message goes to all rooms; BUG=repeat: the last one comes again on joining.
"use strict";

const { createServer } = require("node:http");
const { Server } = require("socket.io");

const http = createServer();
const io = new Server(http, { pingInterval: 500, pingTimeout: 5000 });
const latest = new Map();
io.on("connection", (socket) => {
  let room;
  socket.on("join", (name) => {
    room = name;
    socket.join(name);
    socket.emit("joined", name);
    if (process.env.BUG === "repeat" && latest.has(name)) socket.emit("said", latest.get(name));
  });
  socket.on("say", (told) => {
    latest.set(room, { text: told.text });
    const others = process.env.BUG === "room" ? socket.broadcast : socket.to(room);
    others.emit("said", { text: told.text });
  });
});
http.listen(Number(process.env.PORT), "127.0.0.1");
