// A real browser that looks at the status page: Chromium, driven by Playwright. It is run by
// `tests/page.rs` inside of a network namespace, where the agent is at 127.0.0.1.
//
//   node look.mjs watch  http://127.0.0.1:19040/ pictures/   alarms come and go, keyboard, axe, hostile input
//   node look.mjs search http://127.0.0.1:19040/ pictures/   128,000 peers
//   node look.mjs pair   http://127.0.0.1:19040/ pictures/   a standby, whose mate is killed when this says `ready`
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Device } from './device.mjs';

// What `tests/setup` has installed, out of the way of the sources.
const require = createRequire(`${process.env.PAGE_MODULES}/`);
const { chromium } = require('playwright-core');
const axe = require('axe-core');

const [what, base, pictures] = process.argv.slice(2);
mkdirSync(pictures, { recursive: true });

const TRAPS = 10162;
const WIDE = { width: 1280, height: 900 };
const PHONE = { width: 390, height: 844 };
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  // The tests are root, and in a network namespace of their own.
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});

// A page whose every request is seen, and every complaint.
const open = async (options = {}, path = '') => {
  const context = await browser.newContext({ viewport: WIDE, ...options });
  const page = await context.newPage();
  const seen = { foreign: [], complaints: [] };
  page.on('request', (request) => { if (!request.url().startsWith(base)) seen.foreign.push(request.url()); });
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) seen.complaints.push(message.text()); });
  page.on('pageerror', (error) => seen.complaints.push(String(error)));
  page.on('dialog', (dialog) => { seen.complaints.push(dialog.message()); dialog.dismiss(); });
  if (options.javaScriptEnabled !== false) {
    await page.addInitScript(() => {
      window.violations = [];
      document.addEventListener('securitypolicyviolation', (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
    });
  }
  await page.goto(base + path);
  return { context, page, seen };
};

const innocent = async ({ page, seen }) => {
  assert.deepEqual(seen.foreign, [], 'no request leaves the origin');
  assert.deepEqual(await page.evaluate(() => window.violations), [], 'no violation of the policy');
  assert.deepEqual(seen.complaints, []);
};

const isLive = (page) => page.waitForFunction(() => document.getElementById('live').textContent === 'live');

// The milliseconds until an alarm with these words is shown, or is not any more.
const until = async (page, words, there) => {
  const begin = performance.now();
  await page.waitForFunction(
    ([text, wanted]) => [...document.querySelectorAll('#alarms li')].some((row) => row.textContent.includes(text)) === wanted,
    [words, there],
    { timeout: 30_000, polling: 20 },
  );
  return performance.now() - begin;
};

// axe finds nothing, at any width, in any light.
const accessible = async (page, name) => {
  for (const colorScheme of ['light', 'dark']) {
    for (const [size, viewport] of [['wide', WIDE], ['phone', PHONE]]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize(viewport);
      await page.evaluate(axe.source);
      const { violations, passes } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
      const told = violations.map((violation) => `${violation.id}: ${violation.help}: ${violation.nodes.map((node) => node.html).slice(0, 3).join(' | ')}`);
      assert.deepEqual(told, [], `axe, ${colorScheme}, ${size}`);
      assert.ok(passes.length > 20, 'axe looked at the page');
      const beyond = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(beyond <= 0, `the page is ${beyond} px wider than a ${size} screen`);
      await page.screenshot({ path: `${pictures}/${name}-${size}-${colorScheme}.png`, fullPage: true });
    }
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize(WIDE);
};

const focused = (page) => page.evaluate(() => {
  const element = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  return {
    id: element.id,
    tag: element.tagName,
    text: (element.textContent || '').slice(0, 40),
    outlined: outlineStyle !== 'none' && outlineWidth !== '0px',
    shown: box.width > 0 && box.height > 0,
  };
});

const watch = async () => {
  const view = await open();
  const { page } = view;
  await isLive(page);
  const device = new Device('127.0.0.9', TRAPS);

  // Alarms appear within a second, and go: after a quiet time, and one after the other.
  const took = { appear: [], go: [] };
  for (let round = 0; round < 6; round += 1) {
    const index = 10 + round;
    await device.link('down', index);
    took.appear.push(await until(page, `127.0.0.9 ifIndex ${index}`, true));
    // Longer than the trap window, which the linkUp must be outside of.
    await pause(3_300);
    await device.link('up', index);
    took.go.push(await until(page, `127.0.0.9 ifIndex ${index}`, false));
    await pause(round % 2 ? 2_500 : 300);
  }
  for (const [name, times] of Object.entries(took)) {
    console.log(`alarms ${name} after ${times.map(Math.round).join(', ')} ms`);
    assert.ok(Math.max(...times) < 1_000, `an alarm took ${Math.max(...times)} ms to ${name}`);
  }
  assert.match(await page.locator('#said').textContent(), /One alarm was cleared\./);
  assert.match(await page.title(), / - keel-1$/);

  // An interface that flaps is drawn, with its traps as they come, and goes when it is stable.
  const flapping = new Device('127.0.0.10', TRAPS);
  for (let trap = 0; trap < 6; trap += 1) {
    await flapping.link(trap % 2 ? 'up' : 'down', 3, { describes: 'GigabitEthernet0/3' });
    await pause(700);
  }
  const picture = page.locator('#unstable svg.episode').first();
  await picture.waitFor({ timeout: 5_000 });
  assert.match(await picture.getAttribute('aria-label'), /^\d+ traps from [\d:]+ to [\d:]+; stable at [\d:]+ if nothing more comes$/);
  assert.ok(await picture.locator('.tick').count() >= 3, 'the traps that were seen are drawn');
  await page.screenshot({ path: `${pictures}/unstable.png` });

  // A hostile device.
  const hostile = new Device('127.0.0.66', TRAPS);
  const script = '<script>window.pwned=1</script><img src=x onerror="window.pwned=1">';
  await hostile.link('down', 1, { describes: script });
  await hostile.link('down', 2, { describes: `\u001b[2J\u0007\u202egnp.exe\u0000\r\n\t${'\u0301'.repeat(30)}` });
  await hostile.link('down', 3, { describes: `"'>${'W'.repeat(60_000)}` });
  await hostile.link('down', 4, { describes: script + 'W'.repeat(60_000), community: `</section>${script}` });
  await hostile.send(Buffer.from(`<script>window.pwned=1</script>${'\u0000'.repeat(200)}`));
  for (const index of [1, 2, 3]) await until(page, `127.0.0.66 ifIndex ${index}`, true);
  assert.ok((await page.locator('#alarms').textContent()).includes('<script>window.pwned=1</script>'), 'it is shown as text');
  await page.locator('#rejected details').first().waitFor();
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  assert.equal(await page.locator('main script, main img').count(), 0);
  const shown = await page.locator('main').textContent();
  // eslint-disable-next-line no-control-regex
  assert.doesNotMatch(shown, /[\u0000-\u0008\u000b-\u001f\u202e]/);
  const longest = await page.evaluate(() => Math.max(...[...document.querySelectorAll('main li, main pre')].map((row) => row.textContent.length)));
  assert.ok(longest < 10_000, `a row has ${longest} characters`);

  // By keyboard alone: everything is reached, in order, and seen to be.
  await page.evaluate(() => { document.activeElement.blur(); window.scrollTo(0, 0); });
  await page.keyboard.press('Tab');
  const skip = await focused(page);
  assert.equal(skip.text, 'Skip to the alarms');
  assert.ok(skip.shown && skip.outlined);
  await page.keyboard.press('Enter');
  assert.equal((await focused(page)).id, 'alarms');
  const reached = new Set();
  for (let tabs = 0; tabs < 60; tabs += 1) {
    await page.keyboard.press('Tab');
    const now = await focused(page);
    if (now.tag === 'BODY') break;
    assert.ok(now.outlined && now.shown, `what has the focus is seen to have it: ${JSON.stringify(now)}`);
    reached.add(now.id || `${now.tag} ${now.text}`);
    if (now.tag === 'SUMMARY' && !reached.has('opened')) {
      await page.keyboard.press('Enter');
      reached.add('opened');
    }
  }
  for (const one of ['s-address', 's-group', 's-state', 's-label', 'BUTTON Search', 'opened']) {
    assert.ok(reached.has(one), `${one} is not reached: ${[...reached].join(', ')}`);
  }
  // What is open stays open, and who types goes on typing, while alarms come in.
  await page.locator('#s-label').focus();
  await page.keyboard.type('site=');
  await device.link('down', 77);
  await until(page, '127.0.0.9 ifIndex 77', true);
  await page.keyboard.type('north');
  assert.equal((await focused(page)).id, 's-label');
  assert.equal(await page.locator('#s-label').inputValue(), 'site=north');
  assert.equal(await page.locator('#rejected details[open]').count(), 1);
  await page.locator('#s-label').fill('');

  await accessible(page, 'wrong');
  await innocent(view);
  await view.context.close();

  // Without JavaScript.
  const plain = await open({ javaScriptEnabled: false });
  const html = await plain.page.content();
  assert.ok(html.includes('127.0.0.9 ifIndex 77'));
  assert.match(html, /<noscript><meta http-equiv="refresh" content="10"><\/noscript>/);
  await plain.page.locator('#s-address').fill('203.0.113.');
  await plain.page.locator('#search button').click();
  assert.match(await plain.page.locator('#found').textContent(), /\d+ found/);
  assert.deepEqual(plain.seen.foreign, []);
  await plain.context.close();
  for (const one of [device, flapping, hostile]) one.close();
};

const search = async () => {
  const view = await open();
  const { page } = view;
  await isLive(page);
  const found = page.locator('#found .said');
  // From the last key to the answer on the screen, the pause in which more might be typed included.
  const ask = async (field, text, expected) => {
    const begin = performance.now();
    await page.locator(field).fill(text);
    await page.waitForFunction((words) => document.querySelector('#found .said').textContent.startsWith(words), expected, { timeout: 30_000, polling: 10 });
    const took = performance.now() - begin;
    await page.locator(field).fill('');
    await found.filter({ hasText: 'down or silent' }).waitFor({ timeout: 30_000 });
    return took;
  };
  await page.locator('#search button').click();
  await found.filter({ hasText: 'down or silent' }).waitFor({ timeout: 30_000 });
  const times = [];
  for (const [field, text, expected] of [
    ['#s-address', '10.1.200.7', '1 found'],
    ['#s-address', '10.1.', '65536 found, the first 50'],
    ['#s-address', '10.2.3', '256 found, the first 50'],
    ['#s-label', 'site=north', '0 found'],
    ['#s-address', '10.0.0.0/8', '128000 found, the first 50'],
    ['#s-address', '192.0.2.1', '0 found'],
    ['#s-address', 'nowhere', '"nowhere" is neither an address nor a prefix'],
  ]) times.push(await ask(field, text, expected));
  console.log(`searches among 128,000 peers answered after ${times.map(Math.round).join(', ')} ms`);
  // The tests run an agent that is not optimised, perhaps beside other work.
  const median = times.toSorted((one, other) => one - other)[Math.floor(times.length / 2)];
  assert.ok(median < 1_000 && Math.max(...times) < 2_500, `searches took up to ${Math.max(...times)} ms`);
  await page.locator('#s-address').fill('10.2.3');
  await found.filter({ hasText: '256 found' }).waitFor();
  await accessible(page, 'peers');
  // The search for `nowhere` is answered with what is wrong with it, and Chromium notes the status.
  const refused = view.seen.complaints.splice(0).filter((complaint) => !complaint.includes('status of 400'));
  view.seen.complaints.push(...refused);
  await innocent(view);
};

const pair = async () => {
  const view = await open();
  const { page } = view;
  await isLive(page);
  const shows = (words) => page.locator('#pair').filter({ hasText: words }).waitFor({ timeout: 30_000 });
  await shows('keel-2 is standby, keel-1 is primary');
  await shows('all of the state is on both');
  const row = (name) => page.locator('#pair').getByRole('row', { name });
  for (const way of ['path eth0', 'path eth1', 'state channel']) assert.match(await row(way).textContent(), /up/);
  await shows('0 automatic of at most 3 within 1h');
  await accessible(page, 'pair');
  console.log('ready');

  // The mate is killed: seen, and said to who does not see it, without the page being loaded again.
  await page.evaluate(() => { window.same = true; });
  await page.locator('#said').filter({ hasText: 'Pair: keel-2 is primary, keel-1 is silent.' }).waitFor({ timeout: 30_000 });
  await shows(/Last takeover.*by keel-2, term \d+, automatic: the primary was silent/s);
  await shows('1 automatic of at most 3 within 1h');
  await shows('without a standby');
  await shows('cannot ');
  for (const way of ['path eth0', 'path eth1', 'state channel']) assert.match(await row(way).textContent(), /down/);
  assert.equal(await page.evaluate(() => window.same), true);
  await accessible(page, 'pair-alone');
  await innocent(view);
};

try {
  await { watch, search, pair }[what]();
} finally {
  await browser.close();
}
