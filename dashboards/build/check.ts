// What is wrong with a board: by Grafana's own types, and by what we ask of every board.

import { fileURLToPath } from 'node:url';

import { Ajv, type ValidateFunction } from 'ajv';
import { createGenerator } from 'ts-json-schema-generator';

import type { Board } from './strict';

/** The directory of this code; it runs from a place below it. */
const HERE = process.env['BOARDS_BUILD'] ?? fileURLToPath(new URL('.', import.meta.url));

let validate: ValidateFunction<Board> | undefined;

/** The schema is made once: reading Grafana's types takes some seconds. */
function validator(): ValidateFunction<Board> {
  validate ??= new Ajv({ allErrors: true, strict: false, discriminator: false }).compile<Board>(
    createGenerator({
      path: `${HERE}/strict.ts`,
      tsconfig: `${HERE}/tsconfig.json`,
      type: 'Board',
      skipTypeCheck: true,
      expose: 'none',
      additionalProperties: false,
    }).createSchema('Board'),
  );
  return validate;
}

/** Every fault of one board, as a sentence. */
export function* faults(board: unknown): Generator<string> {
  const check = validator();
  if (!check(board)) {
    yield* by(check, board);
    return;
  }
  yield* ours(board);
}

/** The errors of the schema, those of a panel with its title. */
function* by(check: ValidateFunction<Board>, board: unknown): Generator<string> {
  const panels = (board as { panels?: { title?: string; type?: string }[] }).panels ?? [];
  for (const { instancePath, keyword, message, params } of check.errors ?? []) {
    // It only says that what follows it failed.
    if (keyword === 'if') continue;
    const place = Number(/^\/panels\/(\d+)/.exec(instancePath)?.[1] ?? Number.NaN);
    const of = Number.isNaN(place) ? '' : ` (${panels[place]?.type} "${panels[place]?.title}")`;
    yield `${instancePath}${of} ${message} ${JSON.stringify(params)}`;
  }
}

/** What Grafana tolerates and an operator would miss. */
function* ours(board: Board): Generator<string> {
  if (board.graphTooltip !== 1) yield 'has no shared crosshair';
  if (!board.tags.includes('evenkeel')) yield 'has no tag';
  if (!board.links?.some(({ type, asDropdown }) => type === 'dashboards' && asDropdown)) {
    yield 'has no dropdown of the other boards';
  }
  const titles = new Set<string>();
  for (const panel of board.panels) {
    const named = `"${panel.title}"`;
    if (panel.type === 'row') continue;
    if (panel.description.length < 30) yield `${named} has no description worth reading`;
    if (titles.has(panel.title)) yield `${named} is there twice`;
    titles.add(panel.title);
    if (!panel.fieldConfig.defaults.unit) yield `${named} has no unit`;
    if (panel.datasource.uid !== '${datasource}') yield `${named} names a data source of its own`;
    const wants = panel.type === 'stat' || panel.type === 'state-timeline';
    if (wants && !panel.fieldConfig.defaults.thresholds && !panel.fieldConfig.defaults.mappings) {
      yield `${named} has no thresholds`;
    }
    for (const { refId, expr, datasource } of panel.targets) {
      if (datasource.uid !== '${datasource}') yield `${named} ${refId} names a data source of its own`;
      const selectors = expr.match(/[A-Za-z_]+\{/g)?.length ?? 0;
      const filtered = expr.match(/\{job=~"\$job",instance=~"\$instance"/g)?.length ?? 0;
      if (selectors === 0 || selectors !== filtered) yield `${named} ${refId} is not filtered: ${expr}`;
    }
  }
}
