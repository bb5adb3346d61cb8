use super::*;
use crate::config::classes::Priority;
use crate::provider::{Limits, MLX_LOCAL, table};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

fn provider(limits: Limits) -> Provider {
    let row = table::ROWS.iter().find(|row| row.name == MLX_LOCAL).unwrap();
    Provider { limits, ..row.provider() }
}

fn one_at_a_time() -> Provider {
    provider(Limits { in_flight: Some(1), queue_timeout: Duration::from_secs(5), ..Limits::MLX })
}

const ASK: Ask<'static> = Ask { model: "m", priority: Priority::Interactive, swaps: false };

fn now(admitted: Admitted) -> Permit {
    match admitted {
        Admitted::Now(permit) => permit,
        other => panic!("{other:?}"),
    }
}

fn later(admitted: Admitted) -> Waiting {
    match admitted {
        Admitted::Later(waiting) => waiting,
        other => panic!("{other:?}"),
    }
}

fn depth(admission: &Admission) -> (usize, usize) {
    admission
        .depths()
        .iter()
        .fold((0, 0), |(flying, waiting), depth| (flying + depth.in_flight, waiting + depth.interactive + depth.batch))
}

#[tokio::test(start_paused = true)]
async fn the_next_goes_when_one_ends() {
    let (admission, provider) = (Admission::default(), one_at_a_time());
    let first = now(admission.enter(&provider, ASK));
    let waiting = later(admission.enter(&provider, ASK));
    assert_eq!((waiting.position(), depth(&admission)), (1, (1, 1)));
    let until = Instant::now() + Duration::from_secs(5);
    let ((), second) = tokio::join!(async { drop(first) }, waiting.admitted(until));
    assert_eq!(depth(&admission), (1, 0));
    drop(second.unwrap());
    assert_eq!(depth(&admission), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_leaves_the_queue() {
    let (admission, provider) = (Admission::default(), one_at_a_time());
    let _first = now(admission.enter(&provider, ASK));
    let began = Instant::now();
    let waited = later(admission.enter(&provider, ASK)).admitted(began + Duration::from_secs(5)).await;
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    assert_eq!(waited.unwrap_err(), TimedOut { clears_in: Duration::from_secs(1) });
    assert_eq!(depth(&admission), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_the_queue_frees_its_place() {
    let (admission, provider) = (Admission::default(), one_at_a_time());
    let first = now(admission.enter(&provider, ASK));
    let until = Instant::now() + Duration::from_secs(5);
    {
        let mut waiting = pin!(later(admission.enter(&provider, ASK)).admitted(until));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!(depth(&admission), (1, 0));
    drop(first);
    drop(now(admission.enter(&provider, ASK)));
}

#[tokio::test(start_paused = true)]
async fn a_place_given_to_one_that_has_just_left_is_not_lost() {
    let (admission, provider) = (Admission::default(), one_at_a_time());
    let until = Instant::now() + Duration::from_secs(5);
    let first = now(admission.enter(&provider, ASK));
    let gone = later(admission.enter(&provider, ASK));
    let next = later(admission.enter(&provider, ASK));
    // It is admitted, and does not live to hear of it.
    drop(first);
    assert_eq!(depth(&admission), (1, 1));
    drop(gone);
    assert_eq!(depth(&admission), (1, 0));
    drop(next.admitted(until).await.unwrap());
    assert_eq!(depth(&admission), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_comes_free_in_the_last_moment_counts() {
    let (admission, provider) = (Admission::default(), one_at_a_time());
    let first = now(admission.enter(&provider, ASK));
    let mut waiting = pin!(later(admission.enter(&provider, ASK)).admitted(Instant::now()));
    drop(first);
    let polled = waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Ok(_))));
}

#[tokio::test(start_paused = true)]
async fn a_panic_frees_the_place() {
    let (admission, provider) = (Arc::new(Admission::default()), one_at_a_time());
    let permit = now(admission.enter(&provider, ASK));
    let task = tokio::spawn(async move {
        let _permit = permit;
        panic!("on purpose");
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(depth(&admission), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_place_of_a_request_that_was_broken_off_is_free_when_the_provider_has_noticed() {
    let (admission, provider) = (Admission::default(), one_at_a_time());
    let broken = now(admission.enter(&provider, ASK));
    let next = later(admission.enter(&provider, ASK));
    let began = Instant::now();
    broken.broken_off();
    drop(next.admitted(began + Duration::from_secs(9)).await.unwrap());
    assert_eq!(began.elapsed().as_millis() / 10, LINGER.as_millis() / 10);
    assert_eq!(depth(&admission), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_nothing_waits_for_the_provider_to_notice() {
    let (admission, provider) = (Admission::default(), provider(Limits::NONE));
    now(admission.enter(&provider, ASK)).broken_off();
    assert_eq!(depth(&admission), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn time_alone_lets_another_model_in() {
    let (admission, provider) = (Admission::default(), provider(Limits::MLX));
    let until = Instant::now() + Duration::from_secs(100);
    let of = |model| Ask { model, swaps: true, ..ASK };
    let first = now(admission.enter(&provider, of("a")));
    let other = later(admission.enter(&provider, of("b")));
    let began = Instant::now();
    let ended = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(first);
    };
    let ((), admitted) = tokio::join!(ended, other.admitted(until));
    assert_eq!((admitted.is_ok(), began.elapsed().as_secs()), (true, 3), "2 s after the last answer of the other one");
}

#[tokio::test(start_paused = true)]
async fn what_the_server_says_lets_another_model_in() {
    let (admission, provider) = (Admission::default(), provider(Limits::MLX));
    let of = |model| Ask { model, swaps: true, ..ASK };
    let _first = now(admission.enter(&provider, of("a")));
    let other = later(admission.enter(&provider, of("b")));
    admission.observed(&provider, &["a".to_owned(), "b".to_owned()], &[]);
    assert!(other.admitted(Instant::now()).await.is_ok());
}

#[test]
fn many_threads_never_have_more_places_than_there_are() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let admission = Admission::default();
    let provider = provider(Limits { in_flight: Some(3), queue: 0, ..Limits::MLX });
    let (flying, entered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..500 {
                    if let Admitted::Now(_permit) = admission.enter(&provider, ASK) {
                        assert!(flying.fetch_add(1, Ordering::SeqCst) < 3);
                        entered.fetch_add(1, Ordering::Relaxed);
                        std::thread::yield_now();
                        flying.fetch_sub(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert!(entered.into_inner() > 0);
    assert_eq!(depth(&admission), (0, 0));
}
