// A client that speaks a protocol of its own over websockify, as noVNC does: lines of bytes, which a TCP server answers.
"use strict";

const WebSocket = require("ws");
const { spec, every, state, report, got, sent, lost, pause, until, end } = require("./reporting.js");

let n = 0;
let answered = 0;
let rest = "";
let closing = false;

const open = () =>
  new Promise((resolve) => {
    const socket = new WebSocket(spec.url, ["binary"]);
    socket.on("open", () => resolve(socket));
    socket.on("error", (error) => report({ error: String(error) }));
    socket.on("close", (code, reason) => closing || lost(`${code} ${reason}`));
    // A byte stream: a message may end within a line.
    socket.on("message", (data) => {
      const lines = (rest + data.toString()).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const [word, number] = line.split(" ");
        if (word === "answer") answered = Number(number);
        if (word === "bye") {
          sent("ticks", Number(number));
          closing = true;
          socket.close(1000);
          end();
        }
        if (word !== "bye") got({ answer: "answers", tick: "ticks" }[word], Number(number));
      }
    });
  });

const main = async () => {
  const socket = await open();
  report({ ready: true });
  while (!state.stop) {
    n += 1;
    socket.send(Buffer.from(`call ${n}\n`));
    await pause(every);
  }
  report({ called: n });
  await until(() => answered === n);
  socket.send(Buffer.from("end 0\n"));
};
main();
