use super::*;

fn resolver(variables: &[(&str, &str)]) -> Resolver {
    Resolver::new(Arc::new(variables.iter().copied().collect()))
}

fn reference(text: &str) -> SecretRef {
    text.parse().unwrap()
}

async fn reason(resolver: &Resolver, text: &str) -> FailureReason {
    resolver.resolve(&reference(text)).await.unwrap_err().reason
}

async fn exposed(resolver: &Resolver, text: &str) -> String {
    resolver.resolve(&reference(text)).await.unwrap().expose().to_owned()
}

#[tokio::test]
async fn variables_are_trimmed_and_missing_ones_said() {
    let resolver = resolver(&[("KEY", " sk-1\n"), ("NONE", ""), ("BAD", "a\nb")]);
    assert_eq!(exposed(&resolver, "env:KEY").await, "sk-1");
    assert_eq!(reason(&resolver, "env:NONE").await, FailureReason::NotSet);
    assert_eq!(reason(&resolver, "env:BAD").await, FailureReason::NotAKey);
    let error = resolver.resolve(&reference("env:OPENAI_API_KEY")).await.unwrap_err().to_string();
    assert!(error.starts_with("env:OPENAI_API_KEY: the variable is not set"), "{error}");
}

#[tokio::test]
async fn files_are_trimmed_and_found_at_home() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("key"), "\n sk-file \r\n").unwrap();
    std::fs::write(home.path().join("empty"), " \n").unwrap();
    std::fs::write(home.path().join("long"), vec![b'a'; LONGEST + 1]).unwrap();
    std::fs::write(home.path().join("binary"), [0xff, 0xfe]).unwrap();
    let resolver = resolver(&[("HOME", home.path().to_str().unwrap())]);
    assert_eq!(exposed(&resolver, "file:~/key").await, "sk-file");
    assert_eq!(reason(&resolver, "file:~/empty").await, FailureReason::Empty);
    assert_eq!(reason(&resolver, "file:~/long").await, FailureReason::NotAKey);
    assert_eq!(reason(&resolver, "file:~/binary").await, FailureReason::NotAKey);
    assert!(matches!(reason(&resolver, "file:~/gone").await, FailureReason::File(_)));
    assert!(matches!(reason(&resolver, "file:~/").await, FailureReason::File(_)), "a folder");
}

#[tokio::test]
async fn a_program_gives_its_first_line_and_sees_the_env_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "BIFROST_TEST_TOKEN='sk from file'").unwrap();
    let mut environment = Environment::default();
    environment.add_file(file.path()).unwrap();
    let resolver = Resolver::new(Arc::new(environment));
    assert_eq!(exposed(&resolver, r#"cmd:sh -c 'echo; echo "$BIFROST_TEST_TOKEN"; echo more'"#).await, "sk from file");
}

#[tokio::test]
async fn a_program_that_fails_is_not_quoted() {
    let resolver = resolver(&[]);
    let failed = reason(&resolver, "cmd:sh -c 'echo planted-out; echo planted-err >&2; exit 3'").await.to_string();
    assert!(failed.contains("exit status: 3") && failed.contains("12 bytes"), "{failed}");
    assert!(!failed.contains("planted"), "{failed}");
    assert!(matches!(reason(&resolver, "cmd:/nowhere/bifrost-no-such-program").await, FailureReason::Start(_)));
    assert_eq!(reason(&resolver, "cmd:true").await, FailureReason::Empty);
    assert_eq!(reason(&resolver, "cmd:sh -c 'head -c 1000000 /dev/zero'").await, FailureReason::NotAKey);
}

#[tokio::test(start_paused = true)]
async fn a_program_that_hangs_is_stopped() {
    let resolver = resolver(&[]);
    let started = Instant::now();
    assert_eq!(reason(&resolver, "cmd:sleep 100000").await, FailureReason::Timeout(COMMAND_TIMEOUT));
    assert!(started.elapsed() >= COMMAND_TIMEOUT);
}

#[tokio::test]
async fn callers_at_the_same_time_share_one_run_and_success_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let resolver = resolver(&[]);
    let text = format!("cmd:sh -c 'echo run >> {}; echo sk-once'", runs.display());
    let (a, b, c) = tokio::join!(exposed(&resolver, &text), exposed(&resolver, &text), exposed(&resolver, &text));
    assert_eq!((a.as_str(), b.as_str(), c.as_str()), ("sk-once", "sk-once", "sk-once"));
    assert_eq!(exposed(&resolver, &text).await, "sk-once");
    assert_eq!(std::fs::read_to_string(runs).unwrap(), "run\n");
}

#[tokio::test]
async fn a_failure_is_kept_for_a_while_and_then_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let resolver = resolver(&[]);
    let text = format!("file:{}", path.display());
    assert!(matches!(reason(&resolver, &text).await, FailureReason::File(_)));
    std::fs::write(&path, "sk-later").unwrap();
    assert!(matches!(reason(&resolver, &text).await, FailureReason::File(_)), "still the failure just seen");
    tokio::time::pause();
    tokio::time::advance(FAILURE_KEPT).await;
    tokio::time::resume();
    assert_eq!(exposed(&resolver, &text).await, "sk-later");
}

#[tokio::test]
async fn the_keychain_is_asked_with_service_and_account() {
    let with = |program: Option<&str>| Resolver { security: program.map(PathBuf::from), ..resolver(&[]) };
    let none = with(None);
    assert_eq!(reason(&none, "keychain:openai").await, FailureReason::NoKeychain);
    assert_eq!(none.peek(&reference("keychain:openai")), Availability::Absent);
    let echo = with(Some("echo"));
    assert_eq!(echo.peek(&reference("keychain:openai")), Availability::Unknown);
    assert_eq!(exposed(&echo, "keychain:openai").await, "find-generic-password -w -s openai");
    assert_eq!(exposed(&echo, "keychain:a/me@x").await, "find-generic-password -w -s a -a me@x");
    assert!(matches!(reason(&with(Some("false")), "keychain:gone").await, FailureReason::Keychain(_)));
}

#[tokio::test]
async fn the_first_that_gives_is_taken() {
    let resolver = resolver(&[("B", "sk-b")]);
    let references = |texts: &[&str]| texts.iter().map(|text| reference(text)).collect::<Vec<_>>();
    let found = resolver.first(&references(&["env:A", "file:/nowhere/key", "env:B"])).await.unwrap();
    assert_eq!(found, Some(Secret::new("sk-b")));
    assert_eq!(resolver.first(&references(&["env:A"])).await, Ok(None));
    assert_eq!(resolver.first(&[]).await, Ok(None));
    let error = resolver.first(&references(&["env:A", "file:/nowhere/key"])).await.unwrap_err();
    assert!(error.to_string().starts_with("file:/nowhere/key: "), "{error}");
}

#[test]
fn peeking_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ran = folder.path().join("ran");
    let resolver = resolver(&[("A", "sk-a")]);
    assert_eq!(resolver.peek(&reference(&format!("cmd:touch {}", ran.display()))), Availability::Unknown);
    assert!(!ran.exists());
    assert_eq!(resolver.peek(&reference("env:A")), Availability::Present);
    assert_eq!(resolver.peek(&reference("env:B")), Availability::Absent);
    assert_eq!(resolver.peek(&reference("file:/nowhere/key")), Availability::Absent);
    assert_eq!(resolver.peek_first(&[reference("env:B"), reference("cmd:true")]), Availability::Unknown);
    assert_eq!(resolver.peek_first(&[]), Availability::Absent);
}
