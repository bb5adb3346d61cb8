//! Whether local-only mode is on: the strictest of what is declared and what was switched.

use std::sync::atomic::{AtomicBool, Ordering};

/// Local-only mode, declared (file, flag, environment) or switched on at run time. Either is enough.
#[derive(Debug)]
pub struct LocalMode {
    declared: AtomicBool,
    switched: AtomicBool,
}

impl LocalMode {
    /// The mode at the start: what is declared, and what the state folder says of the last switch.
    pub fn new(declared: bool, switched: bool) -> Self {
        Self { declared: AtomicBool::new(declared), switched: AtomicBool::new(switched) }
    }

    /// True when nothing may leave the machine.
    pub fn is_on(&self) -> bool {
        self.is_declared() || self.is_switched()
    }

    /// On by file, flag or environment.
    pub fn is_declared(&self) -> bool {
        self.declared.load(Ordering::SeqCst)
    }

    /// On by the run-time switch.
    pub fn is_switched(&self) -> bool {
        self.switched.load(Ordering::SeqCst)
    }

    /// What the config says now.
    pub fn declare(&self, on: bool) {
        self.declared.store(on, Ordering::SeqCst);
    }

    /// Turns the run-time switch.
    pub fn switch(&self, on: bool) {
        self.switched.store(on, Ordering::SeqCst);
    }
}
