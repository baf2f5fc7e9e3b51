// What a dashboard of ours may be, by the types that Grafana publishes. JSON has no enums: their values stand for them.
import type { AnnotationQuery, Dashboard, DataQuery, FieldConfig, FieldConfigSource, Panel, RowPanel } from '@grafana/schema';
import type { Options as BarGauge } from '@grafana/schema/dist/types/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen.d.ts';
import type { Options as Stat } from '@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen.d.ts';
import type { Options as Table } from '@grafana/schema/dist/types/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen.d.ts';
import type {
  FieldConfig as Graph,
  Options as TimeSeries,
} from '@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen.d.ts';

type Plain<T> = T extends string
  ? `${T}`
  : T extends number | boolean | null | undefined
    ? T
    : T extends (infer Item)[]
      ? Plain<Item>[]
      : T extends object
        ? { [Key in keyof T]: Plain<T[Key]> }
        : T;

// As published, but for unknown options, which the types let through.
type Drawn<Kind extends string, Options, Custom> = Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets'> & {
  type: Kind;
  options: Partial<Options>;
  fieldConfig: Omit<FieldConfigSource, 'defaults'> & { defaults: Omit<FieldConfig, 'custom'> & { custom?: Custom } };
  targets: Query[];
};

// The ClickHouse plugin publishes no types; these are the fields of a query by SQL of its version 4 (src/types/sql.ts).
type Sql = DataQuery & { rawSql: string; editorType: 'sql'; queryType: 'timeseries' | 'table'; format: 0 | 1 };
// https://github.com/grafana/grafana, packages/grafana-prometheus/src/types.ts
type PromQL = DataQuery & {
  expr: string;
  legendFormat: string;
  instant: boolean;
  range: boolean;
  format: 'table' | 'time_series';
};
type Query = Sql | PromQL;

export type Board = Plain<
  Omit<Dashboard, 'panels' | 'annotations' | 'version'> & {
    version: number;
    panels: (
      | RowPanel
      | Drawn<'stat', Stat, never>
      | Drawn<'bargauge', BarGauge, never>
      | Drawn<'table', Table, never>
      | Drawn<'timeseries', TimeSeries, Graph>
    )[];
    annotations: { list: (Omit<AnnotationQuery, 'target'> & { target: Sql })[] };
  }
>;
