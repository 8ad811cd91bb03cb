// One board on a page, drawn from recorded answers. Tiles, graphs and tables are Grafana's own components.
// Its state timelines and heat maps are in no package of its: what stands in for them here shows the same
// values in the same colours, not every detail of how Grafana draws them.

import {
  createTheme,
  dateTime,
  FieldType,
  type GrafanaTheme2,
  getDisplayProcessor,
  getValueFormat,
  formattedValueToString,
  ThemeContext,
} from '@grafana/data';
import { LegendDisplayMode, type VizLegendOptions } from '@grafana/schema';
import { BigValue, BigValueColorMode, BigValueGraphMode, GlobalStyles, Table, TimeSeries } from '@grafana/ui';
import { createRoot } from 'react-dom/client';

import { oneNumber, overTime, type Panel, rows, type Series } from './frames';

interface Recorded {
  from: number;
  to: number;
  boards: Record<string, Record<string, Record<string, Series[]>>>;
}

declare global {
  interface Window {
    board: { title: string; panels: Panel[] };
    file: string;
    recorded: Recorded;
    drawn: boolean;
  }
}

/** A column of the 24, and a row, in pixels; what lies between panels. */
const COLUMN = 64;
const ROW = 38;
const GAP = 8;
const HEADER = 32;

const theme: GrafanaTheme2 = createTheme({ colors: { mode: 'dark' } });
const { board, file, recorded } = window;
const span: [number, number] = [recorded.from, recorded.to];
const timeRange = {
  from: dateTime(span[0] * 1000),
  to: dateTime(span[1] * 1000),
  raw: { from: 'now-1h', to: 'now' },
};

const colour = (name: string | undefined) => theme.visualization.getColorByName(name ?? 'transparent');

function Content({ panel, width, height }: { panel: Panel; width: number; height: number }) {
  const answers = recorded.boards[file]?.[panel.title] ?? {};
  const nothing = Object.values(answers).every((series) => series.length === 0);
  if (panel.type === 'alertlist') return <Nothing text="What Grafana itself knows of alerts." height={height} />;
  if (nothing && panel.type !== 'stat') {
    return <Nothing text={panel.fieldConfig?.defaults.noValue ?? 'No data'} height={height} />;
  }
  switch (panel.type) {
    case 'stat':
      return <Tile panel={panel} answers={answers} width={width} height={height} />;
    case 'timeseries': {
      const frames = overTime(panel, answers, span, theme);
      const legend: VizLegendOptions = {
        showLegend: true,
        displayMode: LegendDisplayMode.List,
        placement: 'bottom',
        calcs: [],
      };
      return (
        <TimeSeries
          frames={frames}
          timeRange={timeRange}
          timeZone="utc"
          width={width}
          height={height}
          legend={legend}
          options={{}}
        />
      );
    }
    case 'table':
      return <Table data={rows(panel, answers, theme)} width={width} height={height} />;
    case 'state-timeline':
      return <States panel={panel} answers={answers} width={width} height={height} />;
    case 'heatmap':
      return <Heat panel={panel} answers={answers} width={width} height={height} />;
    default:
      throw new Error(`nobody draws ${panel.type}`);
  }
}

interface Drawn {
  panel: Panel;
  answers: Record<string, Series[]>;
  width: number;
  height: number;
}

function Nothing({ text, height }: { text: string; height: number }) {
  const style = { height, color: theme.colors.text.secondary, fontSize: 14 };
  return (
    <div style={{ ...style, display: 'flex', alignItems: 'center', justifyContent: 'center' }}>{text}</div>
  );
}

function Tile({ panel, answers, width, height }: Drawn) {
  const config = { ...panel.fieldConfig?.defaults, color: { mode: 'thresholds' } };
  const value = oneNumber(panel, answers);
  const field = { name: panel.title, type: FieldType.number, config, values: [value] };
  const display = getDisplayProcessor({ field, theme })(value);
  return (
    <BigValue
      value={{ ...display, title: '' }}
      width={width}
      height={height}
      theme={theme}
      colorMode={BigValueColorMode.Background}
      graphMode={BigValueGraphMode.None}
    />
  );
}

/** The colour and the word of a value: by its mapping, or else by the thresholds. */
function looks(defaults: any, value: number): { fill: string; word: string } {
  const mapped = defaults.mappings?.[0]?.options?.[String(value)];
  if (mapped) return { fill: colour(mapped.color), word: mapped.text };
  const steps: { value: number | null; color: string }[] = defaults.thresholds?.steps ?? [];
  const step = steps.filter((one) => one.value === null || value >= one.value).pop();
  return { fill: colour(step?.color), word: value === 0 ? '' : String(value) };
}

function Times({ left, right, y }: { left: number; right: number; y: number }) {
  const count = Math.max(2, Math.floor((right - left) / 110));
  const ticks = Array.from({ length: count }, (_, tick) => span[0] + ((span[1] - span[0]) * tick) / count);
  return (
    <>
      {ticks.map((at) => (
        <text
          key={at}
          x={left + ((at - span[0]) / (span[1] - span[0])) * (right - left)}
          y={y}
          fill={theme.colors.text.primary}
          fontSize={12}
        >
          {new Date(at * 1000).toISOString().slice(11, 19)}
        </text>
      ))}
    </>
  );
}

function States({ panel, answers, width, height }: Drawn) {
  const frames = overTime(panel, answers, span, theme);
  const left = Math.min(
    width / 3,
    Math.max(...frames.map(({ name }) => (name ?? '').length)) * 6.6 + 12,
  );
  const legend = panel.fieldConfig?.defaults.mappings?.length > 0 ? 22 : 0;
  const bottom = height - 18 - legend;
  const each = bottom / frames.length;
  const words = Object.values(panel.fieldConfig?.defaults.mappings?.[0]?.options ?? {}) as {
    text: string;
    color: string;
  }[];
  return (
    <svg width={width} height={height} style={{ fontFamily: theme.typography.fontFamily }}>
      {frames.map((frame, row) => {
        const values = frame.fields[1]!.values as (number | null)[];
        const runs: { begin: number; end: number; value: number }[] = [];
        values.forEach((value, second) => {
          if (value === null) return;
          const last = runs[runs.length - 1];
          if (last && last.end === second && last.value === value) last.end += 1;
          else runs.push({ begin: second, end: second + 1, value });
        });
        const x = (second: number) => left + (second / values.length) * (width - left);
        const tall = Math.min(each * 0.8, 34);
        const y = row * each + (each - tall) / 2;
        return (
          <g key={row}>
            <text x={left - 8} y={y + tall / 2 + 4} textAnchor="end" fill={theme.colors.text.primary} fontSize={12}>
              {frame.name}
            </text>
            {runs.map(({ begin, end, value }) => {
              const { fill, word } = looks(frame.fields[1]!.config, value);
              const room = x(end) - x(begin);
              return (
                <g key={begin}>
                  <rect x={x(begin)} y={y} width={room} height={tall} fill={fill} fillOpacity={0.75} />
                  {room > word.length * 7 + 8 && (
                    <text x={x(begin) + 5} y={y + tall / 2 + 4} fill="#fff" fontSize={12}>
                      {word}
                    </text>
                  )}
                </g>
              );
            })}
          </g>
        );
      })}
      <Times left={left} right={width} y={bottom + 14} />
      {legend > 0 &&
        words.map(({ text, color }, place) => (
          <g key={text} transform={`translate(${left + place * 140}, ${height - 12})`}>
            <rect width={14} height={4} y={3} rx={1} fill={colour(color)} />
            <text x={20} y={9} fill={theme.colors.text.primary} fontSize={12}>
              {text}
            </text>
          </g>
        ))}
    </svg>
  );
}

/** Each bucket less the one below it, over time. */
function Heat({ panel, answers, width, height }: Drawn) {
  const bound = ({ metric }: Series) => (metric.le === '+Inf' ? Infinity : Number(metric.le));
  const buckets = [...(answers.A ?? [])].sort((one, other) => bound(one) - bound(other));
  const seconds = new Map<number, number[]>();
  buckets.forEach((bucket, place) => {
    for (const [time, value] of bucket.values as [number, string][]) {
      const row = seconds.get(time) ?? [];
      row[place] = Number(value);
      seconds.set(time, row);
    }
  });
  const cells = [...seconds].map(([time, row]) => ({
    time,
    counts: row.map((count, place) => count - (place > 0 ? (row[place - 1] ?? 0) : 0)),
  }));
  const used = buckets.map((_, place) => cells.some(({ counts }) => (counts[place] ?? 0) > 1e-9));
  const first = Math.max(0, used.indexOf(true) - 1);
  const shown = buckets.slice(first, used.lastIndexOf(true) + 2);
  const most = Math.max(...cells.flatMap(({ counts }) => counts));
  const left = 64;
  const tall = (height - 30) / shown.length;
  const wide = (width - left) / (span[1] - span[0]);
  const format = getValueFormat('s');
  return (
    <svg width={width} height={height} style={{ fontFamily: theme.typography.fontFamily }}>
      {shown.map((bucket, row) => {
        const y = height - 20 - (row + 1) * tall;
        const le = bound(bucket);
        return (
          <g key={row}>
            <text x={left - 8} y={y + 5} textAnchor="end" fill={theme.colors.text.primary} fontSize={12}>
              {le === Infinity ? '+Inf' : formattedValueToString(format(le))}
            </text>
            {cells.map(({ time, counts }) => {
              const share = (counts[first + row] ?? 0) / most;
              if (share <= 1e-9) return null;
              // Close to the scheme Turbo, from blue to red, with the exponent of the board.
              const hue = 250 - 250 * Math.sqrt(share);
              const x = left + (time - span[0]) * wide;
              return (
                <rect key={time} x={x} y={y} width={wide - 0.5} height={tall - 1} fill={`hsl(${hue} 80% 50%)`} />
              );
            })}
          </g>
        );
      })}
      <Times left={left} right={width} y={height - 4} />
    </svg>
  );
}

function Board() {
  const width = 24 * COLUMN;
  const bottom = Math.max(...board.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  return (
    <div
      id="board"
      style={{
        position: 'relative',
        width: width + 2 * GAP,
        height: bottom * ROW + 64,
        background: theme.colors.background.canvas,
        fontFamily: theme.typography.fontFamily,
        color: theme.colors.text.primary,
      }}
    >
      <div style={{ padding: '16px 16px 0', fontSize: 20, fontWeight: 500 }}>{board.title}</div>
      {board.panels.map((panel) => {
        const { x, y, w, h } = panel.gridPos;
        const place = {
          position: 'absolute' as const,
          left: GAP + x * COLUMN,
          top: 52 + y * ROW,
          width: w * COLUMN - GAP,
          height: h * ROW - GAP,
        };
        if (panel.type === 'row') {
          return (
            <div key={panel.id} style={{ ...place, fontSize: 16, fontWeight: 500, paddingTop: 4 }}>
              ⌄ {panel.title}
            </div>
          );
        }
        return (
          <div
            key={panel.id}
            className="panel"
            data-id={panel.id}
            style={{
              ...place,
              background: theme.colors.background.primary,
              border: `1px solid ${theme.colors.border.weak}`,
              borderRadius: 2,
              overflow: 'hidden',
            }}
          >
            <div style={{ padding: '6px 8px', height: HEADER, fontSize: 14, fontWeight: 500 }}>{panel.title}</div>
            <div style={{ padding: '0 8px' }}>
              <Content panel={panel} width={w * COLUMN - GAP - 18} height={h * ROW - GAP - HEADER - 10} />
            </div>
          </div>
        );
      })}
    </div>
  );
}

createRoot(document.getElementById('root')!).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <Board />
  </ThemeContext.Provider>,
);
window.drawn = true;
