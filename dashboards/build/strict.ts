// Grafana's own types, put together for what our boards use: `check.ts` makes a JSON Schema of `Board` that
// allows nothing else. Grafana's type of a dashboard leaves open what a panel's options, settings and
// queries are, as any plugin has its own; here each kind of panel has those of its plugin. The package exports
// only some of them by name, so tsconfig.json says where they all are (`grafana-types`).

import type * as heatmap from 'grafana-types/raw/composable/heatmap/panelcfg/x/types.gen';
import type * as stat from 'grafana-types/raw/composable/stat/panelcfg/x/types.gen';
import type * as statetimeline from 'grafana-types/raw/composable/statetimeline/panelcfg/x/types.gen';
import type * as table from 'grafana-types/raw/composable/table/panelcfg/x/types.gen';
import type * as timeseries from 'grafana-types/raw/composable/timeseries/panelcfg/x/types.gen';
import type * as raw from 'grafana-types/raw/dashboard/x/types.gen';

/** A query to Prometheus. Its types are those of the data source's plugin, which has no package. */
interface Query {
  refId: string;
  datasource: raw.DataSourceRef;
  expr: string;
  legendFormat?: string;
  format?: 'time_series' | 'table' | 'heatmap';
  instant?: boolean;
  range?: boolean;
  editorMode: 'code' | 'builder';
  /** Left by the SDK, which knows all kinds of queries. */
  exemplar?: boolean;
}

interface DataLink {
  title: string;
  url: string;
  targetBlank?: boolean;
}

type Panel<Type extends string, Options, Custom> = Omit<
  raw.Panel,
  'type' | 'options' | 'targets' | 'fieldConfig'
> & {
  type: Type;
  id: number;
  title: string;
  description: string;
  gridPos: raw.GridPos;
  datasource: raw.DataSourceRef;
  targets: Query[];
  options?: Partial<Options>;
  fieldConfig: {
    defaults: Omit<raw.FieldConfig, 'custom' | 'links'> & { custom?: Partial<Custom>; links?: DataLink[] };
    overrides: { matcher: raw.MatcherConfig; properties: { id: string; value?: unknown }[] }[];
  };
};

/**
 * A panel or a row, told apart by its type.
 *
 * @discriminator type
 */
type AnyPanel =
  | Panel<'stat', stat.Options, Record<string, never>>
  | Panel<'timeseries', timeseries.Options, timeseries.FieldConfig>
  | Panel<'state-timeline', statetimeline.Options, statetimeline.FieldConfig>
  | Panel<'table', table.Options, table.FieldConfig>
  | Panel<'heatmap', heatmap.Options, heatmap.FieldConfig>
  | Row;

interface Row {
  type: 'row';
  id: number;
  title: string;
  collapsed: boolean;
  gridPos: raw.GridPos;
  panels: [];
}

/** Marks from a query to Prometheus: what its plugin reads beside what all annotations have. */
type Annotation = Omit<raw.AnnotationQuery, 'target'> & {
  expr: string;
  step: string;
  titleFormat: string;
  textFormat: string;
  tagKeys: string;
};

/** A variable, with what the query variable of Prometheus adds. */
type Variable = Omit<raw.VariableModel, 'query'> & {
  query?: string | { query: string; refId: string };
  definition?: string;
};

/** One of our boards. */
export type Board = Omit<raw.Dashboard, 'panels' | 'annotations' | 'templating'> & {
  uid: string;
  title: string;
  description: string;
  tags: string[];
  panels: AnyPanel[];
  annotations: { list: Annotation[] };
  templating: { list: Variable[] };
};
