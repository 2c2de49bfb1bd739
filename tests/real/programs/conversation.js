// The conversation of a plain Node client with `fastapi_server.py`, without its library.
"use strict";

const { got, sent, report, pause, stopped, state, every } = require("./reporting.js");

let over;
const bye = new Promise((resolve) => (over = resolve));

// Take a message of the server, as text.
const heard = (text) => {
  const [word, ...numbers] = text.split(" ");
  if (word === "bye") {
    sent("calls", Number(numbers[0]));
    sent("ticks", Number(numbers[1]));
    over();
  } else {
    got({ answer: "answers", tick: "ticks" }[word], Number(numbers[0]));
  }
};

// Call until told to stop, odd numbers as text, even ones as binary; then wait for the server's last message.
const converse = async (send) => {
  let n = 0;
  while (!state.stop) {
    n += 1;
    send(n % 2 ? `call ${n}` : Buffer.from(`call ${n}`));
    await pause(every);
  }
  await stopped;
  report({ called: n });
  send("end");
  await bye;
};

module.exports = { heard, converse };
