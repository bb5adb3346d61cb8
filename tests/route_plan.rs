//! Who answers: plans over snapshots and catalogues made by hand, and over random ones for what must never happen.

use bifrost::chat::{ChatError, ErrorKind};
use bifrost::config::classes::{AutoRule, Class, Needs, Selector, Take};
use bifrost::config::{Flags, Inputs, OnCloudModel, Snapshot};
use bifrost::provider::facts::Facts;
use bifrost::provider::listing::ListedModel;
use bifrost::provider::{Endpoint, FallbackUse, MLX_LOCAL, Provider, ProviderKind, table};
use bifrost::route::auto::Features;
use bifrost::route::registry::Roles;
use bifrost::route::{Ask, Catalogue, LocalOnly, Plan, PlanError, View, plan};
use bifrost::secret::Environment;
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

const NOW: u64 = 1_795_000_000;

/// The world of one plan.
#[derive(Debug)]
struct World {
    snapshot: Snapshot,
    catalogue: Catalogue,
    roles: Roles,
    active: Vec<&'static str>,
    local_only: bool,
}

impl World {
    fn new(active: &[&'static str]) -> Self {
        let mut snapshot = snapshot();
        snapshot.classes.insert("coding".to_owned(), class(true, vec![local(), anywhere(Take::Newest)]));
        snapshot.classes.insert("pre-commit".to_owned(), class(false, vec![local(), anywhere(Take::Cheapest)]));
        snapshot.aliases.insert("default".to_owned(), "coding".to_owned());
        let (catalogue, roles) = (Catalogue::default(), Roles::default());
        Self { snapshot, catalogue, roles, active: active.to_vec(), local_only: false }
    }

    fn lists(mut self, name: &str, ids: &[&str]) -> Self {
        let provider = self.provider(name);
        self.catalogue.set(&provider, ids.iter().map(|id| model(id)).collect(), None, NOW);
        self
    }

    fn swaps(mut self, ids: &[&str], running: &[&str]) -> Self {
        let provider = self.provider(MLX_LOCAL);
        let running = running.iter().map(|id| (*id).to_owned()).collect();
        self.catalogue.set(&provider, ids.iter().map(|id| model(id)).collect(), Some(running), NOW);
        self
    }

    fn fails(mut self, name: &str) -> Self {
        let provider = self.provider(name);
        self.catalogue.fail(&provider, "connection refused", NOW);
        self
    }

    fn roles(mut self, json: &str) -> Self {
        self.roles = Roles::parse(json.as_bytes()).unwrap();
        self
    }

    fn local_only(mut self) -> Self {
        self.local_only = true;
        self
    }

    fn provider(&self, name: &str) -> Arc<Provider> {
        self.snapshot.providers.iter().find(|provider| *provider.name == *name).unwrap().clone()
    }

    fn ask(&self, model: &str) -> Result<Plan, PlanError> {
        self.ask_with(model, None, &Features::default())
    }

    fn ask_with(&self, model: &str, class: Option<&str>, features: &Features) -> Result<Plan, PlanError> {
        let is_active = |provider: &Provider| {
            assert!(!self.local_only || provider.is_loopback(), "local-only mode asked about {}", provider.name);
            self.active.contains(&&*provider.name)
        };
        let view = View {
            snapshot: &self.snapshot,
            catalogue: &self.catalogue,
            roles: &self.roles,
            is_active: &is_active,
            local_only: self.local_only.then_some(LocalOnly::Mode),
        };
        plan(&Ask { model, class, features: &|| features.clone() }, &view)
    }

    /// The targets as `<provider>/<model>`.
    fn targets(&self, model: &str) -> Vec<String> {
        self.ask(model).unwrap().targets.iter().map(ToString::to_string).collect()
    }
}

fn snapshot() -> Snapshot {
    let mut snapshot = shipped();
    snapshot.classes.clear();
    snapshot.aliases.clear();
    snapshot.providers = table::ROWS.iter().map(|row| Arc::new(row.provider())).collect();
    snapshot
}

static SHIPPED: LazyLock<Snapshot> =
    LazyLock::new(|| Snapshot::of_text(&Inputs::new(Environment::default(), Flags::default()), None).unwrap());

/// What there is without any config file.
fn shipped() -> Snapshot {
    SHIPPED.clone()
}

fn class(cloud: bool, select: Vec<Selector>) -> Class {
    Class { cloud, select, ..Class::default() }
}

fn local() -> Selector {
    Selector { provider: Some(MLX_LOCAL.to_owned()), ..Selector::default() }
}

fn anywhere(take: Take) -> Selector {
    Selector { take, ..Selector::default() }
}

fn model(id: &str) -> ListedModel {
    ListedModel { id: id.to_owned(), ..ListedModel::default() }
}

fn reason(plan: &Plan) -> &str {
    &plan.targets[0].reason
}

#[test]
fn a_prefix_names_the_provider_and_the_rest_is_the_model_with_its_slashes() {
    let world = World::new(&[MLX_LOCAL, "openai"]).lists(MLX_LOCAL, &["mlx-community/Qwen3-4B-4bit"]);
    assert_eq!(world.targets("openai/gpt-x"), ["openai/gpt-x"]);
    assert_eq!(world.targets("mlx-local/mlx-community/Qwen3-4B-4bit"), ["mlx-local/mlx-community/Qwen3-4B-4bit"]);
    // The list has the right spelling.
    assert_eq!(world.targets("mlx-local/mlx-community/qwen3-4b-4BIT"), ["mlx-local/mlx-community/Qwen3-4B-4bit"]);
    // A model that is not listed is the local server's to refuse.
    assert_eq!(world.targets("mlx-local/some/other"), ["mlx-local/some/other"]);
}

#[test]
fn an_aggregator_answers_for_a_vendor_without_key_if_it_lists_exactly_this_id() {
    let world = World::new(&["openrouter"]).lists("openrouter", &["openai/gpt-x", "anthropic/claude-y"]);
    assert_eq!(world.targets("openai/gpt-x"), ["openrouter/openai/gpt-x"]);
    let error = world.ask("openai/gpt-z").unwrap_err();
    assert!(matches!(&error, PlanError::NoKey { provider, .. } if provider == "openai"), "{error}");
    assert!(error.to_string().contains("env:OPENAI_API_KEY"), "{error}");
    let with_key = World::new(&["openrouter", "openai"]).lists("openrouter", &["openai/gpt-x"]);
    assert_eq!(with_key.targets("openai/gpt-x"), ["openai/gpt-x"]);
}

#[test]
fn a_huggingface_id_that_the_local_server_lists_is_its_own_even_if_a_provider_is_called_like_its_owner() {
    let world = World::new(&[MLX_LOCAL, "openai", "nvidia"])
        .lists(MLX_LOCAL, &["openai/gpt-oss-20b", "mlx-community/Q"])
        .lists("openai", &["gpt-x"]);
    assert_eq!(world.targets("openai/gpt-oss-20b"), ["mlx-local/openai/gpt-oss-20b"]);
    assert_eq!(world.targets("mlx-community/Q"), ["mlx-local/mlx-community/Q"]);
    assert_eq!(world.targets("openai/gpt-x"), ["openai/gpt-x"]);
}

#[test]
fn several_matches_are_local_first_and_then_only_local() {
    let cloud = World::new(&["openrouter", "huggingface", "groq", "together"])
        .lists("openrouter", &["org/m"])
        .lists("together", &["org/m"])
        .lists("groq", &["org/m"]);
    assert_eq!(cloud.targets("org/m"), ["groq/org/m", "together/org/m", "openrouter/org/m"]);
    let mut both = cloud.lists(MLX_LOCAL, &["org/m"]);
    both.active.push(MLX_LOCAL);
    assert_eq!(both.targets("org/m"), ["mlx-local/org/m"]);
}

#[test]
fn an_unknown_name_is_a_404_with_the_nearest_names() {
    let world = World::new(&["openai"]).lists("openai", &["gpt-omega", "gpt-omega-mini", "whisper"]);
    let error = world.ask("gpt-omga").unwrap_err();
    assert!(matches!(&error, PlanError::Unknown { nearest, .. } if nearest[0] == "gpt-omega"), "{error:?}");
    let error = ChatError::from(error);
    assert_eq!((error.kind, error.code.as_deref()), (ErrorKind::NotFound, Some("model_not_found")));
    assert!(error.message.contains("`gpt-omega`") && error.message.contains("/v1/models"), "{}", error.message);
    let class = world.ask("codign").unwrap_err();
    assert!(matches!(&class, PlanError::Unknown { nearest, .. } if nearest == &["coding"]), "{class:?}");
    assert!(matches!(world.ask(""), Err(PlanError::Unknown { .. })));
}

#[test]
fn a_text_that_is_no_name_is_likened_to_none() {
    let (name, text) = ("m".repeat(201), "m".repeat(200) + "n");
    let world = World::new(&["openai"]).lists("openai", &[&name]);
    let error = world.ask(&text).unwrap_err();
    assert!(matches!(&error, PlanError::Unknown { nearest, .. } if nearest.is_empty()), "{error:?}");
}

#[test]
fn names_are_waited_for_only_until_every_list_is_there_or_has_failed() {
    let world = World::new(&["openai", "groq"]);
    assert_eq!(world.ask("gpt-x").unwrap_err(), PlanError::NotYet);
    assert_eq!(world.ask("coding").unwrap_err(), PlanError::NotYet);
    let error = ChatError::from(PlanError::NotYet);
    assert!(error.kind == ErrorKind::Unavailable && error.retry_after.is_some());
    let world = world.lists("openai", &["gpt-y"]).fails("groq");
    assert!(matches!(world.ask("gpt-x"), Err(PlanError::Unknown { .. })));
    assert_eq!(world.targets("coding"), ["openai/gpt-y"]);
}

#[test]
fn a_known_model_of_a_vendor_does_not_wait_for_its_list() {
    let world = World::new(&["anthropic", "groq"]);
    assert_eq!(world.targets("claude-sonnet-4-5-20250929"), ["anthropic/claude-sonnet-4-5-20250929"]);
    assert_eq!(world.ask("claude-unheard-of").unwrap_err(), PlanError::NotYet);
    assert_eq!(World::new(&["groq"]).ask("claude-sonnet-4-5").unwrap_err(), PlanError::NotYet);
}

#[test]
fn a_class_without_cloud_never_pays_and_says_how_to_allow_it() {
    let world = World::new(&[MLX_LOCAL, "openai"]).lists("openai", &["gpt-x"]).lists(MLX_LOCAL, &["m"]);
    assert_eq!(world.targets("pre-commit"), ["mlx-local/m"]);
    assert_eq!(world.targets("coding"), ["mlx-local/m", "openai/gpt-x"]);
    let down = World::new(&[MLX_LOCAL, "openai"]).lists("openai", &["gpt-x"]).fails(MLX_LOCAL);
    assert_eq!(down.targets("coding"), ["openai/gpt-x"]);
    let error = down.ask("pre-commit").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("connection refused") && text.contains("cloud = true"), "{text}");
    assert_eq!(ChatError::from(error).kind, ErrorKind::Unavailable);
}

#[test]
fn a_server_that_did_not_answer_is_tried_last() {
    let world =
        World::new(&[MLX_LOCAL, "openai"]).lists(MLX_LOCAL, &["m"]).lists("openai", &["gpt-x"]).fails(MLX_LOCAL);
    assert_eq!(world.targets("coding"), ["openai/gpt-x", "mlx-local/m"]);
    assert_eq!(world.targets("pre-commit"), ["mlx-local/m"]);
}

#[test]
fn what_is_in_memory_goes_before_the_local_default_and_that_before_the_first_listed() {
    let roles = r#"{"models": {"default": "org/b"}}"#;
    let world = World::new(&[MLX_LOCAL]).swaps(&["org/a", "org/b", "org/c"], &["org/c"]).roles(roles);
    assert_eq!(world.targets("coding"), ["mlx-local/org/c"]);
    let world = World::new(&[MLX_LOCAL]).swaps(&["org/a", "org/b", "org/c"], &[]).roles(roles);
    assert_eq!(world.targets("coding"), ["mlx-local/org/b"]);
    let world = World::new(&[MLX_LOCAL]).swaps(&["org/a", "org/b", "org/c"], &[]);
    assert_eq!(world.targets("coding"), ["mlx-local/org/a"]);
}

#[test]
fn a_role_called_like_the_class_is_the_users_own_word() {
    let roles = r#"{"models": {"default": "org/a", "coding": "org/b"}}"#;
    let mut world = World::new(&[MLX_LOCAL]).swaps(&["org/a", "org/b", "org/x-coder"], &["org/a"]).roles(roles);
    assert_eq!(world.targets("coding"), ["mlx-local/org/b"]);
    assert!(reason(&world.ask("coding").unwrap()).contains("role coding"));
    // Even before a preference of the class.
    let preferring = Selector { model: Some("*CODER*".to_owned()), ..local() };
    world.snapshot.classes.insert("coding".to_owned(), class(false, vec![preferring, local()]));
    assert_eq!(world.targets("coding"), ["mlx-local/org/b", "mlx-local/org/x-coder"]);
    // The alias of a class keeps its own name: the role `default` is meant, and it is in memory as well.
    assert_eq!(world.targets("default")[0], "mlx-local/org/a");
    assert_eq!(world.ask("default").unwrap().class.as_deref(), Some("coding"));
}

#[test]
fn roles_are_names_with_and_without_the_prefix_of_the_local_server() {
    let roles = r#"{"models": {"most-capable": "org/big", "oss": "org/free"}}"#;
    let world = World::new(&[MLX_LOCAL]).swaps(&["org/big"], &[]).roles(roles);
    assert_eq!(world.targets("most-capable"), ["mlx-local/org/big"]);
    assert_eq!(world.targets("mlx-local/most-capable"), ["mlx-local/org/big"]);
    assert_eq!(world.targets("mlx-local/oss"), ["mlx-local/org/free"]);
}

#[test]
fn aliases_lead_to_models_and_circles_end() {
    let mut world = World::new(&["openai"]).lists("openai", &["gpt-x"]);
    for (name, target) in [("mine", "openai/gpt-x"), ("his", "mine"), ("a", "b"), ("b", "a"), ("self", "self")] {
        world.snapshot.aliases.insert(name.to_owned(), target.to_owned());
    }
    assert_eq!(world.targets("his"), ["openai/gpt-x"]);
    assert_eq!(reason(&world.ask("his").unwrap()), "alias his: alias mine: its provider is named");
    assert!(matches!(world.ask("a"), Err(PlanError::Unknown { .. })));
    assert!(matches!(world.ask("self"), Err(PlanError::Unknown { .. })));
}

#[test]
fn auto_chooses_a_class_and_says_why() {
    let mut world = World::new(&[MLX_LOCAL]).lists(MLX_LOCAL, &["m"]);
    let tools = AutoRule { class: "coding".to_owned(), tools: Some(true), ..AutoRule::default() };
    world.snapshot.auto = vec![tools, AutoRule { class: "pre-commit".to_owned(), ..AutoRule::default() }];
    let plain = world.ask("auto").unwrap();
    assert_eq!(plain.class.as_deref(), Some("pre-commit"));
    let features = Features { tools: true, ..Features::default() };
    let plan = world.ask_with("gpt-x", Some("auto"), &features).unwrap();
    assert_eq!(plan.class.as_deref(), Some("coding"));
    assert_eq!(plan.class_reason.as_deref(), Some("rule 1: tools"));
    let forced = world.ask_with("gpt-x", Some("pre-commit"), &features).unwrap();
    assert_eq!((forced.class.as_deref(), forced.class_reason), (Some("pre-commit"), None));
}

#[test]
fn local_only_puts_the_local_default_in_the_place_of_a_cloud_model_and_says_so() {
    let world = World::new(&[MLX_LOCAL, "openai"]).swaps(&["org/a", "org/b"], &["org/b"]).local_only();
    for asked in ["openai/gpt-x", "gpt-x", "claude-y", "openrouter/a/b", "ollama/llama"] {
        let plan = world.ask(asked).unwrap();
        assert_eq!(plan.targets[0].to_string(), "mlx-local/org/b", "{asked}");
        assert_eq!(plan.substituted.as_deref(), Some(asked));
    }
    for asked in ["org/a", "mlx-local/org/a"] {
        let plan = world.ask(asked).unwrap();
        assert_eq!((plan.targets[0].to_string(), plan.substituted), ("mlx-local/org/a".to_owned(), None));
    }
}

#[test]
fn local_only_can_refuse_instead() {
    let mut world = World::new(&[MLX_LOCAL]).lists(MLX_LOCAL, &["m"]).local_only();
    world.snapshot.local.on_cloud_model = OnCloudModel::Refuse;
    let error = world.ask("openai/gpt-x").unwrap_err();
    assert_eq!(error, PlanError::Refused { model: "openai/gpt-x".to_owned(), by: LocalOnly::Mode });
    assert_eq!(ChatError::from(error).kind, ErrorKind::Permission);
    assert_eq!(world.targets("coding"), ["mlx-local/m"]);
}

#[test]
fn local_only_answers_a_class_of_the_cloud_from_the_machine_or_not_at_all() {
    let mut world =
        World::new(&[MLX_LOCAL, "openai"]).lists(MLX_LOCAL, &["m"]).lists("openai", &["gpt-x"]).local_only();
    let far = Selector { provider: Some("openai".to_owned()), ..Selector::default() };
    world.snapshot.classes.insert("far".to_owned(), class(true, vec![far]));
    assert_eq!(world.targets("far"), ["mlx-local/m"]);
    let down = World::new(&[MLX_LOCAL, "openai"]).lists("openai", &["gpt-x"]).fails(MLX_LOCAL).local_only();
    for asked in ["coding", "gpt-x"] {
        let error = down.ask(asked).unwrap_err();
        assert!(matches!(&error, PlanError::LocalDown { reason, .. } if reason.contains("127.0.0.1:11434")), "{error}");
        assert_eq!(ChatError::from(error).code.as_deref(), Some("local_server_down"));
    }
    assert_eq!(World::new(&[MLX_LOCAL]).local_only().ask("coding").unwrap_err(), PlanError::NotYet);
}

fn move_to(provider: &mut Provider, url: &str) {
    let first = &mut provider.endpoints[0];
    *first = Endpoint::new(first.dialect, url, first.version());
}

#[test]
fn local_only_refuses_a_local_server_that_is_elsewhere() {
    let mut world = World::new(&[MLX_LOCAL]).lists(MLX_LOCAL, &["m"]).local_only();
    for provider in &mut world.snapshot.providers {
        if *provider.name == *MLX_LOCAL {
            move_to(Arc::make_mut(provider), "http://10.0.0.7:11434");
        }
    }
    assert!(matches!(world.ask("coding"), Err(PlanError::LocalDown { .. })));
}

#[test]
fn needs_are_met_by_what_is_known_and_the_config_knows_best() {
    let mut world = World::new(&["openai", "groq"]).lists("groq", &["g-small", "g-large"]).fails("openai");
    let needs = Needs { context: Some(50_000), tools: true, ..Needs::default() };
    let select = vec![Selector { needs, take: Take::LargestContext, limit: Some(9), ..Selector::default() }];
    world.snapshot.classes.insert("long".to_owned(), class(true, select));
    assert!(matches!(world.ask("long"), Err(PlanError::NoTarget { .. })), "unknown counts as having");
    for (key, context) in [("groq/g-small", 60_000), ("g-large", 90_000)] {
        let facts = Facts { context: Some(context), tools: Some(true), ..Facts::default() };
        world.snapshot.facts.insert(key.to_owned(), facts);
    }
    assert_eq!(world.targets("long"), ["groq/g-large", "groq/g-small"]);
}

#[test]
fn take_orders_the_matches() {
    let mut world = World::new(&["groq"]);
    let provider = world.provider("groq");
    let listed = |id: &str, released: u64, price: f64| ListedModel {
        facts: Facts {
            released: Some(released),
            input_price: Some(price),
            output_price: Some(price),
            ..Facts::default()
        },
        ..model(id)
    };
    let mute = ListedModel { chat: Some(false), ..listed("whisper", 900, 0.0) };
    let models = vec![listed("old", 100, 1.0), listed("new", 300, 5.0), listed("mid", 200, 3.0), model("dark"), mute];
    world.catalogue.set(&provider, models, None, NOW);
    for (take, expected) in [
        (Take::Newest, ["groq/new", "groq/mid", "groq/old", "groq/dark"]),
        (Take::Cheapest, ["groq/old", "groq/mid", "groq/new", "groq/dark"]),
        (Take::Loaded, ["groq/old", "groq/new", "groq/mid", "groq/dark"]),
    ] {
        let select = vec![Selector { take, limit: Some(9), ..Selector::default() }];
        world.snapshot.classes.insert("c".to_owned(), class(true, select));
        assert_eq!(world.targets("c"), expected);
    }
}

#[test]
fn what_the_local_server_has_on_other_machines_answers_nobody_who_must_stay_on_this_one() {
    let mut world = World::new(&[MLX_LOCAL]).roles(r#"{"far": "far/big", "default": "far/big", "near": "org/m"}"#);
    let provider = world.provider(MLX_LOCAL);
    let peer = ListedModel { is_remote: true, ..model("far/big") };
    world.catalogue.set(&provider, vec![peer, model("org/m")], Some(Vec::new()), NOW);
    let pin = |model: &str| Selector { model: Some(model.to_owned()), ..local() };
    for (name, cloud, select) in [
        ("private", false, vec![local()]),
        ("pinned", false, vec![pin("far/big")]),
        ("open", true, vec![pin("far/big")]),
    ] {
        world.snapshot.classes.insert(name.to_owned(), class(cloud, select));
    }
    world.snapshot.aliases.insert("away".to_owned(), "mlx-local/far/big".to_owned());
    assert_eq!(world.targets("mlx-local/far/big"), ["mlx-local/far/big"], "who may leave the machine may say so");
    assert!(matches!(world.ask("far/big"), Err(PlanError::Unknown { .. })), "it is no local model");
    assert_eq!(world.targets("private"), ["mlx-local/org/m"]);
    for class in ["pinned", "open"] {
        assert!(matches!(world.ask(class), Err(PlanError::NoTarget { .. })), "{class}");
    }
    let world = world.local_only();
    for name in ["mlx-local/far/big", "mlx-local/big", "mlx-local/far", "far", "away"] {
        let error = world.ask(name).unwrap_err();
        assert!(matches!(error, PlanError::Elsewhere { .. }), "{name}: {error}");
        assert_eq!(ChatError::from(error).kind, ErrorKind::Permission);
    }
    for name in ["mlx-local/org/m", "near", "private", "pinned", "open", "default", "far/big"] {
        assert_eq!(world.targets(name), ["mlx-local/org/m"], "{name}");
    }
}

#[test]
fn an_alias_of_the_local_server_means_its_model_and_is_asked_by_its_own_name() {
    let mut world = World::new(&[MLX_LOCAL]).roles(r#"{"default": "quick"}"#);
    let provider = world.provider(MLX_LOCAL);
    let big = ListedModel { aliases: vec!["Quick".to_owned()], ..model("org/big") };
    world.catalogue.set(&provider, vec![model("org/a"), big], Some(vec!["org/big".to_owned()]), NOW);
    let pin = Selector { model: Some("quick".to_owned()), ..local() };
    world.snapshot.classes.insert("pinned".to_owned(), class(false, vec![pin]));
    for (asked, target) in [
        ("quick", "mlx-local/Quick"),
        ("mlx-local/Quick", "mlx-local/Quick"),
        ("mlx-local/default", "mlx-local/Quick"),
        ("org/big", "mlx-local/org/big"),
        ("pinned", "mlx-local/Quick"),
        ("pre-commit", "mlx-local/org/big"),
    ] {
        assert_eq!(world.targets(asked), [target], "{asked}");
    }
    assert_eq!(world.local_only().targets("gpt-x"), ["mlx-local/Quick"], "the default is in memory");
}

#[test]
fn a_local_server_of_which_nothing_is_known_answers_nobody_who_must_stay_on_this_machine() {
    let world = World::new(&[MLX_LOCAL]).local_only();
    assert_eq!(world.ask("mlx-local/org/m").unwrap_err(), PlanError::NotYet);
    let world = world.fails(MLX_LOCAL);
    assert!(matches!(world.ask("mlx-local/org/m"), Err(PlanError::LocalDown { .. })));
    assert_eq!(world.lists(MLX_LOCAL, &["else"]).targets("mlx-local/org/m"), ["mlx-local/org/m"], "it has no peers");
}

#[test]
fn a_pin_is_believed_until_its_providers_list_says_otherwise() {
    let mut world = World::new(&["openai"]).fails("openai");
    let pin = Selector { provider: Some("openai".to_owned()), model: Some("gpt-x".to_owned()), ..Selector::default() };
    world.snapshot.classes.insert("pinned".to_owned(), class(true, vec![pin]));
    assert_eq!(world.targets("pinned"), ["openai/gpt-x"]);
    let world = world.lists("openai", &["gpt-y"]);
    assert!(matches!(world.ask("pinned"), Err(PlanError::NoTarget { .. })));
}

#[test]
fn the_shipped_classes_work_with_whatever_is_there() {
    let everything = |active: &[&'static str]| {
        let mut world = World::new(active);
        world.snapshot = shipped();
        world
    };
    let names: Vec<String> = shipped().classes.keys().cloned().collect();
    let local = everything(&[MLX_LOCAL]).lists(MLX_LOCAL, &["anything"]);
    for name in &names {
        assert_eq!(local.targets(name), ["mlx-local/anything"], "{name}");
    }
    let rich = ListedModel {
        facts: Facts { context: Some(1_000_000), tools: Some(true), reasoning: Some(true), ..Facts::default() },
        ..model("some/model")
    };
    for provider in table::ROWS.iter().filter(|row| row.kind != ProviderKind::Local && !row.opt_in) {
        let mut world = everything(&[provider.name]);
        world.catalogue.set(&provider.provider(), vec![rich.clone()], None, NOW);
        for name in names.iter().filter(|name| !["pre-commit", "oss"].contains(&name.as_str())) {
            assert_eq!(world.targets(name), [format!("{}/some/model", provider.name)], "{name}");
        }
        assert!(matches!(world.ask("pre-commit"), Err(PlanError::NoTarget { .. })));
    }
}

#[test]
fn a_catalogue_survives_the_disk_and_forgets_lists_of_other_addresses() {
    let world = World::new(&["openai", "groq"]).lists("openai", &["gpt-x"]).swaps(&["org/A"], &["org/A"]);
    let json = serde_json::to_vec(&world.catalogue).unwrap();
    let mut moved: Provider = Provider::clone(&world.provider("openai"));
    let restore = |provider: &Provider| {
        let catalogue: Catalogue = serde_json::from_slice(&json).unwrap();
        catalogue.restore([provider, &*world.provider(MLX_LOCAL)])
    };
    let same = restore(&moved);
    assert!(same.list("openai").unwrap().find("GPT-X").is_some());
    assert!(same.list(MLX_LOCAL).unwrap().find("org/a").is_some());
    assert_eq!(same.list(MLX_LOCAL).unwrap().running, None, "what is in memory is not for the disk");
    move_to(&mut moved, "https://elsewhere.example");
    assert!(restore(&moved).list("openai").is_none());
}

#[test]
fn a_list_is_due_when_it_never_was_is_old_or_failed_a_while_ago() {
    use bifrost::route::catalogue::RETRY_FAILED;
    use std::time::Duration;
    let ttl = Duration::from_secs(3600);
    let world = World::new(&[]);
    let provider = world.provider("openai");
    assert!(world.catalogue.is_due(&provider, NOW, ttl));
    let world = world.lists("openai", &["gpt-x"]);
    assert!(!world.catalogue.is_due(&provider, NOW + 3599, ttl));
    assert!(world.catalogue.is_due(&provider, NOW + 3600, ttl));
    assert!(!world.catalogue.is_due(&provider, NOW - 5, ttl), "a clock that was set back makes nothing due");
    let world = world.fails("openai");
    assert!(!world.catalogue.is_due(&provider, NOW + RETRY_FAILED.as_secs() - 1, ttl));
    assert!(world.catalogue.is_due(&provider, NOW + RETRY_FAILED.as_secs(), ttl));
    assert!(!world.catalogue.is_due(&world.provider("github"), NOW, ttl), "it has no list");
}

/// Ids and names that meet each other often.
fn id() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "gpt-x",
        "gpt-y",
        "openai/gpt-x",
        "org/a",
        "org/b",
        "A",
        "coding",
        "openai",
        "m",
        "x-coder",
        "org/a:free",
    ])
    .prop_map(str::to_owned)
}

fn selector() -> impl Strategy<Value = Selector> {
    let provider = prop::option::of(prop::sample::select(vec![MLX_LOCAL, "openai", "openrouter", "nobody", "ollama"]));
    let model = prop::option::of(prop::sample::select(vec!["*", "*coder*", "gpt-?", "gpt-x", "ORG/*"]));
    let take = prop::sample::select(vec![Take::Loaded, Take::Newest, Take::Cheapest, Take::LargestContext]);
    (provider, model, take, prop::option::of(0_usize..4)).prop_map(|(provider, model, take, limit)| Selector {
        provider: provider.map(str::to_owned),
        model: model.map(str::to_owned),
        take,
        limit,
        ..Selector::default()
    })
}

prop_compose! {
    fn world()(
        active in prop::collection::vec(prop::sample::select(vec![MLX_LOCAL, "openai", "openrouter", "groq", "ollama"]), 0..5),
        lists in prop::collection::vec(
            (prop::sample::select(vec![MLX_LOCAL, "openai", "openrouter", "groq", "ollama"]), prop::collection::vec(id(), 0..5)),
            0..6,
        ),
        running in prop::option::of(prop::collection::vec(id(), 0..3)),
        failing in prop::option::of(prop::sample::select(vec![MLX_LOCAL, "openai"])),
        roles in prop::collection::hash_map(id(), id(), 0..3),
        classes in prop::collection::vec((id(), any::<bool>(), prop::collection::vec(selector(), 0..4)), 0..3),
        aliases in prop::collection::vec((id(), id()), 0..3),
        away in any::<bool>(),
        refuse in any::<bool>(),
        local_only in any::<bool>(),
    ) -> World {
        let mut world = World::new(&active);
        for (name, ids) in &lists {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            world = world.lists(name, &ids);
        }
        if let Some(running) = &running {
            let running: Vec<&str> = running.iter().map(String::as_str).collect();
            world = world.swaps(&["org/a", "org/b"], &running);
        }
        if let Some(name) = failing {
            world = world.fails(name);
        }
        world.roles = Roles::parse(serde_json::to_string(&roles).unwrap().as_bytes()).unwrap();
        for (name, cloud, select) in classes {
            world.snapshot.classes.insert(name, class(cloud, select));
        }
        world.snapshot.aliases.extend(aliases);
        if away {
            for provider in world.snapshot.providers.iter_mut().filter(|provider| *provider.name == *MLX_LOCAL) {
                move_to(Arc::make_mut(provider), "http://10.0.0.7:11434");
            }
        }
        if refuse {
            world.snapshot.local.on_cloud_model = OnCloudModel::Refuse;
        }
        world.local_only = local_only;
        world
    }
}

fn asked() -> impl Strategy<Value = String> {
    prop_oneof![
        id(),
        id().prop_map(|id| format!("mlx-local/{id}")),
        id().prop_map(|id| format!("class/{id}")),
        "\\PC{0,20}"
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_plan_leaves_what_was_allowed(world in world(), asked in asked(), class in prop::option::of(id())) {
        match world.ask_with(&asked, class.as_deref(), &Features::default()) {
            Ok(plan) => {
                prop_assert!(!plan.targets.is_empty());
                let of_class = plan.class.as_ref().map(|name| &world.snapshot.classes[name]);
                for target in &plan.targets {
                    prop_assert!(world.active.contains(&&*target.provider.name), "{target} is not active");
                    prop_assert!(!target.reason.is_empty() && !target.model.is_empty());
                    if world.local_only {
                        prop_assert!(*target.provider.name == *MLX_LOCAL && target.provider.is_loopback(), "{target} leaks");
                    }
                    if let Some(class) = of_class {
                        prop_assert!(class.cloud || target.provider.is_local(), "{target} costs money");
                    }
                }
                for (place, target) in plan.targets.iter().enumerate() {
                    prop_assert!(!plan.targets[..place].iter().any(|other| other.is_same(target)), "{target} twice");
                }
                if let Some(substituted) = &plan.substituted {
                    prop_assert!(world.local_only && world.snapshot.local.on_cloud_model == OnCloudModel::Substitute);
                    prop_assert!(!substituted.is_empty());
                }
            }
            Err(error) => {
                let is_local = matches!(error, PlanError::Refused { .. } | PlanError::LocalDown { .. });
                prop_assert!(!is_local || world.local_only);
                prop_assert!(!ChatError::from(error).message.is_empty());
            }
        }
    }
}

#[test]
fn a_provider_that_is_never_a_fallback_answers_only_who_asks_it_first() {
    let mut world = World::new(&["groq", "together", "openrouter"])
        .lists("openrouter", &["org/m", "org/n"])
        .lists("together", &["org/m"])
        .lists("groq", &["org/m"]);
    let forbid = |provider: &mut Arc<Provider>| {
        if *provider.name != *"groq" {
            Arc::make_mut(provider).fallback = FallbackUse::Never;
        }
    };
    world.snapshot.providers.iter_mut().for_each(forbid);
    assert_eq!(world.targets("org/m"), ["groq/org/m"]);
    assert_eq!(world.targets("org/n"), ["openrouter/org/n"]);
    assert_eq!(world.targets("together/org/m"), ["together/org/m"]);
}

#[test]
fn only_the_matches_of_a_selector_that_says_so_are_equal() {
    let mut world = World::new(&["groq", "together", "openrouter"])
        .lists("openrouter", &["org/m"])
        .lists("together", &["org/n"])
        .lists("groq", &["org/n"]);
    let equal = |provider: &str| Selector { provider: Some(provider.to_owned()), balance: true, ..Selector::default() };
    let balanced = Selector { model: Some("org/n".to_owned()), limit: Some(2), balance: true, ..Selector::default() };
    world.snapshot.classes.insert("c".to_owned(), class(true, vec![balanced, equal("openrouter")]));
    let plan = world.ask("c").unwrap();
    let marks: Vec<(String, Option<usize>)> =
        plan.targets.iter().map(|target| (target.to_string(), target.equals)).collect();
    let expected = [("groq/org/n", Some(0)), ("together/org/n", Some(0)), ("openrouter/org/m", Some(1))];
    assert_eq!(marks, expected.map(|(name, mark)| (name.to_owned(), mark)));
    assert!(world.ask("org/n").unwrap().targets.iter().all(|target| target.equals.is_none()));
}
