// Runs programs in pages of a headless Chromium, each from a server on the loopback interface alone.
//
//   node driver.mjs ORDER ANSWER
//
// ORDER is JSON: `chromium` (the browser's program), `modules` (a node_modules folder with playwright-core) and
// `pages`, each with
//   `program`  path on the server of a module whose `main(argument)` answers with what JSON can hold
//   `argument` for it
//   `mounts`   path on the server -> the file or folder that is served there
//   `imports`  name of a module -> its path on the server
//   `limit_s`  of all that it does
//   `outputs`  a folder: what a page sends to /outputs/NAME is put at the end of the file NAME
// ANSWER gets the browser's version and, for each page, `answer` or `fault`, and `refused`: what else it asked for.
// Nothing but that server is reached: the browser resolves no name, and other addresses are refused and listed.

import {appendFile, readFile, stat, writeFile} from 'node:fs/promises';
import {createReadStream} from 'node:fs';
import {createServer} from 'node:http';
import {createRequire} from 'node:module';
import path from 'node:path';

const TYPES = {
  '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.json': 'application/json',
  '.wasm': 'application/wasm',
};

function pageOf({imports, program, argument}) {
  const told = (value) => JSON.stringify(value).replaceAll('<', '\\u003c');
  return `<!doctype html><meta charset="utf-8"><title>page</title>
<script type="importmap">${told({imports})}</script>
<script>window.argument = ${told(argument)}; window.program = ${told(program)};</script>`;
}

function placeOf(mounts, asked) {
  for (const [at, place] of Object.entries(mounts)) {
    if (asked === at) return place;
    if (asked.startsWith(`${at}/`)) {
      const found = path.join(place, asked.slice(at.length + 1));
      return found.startsWith(place + path.sep) ? found : null;
    }
  }
  return null;
}

async function serve(job, request, response) {
  const asked = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
  // Of its own origin alone: so threads and exact clocks are allowed, as on a page that an app serves.
  const headers = {
    'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp',
    'Cache-Control': 'no-store',
  };
  if (asked.startsWith('/outputs/') && request.method === 'POST') {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    await appendFile(path.join(job.outputs, path.basename(asked)), Buffer.concat(chunks));
    response.writeHead(204, headers).end();
    return;
  }
  if (asked === '/') {
    response.writeHead(200, {...headers, 'Content-Type': 'text/html'}).end(pageOf(job));
    return;
  }
  const place = placeOf(job.mounts, asked);
  const about = place && await stat(place).catch(() => null);
  if (!about?.isFile()) {
    response.writeHead(asked === '/favicon.ico' ? 204 : 404, headers).end();
    return;
  }
  const type = TYPES[path.extname(place)] ?? 'application/octet-stream';
  // A part of a file, for samples: `?from=BYTE&to=BYTE`.
  const query = new URL(request.url, 'http://localhost').searchParams;
  const part = query.has('to') ? {start: Number(query.get('from')), end: Number(query.get('to')) - 1} : {};
  const size = query.has('to') ? part.end + 1 - part.start : about.size;
  response.writeHead(200, {...headers, 'Content-Type': type, 'Content-Length': size});
  createReadStream(place, part).pipe(response);
}

function listening(job) {
  return new Promise((resolve, reject) => {
    const server = createServer((request, response) => {
      serve(job, request, response).catch((error) => {
        job.fault ??= String(error);
        response.writeHead(500).end();
      });
    });
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => resolve(server));
  });
}

async function runPage(browser, job) {
  const server = await listening(job);
  const origin = `http://127.0.0.1:${server.address().port}`;
  const context = await browser.newContext({serviceWorkers: 'block'});
  const refused = [];
  let timer;
  try {
    await context.route((url) => url.origin !== origin && !['blob:', 'data:'].includes(url.protocol), (route) => {
      refused.push(route.request().url());
      return route.abort();
    });
    const page = await context.newPage();
    const said = [];
    page.on('console', (message) => said.push(message.text()));
    const ended = new Promise((_, reject) => {
      page.on('crash', () => reject(new Error('the page crashed')));
      timer = setTimeout(() => reject(new Error(`no answer in ${job.limit_s} s`)), 1e3 * job.limit_s);
    });
    const answered = (async () => {
      await page.goto(`${origin}/`);
      return page.evaluate(async () => (await import(window.program)).main(window.argument));
    })();
    answered.catch(() => {});
    try {
      const answer = await Promise.race([answered, ended]);
      return job.fault ? {fault: job.fault, refused, said} : {answer, refused, said};
    } catch (error) {
      // Without the frames of its stack, which are ours.
      const fault = String(error.message ?? error).split('\n')[0].replace(/^page\.evaluate: /, '');
      return {fault, refused, said};
    }
  } finally {
    clearTimeout(timer);
    await context.close().catch(() => {});
    server.closeAllConnections();
    server.close();
  }
}

async function main([orderPath, answerPath]) {
  const order = JSON.parse(await readFile(orderPath, 'utf8'));
  const {chromium} = createRequire(`${order.modules}/`)('playwright-core');
  const browser = await chromium.launch({
    executablePath: order.chromium,
    headless: true,
    // Root has no sandbox of Chromium's; what runs here are pages of ours with files of the user's own.
    chromiumSandbox: false,
    args: [
      '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
    ],
  });
  try {
    const pages = [];
    for (const job of order.pages) pages.push(await runPage(browser, job));
    await writeFile(answerPath, JSON.stringify({version: browser.version(), pages}));
  } finally {
    await browser.close();
  }
}

// Whoever started this is gone: the browser has nobody to answer, and goes too.
process.stdin.on('end', () => process.exit(1));
process.stdin.resume();
main(process.argv.slice(2)).then(() => process.exit(0), (error) => {
  console.error(error.message ?? error);
  process.exit(1);
});
