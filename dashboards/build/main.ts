// Makes the boards as Grafana imports them.
//
//     main.js write        writes them to the directory above
//     main.js check        fails if what is there is not what this code makes, or not as Grafana wants it

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';

import { agent } from './agent';
import { faults } from './check';
import { instability } from './instability';
import { overview } from './overview';
import { reachability } from './reachability';

/** The boards, by the file that each is in. */
const BOARDS: Record<string, () => { build(): Dashboard }> = {
  'overview.json': overview,
  'instability.json': instability,
  'subnets-and-peers.json': reachability,
  'pair-and-agent.json': agent,
};

/** With what Grafana would make up itself, so that no import differs from the next. */
function finished(dashboard: Dashboard): Dashboard {
  dashboard.panels?.forEach((panel, place) => {
    panel.id = place + 1;
    // Grafana 13 knows the footer of a table no more; the SDK still writes it.
    if ('options' in panel) delete (panel.options as { footer?: unknown } | undefined)?.footer;
  });
  // The SDK gives every variable the settings of those that choose an interval.
  for (const variable of dashboard.templating?.list ?? []) {
    for (const key of ['auto', 'auto_min', 'auto_count']) {
      delete (variable as unknown as Record<string, unknown>)[key];
    }
  }
  return dashboard;
}

/** Mistakes that the check must find, each made in a copy of a good board: or it would check nothing. */
const MISTAKES: Record<string, (panel: any, board: any) => void> = {
  'an option that no stat panel has': (panel) => (panel.options.colourMode = 'value'),
  'a value that an option cannot have': (panel) => (panel.options.colorMode = 'rainbow'),
  'a setting that is none': (panel) => (panel.fieldConfig.defaults.untis = 's'),
  'a kind of panel that there is not': (panel) => (panel.type = 'stats'),
  'a query of another data source': (panel) => (panel.targets[0].rawSql = 'SELECT 1'),
  'a key that no dashboard has': (_, board) => (board.crosshair = true),
  'no unit': (panel) => delete panel.fieldConfig.defaults.unit,
  'a query of all agents': (panel) => (panel.targets[0].expr = 'sum(evenkeel_alarms_active)'),
};

const [what, directory] = process.argv.slice(2);
if (directory === undefined || (what !== 'write' && what !== 'check')) {
  console.error('usage: main.js write|check DIRECTORY');
  process.exit(2);
}

let wrong = 0;
for (const [file, make] of Object.entries(BOARDS)) {
  const text = JSON.stringify(finished(make().build()), null, 2) + '\n';
  const path = join(directory, file);
  if (what === 'write') {
    writeFileSync(path, text);
    continue;
  }
  const found = [...faults(JSON.parse(text))];
  if (readFileSync(path, 'utf8') !== text) {
    found.push('is not what the code makes: run `npm run write` in dashboards/build');
  }
  for (const fault of found) console.error(`${file}: ${fault}`);
  wrong += found.length;
}
if (what === 'check') {
  for (const [mistake, make] of Object.entries(MISTAKES)) {
    const board = JSON.parse(JSON.stringify(finished(overview().build())));
    make(board.panels.find(({ type }: { type: string }) => type === 'stat'), board);
    if ([...faults(board)].length > 0) continue;
    console.error(`the check does not find ${mistake}`);
    wrong += 1;
  }
}
process.exit(wrong > 0 ? 1 : 0);
