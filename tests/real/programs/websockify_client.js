// A client that speaks a protocol of its own over websockify, as noVNC does: lines of bytes, which a TCP server answers.
"use strict";

const WebSocket = require("ws");
const { spec, every, state, report, got, sent, lost, pause, until, end } = require("./reporting.js");

let n = 0;
let answered = 0;
let connected = 0;
let closing = false;
let socket;

const take = (line) => {
  const [word, number] = line.split(" ");
  if (word === "bye") {
    sent("ticks", Number(number));
    closing = true;
    socket.close(1000);
    end();
  }
  if (word === "answer") answered = Number(number);
  got({ answer: "answers", tick: "ticks" }[word], Number(number));
};

// Connect, and connect again when that has ended.
const open = () => {
  let rest = "";
  socket = new WebSocket(spec.url, ["binary"]);
  socket.on("open", () => report(connected++ === 0 ? { ready: true } : { back: true }));
  socket.on("error", (error) => report({ error: String(error) }));
  socket.on("close", async (code, reason) => {
    if (closing) return;
    lost(`${code} ${reason}`);
    await pause(100);
    open();
  });
  // A byte stream: a message may end within a line.
  socket.on("message", (data) => {
    const lines = (rest + data.toString()).split("\n");
    rest = lines.pop();
    lines.forEach(take);
  });
};

const main = async () => {
  open();
  await until(() => connected > 0);
  while (!state.stop) {
    await until(() => socket.readyState === WebSocket.OPEN);
    n += 1;
    socket.send(Buffer.from(`call ${n}\n`));
    await pause(every);
  }
  report({ called: n });
  if (!spec.owed) await until(() => answered === n);
  await until(() => socket.readyState === WebSocket.OPEN);
  socket.send(Buffer.from("end 0\n"));
};
main();
