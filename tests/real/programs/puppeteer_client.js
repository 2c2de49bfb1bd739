// puppeteer-core with a browser that it reaches over CDP: as `playwright_client.py`.
"use strict";

const puppeteer = require("puppeteer-core");
const { spec, state, report, got, sent, lost, end } = require("./reporting.js");

const atATime = 5;

// Connect, and open a page that ticks.
const begin = async () => {
  const browser = await puppeteer.connect({ browserWSEndpoint: spec.url, protocolTimeout: 30_000 });
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
      [browser, page] = await begin();
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
