// Opens pages of reports in one headless Chromium, each as phones and desks show it, in light and in dark.
//
//   node look.mjs ORDER ANSWER
//
// ORDER is JSON: `chromium` (the browser's program), `modules` (a node_modules folder with playwright-core and axe-core),
// `pages` (HTML files) and `shots` (a folder for screenshots; empty for none). ANSWER gets, for each page, `said` (errors
// and warnings of its console), `asked` (every request but the one for the file itself), `faults` (what axe-core finds, in
// each look), `wider` (looks in which the page itself is wider than the window), `title`, `scripts`, `headings`, `text`,
// and `unprinted`, how many folded tables a printer would leave out.

import {readFile, writeFile} from 'node:fs/promises';
import {createRequire} from 'node:module';
import path from 'node:path';
import {pathToFileURL} from 'node:url';

const LOOKS = [
  {name: 'phone-light', width: 390, height: 844, colorScheme: 'light', judged: true},
  {name: 'phone-dark', width: 390, height: 844, colorScheme: 'dark'},
  {name: 'desk-light', width: 1280, height: 900, colorScheme: 'light'},
  {name: 'desk-dark', width: 1280, height: 900, colorScheme: 'dark', judged: true},
];

async function lookAt(browser, file, shots, axe) {
  const url = pathToFileURL(file).href;
  const answer = {said: [], asked: [], faults: [], wider: []};
  const page = await browser.newPage({reducedMotion: 'reduce'});
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) answer.said.push(message.text());
  });
  page.on('pageerror', (error) => answer.said.push(String(error)));
  page.on('request', (request) => request.url() !== url && answer.asked.push(request.url()));
  await page.goto(url);
  Object.assign(answer, await page.evaluate(() => ({
    title: document.title,
    scripts: document.querySelectorAll('script, iframe, object, embed, img, link').length,
    headings: [...document.querySelectorAll('h1, h2, h3, h4')].map((each) => each.tagName),
    text: document.body.textContent,
  })));
  await page.emulateMedia({media: 'print'});
  // A busy machine draws it a moment later.
  await page.waitForFunction(() => matchMedia('print').matches);
  await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
  answer.unprinted = await page.evaluate(() => [...document.querySelectorAll('details table')]
    .filter((each) => !each.checkVisibility({contentVisibilityAuto: true})).length);
  // All of it is looked at: what is folded, too.
  await page.evaluate(() => document.querySelectorAll('details').forEach((each) => { each.open = true; }));
  await page.evaluate(axe);
  for (const {name, width, height, colorScheme, judged} of LOOKS) {
    await page.setViewportSize({width, height});
    await page.emulateMedia({media: 'screen', colorScheme, reducedMotion: 'reduce'});
    if (await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth)) answer.wider.push(name);
    if (shots) await page.screenshot({path: path.join(shots, `${path.basename(file, '.html')}-${name}.png`), fullPage: true});
    if (!judged) continue; // both widths and both sets of colours are, once each
    const found = await page.evaluate(() => window.axe.run(document, {resultTypes: ['violations']}));
    for (const {id, help, nodes} of found.violations) {
      answer.faults.push(`${name}: ${id}: ${help}: ${nodes.slice(0, 3).map((each) => each.html.slice(0, 200)).join(' ')}`);
    }
  }
  await page.close();
  return answer;
}

const order = JSON.parse(await readFile(process.argv[2], 'utf8'));
const require = createRequire(`${order.modules}/`);
const axe = await readFile(require.resolve('axe-core/axe.min.js'), 'utf8');
const browser = await require('playwright-core').chromium.launch({
  executablePath: order.chromium,
  headless: true,
  chromiumSandbox: false, // root has none; the pages are ours
  args: ['--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
try {
  const pages = [];
  for (const file of order.pages) pages.push(await lookAt(browser, file, order.shots, axe));
  await writeFile(process.argv[3], JSON.stringify({version: browser.version(), pages}));
} finally {
  await browser.close();
}
