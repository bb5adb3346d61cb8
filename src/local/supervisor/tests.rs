//! Each rule by itself, and what holds whatever happens. The clock is a number.

use super::super::health::ServerKind;
use super::super::launchctl::LastExit;
use super::*;
use crate::provider::listing::ListedModel;
use proptest::prelude::*;
use std::collections::HashSet;
use std::time::Duration;

const OURS: &str = "dev.bifrost.vllm-mlx";

/// A machine and its clock.
struct Bench {
    machine: Supervisor,
    now: Instant,
    changes: Vec<State>,
}

impl Bench {
    fn new() -> Self {
        Self::with(Pace::default())
    }

    fn with(pace: Pace) -> Self {
        let now = Instant::now();
        Self { machine: Supervisor::new(pace, now), now, changes: Vec::new() }
    }

    fn tell(&mut self, input: Input) -> &mut Self {
        self.changes.extend(self.machine.observe(input, self.now).map(|change| change.to));
        self
    }

    fn look(&mut self, look: Look) -> &mut Self {
        self.tell(Input::Looked(Observation { look, agent: None, holder: None, in_flight: 0 }))
    }

    fn look_with(&mut self, look: Look, state: AgentState) -> &mut Self {
        self.tell(Input::Looked(Observation { look, agent: Some(agent(state)), holder: None, in_flight: 0 }))
    }

    fn pass(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self
    }

    fn state(&self) -> State {
        self.machine.status().state
    }

    fn reason(&self) -> &str {
        &self.machine.status().reason
    }

    /// What is wanted besides looks.
    fn wanted(&mut self) -> Vec<Action> {
        self.machine.wanted(self.now).into_iter().filter(|action| *action != Action::Look).collect()
    }

    fn prove(&mut self) -> Vec<Action> {
        let wanted = self.wanted();
        assert!(matches!(wanted[..], [Action::Prove { .. }]), "{wanted:?}");
        wanted
    }
}

fn agent(state: AgentState) -> SeenAgent {
    SeenAgent { label: OURS.to_owned(), ours: true, state }
}

fn listed(id: &str) -> ListedModel {
    ListedModel { id: id.to_owned(), ..ListedModel::default() }
}

fn server(loaded: &[&str]) -> Look {
    Look::Server(LocalServer {
        kind: ServerKind::VllmMlx,
        healthy: true,
        models: ["tiny", "noise"].map(listed).to_vec(),
        loaded: loaded.iter().map(|name| (*name).to_owned()).collect(),
        mute: HashSet::new(),
        loading: false,
        starting: Vec::new(),
    })
}

const RUNNING: AgentState = AgentState::Running { pid: 7 };
const CRASHED: AgentState = AgentState::NotRunning { last: Some(LastExit::Code(1)) };
const STOPPED: AgentState = AgentState::NotRunning { last: Some(LastExit::Code(0)) };

#[test]
fn nobody_there_is_absent() {
    let mut bench = Bench::new();
    assert_eq!(bench.state(), State::Absent);
    assert_eq!(bench.look(Look::Closed).state(), State::Absent);
    assert_eq!(bench.look_with(Look::Closed, AgentState::NotLoaded).state(), State::Absent);
    assert!(bench.changes.is_empty(), "no change, no noise");
}

#[test]
fn a_server_that_was_there_is_down() {
    let mut bench = Bench::new();
    bench.look(server(&[])).pass(5).look(Look::Closed);
    assert_eq!(bench.state(), State::Down);
    assert_eq!(bench.changes, [State::Idle, State::Down]);
    assert!(bench.pass(3_600).look(Look::Closed).wanted().is_empty(), "without an agent there is nothing to do");
}

#[test]
fn up_with_nothing_loaded_is_idle_and_is_never_asked_for_a_token() {
    let mut bench = Bench::with(Pace { keep_warm: Some(Duration::from_secs(60)), ..Pace::default() });
    for _ in 0..100 {
        bench.look(server(&[])).pass(60);
        assert!(bench.wanted().is_empty());
    }
    assert_eq!(bench.changes, [State::Idle]);
}

#[test]
fn a_loaded_model_is_starting_until_it_gave_a_token_and_is_then_left_alone() {
    let mut bench = Bench::new();
    assert_eq!(bench.look(server(&["tiny"])).state(), State::Starting);
    assert_eq!(bench.prove(), [Action::Prove { model: "tiny".to_owned() }]);
    assert!(bench.wanted().is_empty(), "one at a time");
    assert_eq!(bench.tell(Input::Proved(Some(Trial::Served))).state(), State::Ready);
    for _ in 0..1_000 {
        bench.pass(60).look(server(&["tiny"]));
        assert!(bench.wanted().is_empty(), "a probe keeps no model from its idle time-out");
    }
}

#[test]
fn another_model_must_prove_itself_too() {
    let mut bench = Bench::new();
    bench.look(server(&["tiny"])).prove();
    bench.tell(Input::Proved(Some(Trial::Served))).pass(120).look(server(&["noise"]));
    assert_eq!(bench.prove(), [Action::Prove { model: "noise".to_owned() }]);
}

#[test]
fn a_proof_is_wanted_only_where_a_look_has_just_shown_the_model_and_nothing_at_work() {
    let mut bench = Bench::new();
    bench.look(server(&["tiny"])).prove();
    bench.tell(Input::Proved(Some(Trial::Served))).pass(1);
    bench.tell(Input::Traffic(Trial::Failed("a 500".to_owned()))).pass(60);
    assert!(bench.wanted().is_empty(), "the model may be gone since the last look");
    bench.tell(Input::Looked(Observation { look: server(&["tiny"]), agent: None, holder: None, in_flight: 1 }));
    assert!(bench.wanted().is_empty());
    bench.look(server(&["tiny"])).prove();
    bench.tell(Input::Proved(None)).pass(5).look(server(&["tiny"]));
    assert_eq!(bench.prove(), [Action::Prove { model: "tiny".to_owned() }], "it was not asked");
}

#[test]
fn a_model_that_does_not_chat_condemns_nobody() {
    let with_mute = |loaded: &[&str]| {
        let mut look = server(loaded);
        if let Look::Server(server) = &mut look {
            server.mute.insert("noise".to_owned());
        }
        look
    };
    let mut bench = Bench::new();
    bench.look(server(&["noise", "tiny"]));
    assert_eq!(bench.prove(), [Action::Prove { model: "noise".to_owned() }]);
    bench.tell(Input::Proved(Some(Trial::NotForChat))).look(with_mute(&["noise", "tiny"]));
    assert_eq!(bench.prove(), [Action::Prove { model: "tiny".to_owned() }], "the next one is asked");
    bench.tell(Input::Proved(Some(Trial::Served)));
    assert_eq!(bench.state(), State::Ready);
    let mut alone = Bench::new();
    for _ in 0..10 {
        assert_eq!(alone.look(with_mute(&["noise"])).state(), State::Idle);
        assert!(alone.pass(60).wanted().is_empty());
    }
    assert!(alone.reason().contains("noise"), "{}", alone.reason());
}

#[test]
fn a_model_that_was_swapped_in_and_answered_is_ready_before_and_after_it_is_seen() {
    let mut loading = server(&[]);
    if let Look::Server(server) = &mut loading {
        server.loading = true;
    }
    let mut bench = Bench::new();
    bench.look(server(&["tiny"])).pass(1).tell(Input::Traffic(Trial::Served)).pass(5).look(loading);
    assert_eq!(bench.state(), State::Loading);
    bench.pass(1).tell(Input::Traffic(Trial::Served));
    assert_eq!(bench.state(), State::Ready, "an answer is newer than the look");
    assert_eq!(bench.pass(4).look(server(&["noise"])).state(), State::Ready);
    assert!(bench.wanted().is_empty());
    bench.pass(5).look(server(&["tiny", "noise"]));
    assert_eq!(bench.state(), State::Starting, "nothing has come since the last look");
}

#[test]
fn a_new_model_does_not_wait_for_its_proof_because_another_one_was_asked() {
    let mut bench = Bench::new();
    bench.look(server(&["tiny"])).prove();
    bench.tell(Input::Proved(Some(Trial::Served))).pass(5).look(server(&["noise"]));
    assert_eq!(bench.prove(), [Action::Prove { model: "noise".to_owned() }]);
    bench.tell(Input::Proved(Some(Trial::Failed("no token".to_owned())))).pass(5).look(server(&["tiny"]));
    assert!(bench.wanted().is_empty(), "failures are not counted faster than once a minute");
}

#[test]
fn traffic_that_succeeds_is_proof() {
    let mut bench = Bench::new();
    bench.look(server(&["tiny"])).tell(Input::Traffic(Trial::Served));
    assert_eq!(bench.state(), State::Ready);
    assert!(bench.wanted().is_empty());
}

#[test]
fn a_server_that_tells_nothing_of_its_memory_is_proven_by_traffic_only() {
    let other = Look::Server(LocalServer {
        kind: ServerKind::Other,
        healthy: true,
        models: vec![listed("m")],
        loaded: Vec::new(),
        mute: HashSet::new(),
        loading: false,
        starting: Vec::new(),
    });
    let mut bench = Bench::new();
    assert_eq!(bench.look(other.clone()).state(), State::Idle);
    assert!(bench.wanted().is_empty(), "a question could load a model");
    assert_eq!(bench.tell(Input::Traffic(Trial::Served)).state(), State::Ready);
    assert_eq!(bench.pass(60).look(other).state(), State::Ready);
}

#[test]
fn a_clients_failure_is_looked_into_and_only_failed_proofs_condemn() {
    let mut bench = Bench::new();
    bench.look(server(&["tiny"])).tell(Input::Traffic(Trial::Served)).pass(1);
    bench.tell(Input::Traffic(Trial::Failed("a 500".to_owned())));
    assert_eq!(bench.state(), State::Degraded);
    assert!(bench.reason().contains("a 500"));
    for proof in 1..=3 {
        bench.look(server(&["tiny"])).prove();
        bench.tell(Input::Proved(Some(Trial::Failed("no token".to_owned())))).look(server(&["tiny"]));
        assert!(bench.wanted().is_empty(), "at most one a minute");
        assert_eq!(bench.state(), if proof < 3 { State::Degraded } else { State::Down });
        bench.pass(60);
    }
    bench.look(server(&["tiny"])).prove();
    assert_eq!(bench.tell(Input::Proved(Some(Trial::Served))).state(), State::Ready);
}

#[test]
fn too_much_to_do_is_busy_and_never_down() {
    let mut bench = Bench::new();
    bench.look_with(server(&["tiny"]), RUNNING).prove();
    for _ in 0..60 {
        bench.tell(Input::Proved(Some(Trial::Busy))).look_with(server(&["tiny"]), RUNNING);
        assert_eq!(bench.state(), State::Busy);
        bench.tell(Input::Traffic(Trial::Busy)).look_with(Look::Busy, RUNNING);
        assert_eq!(bench.state(), State::Busy);
        assert!(bench.pass(60).wanted().iter().all(|action| !matches!(action, Action::Remedy(_))));
    }
}

#[test]
fn slow_under_load_is_busy_for_a_quarter_of_an_hour() {
    let mut bench = Bench::new();
    bench.look_with(server(&["tiny"]), RUNNING).tell(Input::Traffic(Trial::Served));
    bench.pass(60).look_with(Look::Silent, RUNNING);
    assert_eq!(bench.state(), State::Busy);
    bench.pass(13 * 60).look_with(Look::Silent, RUNNING);
    assert_eq!(bench.state(), State::Busy);
    bench.pass(3 * 60).look_with(Look::Silent, RUNNING);
    assert_eq!(bench.state(), State::Down);
    assert!(bench.reason().contains("wedged"));
}

#[test]
fn a_proof_that_times_out_under_load_condemns_nobody() {
    let mut bench = Bench::new();
    bench.look(server(&["tiny"])).tell(Input::Traffic(Trial::Served)).tell(Input::Proved(Some(Trial::TimedOut)));
    assert_eq!(bench.state(), State::Busy);
}

#[test]
fn silence_without_load_is_degraded_and_then_down() {
    let mut bench = Bench::new();
    assert_eq!(bench.look_with(Look::Silent, RUNNING).state(), State::Degraded);
    assert!(bench.pass(60).look_with(Look::Silent, RUNNING).wanted().is_empty());
    assert_eq!(bench.pass(60).look_with(Look::Silent, RUNNING).state(), State::Down);
    bench.pass(30).look_with(Look::Silent, RUNNING);
    assert_eq!(bench.wanted(), [Action::Remedy(Step::Kickstart)]);
}

#[test]
fn a_model_that_loads_is_loading_for_as_long_as_it_takes() {
    let mut loading = server(&[]);
    if let Look::Server(server) = &mut loading {
        server.loading = true;
    }
    let mut bench = Bench::new();
    for _ in 0..60 {
        for look in [loading.clone(), Look::Loading] {
            assert_eq!(bench.look_with(look, RUNNING).state(), State::Loading);
            assert!(bench.pass(60).wanted().is_empty());
        }
    }
}

#[test]
fn a_process_without_its_port_is_starting_for_four_minutes() {
    let mut bench = Bench::new();
    assert_eq!(bench.look_with(Look::Closed, RUNNING).state(), State::Starting);
    assert_eq!(bench.pass(239).look_with(Look::Closed, RUNNING).state(), State::Starting);
    assert!(bench.wanted().is_empty());
    assert_eq!(bench.pass(1).look_with(Look::Closed, RUNNING).state(), State::Down);
    let another = AgentState::Running { pid: 8 };
    assert_eq!(bench.look_with(Look::Closed, another).state(), State::Starting, "launchd started it again");
}

#[test]
fn the_agent_is_explained() {
    let mut bench = Bench::new();
    bench.look_with(Look::Closed, CRASHED);
    assert_eq!(
        bench.reason(),
        "nobody listens on its port (agent dev.bifrost.vllm-mlx: loaded, not running, last exit 1)"
    );
}

#[test]
fn who_stops_it_means_it() {
    let mut bench = Bench::new();
    bench.look_with(server(&[]), RUNNING).pass(5).look_with(Look::Closed, STOPPED);
    assert_eq!(bench.state(), State::Held);
    assert!(bench.reason().starts_with("stopped by user"));
    for _ in 0..100 {
        assert!(bench.pass(60).look_with(Look::Closed, STOPPED).wanted().is_empty());
    }
    assert_eq!(bench.look_with(Look::Closed, RUNNING).state(), State::Starting, "until they start it again");
}

#[test]
fn the_ladder_is_climbed_once_with_rests_and_then_held() {
    let mut bench = Bench::new();
    bench.look_with(Look::Closed, CRASHED);
    assert!(bench.pass(29).wanted().is_empty(), "launchd restarts what crashed by itself");
    assert_eq!(bench.pass(1).wanted(), [Action::Remedy(Step::Kickstart)]);
    assert!(bench.wanted().is_empty(), "one at a time");
    bench.tell(Input::Remedied(Step::Kickstart, Ok(()))).look_with(Look::Closed, CRASHED);
    assert!(bench.pass(89).look_with(Look::Closed, CRASHED).wanted().is_empty());
    assert_eq!(bench.pass(1).wanted(), [Action::Remedy(Step::Bootstrap)]);
    bench.tell(Input::Remedied(Step::Bootstrap, Err("code 5".to_owned()))).pass(90).look_with(Look::Closed, CRASHED);
    assert_eq!(bench.state(), State::Held);
    assert!(bench.reason().contains("did not help (bootout and bootstrap failed: code 5)"), "{}", bench.reason());
    for _ in 0..100 {
        assert!(bench.pass(60).look_with(Look::Closed, CRASHED).wanted().is_empty());
    }
}

#[test]
fn a_server_that_comes_and_goes_gets_no_second_ladder_before_it_was_well_for_a_while() {
    let mut bench = Bench::new();
    bench.look_with(Look::Closed, CRASHED).pass(30);
    assert_eq!(bench.wanted(), [Action::Remedy(Step::Kickstart)]);
    bench.tell(Input::Remedied(Step::Kickstart, Ok(()))).pass(60).look_with(server(&[]), RUNNING);
    assert_eq!(bench.state(), State::Idle);
    bench.pass(60).look_with(Look::Closed, CRASHED).pass(30).look_with(Look::Closed, CRASHED);
    assert_eq!(bench.wanted(), [Action::Remedy(Step::Bootstrap)], "on from where it was");
    bench.tell(Input::Remedied(Step::Bootstrap, Ok(()))).pass(60).look_with(server(&[]), RUNNING);
    bench.pass(600).look_with(server(&[]), RUNNING).pass(1).look_with(Look::Closed, CRASHED);
    bench.pass(30).look_with(Look::Closed, CRASHED);
    assert_eq!(bench.wanted(), [Action::Remedy(Step::Kickstart)], "anew after ten good minutes");
}

#[test]
fn what_is_not_ours_is_never_touched() {
    let mut bench = Bench::new();
    let foreign = SeenAgent { label: "dev.vllm-mlx.server".to_owned(), ours: false, state: CRASHED };
    for _ in 0..20 {
        let look = Look::Closed;
        bench.tell(Input::Looked(Observation { look, agent: Some(foreign.clone()), holder: None, in_flight: 0 }));
        assert!(bench.pass(60).wanted().is_empty());
    }
    let holder = Holder { pid: 99, program: "ollama".to_owned(), of_agent: false };
    let mut bench = Bench::new();
    for _ in 0..20 {
        let (agent, holder) = (Some(agent(RUNNING)), Some(holder.clone()));
        bench.tell(Input::Looked(Observation { look: Look::Silent, agent, holder, in_flight: 0 }));
        assert!(bench.pass(60).wanted().is_empty(), "the port is another's");
    }
    assert_eq!(bench.state(), State::Down);
    bench.tell(Input::Looked(Observation {
        look: Look::Foreign("a web page".to_owned()),
        agent: None,
        holder: Some(holder),
        in_flight: 0,
    }));
    assert!(bench.machine.status().remedy().contains("held by ollama (pid 99)"));
}

#[test]
fn a_model_is_kept_warm_only_when_asked_and_idle() {
    let mut bench = Bench::with(Pace { keep_warm: Some(Duration::from_secs(240)), ..Pace::default() });
    bench.look(server(&["tiny"])).tell(Input::Traffic(Trial::Served));
    assert!(bench.pass(239).wanted().is_empty());
    bench.tell(Input::Looked(Observation { look: server(&["tiny"]), agent: None, holder: None, in_flight: 1 }));
    assert!(bench.pass(10).wanted().is_empty(), "it is at work");
    bench.look(server(&["tiny"]));
    assert_eq!(bench.prove(), [Action::Prove { model: "tiny".to_owned() }]);
    bench.tell(Input::Proved(Some(Trial::Served)));
    assert!(bench.pass(239).wanted().is_empty());
    bench.pass(1).look(server(&["tiny"])).prove();
}

#[test]
fn an_unhealthy_or_empty_server_is_degraded() {
    let mut sick = server(&["tiny"]);
    if let Look::Server(server) = &mut sick {
        server.healthy = false;
    }
    let mut empty = server(&[]);
    if let Look::Server(server) = &mut empty {
        server.models.clear();
    }
    for look in [sick, empty, Look::Foreign("a web page".to_owned())] {
        assert_eq!(Bench::new().look(look.clone()).state(), State::Degraded, "{look:?}");
    }
}

fn any_look() -> impl Strategy<Value = Look> {
    prop_oneof![
        3 => Just(Look::Closed),
        2 => Just(Look::Silent),
        1 => Just(Look::Foreign("x".to_owned())),
        1 => Just(Look::Busy),
        1 => Just(Look::Loading),
        1 => Just(server(&[])),
        2 => Just(server(&["tiny"])),
    ]
}

fn any_agent() -> impl Strategy<Value = Option<SeenAgent>> {
    let state = prop_oneof![
        Just(AgentState::NotLoaded),
        (1u32..3).prop_map(|pid| AgentState::Running { pid }),
        Just(AgentState::Stopping { pid: 1 }),
        Just(AgentState::Throttled { last: Some(LastExit::Signal(9)) }),
        Just(CRASHED),
        Just(STOPPED),
    ];
    prop_oneof![1 => Just(None), 6 => (state, prop::bool::weighted(0.8))
        .prop_map(|(state, ours)| Some(SeenAgent { ours, ..agent(state) }))]
}

fn any_trial() -> impl Strategy<Value = Trial> {
    prop_oneof![Just(Trial::Served), Just(Trial::Busy), Just(Trial::TimedOut), Just(Trial::Failed("x".to_owned()))]
}

#[derive(Debug, Clone)]
enum Happens {
    Look(Look, Option<SeenAgent>, Option<bool>, usize),
    Traffic(Trial),
    Time(u64),
}

fn anything() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (any_look(), any_agent(), prop_oneof![4 => Just(None), 1 => any::<bool>().prop_map(Some)], 0usize..2)
            .prop_map(|(look, agent, holder, running)| Happens::Look(look, agent, holder, running)),
        1 => any_trial().prop_map(Happens::Traffic),
        3 => (0u64..400).prop_map(Happens::Time),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_happens_no_remedy_is_given_that_should_not_be(
        story in proptest::collection::vec(anything(), 1..120),
        proofs in proptest::collection::vec(any_trial(), 1..8),
        remedies in proptest::collection::vec(any::<bool>(), 1..8),
    ) {
        let pace = Pace::default();
        let mut bench = Bench::new();
        let mut proofs = proofs.iter().cycle();
        let mut remedies = remedies.iter().cycle();
        let mut latest: Option<Observation> = None;
        let mut last_remedy: Option<Instant> = None;
        let mut remedies_since_well = 0;
        for happens in story {
            match happens {
                Happens::Time(seconds) => drop(bench.pass(seconds)),
                Happens::Traffic(trial) => drop(bench.tell(Input::Traffic(trial))),
                Happens::Look(look, agent, holder, in_flight) => {
                    let holder = holder.map(|of_agent| Holder { pid: 3, program: "x".to_owned(), of_agent });
                    let observation = Observation { look, agent, holder, in_flight };
                    latest = Some(observation.clone());
                    bench.tell(Input::Looked(observation));
                }
            }
            if bench.state().is_well() {
                remedies_since_well = 0;
            }
            for action in bench.machine.wanted(bench.now) {
                match action {
                    Action::Look => {}
                    Action::Prove { model } => {
                        let seen = latest.as_ref().and_then(|latest| latest.look.server());
                        prop_assert!(seen.is_some_and(|server| server.loaded.contains(&model)), "asks for what is not loaded");
                        let trial = proofs.next().cloned();
                        bench.tell(Input::Proved(trial));
                    }
                    Action::Remedy(step) => {
                        let latest = latest.as_ref().unwrap();
                        prop_assert_eq!(bench.state(), State::Down);
                        prop_assert!(latest.agent.as_ref().is_some_and(|agent| agent.ours), "a foreign agent");
                        prop_assert!(latest.holder.as_ref().is_none_or(|holder| holder.of_agent), "a foreign port");
                        prop_assert!(!matches!(latest.look, Look::Busy | Look::Loading | Look::Foreign(_)));
                        prop_assert!(last_remedy.is_none_or(|last| bench.now >= last + pace.cooldown), "too soon");
                        remedies_since_well += 1;
                        prop_assert!(remedies_since_well <= 2, "a loop");
                        last_remedy = Some(bench.now);
                        let done = if remedies.next() == Some(&true) { Ok(()) } else { Err("no".to_owned()) };
                        bench.tell(Input::Remedied(step, done));
                    }
                }
            }
        }
    }
}
