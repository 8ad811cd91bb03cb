// Draws every board from what tests/prometheus.rs has recorded:
//
//     node draw.mjs RECORDED BOARDS PICTURES MANUAL
//
// A picture of each board, and one of each panel in a directory beside it, go to PICTURES; those of the manual
// go to MANUAL.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { chromium } from 'playwright-core';

/** The pictures of the manual: a board, and the titles of panels that the picture shows. */
const MANUAL = {
  overview: ['overview', 'Critical', 'Agents gone', 'What was wrong when'],
  instability: ['instability', 'Interfaces', 'Systems', 'Unstable now', 'Time until stable'],
  subnets: ['subnets-and-peers', 'Subnets', 'Interfaces', 'Flows now', 'Missed polls', 'Round-trip time of polls'],
  pair: ['pair-and-agent', 'Roles', 'Paths to the mate', 'Could the other one take over', 'Takeovers'],
  peers: ['subnets-and-peers', 'Peers by state', 'Round-trip times of peers', 'Silence', 'Time of a sweep'],
};

/**
 * How many seconds are shown. Then everything is well again and the agent is killed, which only the board of
 * the agent itself shows.
 */
const SHOWN = 62;

const [recordedFile, boards, pictures, manual] = process.argv.slice(2);
if (manual === undefined) {
  console.error('usage: node draw.mjs RECORDED BOARDS PICTURES MANUAL');
  process.exit(2);
}
const recorded = JSON.parse(readFileSync(recordedFile, 'utf8'));
mkdirSync(pictures, { recursive: true });
const made = (file) => readFileSync(join(import.meta.dirname, 'node_modules/.made', file), 'utf8');
const [script, style] = [made('page.js'), made('page.css')];

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--font-render-hinting=none'],
});
let wrong = 0;
for (const file of readdirSync(boards).filter((name) => name.endsWith('.json'))) {
  const board = JSON.parse(readFileSync(join(boards, file), 'utf8'));
  const name = file.replace(/\.json$/, '');
  const html = join(pictures, `${name}.html`);
  const to = name === 'pair-and-agent' ? recorded.to : Math.min(recorded.to, recorded.from + SHOWN);
  const data = JSON.stringify({ board, file, recorded: { ...recorded, to } }).replaceAll('<', '\\u003c');
  writeFileSync(
    html,
    `<!doctype html><meta charset="utf-8"><style>${style} body { margin: 0 }</style><div id="root"></div>
<script>Object.assign(window, ${data})</script><script>${script.replaceAll('</script', '<\\/script')}</script>`,
  );
  const page = await browser.newPage({ viewport: { width: 1552, height: 1200 }, deviceScaleFactor: 0.8 });
  page.on('pageerror', (error) => {
    console.error(`${file}: ${error.stack ?? error}`);
    wrong += 1;
  });
  page.on('console', (message) => {
    if (message.type() === 'error' && process.env.VERBOSE) console.error(`${file}: ${message.text()}`);
  });
  await page.goto(pathToFileURL(html).href);
  await page.waitForFunction('window.drawn && document.querySelector("#board")', undefined, { timeout: 20000 });
  await page.waitForTimeout(1500);
  await page.locator('#board').screenshot({ path: join(pictures, `${name}.png`) });
  mkdirSync(join(pictures, name), { recursive: true });
  for (const panel of await page.locator('.panel').all()) {
    const id = await panel.getAttribute('data-id');
    await panel.screenshot({ path: join(pictures, name, `${id}.png`) });
  }
  // Boxes are told from where the page is scrolled to.
  await page.evaluate('window.scrollTo(0, 0)');
  for (const [picture, [of, ...titles]] of Object.entries(MANUAL)) {
    if (of !== name) continue;
    const ids = titles.map((title) => board.panels.find((panel) => panel.title === title && panel.type !== 'row').id);
    const boxes = await Promise.all(ids.map((id) => page.locator(`.panel[data-id="${id}"]`).boundingBox()));
    const left = Math.min(...boxes.map(({ x }) => x)) - 4;
    const top = Math.min(...boxes.map(({ y }) => y)) - 4;
    const width = Math.max(...boxes.map(({ x, width }) => x + width)) - left + 4;
    const height = Math.max(...boxes.map(({ y, height }) => y + height)) - top + 4;
    const clip = { x: left, y: top, width, height };
    await page.screenshot({ path: join(manual, `${picture}.png`), clip, fullPage: true });
  }
  await page.close();
}
await browser.close();
process.exit(wrong > 0 ? 1 : 0);
