//! The plan: which targets answer a request, in which order, and why each is there.

use super::auto::{self, Features};
use super::catalogue::Catalogue;
use super::class;
use super::reference::Reference;
use super::registry::Roles;
use crate::chat::{ChatError, ErrorKind};
use crate::config::classes::{Class, FIRST_CATALOGUE_WAIT};
use crate::config::{OnCloudModel, Snapshot};
use crate::provider::facts::{Facts, Known};
use crate::provider::{Endpoint, FallbackUse, MLX_LOCAL, Provider};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Aliases of aliases are followed so far, which also ends circles.
const MAX_ALIASES: usize = 8;

/// How many near names an error offers.
const NEAREST: usize = 3;
/// No model's name is longer, in bytes; to liken a text to all names takes as long as it is.
const LONGEST_NAME: usize = 200;

/// One provider with one model of its own naming, ready to be called.
#[derive(Debug, Clone)]
pub struct Target {
    /// Who.
    pub provider: Arc<Provider>,
    /// The provider's own name of the model.
    pub model: Arc<str>,
    /// Why it is in the plan.
    pub reason: Cow<'static, str>,
    /// Neighbours with the same number are as good as each other.
    pub equals: Option<usize>,
}

impl Target {
    /// The same model of the same provider, whatever the reason.
    pub fn is_same(&self, other: &Self) -> bool {
        self.provider.name == other.provider.name && self.model == other.model
    }
}

/// `<provider>/<model>`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider.name, self.model)
    }
}

/// The ordered targets of one request.
#[derive(Debug, Clone)]
pub struct Plan {
    /// At least one, the best first.
    pub targets: Vec<Target>,
    /// The task class, if one was asked for or chosen.
    pub class: Option<String>,
    /// Why `auto` chose it.
    pub class_reason: Option<String>,
    /// The model that was asked for, if local-only mode put another in its place.
    pub substituted: Option<String>,
}

/// What a request says about who is to answer.
pub struct Ask<'a> {
    /// The model string.
    pub model: &'a str,
    /// `x-bifrost-class`, which goes before the model string.
    pub class: Option<&'a str>,
    /// The features of the request; asked for only when `auto` needs them.
    pub features: &'a dyn Fn() -> Features,
}

/// By whose word nothing may leave the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalOnly {
    /// The gateway's owner's.
    Mode,
    /// The request's own.
    Request,
}

impl LocalOnly {
    /// How that is lifted.
    const fn remedy(self) -> &'static str {
        match self {
            Self::Mode => "switch local-only mode off",
            Self::Request => "leave `x-bifrost-local` out",
        }
    }
}

/// As a sentence begins.
impl fmt::Display for LocalOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mode => "Local-only mode is on",
            Self::Request => "This request may not leave the machine (it says `x-bifrost-local`)",
        })
    }
}

/// What is known at the time of the request.
pub struct View<'a> {
    /// The configuration.
    pub snapshot: &'a Snapshot,
    /// The providers' model lists.
    pub catalogue: &'a Catalogue,
    /// The roles of the registry, empty if there is none.
    pub roles: &'a Roles,
    /// Whether a provider has what it needs to be called (its key resolves, or the client brought one). Never asked about
    /// a provider that local-only mode forbids.
    pub is_active: &'a dyn Fn(&Provider) -> bool,
    /// Nothing may leave the machine, by the word of the gateway's mode or of this request.
    pub local_only: Option<LocalOnly>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing is called so.
    #[error("No model, task class or alias is called `{model}`.{}", did_you_mean(nearest))]
    Unknown {
        /// The model string.
        model: String,
        /// Names that are near, the nearest first.
        nearest: Vec<String>,
    },
    /// The provider is known and has no key.
    #[error("`{model}` is a model of {provider}, and there is no key for {provider}: {remedy}")]
    NoKey {
        /// The model string.
        model: String,
        /// The provider.
        provider: String,
        /// What to do.
        remedy: String,
    },
    /// The class is known and nobody is there who could answer.
    #[error("The task class `{class}` has no model to go to now: {reason}")]
    NoTarget {
        /// The class.
        class: String,
        /// Why, and what to do.
        reason: String,
    },
    /// Nothing may leave the machine, and the model is one of the cloud.
    #[error(
        "{by} and `{model}` is not a model of the local server. Ask for a local model or a task class, or {}.",
        by.remedy()
    )]
    Refused {
        /// The model string.
        model: String,
        /// Who forbids the cloud.
        by: LocalOnly,
    },
    /// Only this machine may answer, and the model is not known to be on it.
    #[error(
        "`{model}` is not known to be on this machine: the local server has models of other machines too, and lists this \
         one not as its own. Only this machine may answer (local-only mode, or `cloud = false` of the class): ask for a \
         model of `GET /v1/models`."
    )]
    Elsewhere {
        /// The target.
        model: String,
    },
    /// Nothing may leave the machine, and the local server lists no model.
    #[error("{by} and the local MLX server has no model to offer: {reason}")]
    LocalDown {
        /// Why, and what to do.
        reason: String,
        /// Who forbids the cloud.
        by: LocalOnly,
    },
    /// The first model lists are still on their way.
    #[error("The gateway has just started and does not know yet which models there are; ask again in a moment.")]
    NotYet,
}

fn did_you_mean(nearest: &[String]) -> String {
    if nearest.is_empty() {
        return " `GET /v1/models` lists what there is.".to_owned();
    }
    let names: Vec<String> = nearest.iter().map(|name| format!("`{name}`")).collect();
    format!(" Near it: {}. `GET /v1/models` lists what there is.", names.join(", "))
}

impl From<PlanError> for ChatError {
    fn from(error: PlanError) -> Self {
        let (kind, code, retry_after) = match &error {
            PlanError::Unknown { .. } => (ErrorKind::NotFound, "model_not_found", None),
            PlanError::NoKey { .. } => (ErrorKind::Authentication, "provider_has_no_key", None),
            PlanError::NoTarget { .. } => (ErrorKind::Unavailable, "class_has_no_model", Some(Duration::from_secs(15))),
            PlanError::Refused { .. } | PlanError::Elsewhere { .. } => (ErrorKind::Permission, "local_only", None),
            PlanError::LocalDown { .. } => (ErrorKind::Unavailable, "local_server_down", Some(Duration::from_secs(5))),
            PlanError::NotYet => (ErrorKind::Unavailable, "catalogue_not_ready", Some(FIRST_CATALOGUE_WAIT)),
        };
        Self { retry_after, ..Self::new(kind, error.to_string()).with_code(code) }
    }
}

impl<'a> View<'a> {
    /// The providers that may be called, in the order of the config.
    pub fn providers(&self) -> impl Iterator<Item = &'a Arc<Provider>> {
        self.snapshot.providers.iter().filter(|provider| self.may_call(provider))
    }

    /// All that is known of a model: the config's word first, then the lists, then the data file.
    pub fn facts(&self, provider: &Provider, model: &str) -> Facts {
        self.told(provider, model, &self.catalogue.facts(provider, model))
    }

    /// What is known, with the config's word over it.
    pub(super) fn told(&self, provider: &Provider, model: &str, known: &Facts) -> Facts {
        let overrides = &self.snapshot.facts;
        let mut facts = Facts::default();
        if !overrides.is_empty() {
            let full = overrides.get(&format!("{}/{model}", provider.name));
            for told in full.into_iter().chain(overrides.get(model)) {
                facts.fill_from(told);
            }
        }
        facts.fill_from(known);
        facts.apply_rule_of(&provider.name);
        facts
    }

    /// The local model that the user calls by `role`: the registry's word, or an alias to `mlx-local/<id>`.
    pub fn role(&self, role: &str) -> Option<&'a str> {
        let alias = || self.snapshot.aliases.get(role)?.strip_prefix("mlx-local/");
        self.roles.get(role).or_else(alias)
    }

    fn may_call(&self, provider: &Provider) -> bool {
        if self.local_only.is_some() && !(&*provider.name == MLX_LOCAL && provider.is_local() && provider.is_loopback())
        {
            return false;
        }
        (self.is_active)(provider)
    }

    fn provider(&self, name: &str) -> Option<&'a Arc<Provider>> {
        let named = self.snapshot.providers.iter().find(|provider| *provider.name == *name);
        named.filter(|provider| self.may_call(provider))
    }

    fn mlx(&self) -> Option<&'a Arc<Provider>> {
        self.provider(MLX_LOCAL)
    }
}

/// Who answers a request.
///
/// # Errors
/// See [`PlanError`].
pub fn plan(ask: &Ask<'_>, view: &View<'_>) -> Result<Plan, PlanError> {
    let mut plan = resolve_ask(ask, view)?;
    without_remote(&mut plan, view)?;
    without_forbidden_fallbacks(&mut plan.targets);
    Ok(plan)
}

/// Takes out what the local server would pass on to another machine, where only this one may answer.
fn without_remote(plan: &mut Plan, view: &View<'_>) -> Result<(), PlanError> {
    let class = plan.class.as_deref().and_then(|name| Some((name, view.snapshot.classes.get(name)?)));
    let class = class.filter(|(_, class)| !class.cloud).map(|(name, _)| name.to_owned());
    if view.local_only.is_none() && class.is_none() {
        return Ok(());
    }
    let first = plan.targets.first().cloned();
    plan.targets.retain(|target| view.catalogue.is_here(&target.provider, &target.model));
    let Some(first) = first.filter(|_| plan.targets.is_empty()) else { return Ok(()) };
    let provider = &first.provider;
    if view.catalogue.list(&provider.name).is_some_and(|list| list.fetched_at.is_some()) {
        return Err(PlanError::Elsewhere { model: first.to_string() });
    }
    if view.catalogue.is_awaited(provider) {
        return Err(PlanError::NotYet);
    }
    let reason = silence(view, provider);
    Err(match (view.local_only, class) {
        (None, Some(class)) => PlanError::NoTarget { class, reason },
        (by, _) => PlanError::LocalDown { reason, by: by.unwrap_or(LocalOnly::Mode) },
    })
}

/// Takes out, behind the first target, those whose provider may not answer in another's place.
pub fn without_forbidden_fallbacks(targets: &mut Vec<Target>) {
    let mut is_first = true;
    targets.retain(|target| std::mem::take(&mut is_first) || target.provider.fallback == FallbackUse::Allowed);
}

fn resolve_ask(ask: &Ask<'_>, view: &View<'_>) -> Result<Plan, PlanError> {
    let reference = match ask.class {
        Some("auto") => Reference::Auto,
        Some(class) => Reference::Class(class),
        None => Reference::parse(ask.model),
    };
    if reference != Reference::Auto {
        return resolve(view, reference, 0);
    }
    let features = (ask.features)();
    let (class, reason) = auto::choose(&view.snapshot.auto, &features).ok_or_else(|| PlanError::NoTarget {
        class: "auto".to_owned(),
        reason: "no rule of `auto` holds for this request; end the rules with one that has no condition.".to_owned(),
    })?;
    let mut plan = resolve(view, Reference::Class(class), 0)?;
    plan.class_reason = Some(reason);
    Ok(plan)
}

fn resolve(view: &View<'_>, reference: Reference<'_>, depth: usize) -> Result<Plan, PlanError> {
    match reference {
        Reference::Empty => Err(unknown(view, "")),
        // Only an alias to `auto` comes here: its rules need a request, so the name is no model.
        Reference::Auto => Err(unknown(view, "auto")),
        Reference::Class(name) => named(view, name, depth).unwrap_or_else(|| Err(unknown(view, name))),
        Reference::Bare(name) => named(view, name, depth).unwrap_or_else(|| by_id(view, name)),
        Reference::Slashed { first, rest, whole } => {
            if let Some(target) = view.snapshot.aliases.get(whole) {
                return follow(view, whole, target, depth);
            }
            match view.provider(first) {
                Some(provider) => Ok(of_provider(view, provider, rest, whole)),
                None => by_id(view, whole),
            }
        }
    }
}

/// A class, an alias or a role; `None` if nothing is called so.
fn named(view: &View<'_>, name: &str, depth: usize) -> Option<Result<Plan, PlanError>> {
    if let Some(class) = view.snapshot.classes.get(name) {
        return Some(of_class(view, name, name, class));
    }
    if let Some(target) = view.snapshot.aliases.get(name) {
        let class = target.strip_prefix("class/").unwrap_or(target);
        // An alias of a class keeps its own name, by which the registry may know a model.
        return Some(match view.snapshot.classes.get(class) {
            Some(found) => of_class(view, name, class, found),
            None => follow(view, name, target, depth),
        });
    }
    let model = view.roles.get(name)?;
    let provider = view.mlx()?;
    Some(Ok(single(provider, listed_spelling(view, provider, model), format!("role {name} of the registry"))))
}

fn follow(view: &View<'_>, name: &str, target: &str, depth: usize) -> Result<Plan, PlanError> {
    if depth >= MAX_ALIASES || target == name {
        return Err(unknown(view, name));
    }
    let mut plan = resolve(view, Reference::parse(target), depth + 1)?;
    for target in &mut plan.targets {
        target.reason = Cow::Owned(format!("alias {name}: {}", target.reason));
    }
    Ok(plan)
}

fn single(provider: &Arc<Provider>, model: &str, reason: impl Into<Cow<'static, str>>) -> Plan {
    let reason = reason.into();
    let target = Target { provider: provider.clone(), model: Arc::from(model), reason, equals: None };
    Plan { targets: vec![target], class: None, class_reason: None, substituted: None }
}

/// The model as its provider spells it, where only the case differs.
fn listed_spelling<'a>(view: &View<'a>, provider: &Provider, model: &'a str) -> &'a str {
    view.catalogue.list(&provider.name).and_then(|list| list.spelled(model)).unwrap_or(model)
}

/// `<provider>/<rest>` with an active provider.
fn of_provider(view: &View<'_>, provider: &Arc<Provider>, rest: &str, whole: &str) -> Plan {
    if &*provider.name == MLX_LOCAL {
        if let Some(model) = view.role(rest) {
            return single(provider, listed_spelling(view, provider, model), format!("role {rest}"));
        }
    } else if let Some(mlx) = view.mlx()
        && let Some(listed) = view.catalogue.list(&mlx.name).and_then(|list| list.spelled(whole))
        && view.catalogue.list(&provider.name).is_none_or(|list| list.find(rest).is_none())
    {
        return single(mlx, listed, "the local server lists exactly this id");
    }
    single(provider, listed_spelling(view, provider, rest), "its provider is named")
}

/// An id without a provider in front, looked up in the lists: local first, then vendors, then aggregators.
fn by_id(view: &View<'_>, id: &str) -> Result<Plan, PlanError> {
    let mut found: Vec<Target> = Vec::new();
    for provider in view.providers() {
        if let Some(model) = view.catalogue.list(&provider.name).and_then(|list| list.spelled(id)) {
            let reason = Cow::Borrowed("its provider lists it");
            found.push(Target { provider: provider.clone(), model: Arc::from(model), reason, equals: None });
        }
    }
    found.sort_by_key(|target| target.provider.kind);
    // Who names a model that is on this machine does not mean to pay for it elsewhere.
    if found.first().is_some_and(|target| target.provider.is_local()) {
        found.retain(|target| target.provider.is_local());
    }
    if !found.is_empty() {
        return Ok(Plan { targets: found, class: None, class_reason: None, substituted: None });
    }
    if let Some(by) = view.local_only {
        return stand_in(view, by, id);
    }
    let mut awaited = view.providers().filter(|provider| view.catalogue.is_awaited(provider)).peekable();
    if awaited.peek().is_some() {
        // The list of a vendor whose key only the client has never comes.
        return match awaited.find(|provider| Known::shipped().is_vendor(&provider.name, id)) {
            Some(provider) => Ok(single(provider, id, format!("a known model of {}", provider.name))),
            None => Err(PlanError::NotYet),
        };
    }
    if let Some(provider) = without_key(view, id) {
        return Err(no_key(&provider, id));
    }
    Err(unknown(view, id))
}

/// In local-only mode: what answers for a model that the local server does not list.
fn stand_in(view: &View<'_>, by: LocalOnly, id: &str) -> Result<Plan, PlanError> {
    if view.snapshot.local.on_cloud_model == OnCloudModel::Refuse {
        return Err(PlanError::Refused { model: id.to_owned(), by });
    }
    let target = local_default(view, by)?;
    Ok(Plan { targets: vec![target], class: None, class_reason: None, substituted: Some(id.to_owned()) })
}

/// The model of the local server for whoever names none: in memory, then the role `default`, then the first listed.
fn local_default(view: &View<'_>, by: LocalOnly) -> Result<Target, PlanError> {
    let Some(provider) = view.mlx() else {
        let reason = "the provider mlx-local is switched off in the config, or its base_url is not a loopback address.";
        return Err(PlanError::LocalDown { reason: reason.to_owned(), by });
    };
    let list = view.catalogue.list(&provider.name);
    let target = |model: &str, reason: &str| {
        let reason = Cow::Owned(format!("local default: {reason}"));
        Target {
            provider: provider.clone(),
            model: Arc::from(listed_spelling(view, provider, model)),
            reason,
            equals: None,
        }
    };
    let role = view.role("default").filter(|role| list.is_none_or(|list| list.is_here(role)));
    if let Some((list, running)) = list.and_then(|list| Some((list, list.running.as_deref()?))) {
        let preferred = role.filter(|role| !running.is_empty() && list.is_loaded(role));
        let first = || running.iter().map(String::as_str).find(|model| list.may_chat(model));
        if let Some(model) = preferred.or_else(first) {
            return Ok(target(model, "in memory"));
        }
    }
    if let Some(model) = role {
        return Ok(target(model, "role default"));
    }
    if let Some(model) = list.and_then(|list| list.models.iter().find(|model| model.chat != Some(false))) {
        return Ok(match list.and_then(|list| list.running.as_deref()) {
            None => target(&model.id, "what the server serves"),
            Some(_) => target(&model.id, "nothing is in memory and no default is named, so the first listed"),
        });
    }
    if view.catalogue.is_awaited(provider) {
        return Err(PlanError::NotYet);
    }
    Err(PlanError::LocalDown { reason: silence(view, provider), by })
}

/// Why a provider has no model to offer, and what to do.
fn silence(view: &View<'_>, provider: &Provider) -> String {
    let address = provider.endpoints.first().map_or("", Endpoint::base_url);
    match view.catalogue.list(&provider.name).and_then(|list| list.failure.as_ref()) {
        // It says itself who it was, and what to do.
        Some((error, _)) if error.starts_with(&*provider.name) => error.clone(),
        Some((error, _)) => {
            format!("{} at {address} did not list its models ({error}). Start it, then ask again.", provider.name)
        }
        None => format!("{} at {address} lists no model. Give it one, then ask again.", provider.name),
    }
}

/// The plan of a class. `asked` is the name it was asked by, the class's own or an alias.
fn of_class(view: &View<'_>, asked: &str, name: &str, class: &Class) -> Result<Plan, PlanError> {
    let mut targets = class::targets(view, asked, class);
    if let Some(by) = view.local_only.filter(|_| targets.is_empty()) {
        targets.push(local_default(view, by)?);
    }
    if targets.is_empty() {
        let mut meant = view.providers().filter(|provider| class.cloud || provider.is_local());
        if meant.any(|provider| view.catalogue.is_awaited(provider)) {
            return Err(PlanError::NotYet);
        }
        return Err(PlanError::NoTarget { class: name.to_owned(), reason: no_target(view, class) });
    }
    Ok(Plan { targets, class: Some(name.to_owned()), class_reason: None, substituted: None })
}

fn no_target(view: &View<'_>, class: &Class) -> String {
    let local = match view.mlx() {
        Some(provider) if view.catalogue.list(MLX_LOCAL).is_none_or(|list| list.models.is_empty()) => {
            silence(view, provider)
        }
        Some(_) => "no model of the local server is what the class asks for.".to_owned(),
        None => "the local server is switched off in the config.".to_owned(),
    };
    let cloud = if !class.cloud {
        "It may not go to the cloud: `cloud = true` in the class allows it."
    } else if view.providers().all(|provider| provider.is_local()) {
        "It may go to the cloud, but no cloud provider has a key: set one, such as OPENROUTER_API_KEY."
    } else {
        "No cloud provider with a key lists a model that it asks for."
    };
    format!("{local} {cloud}")
}

/// The provider of the config that would have this model if it had a key.
fn without_key(view: &View<'_>, id: &str) -> Option<Arc<Provider>> {
    let inactive = || view.snapshot.providers.iter().filter(|provider| !view.may_call(provider));
    let first = id.split('/').next().filter(|first| first.len() < id.len());
    let named = first.and_then(|first| inactive().find(|provider| *provider.name == *first));
    let lists =
        |provider: &&Arc<Provider>| view.catalogue.list(&provider.name).is_some_and(|list| list.find(id).is_some());
    named.or_else(|| inactive().find(lists)).cloned()
}

fn no_key(provider: &Provider, model: &str) -> PlanError {
    let places: Vec<String> = provider.key_sources().map(ToString::to_string).collect();
    let remedy = if places.is_empty() {
        format!("set `key` in [providers.{}] of the config.", provider.name)
    } else {
        format!("none is at {}.", places.join(" or "))
    };
    PlanError::NoKey { model: model.to_owned(), provider: provider.name.to_string(), remedy }
}

/// The error for a name nobody knows, with the names that are near it.
fn unknown(view: &View<'_>, name: &str) -> PlanError {
    if name.len() > LONGEST_NAME {
        return PlanError::Unknown { model: name.to_owned(), nearest: Vec::new() };
    }
    let wanted = name.to_lowercase();
    let mut names: Vec<String> = view.snapshot.classes.keys().chain(view.snapshot.aliases.keys()).cloned().collect();
    names.extend(view.roles.iter().map(|(role, _)| role.to_owned()));
    for provider in view.providers() {
        let models = view.catalogue.list(&provider.name).map_or(&[][..], |list| &list.models);
        names.extend(models.iter().flat_map(|model| [&model.id].into_iter().chain(&model.aliases)).cloned());
    }
    let likeness = |name: &str| {
        let name = name.to_lowercase();
        let last = name.rsplit('/').next().unwrap_or(&name);
        strsim::jaro_winkler(&wanted, &name).max(strsim::jaro_winkler(&wanted, last))
    };
    let mut scored: Vec<(f64, String)> = names.into_iter().map(|name| (likeness(&name), name)).collect();
    scored.retain(|(score, _)| *score > 0.8);
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    PlanError::Unknown {
        model: name.to_owned(),
        nearest: scored.into_iter().take(NEAREST).map(|(_, name)| name).collect(),
    }
}
