// SPDX-License-Identifier: Apache-2.0
// Opens the page in headless Chromium and says what is in the document.
//   node page.mjs URL SCRIPT-NAME [SCREENSHOT-DIR]   prints one JSON object
import { chromium } from 'playwright-core';

const [url, what, shots] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: what.endsWith('-dark') ? 'dark' : 'light' });
const page = await context.newPage();
const problems = [], requests = [];
page.on('console', m => { if (m.type() === 'error') problems.push(m.text()); });
page.on('pageerror', e => problems.push(String(e)));
page.on('request', r => requests.push(r.url()));
const shot = name => shots && page.screenshot({ path: `${shots}/${name}.png` });
const texts = selector => page.locator(selector).allTextContents();
const out = {};

if (what === 'empty') {
  await page.goto(`${url}/`);
  await page.waitForSelector('.empty');
  out.text = await page.locator('.empty').innerText();
  await shot('empty');
} else {
  const [trace] = (process.env.TRACE ?? '').split(',');
  await page.goto(`${url}/search?lookback=1h`);
  await page.waitForSelector('.row');
  out.rows = await texts('.row b:first-child');
  await shot(`search${what.endsWith('-dark') ? '-dark' : ''}`);
  await page.locator(`.row[href="trace/${trace}"]`).click();
  await page.waitForSelector('.span');
  out.title = await page.locator('h1').innerText();
  out.path = new URL(page.url()).pathname;
  out.spans = await page.locator('.span').evaluateAll(all => all.map(e => ({ id: e.dataset.span, text: e.innerText })));
  await page.locator('.span').first().click();
  await page.waitForSelector('.detail');
  out.detail = await page.locator('.detail').innerText();
  out.picked = new URL(page.url()).searchParams.get('uiFind');
  await shot(`trace${what.endsWith('-dark') ? '-dark' : ''}`);
  await page.reload(); // the deep link finds the span again
  await page.waitForSelector('.span[aria-selected=true]');
  out.reloaded = await page.locator('.span[aria-selected=true]').getAttribute('data-span');
  await page.goBack();
  await page.goto(`${url}/trace/${'0'.repeat(31)}1`);
  await page.waitForSelector('main h1');
  out.missing = await page.locator('main').innerText();
  problems.splice(0, problems.length, ...problems.filter(p => !p.includes('404')));
}
out.problems = problems;
out.foreign = requests.filter(r => !r.startsWith(url));
await browser.close();
console.log(JSON.stringify(out));
