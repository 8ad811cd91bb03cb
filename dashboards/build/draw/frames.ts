// What Prometheus answered, as Grafana's data frames, with the settings of a panel as they are in its board.

import {
  type DataFrame,
  type Field,
  type FieldConfig,
  FieldType,
  type GrafanaTheme2,
  getDisplayProcessor,
} from '@grafana/data';

/** One series as Prometheus gives it. */
export interface Series {
  metric: Record<string, string>;
  /** Of a range a list, of one moment a single one. */
  values: [number, string][] | [number, string];
}

export interface Target {
  refId: string;
  expr: string;
  legendFormat?: string;
}

export interface Panel {
  id: number;
  type: string;
  title: string;
  description?: string;
  gridPos: { x: number; y: number; w: number; h: number };
  targets?: Target[];
  options?: any;
  fieldConfig?: { defaults: any; overrides: { matcher: { id: string; options: string }; properties: any[] }[] };
  transformations?: { id: string; options: any }[];
}

/** The settings of the field with this name: the panel's, and what overrides them. */
function configOf(panel: Panel, name: string, refId?: string): FieldConfig {
  const config = structuredClone(panel.fieldConfig?.defaults ?? {});
  config.custom ??= {};
  for (const { matcher, properties } of panel.fieldConfig?.overrides ?? []) {
    const fits =
      matcher.id === 'byFrameRefID'
        ? matcher.options === refId
        : matcher.id === 'byName'
          ? matcher.options === name
          : new RegExp(`^${matcher.options}$`).test(name);
    if (!fits) continue;
    for (const { id, value } of properties) {
      if (id.startsWith('custom.')) config.custom[id.slice('custom.'.length)] = value;
      else config[id] = value;
    }
  }
  config.color ??= { mode: panel.type === 'timeseries' ? 'palette-classic' : 'thresholds' };
  return config;
}

/** A name as the legend's format makes it. */
export function named(format: string | undefined, labels: Record<string, string>): string {
  if (format === undefined) return Object.values(labels).join(' ');
  return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label: string) => labels[label] ?? '').trim();
}

const number = (text: string) => (text === 'NaN' ? null : Number(text));

/** One frame for each series of a range. */
export function overTime(
  panel: Panel,
  answers: Record<string, Series[]>,
  [from, to]: [number, number],
  theme: GrafanaTheme2,
): DataFrame[] {
  const frames: DataFrame[] = [];
  for (const { refId, legendFormat } of panel.targets ?? []) {
    for (const { metric, values } of answers[refId] ?? []) {
      const name = named(legendFormat, metric);
      const known = new Map((values as [number, string][]).map(([time, text]) => [Math.floor(time), text]));
      const begin = Math.ceil(from);
      const times = Array.from({ length: Math.floor(to) - begin + 1 }, (_, second) => begin + second);
      const at = (time: number) => known.get(time);
      const value: Field = {
        name,
        type: FieldType.number,
        config: { ...configOf(panel, name, refId), displayName: name },
        values: times.map((time) => {
          const text = at(time);
          return text === undefined ? null : number(text);
        }),
        state: { seriesIndex: frames.length, displayName: name },
      };
      value.display = getDisplayProcessor({ field: value, theme, timeZone: 'utc' });
      const time: Field = {
        name: 'time',
        type: FieldType.time,
        config: {},
        values: times.map((time) => time * 1000),
      };
      time.display = getDisplayProcessor({ field: time, theme, timeZone: 'utc' });
      frames.push({ refId, name, length: times.length, fields: [time, value] });
    }
  }
  return frames;
}

/** The one number of a tile. */
export function oneNumber(panel: Panel, answers: Record<string, Series[]>): number | null {
  const series = answers[panel.targets?.[0]?.refId ?? '']?.[0];
  return series === undefined ? null : number((series.values as [number, string])[1]);
}

/** The rows of a table: series with the same labels are one, as the transformation `merge` makes them. */
export function rows(panel: Panel, answers: Record<string, Series[]>, theme: GrafanaTheme2): DataFrame {
  const organize = panel.transformations?.find(({ id }) => id === 'organize')?.options;
  const columns = Object.keys(organize.indexByName).sort(
    (one, other) => organize.indexByName[one] - organize.indexByName[other],
  );
  const single = (panel.targets ?? []).length === 1;
  const merged = new Map<string, Record<string, string>>();
  for (const { refId } of panel.targets ?? []) {
    for (const { metric, values } of answers[refId] ?? []) {
      const { __name__: _, ...labels } = metric;
      const value = single ? 'Value' : `Value #${refId}`;
      // A query without some label adds its value to all rows that agree on the others.
      const fitting = [...merged.values()].filter((row) =>
        Object.entries(labels).every(([label, text]) => row[label] === undefined || row[label] === text),
      );
      const into = fitting.length > 0 ? fitting : [{ ...labels }];
      if (fitting.length === 0) merged.set(JSON.stringify(labels), into[0]!);
      for (const row of into) row[value] = (values as [number, string])[1];
    }
  }
  const all = [...merged.values()];
  const fields = columns.map((column): Field => {
    const numeric = column.startsWith('Value');
    const name: string = organize.renameByName[column] ?? column;
    const field: Field = {
      name,
      type: numeric ? FieldType.number : FieldType.string,
      config: configOf(numeric ? panel : { ...panel, fieldConfig: { ...panel.fieldConfig!, defaults: {} } }, name),
      values: all.map((row) => {
        const text = row[column];
        return text === undefined ? null : numeric ? number(text) : text;
      }),
    };
    field.config.links = [];
    field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
    return field;
  });
  return { name: panel.title, length: all.length, fields };
}
