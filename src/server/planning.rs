//! The plan of a request, from what the gateway knows now.

use super::Gateway;
use super::exchange::Exchange;
use crate::chat::ChatError;
use crate::config::Snapshot;
use crate::config::classes::FIRST_CATALOGUE_WAIT;
use crate::local::supervisor::State;
use crate::observe::Operation;
use crate::provider::facts::{Facts, Known};
use crate::provider::{FallbackUse, Provider};
use crate::route::auto::Features;
use crate::route::registry::Roles;
use crate::route::{Ask, LocalOnly, Plan, PlanError, Target, View, plan};
use crate::upstream::auth;
use http::header::USER_AGENT;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::cell::RefCell;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

impl Gateway {
    /// Who answers. Waits a little if the very first model lists are still on their way.
    ///
    /// # Errors
    /// Nobody can, or the request is wrong.
    pub async fn plan(&self, exchange: &Exchange) -> Result<Plan, ChatError> {
        if exchange.local_only && matches!(self.supervision.state(), State::Down | State::Held) {
            // Nobody waits minutes for a wedged server.
            return Err(self.local_trouble());
        }
        let mut waiting = None;
        loop {
            match self.plan_now(exchange) {
                // A client's own key needs no list.
                Ok(Err(PlanError::NotYet)) if own_vendor(exchange).is_none() => {
                    let Some((changes, deadline)) = &mut waiting else {
                        // What changes from now on is heard; what has changed before is seen at the next look.
                        waiting = Some((self.directory.changes(), Instant::now() + FIRST_CATALOGUE_WAIT));
                        continue;
                    };
                    let changed = pin!(timeout_at(*deadline, changes.changed()));
                    if exchange.away(changed).await.is_err() {
                        return Err(PlanError::NotYet.into());
                    }
                }
                Ok(Err(PlanError::LocalDown { .. })) => return Err(self.local_trouble()),
                // Vectors of another model would spoil whatever they are stored with.
                Ok(Ok(Plan { substituted: Some(model), .. })) if exchange.operation == Operation::Embeddings => {
                    return Err(PlanError::Refused { model, by: self.forbidden_by() }.into());
                }
                Ok(planned) => return planned.or_else(|error| own_key(exchange, error)),
                Err(error) => return Err(error),
            }
        }
    }

    fn plan_now(&self, exchange: &Exchange) -> Result<Result<Plan, PlanError>, ChatError> {
        let active = self.directory.active();
        let own_vendor = own_vendor(exchange);
        let is_active = |provider: &Provider| {
            active.contains(&*provider.name) || own_vendor.is_some_and(|vendor| vendor.name == provider.name)
        };
        let wrong = RefCell::new(None);
        let features = || match exchange.request() {
            Ok(request) => {
                let agent = exchange.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("");
                Features::of(request, agent, exchange.body.len())
            }
            Err(error) => {
                wrong.replace(Some(error));
                Features::default()
            }
        };
        let catalogue = self.directory.catalogue();
        let roles = self.roles();
        let view = View {
            snapshot: &exchange.snapshot,
            catalogue: &catalogue,
            roles: &roles,
            is_active: &is_active,
            local_only: exchange.local_only.then(|| self.forbidden_by()),
        };
        let ask = Ask { model: &exchange.asked, class: exchange.class.as_deref(), features: &features };
        let mut planned = plan(&ask, &view);
        if let Some(error) = wrong.into_inner() {
            return Err(error);
        }
        if !exchange.fallbacks.is_empty() {
            planned = with_fallbacks(planned, exchange, &view)?;
        }
        Ok(planned)
    }

    /// By whose word nothing may leave the machine, where nothing may.
    pub fn forbidden_by(&self) -> LocalOnly {
        if self.mode.is_on() { LocalOnly::Mode } else { LocalOnly::Request }
    }

    /// The context window of a target in tokens, where it is known.
    pub fn window(&self, exchange: &Exchange, target: &Target) -> Option<u64> {
        self.facts(&exchange.snapshot, target).context
    }

    /// The configuration names this model, or the provider lists it.
    pub fn knows(&self, snapshot: &Snapshot, provider: &str, model: &str) -> bool {
        snapshot.named_models.has(provider, model) || self.directory.lists(provider, model)
    }

    /// All that is known of a target's model now.
    pub fn facts(&self, snapshot: &Snapshot, target: &Target) -> Facts {
        let view = View {
            snapshot,
            catalogue: &self.directory.catalogue(),
            roles: &Roles::default(),
            is_active: &|_| true,
            local_only: None,
        };
        view.facts(&target.provider, &target.model)
    }

    /// The roles of the registry; the last good ones while its file cannot be read, and the log says so once.
    pub fn roles(&self) -> Arc<Roles> {
        static NONE: LazyLock<Arc<Roles>> = LazyLock::new(Arc::default);
        let Some(registry) = self.registry() else { return Arc::clone(&NONE) };
        match registry.roles() {
            Ok(roles) => {
                self.registry_failed(false);
                roles
            }
            Err(error) => {
                if self.registry_failed(true) {
                    warn!(%error, "the registry of roles cannot be read");
                }
                registry.last_good()
            }
        }
    }
}

/// The plan with the client's own fallbacks behind it. They are all there is when what was asked for has nobody to go to now;
/// `x-bifrost-substituted` then says so.
fn with_fallbacks(
    planned: Result<Plan, PlanError>,
    exchange: &Exchange,
    view: &View<'_>,
) -> Result<Result<Plan, PlanError>, ChatError> {
    let (mut plan, error) = match planned {
        Ok(plan) => (plan, None),
        Err(error @ (PlanError::NoTarget { .. } | PlanError::NoKey { .. } | PlanError::LocalDown { .. })) => {
            // A class that may not leave the machine still may not.
            let class = if let PlanError::NoTarget { class, .. } = &error { Some(class.clone()) } else { None };
            let substituted = Some(exchange.asked.clone());
            (Plan { targets: Vec::new(), class, class_reason: None, substituted }, Some(error))
        }
        Err(error) => return Ok(Err(error)),
    };
    for model in &exchange.fallbacks {
        match add_fallback(&mut plan, model, view)? {
            Ok(()) => {}
            // The lists will be there in a moment.
            Err(not_yet @ PlanError::NotYet) => return Ok(Err(not_yet)),
            // Nobody is there for it now, which is no mistake of the client's.
            Err(_) => {}
        }
    }
    Ok(match error {
        Some(error) if plan.targets.is_empty() => Err(error),
        _ => Ok(plan),
    })
}

/// Adds the targets of a model string that the client wants to go on with; the inner error is that nobody is there for it now.
///
/// # Errors
/// Nothing is called so, or the configuration forbids it.
fn add_fallback(first: &mut Plan, model: &str, view: &View<'_>) -> Result<Result<(), PlanError>, ChatError> {
    let ask = Ask { model, class: None, features: &Features::default };
    let next = match unknown(&ask, view).map_or_else(|| plan(&ask, view), Err) {
        Ok(next) => next,
        Err(error @ (PlanError::NoTarget { .. } | PlanError::LocalDown { .. } | PlanError::NotYet)) => {
            return Ok(Err(error));
        }
        Err(error) => {
            let message = format!("`fallbacks` names `{model}`, and that cannot be asked: {error}");
            return Err(ChatError::invalid("fallbacks", message).with_code("fallback_unknown"));
        }
    };
    let class = first.class.as_deref().and_then(|name| view.snapshot.classes.get(name));
    for mut target in next.targets {
        target.equals = None;
        let forbidden = if target.provider.fallback == FallbackUse::Never {
            Some(format!("[providers.{}] says `fallback = \"never\"`", target.provider.name))
        } else if class.is_some_and(|class| !class.cloud) && !view.catalogue.is_here(&target.provider, &target.model) {
            Some("the task class may not leave the machine (`cloud = false`)".to_owned())
        } else {
            None
        };
        if let Some(why) = forbidden {
            let message = format!("`fallbacks` names `{model}`, and the configuration forbids that: {why}.");
            return Err(ChatError::invalid("fallbacks", message).with_code("fallback_forbidden"));
        }
        if !first.targets.iter().any(|known| known.is_same(&target)) {
            target.reason = Cow::Owned(format!("a fallback of the client's: {model}"));
            first.targets.push(target);
        }
    }
    Ok(Ok(()))
}

/// In local-only mode a local model stands in for whatever is asked for; this tells all the same that nothing is called so.
fn unknown(ask: &Ask<'_>, view: &View<'_>) -> Option<PlanError> {
    view.local_only?;
    let everywhere = View { local_only: None, ..*view };
    let error = plan(ask, &everywhere).err().filter(|error| matches!(error, PlanError::Unknown { .. }))?;
    // The lists of the cloud may never have been fetched.
    let is_vendor = |provider: &Arc<Provider>| Known::shipped().is_vendor(&provider.name, ask.model);
    (!view.snapshot.providers.iter().any(is_vendor)).then_some(error)
}

/// A client that brought its own key may name models of its vendor that no list of ours knows.
fn own_key(exchange: &Exchange, error: PlanError) -> Result<Plan, ChatError> {
    match (&error, own_vendor(exchange)) {
        (PlanError::Unknown { .. } | PlanError::NotYet, Some(provider)) if exchange.class.is_none() => {
            let reason = Cow::Borrowed("the client's own key, to its own vendor");
            let target =
                Target { provider: Arc::clone(provider), model: Arc::from(&*exchange.asked), reason, equals: None };
            Ok(Plan { targets: vec![target], class: None, class_reason: None, substituted: None })
        }
        _ => Err(error.into()),
    }
}

/// The vendor that the client's own key is for, unless the model string names another provider.
fn own_vendor(exchange: &Exchange) -> Option<&Arc<Provider>> {
    exchange.client_credential()?;
    let providers = &exchange.snapshot.providers;
    let vendor = providers.iter().find(|provider| auth::is_vendor_of(provider, exchange.ingress))?;
    let named = exchange.asked.split_once('/').map(|(prefix, _)| prefix).filter(|prefix| **prefix != *vendor.name);
    let is_another = named.is_some_and(|prefix| providers.iter().any(|provider| *provider.name == *prefix));
    (!is_another).then_some(vendor)
}

/// The plan for a model string, with its reasons, for people and scripts.
pub fn explain(gateway: &Gateway, model: &str, local_only: bool) -> Value {
    let snapshot = gateway.snapshot();
    let catalogue = gateway.directory.catalogue();
    let active = gateway.directory.active();
    let view = View {
        snapshot: &snapshot,
        catalogue: &catalogue,
        roles: &gateway.roles(),
        is_active: &|provider: &Provider| active.contains(&*provider.name),
        local_only: (local_only || gateway.mode.is_on()).then(|| gateway.forbidden_by()),
    };
    let ask = Ask { model, class: None, features: &Features::default };
    match plan(&ask, &view) {
        Ok(plan) => {
            let target = |target: &Target| {
                let loaded = catalogue.list(&target.provider.name).map(|list| list.is_loaded(&target.model));
                json!({
                    "provider": target.provider.name,
                    "model": target.model,
                    "reason": target.reason,
                    "loaded": loaded.filter(|_| target.provider.is_local()),
                })
            };
            json!({
                "model": model,
                "class": plan.class,
                "class_reason": plan.class_reason,
                "targets": plan.targets.iter().map(target).collect::<Vec<_>>(),
                "substituted": plan.substituted,
                "error": null,
            })
        }
        Err(error) => {
            let error = ChatError::from(error);
            json!({
                "model": model,
                "class": null,
                "class_reason": null,
                "targets": [],
                "substituted": null,
                "error": { "code": error.code, "message": error.message },
            })
        }
    }
}
