// What the Node programs have in common: their spec, their reports, and being told to stop. See `program.py`.
"use strict";

const fs = require("node:fs");

const spec = JSON.parse(process.argv[2]);
// Milliseconds between two messages.
const every = spec.every ?? 20;
const state = { stop: false };

// Synchronous, so that what was reported before a crash is known.
const report = (line) => fs.writeSync(1, JSON.stringify(line) + "\n");
const got = (stream, n) => report({ got: stream, n });
const sent = (stream, n) => report({ sent: stream, n });
const lost = (why) => report({ lost: String(why) });
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const end = () => {
  report({ end: true });
  process.exit(0);
};

// Wait until a condition holds that no event announces.
const until = async (check) => {
  while (!check()) await pause(5);
};

const stopped = new Promise((resolve) =>
  process.stdin.once("data", () => {
    state.stop = true;
    resolve();
  }),
);

module.exports = { spec, every, state, stopped, report, got, sent, lost, pause, until, end };
