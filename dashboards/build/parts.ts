// What all boards share: the data source, the variables, links, annotations, and one function for each
// way to show something. A panel can't be made without a title, a description and a unit.

import type { Builder, Dataquery } from '@grafana/grafana-foundation-sdk/cog';
import * as common from '@grafana/grafana-foundation-sdk/common';
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard';
import { PanelBuilder as HeatMap } from '@grafana/grafana-foundation-sdk/heatmap';
import * as heatmap from '@grafana/grafana-foundation-sdk/heatmap';
import * as prometheus from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as Stat } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as StateTimeline } from '@grafana/grafana-foundation-sdk/statetimeline';
import { PanelBuilder as Table } from '@grafana/grafana-foundation-sdk/table';
import { PanelBuilder as TimeSeries } from '@grafana/grafana-foundation-sdk/timeseries';

/** The tag that the boards find each other by. */
const TAG = 'evenkeel';

/** Whichever Prometheus the variable names. */
const DATA_SOURCE = { type: 'prometheus', uid: '${datasource}' };

/** The colours of the severities, the same on every board. */
export const COLOUR = {
  critical: 'dark-red',
  major: 'orange',
  minor: 'yellow',
  warning: 'blue',
  good: 'green',
  none: 'transparent',
};

/** A metric of the agents that are chosen, with more matchers if need be. */
export function of(metric: string, matchers = ''): string {
  const more = matchers === '' ? '' : `,${matchers}`;
  return `${metric}{job=~"$job",instance=~"$instance"${more}}`;
}

/** How fast a counter of the agents that are chosen grows. */
export function rate(metric: string, matchers = ''): string {
  return `rate(${of(metric, matchers)}[$__rate_interval])`;
}

/** By how much a counter of the agents that are chosen grows from one point of the graph to the next. */
export function increase(metric: string, matchers = ''): string {
  return `increase(${of(metric, matchers)}[$__rate_interval])`;
}

/** One query of a panel. */
export interface Query {
  expr: string;
  /** How its series are called; their labels in double braces. */
  legend?: string;
}

/** What every panel has. */
interface About {
  title: string;
  /** What it shows, and what to do about it. */
  description: string;
  /** The unit of its values, as Grafana names it. */
  unit: string;
  queries: Query[];
  /** Of the 24 columns. */
  width: number;
  height?: number;
  decimals?: number;
  /** From which value on which colour holds; the first from anywhere. */
  steps?: [number | null, string][];
  /** Where a click on a value leads. */
  links?: Builder<dashboard.DashboardLink>[];
  /** What is said if there are no series. */
  noValue?: string;
  mappings?: dashboard.ValueMapping[];
}

/** What all builders of panels have in common. */
interface AnyPanel {
  title(title: string): this;
  description(description: string): this;
  datasource(datasource: common.DataSourceRef): this;
  unit(unit: string): this;
  span(width: number): this;
  height(height: number): this;
  decimals(decimals: number): this;
  thresholds(thresholds: Builder<dashboard.ThresholdsConfig>): this;
  dataLinks(links: Builder<dashboard.DashboardLink>[]): this;
  noValue(text: string): this;
  mappings(mappings: dashboard.ValueMapping[]): this;
  withTarget(target: Builder<Dataquery>): this;
}

type Kind = 'range' | 'instant' | 'table' | 'heat map';

function query({ expr, legend }: Query, place: number, kind: Kind): prometheus.DataqueryBuilder {
  const made = new prometheus.DataqueryBuilder()
    .refId(String.fromCharCode('A'.charCodeAt(0) + place))
    .datasource(DATA_SOURCE)
    .editorMode(prometheus.QueryEditorMode.Code)
    .expr(expr.replace(/\s+/g, ' ').trim());
  if (legend !== undefined) made.legendFormat(legend);
  switch (kind) {
    case 'range':
      return made.range();
    case 'instant':
      return made.instant();
    case 'table':
      return made.instant().format(prometheus.PromQueryFormat.Table);
    case 'heat map':
      return made.range().format(prometheus.PromQueryFormat.Heatmap);
  }
}

function begin<P extends AnyPanel>(panel: P, about: About, kind: Kind, height: number): P {
  panel
    .title(about.title)
    .description(about.description)
    .datasource(DATA_SOURCE)
    .unit(about.unit)
    .span(about.width)
    .height(about.height ?? height);
  if (about.decimals !== undefined) panel.decimals(about.decimals);
  if (about.steps) panel.thresholds(thresholds(about.steps));
  if (about.links) panel.dataLinks(about.links);
  if (about.noValue !== undefined) panel.noValue(about.noValue);
  if (about.mappings) panel.mappings(about.mappings);
  about.queries.forEach((one, place) => panel.withTarget(query(one, place, kind)));
  return panel;
}

function thresholds(steps: [number | null, string][]): dashboard.ThresholdsConfigBuilder {
  return new dashboard.ThresholdsConfigBuilder()
    .mode(dashboard.ThresholdsMode.Absolute)
    .steps(steps.map(([value, color]) => ({ value, color })));
}

/** Good at nothing, and in this colour from one on. */
export function fromOneOn(colour: string): [number | null, string][] {
  return [
    [null, COLOUR.good],
    [1, colour],
  ];
}

/** One number, as it is now. */
export function tile(about: About): Stat {
  return begin(new Stat(), about, 'instant', 4)
    .reduceOptions(new common.ReduceDataOptionsBuilder().calcs(['lastNotNull']))
    .colorMode(common.BigValueColorMode.Background)
    .graphMode(common.BigValueGraphMode.None)
    .textMode(about.queries.length > 1 ? common.BigValueTextMode.ValueAndName : common.BigValueTextMode.Value);
}

/** Lines over time. */
export function lines(about: About): TimeSeries {
  const panel = begin(new TimeSeries(), about, 'range', 8)
    .lineWidth(1)
    .fillOpacity(8)
    .showPoints(common.VisibilityMode.Never)
    .axisSoftMin(0)
    .legend(
      new common.VizLegendOptionsBuilder()
        .displayMode(common.LegendDisplayMode.List)
        .placement(common.LegendPlacement.Bottom)
        .showLegend(true)
        .calcs([]),
    )
    .tooltip(
      new common.VizTooltipOptionsBuilder()
        .mode(common.TooltipDisplayMode.Multi)
        .sort(common.SortOrder.Descending),
    );
  if (about.steps) {
    const style = new common.GraphThresholdsStyleConfigBuilder();
    panel.thresholdsStyle(style.mode(common.GraphThresholdsStyleMode.Dashed));
  }
  return panel;
}

/** Lines on top of each other: parts of a whole. */
export function stack(about: About): TimeSeries {
  return lines(about)
    .fillOpacity(40)
    .stacking(new common.StackingConfigBuilder().mode(common.StackingMode.Normal).group('A'));
}

/** Bars over time: things that happened. */
export function bars(about: About): TimeSeries {
  return stack(about).drawStyle(common.GraphDrawStyle.Bars).fillOpacity(80);
}

/** A row for each series, coloured by its value over time. */
export function states(about: About): StateTimeline {
  return begin(new StateTimeline(), about, 'range', 8)
    .colorScheme(new dashboard.FieldColorBuilder().mode(dashboard.FieldColorModeId.Thresholds))
    .mergeValues(true)
    .showValue(common.VisibilityMode.Auto)
    .alignValue(common.TimelineValueAlignment.Left)
    .rowHeight(0.8)
    .fillOpacity(75)
    .legend(
      new common.VizLegendOptionsBuilder()
        .displayMode(common.LegendDisplayMode.List)
        .placement(common.LegendPlacement.Bottom)
        .showLegend(true)
        .calcs([]),
    )
    .tooltip(
      new common.VizTooltipOptionsBuilder()
        .mode(common.TooltipDisplayMode.Single)
        .sort(common.SortOrder.None),
    );
}

/** One column of a table: its name in the answer, the heading, and its unit. */
export interface Column {
  field: string;
  heading: string;
  unit?: string;
  /** In pixels, if what fits all does not fit it. */
  width?: number;
}

/** Severities of alarms and of alerts, each word in its colour. */
const SEVERITIES = {
  type: dashboard.MappingType.ValueToText,
  options: {
    critical: { color: COLOUR.critical, index: 0 },
    major: { color: COLOUR.major, index: 1 },
    minor: { color: COLOUR.minor, index: 2 },
    warning: { color: COLOUR.warning, index: 3 },
    info: { color: 'text', index: 4 },
  },
};

/**
 * Rows of what is so now: one for each set of labels, with the values of all queries beside each other.
 * Labels and values that are no columns are left out.
 */
export function table(about: About & { columns: Column[]; sort?: string }): Table {
  const shown = about.columns.map(({ field }) => field);
  const panel = begin(new Table(), about, 'table', 8)
    .withTransformation({ id: 'merge', options: {} })
    .withTransformation({ id: 'filterFieldsByName', options: { include: { names: shown } } })
    .withTransformation({
      id: 'organize',
      options: {
        excludeByName: {},
        indexByName: Object.fromEntries(shown.map((field, place) => [field, place])),
        renameByName: Object.fromEntries(about.columns.map(({ field, heading }) => [field, heading])),
      },
    })
    .showHeader(true)
    .minWidth(70)
    .cellHeight(common.TableCellHeight.Sm);
  for (const { heading, unit, width } of about.columns) {
    if (unit) panel.overrideByName(heading, [{ id: 'unit', value: unit }]);
    if (width) panel.overrideByName(heading, [{ id: 'custom.width', value: width }]);
    if (heading === 'severity') {
      panel.overrideByName(heading, [
        { id: 'mappings', value: [SEVERITIES] },
        { id: 'custom.cellOptions', value: { type: 'color-text' } },
      ]);
    }
  }
  if (about.sort) {
    panel.sortBy([new common.TableSortByFieldStateBuilder().displayName(about.sort).desc(true)]);
  }
  return panel;
}

/** How the values of a histogram are spread, over time. */
export function heat(about: About): HeatMap {
  return begin(new HeatMap(), about, 'heat map', 9)
    .calculate(false)
    .yAxis(new heatmap.YAxisConfigBuilder().unit(about.unit))
    .color(
      new heatmap.HeatmapColorOptionsBuilder()
        .mode(heatmap.HeatmapColorMode.Scheme)
        .scheme('Turbo')
        .steps(64)
        .exponent(0.5)
        .fill('dark-orange')
        .reverse(false),
    )
    .cellGap(1)
    .showLegend();
}

/** Where a click leads. The SDK takes the links of boards here, whose other keys a value's link does not have. */
function link(title: string, url: string, targetBlank: boolean): Builder<dashboard.DashboardLink> {
  return { build: () => ({ title, url, targetBlank }) as dashboard.DashboardLink };
}

/** A way to another board, with the same time and variables. */
export function toBoard(title: string, uid: string): Builder<dashboard.DashboardLink> {
  return link(title, `/d/${uid}?\${__url_time_range}&\${__all_variables}`, false);
}

/** A way to the status page of the agent that a series comes from, or that a row of a table names. */
export function toStatusPage(from: 'series' | 'row' = 'series'): Builder<dashboard.DashboardLink> {
  const instance = from === 'series' ? '${__field.labels.instance}' : '${__data.fields.agent}';
  return link('Status page of the agent', `http://${instance}/`, true);
}

/** Values as words, each with its colour. */
export function words(all: [number, string, string][]): dashboard.ValueMapping[] {
  const options = Object.fromEntries(
    all.map(([value, text, color], index) => [String(value), { text, color, index }]),
  );
  return [{ type: dashboard.MappingType.ValueToText, options }];
}

/** A colour of its own for some series, by their names. */
export function coloured<P extends Named>(panel: P, colours: Record<string, string>): P {
  for (const [name, fixedColor] of Object.entries(colours)) {
    panel.overrideByName(name, [{ id: 'color', value: { mode: 'fixed', fixedColor } }]);
  }
  return panel;
}

interface Named {
  overrideByName(name: string, properties: dashboard.DynamicConfigValue[]): this;
}

/** 1 for what is well, and 0. */
export const UP_OR_DOWN = words([
  [1, 'up', COLOUR.good],
  [0, 'down', COLOUR.critical],
]);

/** What can be chosen on a board beside the agents. */
export type Choice = 'group' | 'target';

/** A board with nothing on it but what all have. */
export function board(
  uid: string,
  title: string,
  description: string,
  choices: Choice[],
): dashboard.DashboardBuilder {
  const made = new dashboard.DashboardBuilder(`evenkeel / ${title}`)
    .uid(uid)
    .description(description)
    .tags([TAG])
    .time({ from: 'now-6h', to: 'now' })
    .timezone('browser')
    .refresh('30s')
    .editable()
    .tooltip(dashboard.DashboardCursorSync.Crosshair)
    .withVariable(
      new dashboard.DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'),
    )
    .withVariable(choice('job', 'Job', 'label_values(evenkeel_build_info, job)'))
    .withVariable(
      choice('instance', 'Agent', 'label_values(evenkeel_build_info{job=~"$job"}, instance)'),
    );
  if (choices.includes('group')) {
    const groups = `label_values(${of('evenkeel_peers_admitted')}, group)`;
    made.withVariable(choice('group', 'Group of peers', groups));
  }
  if (choices.includes('target')) {
    const targets = `label_values(${of('evenkeel_notification_target_reachable')}, target)`;
    made.withVariable(choice('target', 'Notification target', targets));
  }
  made
    .link(
      new dashboard.DashboardLinkBuilder('evenkeel')
        .type(dashboard.DashboardLinkType.Dashboards)
        .tags([TAG])
        .asDropdown(true)
        .includeVars(true)
        .keepTime(true),
    )
    .annotation(
      happened('Raises', 'evenkeel_alarms_raised_total', 'kind, instance', '{{kind}} raised', 'red'),
    )
    .annotation(
      happened('Clears', 'evenkeel_alarms_cleared_total', 'kind, instance', '{{kind}} cleared', 'green'),
    )
    .annotation(
      happened('Takeovers', 'evenkeel_pair_takeovers_total', 'kind, instance', 'takeover ({{kind}})', 'purple'),
    );
  return made;
}

function choice(name: string, label: string, definition: string): dashboard.QueryVariableBuilder {
  return new dashboard.QueryVariableBuilder(name)
    .label(label)
    .datasource(DATA_SOURCE)
    .query({ query: definition, refId: name })
    .definition(definition)
    .refresh(dashboard.VariableRefresh.OnTimeRangeChanged)
    .sort(dashboard.VariableSort.NaturalAsc)
    .multi(true)
    .includeAll(true)
    .allValue('.+')
    .current({ selected: true, text: ['All'], value: ['$__all'] });
}

/** A number that is chosen from a few. */
export function number(name: string, label: string, values: number[], preset: number) {
  const text = (value: number) => String(value);
  return new dashboard.CustomVariableBuilder(name)
    .label(label)
    .values(values.map(text).join(','))
    .current({ selected: true, text: text(preset), value: text(preset) })
    .options(
      values.map((value) => ({ selected: value === preset, text: text(value), value: text(value) })),
    );
}

/** Marks on all graphs where a counter grew. */
function happened(name: string, counter: string, by: string, title: string, colour: string) {
  return new dashboard.AnnotationQueryBuilder()
    .name(name)
    .datasource(DATA_SOURCE)
    .enable(true)
    .hide(false)
    .iconColor(colour)
    .expr(`sum by (${by}) (increase(${of(counter)}[1m])) > 0`)
    .step('30s')
    .titleFormat(title)
    .textFormat('{{instance}}')
    .tagKeys('kind');
}
