// puppeteer-core with a browser that it reaches over CDP: as `playwright_client.py`.
"use strict";

const puppeteer = require("puppeteer-core");
const { spec, state, report, got, sent, lost, pause, end } = require("./reporting.js");

const atATime = 5;

// Connect, and open a page that ticks.
const begin = async () => {
  const where = spec.url.startsWith("http") ? { browserURL: spec.url } : { browserWSEndpoint: spec.url };
  const browser = await puppeteer.connect({ ...where, protocolTimeout: 30_000 });
  browser.on("disconnected", () => lost("disconnected"));
  const page = await (await browser.createBrowserContext()).newPage();
  page.on("console", (message) => got("ticks", Number(message.text())));
  await page.evaluate(() => {
    window.seen = [];
    window.ticks = 0;
    window.timer = setInterval(() => console.log(++ticks), 20);
  });
  return [browser, page];
};

// Connect as often as it takes; the test says how long it may take.
const beginAgain = async () => {
  for (;;) {
    try {
      return await begin();
    } catch (error) {
      report({ error: String(error).slice(0, 200) });
      await pause(100);
    }
  }
};

const lookAtAnotherPage = async (page, n) => {
  const other = await page.browserContext().newPage();
  await other.setContent(`<h1>${n}</h1>`);
  const text = await other.$eval("h1", (element) => element.innerText);
  if (text !== String(n)) throw new Error(`the page says ${text}`);
  await other.close();
};

let n = 0;
const work = async (page) => {
  while (!state.stop) {
    const calls = [];
    for (let number = n + 1; number <= n + atATime; number += 1)
      calls.push(
        page.evaluate((number) => {
          seen.push(number);
          return number;
        }, number),
      );
    for (const answer of await Promise.all(calls)) got("answers", answer);
    n += atATime;
    if (n % 50 === 0) await lookAtAnotherPage(page, n);
  }
};

const main = async () => {
  let [browser, page] = await begin();
  report({ ready: true });
  for (;;) {
    try {
      await work(page);
      break;
    } catch (error) {
      report({ error: String(error).slice(0, 200) });
      await browser.disconnect();
      // What was called and not answered may or may not have been done: it is not called again.
      n += atATime;
      [browser, page] = await beginAgain();
      report({ back: true });
    }
  }
  const [seen, ticks] = await page.evaluate(() => {
    clearInterval(timer);
    return [window.seen, window.ticks];
  });
  report({ called: n });
  for (const number of seen) got("calls", number);
  sent("ticks", ticks);
  browser.removeAllListeners("disconnected");
  await browser.disconnect();
  end();
};

main().catch((error) => {
  report({ error: String(error.stack) });
  process.exit(1);
});
