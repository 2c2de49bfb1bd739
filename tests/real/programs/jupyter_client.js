// The library of JupyterLab with a kernel: numbered executions, and the numbered lines that they print.
//
// Requests go straight to the server; the channels of the kernel, a WebSocket, go the way that is tested.
"use strict";

const { KernelManager, ServerConnection } = require("@jupyterlab/services");
const { spec, every, state, report, got, sent, lost, pause, until, end } = require("./reporting.js");

const main = async () => {
  const serverSettings = ServerConnection.makeSettings({
    baseUrl: spec.direct,
    wsUrl: spec.url,
    token: "",
    WebSocket: require("ws"),
    fetch,
    Request,
    Headers,
  });
  const manager = new KernelManager({ serverSettings });
  const kernel = await manager.startNew({ name: "python3" });
  let connected = 0;
  let closing = false;
  kernel.connectionStatusChanged.connect((_, status) => {
    if (status === "connected") report(connected++ === 0 ? { connected: true } : { back: true });
    else if (connected && !closing) lost(status);
  });
  const execute = (code) => kernel.requestExecute({ code }, true);
  await execute("seen = []").done;
  report({ ready: true });
  let n = 0;
  let answered = 0;
  let printed = 0;
  let rest = "";
  while (!state.stop) {
    n += 1;
    const number = n;
    const future = execute(`seen.append(${n}); print(${n})`);
    future.onIOPub = ({ header, content }) => {
      if (header.msg_type !== "stream") return;
      // A line may come in several messages, and several lines in one.
      const lines = (rest + content.text).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        printed += 1;
        got("ticks", Number(line));
      }
    };
    future.done.then(
      (reply) => {
        answered += 1;
        if (reply.content.status === "ok") got("answers", number);
        else report({ error: JSON.stringify(reply.content) });
      },
      (error) => report({ error: String(error) }),
    );
    await pause(every);
  }
  report({ called: n });
  sent("ticks", n);
  const counts = { answers: () => answered, ticks: () => printed };
  await until(() => (spec.owed ?? Object.keys(counts)).every((stream) => counts[stream]() >= n));
  const last = execute("print(*seen)");
  let text = "";
  last.onIOPub = ({ header, content }) => {
    if (header.msg_type === "stream") text += content.text;
  };
  await last.done;
  for (const seen of text.trim().split(" ")) got("calls", Number(seen));
  closing = true;
  await kernel.shutdown();
  end();
};

main().catch((error) => {
  report({ error: String(error.stack) });
  process.exit(1);
});
