//! The newest finished exchanges, in memory.

use super::ExchangeRecord;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A bounded list of records; the oldest goes when a new one comes.
#[derive(Debug)]
pub(super) struct Ring {
    capacity: usize,
    records: Mutex<VecDeque<Arc<ExchangeRecord>>>,
}

impl Ring {
    /// A ring of at most `capacity` records.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, records: Mutex::default() }
    }

    /// Remembers a record.
    pub(super) fn push(&self, record: Arc<ExchangeRecord>) {
        let mut records = self.lock();
        let oldest = if records.len() >= self.capacity { records.pop_front() } else { None };
        records.push_back(record);
        drop(records);
        // The memory is given back outside of the lock.
        drop(oldest);
    }

    /// The newest record with this id: clients choose ids, and may choose one twice.
    pub(super) fn by_id(&self, id: &str) -> Option<Arc<ExchangeRecord>> {
        self.lock().iter().rev().find(|record| *record.id == *id).cloned()
    }

    /// All records, the newest first.
    pub(super) fn newest_first(&self) -> Vec<Arc<ExchangeRecord>> {
        self.lock().iter().rev().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<ExchangeRecord>>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
