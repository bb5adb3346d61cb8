//! What a client gets when providers stall, lie, throttle or die: the real binary between a client and servers that
//! misbehave on purpose. Each case says what the client saw, what each provider saw, and when. Limits are short, and what
//! is measured from above is measured generously: a slow machine fails nothing.

#[allow(dead_code)] // Other tests need more of it.
mod support {
    pub mod fault_client;
    pub mod fault_replies;
    pub mod fault_server;
    pub mod gateway;
}

mod fault_cases {
    mod answers;
    mod balance;
    mod breaker;
    mod budget;
    mod cancellation;
    mod connections;
    mod deadlines;
    mod error_events;
    mod estimates;
    mod fallbacks;
    mod floods;
    mod keep_alive;
    mod keys;
    mod overhead;
    mod refusals;
    mod retries;
    mod stopping;
    mod streams;
    mod throttling;
    mod trail;
    mod turns;
    mod vendor_words;
}
