//! Metric families of the crate `prometheus` that are made anew for each page, from numbers that are
//! counted elsewhere: the crate's own counters and histograms count by themselves and cannot be set.

use prometheus::proto::{Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

/// The families of one page so far.
#[derive(Default)]
pub struct Families(pub Vec<MetricFamily>);

impl Families {
    /// Adds a family of counters, by the values of its labels.
    pub fn counters<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&str; N],
        rows: impl IntoIterator<Item = ([&'a str; N], u64)>,
    ) {
        let metrics = rows.into_iter().map(|(values, count)| {
            let mut counter = Counter::default();
            counter.set_value(count as f64);
            let mut metric = labelled(labels, values);
            metric.set_counter(counter);
            metric
        });
        self.family(name, help, MetricType::COUNTER, metrics.collect());
    }

    /// Adds a family of gauges.
    pub fn gauges<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&str; N],
        rows: impl IntoIterator<Item = ([&'a str; N], f64)>,
    ) {
        let metrics = rows.into_iter().map(|(values, value)| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            let mut metric = labelled(labels, values);
            metric.set_gauge(gauge);
            metric
        });
        self.family(name, help, MetricType::GAUGE, metrics.collect());
    }

    /// Adds a family of histograms.
    pub fn histograms<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&str; N],
        rows: impl IntoIterator<Item = ([&'a str; N], Histogram)>,
    ) {
        let metrics = rows.into_iter().map(|(values, histogram)| {
            let mut metric = labelled(labels, values);
            metric.set_histogram(histogram);
            metric
        });
        self.family(name, help, MetricType::HISTOGRAM, metrics.collect());
    }

    /// Adds a family; one without series is left out, as the encoder refuses it.
    fn family(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }
}

fn labelled<const N: usize>(names: [&str; N], values: [&str; N]) -> Metric {
    let pairs = names.iter().zip(values).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.to_owned());
        pair
    });
    Metric::from_label(pairs.collect())
}
