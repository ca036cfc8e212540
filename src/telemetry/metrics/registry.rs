//! Creates handles, and describes what they count.

use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::PrometheusRecorder;
use strum::VariantArray;

const METADATA: Metadata<'static> = Metadata::new("upwarden", Level::INFO, None);

type Pair = (&'static str, &'static str);

#[derive(Clone, Copy)]
pub(super) struct Registry<'a>(pub(super) &'a PrometheusRecorder);

impl Registry<'_> {
    pub(super) fn counter(self, name: &'static str, help: &'static str, labels: &[Pair]) -> Counter {
        self.0.describe_counter(name.into(), None, help.into());
        self.0.register_counter(&key(name, labels), &METADATA)
    }

    pub(super) fn gauge(self, name: &'static str, help: &'static str, labels: &[Pair]) -> Gauge {
        self.0.describe_gauge(name.into(), unit(name), help.into());
        self.0.register_gauge(&key(name, labels), &METADATA)
    }

    pub(super) fn histogram(self, name: &'static str, help: &'static str, labels: &[Pair]) -> Histogram {
        self.0.describe_histogram(name.into(), unit(name), help.into());
        self.0.register_histogram(&key(name, labels), &METADATA)
    }

    pub(super) fn counters<L>(self, name: &'static str, help: &'static str, label: &'static str) -> Counters<L>
    where
        L: VariantArray + Into<&'static str> + Copy,
    {
        let counter = |value: &L| (*value, self.counter(name, help, &[(label, (*value).into())]));
        Counters(L::VARIANTS.iter().map(counter).collect())
    }
}

fn key(name: &'static str, labels: &[Pair]) -> Key {
    let label = |(name, value): &Pair| Label::new(SharedString::const_str(name), SharedString::const_str(value));
    Key::from_parts(name, labels.iter().map(label).collect::<Vec<_>>())
}

fn unit(name: &str) -> Option<Unit> {
    name.contains("_seconds").then_some(Unit::Seconds)
}

/// One counter for each value, present from the start, so that an event that never happened reads 0 and rates are
/// correct.
#[derive(Debug)]
pub(super) struct Counters<L>(pub(super) Vec<(L, Counter)>);

impl<L> Default for Counters<L> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<L: Copy + PartialEq> Counters<L> {
    /// Searching a few values is faster than hashing.
    pub(super) fn count(&self, value: L) {
        if let Some((_, counter)) = self.0.iter().find(|(known, _)| *known == value) {
            counter.increment(1);
        }
    }
}

/// A copy, because this module uses no other.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
