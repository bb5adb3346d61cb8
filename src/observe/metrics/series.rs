//! The series that an exchange counts in, found once for each target: a label set is looked up by its hash, and an exchange
//! has a dozen of them.

use super::MAX_NAMES;
use super::families::{Amount, Histograms};
use super::labels::{AttemptLabels, ModelLabels, OperationLabels, RequestLabels, TargetLabels, TokenLabels};
use crate::chat::DialectId;
use crate::observe::{ExchangeRecord, Operation};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// The counters of requests that were answered with 200, by dialect and operation.
#[derive(Debug, Default)]
pub(super) struct Answers([[OnceLock<Counter>; Operation::ALL.len()]; DialectId::ALL.len()]);

impl Answers {
    /// The counter that counts `record`.
    pub(super) fn of(&self, record: &ExchangeRecord, requests: &Family<RequestLabels, Counter>) -> Counter {
        let of = |status| {
            let (ingress, operation) = (record.ingress.name(), record.operation.name());
            requests.get_or_create_owned(&RequestLabels { ingress, operation, status })
        };
        match record.counted_status() {
            200 => self.0[record.ingress as usize][record.operation as usize].get_or_init(|| of(200)).clone(),
            status => of(status),
        }
    }
}

/// The names of a target as they stand in labels.
#[derive(Debug)]
pub(super) struct TargetNames {
    pub provider: Arc<str>,
    /// The provider as OpenTelemetry's conventions call it.
    pub well_known: Arc<str>,
    pub model: Arc<str>,
}

/// The series of one operation at one target. Each begins when something is counted in it first.
#[derive(Debug)]
pub(super) struct Series {
    names: TargetNames,
    operation: &'static str,
    answered: OnceLock<Counter>,
    duration: OnceLock<Histogram>,
    first_chunk: OnceLock<Histogram>,
    first_token: OnceLock<Histogram>,
    per_token: OnceLock<Histogram>,
    input: OnceLock<Histogram>,
    output: OnceLock<Histogram>,
    cost: OnceLock<Amount>,
    cost_unknown: OnceLock<Counter>,
}

/// By provider and model; a model that no catalogue lists is the empty name.
type ByTarget = HashMap<Arc<str>, HashMap<Arc<str>, Arc<Series>>>;

/// The series of all targets that were asked.
#[derive(Debug, Default)]
pub(super) struct AllSeries([RwLock<ByTarget>; Operation::ALL.len()]);

impl AllSeries {
    /// Those that `record` counts in, whose target is one of `provider`; `names` tells what they are called.
    pub(super) fn of(
        &self,
        record: &ExchangeRecord,
        provider: &Arc<str>,
        names: impl FnOnce(Option<&str>) -> TargetNames,
    ) -> Arc<Series> {
        let asked = || record.last_call().map(|attempt| &attempt.model);
        let model = record.model.as_ref().or_else(asked).filter(|_| record.known_model);
        let known = &self.0[record.operation as usize];
        let of_provider = known.read().unwrap_or_else(PoisonError::into_inner);
        let name = model.map_or("", |model| model);
        if let Some(series) = of_provider.get(provider).and_then(|models| models.get(name)) {
            return Arc::clone(series);
        }
        drop(of_provider);
        let series = Arc::new(Series::new(names(model.map(|model| &**model)), record.operation.name()));
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        if known.values().map(HashMap::len).sum::<usize>() < MAX_NAMES {
            let models = known.entry(Arc::clone(provider)).or_default();
            models.insert(model.map_or_else(|| Arc::from(""), Arc::clone), Arc::clone(&series));
        }
        series
    }
}

impl Series {
    fn new(names: TargetNames, operation: &'static str) -> Self {
        Self {
            names,
            operation,
            answered: OnceLock::new(),
            duration: OnceLock::new(),
            first_chunk: OnceLock::new(),
            first_token: OnceLock::new(),
            per_token: OnceLock::new(),
            input: OnceLock::new(),
            output: OnceLock::new(),
            cost: OnceLock::new(),
            cost_unknown: OnceLock::new(),
        }
    }

    /// Attempts that went well.
    pub(super) fn answered(&self, attempts: &Family<AttemptLabels, Counter>) -> &Counter {
        self.answered.get_or_init(|| {
            attempts.get_or_create_owned(&AttemptLabels { provider: Arc::clone(&self.names.provider), outcome: "ok" })
        })
    }

    /// How long exchanges took that went well.
    pub(super) fn duration(&self, durations: &Histograms<OperationLabels>) -> &Histogram {
        self.duration.get_or_init(|| durations.get_or_create_owned(&self.operation(None)))
    }

    /// The labels of operations that ended with `error`.
    pub(super) fn operation(&self, error: Option<&'static str>) -> OperationLabels {
        OperationLabels {
            gen_ai_operation_name: self.operation,
            gen_ai_provider_name: Arc::clone(&self.names.well_known),
            gen_ai_request_model: Arc::clone(&self.names.model),
            error_type: error,
        }
    }

    pub(super) fn first_chunk(&self, times: &Histograms<TargetLabels>) -> &Histogram {
        self.first_chunk.get_or_init(|| times.get_or_create_owned(&self.target()))
    }

    pub(super) fn first_token(&self, times: &Histograms<TargetLabels>) -> &Histogram {
        self.first_token.get_or_init(|| times.get_or_create_owned(&self.target()))
    }

    pub(super) fn per_token(&self, times: &Histograms<TargetLabels>) -> &Histogram {
        self.per_token.get_or_init(|| times.get_or_create_owned(&self.target()))
    }

    pub(super) fn input(&self, tokens: &Histograms<TokenLabels>) -> &Histogram {
        self.input.get_or_init(|| tokens.get_or_create_owned(&self.tokens("input")))
    }

    pub(super) fn output(&self, tokens: &Histograms<TokenLabels>) -> &Histogram {
        self.output.get_or_init(|| tokens.get_or_create_owned(&self.tokens("output")))
    }

    pub(super) fn cost(&self, costs: &Family<ModelLabels, Amount>) -> &Amount {
        self.cost.get_or_init(|| costs.get_or_create_owned(&self.model()))
    }

    pub(super) fn cost_unknown(&self, unknown: &Family<ModelLabels, Counter>) -> &Counter {
        self.cost_unknown.get_or_init(|| unknown.get_or_create_owned(&self.model()))
    }

    fn target(&self) -> TargetLabels {
        TargetLabels {
            gen_ai_operation_name: self.operation,
            gen_ai_provider_name: Arc::clone(&self.names.well_known),
            gen_ai_request_model: Arc::clone(&self.names.model),
        }
    }

    fn tokens(&self, kind: &'static str) -> TokenLabels {
        TokenLabels {
            gen_ai_operation_name: self.operation,
            gen_ai_provider_name: Arc::clone(&self.names.well_known),
            gen_ai_request_model: Arc::clone(&self.names.model),
            gen_ai_token_type: kind,
        }
    }

    fn model(&self) -> ModelLabels {
        ModelLabels { provider: Arc::clone(&self.names.provider), model: Arc::clone(&self.names.model) }
    }
}
