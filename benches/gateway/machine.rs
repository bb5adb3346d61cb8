//! What is asked of the machine, so that one part of the measurement does not disturb the other.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A flood holds a thousand connections twice: the load's end and the upstream's; macOS allows no more than this.
const FILES: u64 = 10_240;

/// Raises the limit of open files of this process and of those it starts, as far as it may.
///
/// # Errors
/// The limits cannot be read or raised.
pub fn allow_many_connections() -> nix::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(FILES.min(hard)), hard)
}

/// Who runs on which processors.
#[derive(Clone, Copy)]
pub enum Side {
    /// The first processor: the gateway under test.
    Gateway,
    /// All others: load and upstream.
    Load,
}

#[cfg(target_os = "linux")]
mod linux {
    use super::Side;
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::sys::prctl::set_timerslack;
    use nix::unistd::Pid;

    /// Whom the processors belong to, as this process found it at its start.
    #[derive(Clone, Copy)]
    pub struct Processors {
        gateway: CpuSet,
        load: CpuSet,
    }

    impl Processors {
        /// Parts the processors that this process may use; `None` when there is only one.
        pub fn part() -> nix::Result<Option<Self>> {
            let all = sched_getaffinity(Pid::from_raw(0))?;
            let (mut gateway, mut load, mut count) = (CpuSet::new(), CpuSet::new(), 0);
            for cpu in 0..CpuSet::count() {
                if all.is_set(cpu)? {
                    if count == 0 { &mut gateway } else { &mut load }.set(cpu)?;
                    count += 1;
                }
            }
            Ok((count > 1).then_some(Self { gateway, load }))
        }

        /// Keeps the calling thread, and what it starts from now on, on one side.
        pub fn pin(&self, side: Side) -> nix::Result<()> {
            let set = match side {
                Side::Gateway => &self.gateway,
                Side::Load => &self.load,
            };
            sched_setaffinity(Pid::from_raw(0), set)
        }
    }

    /// The calling thread wakes when it asked to, not up to 50 us later.
    pub fn wake_precisely() {
        // It measures without this too, and less exactly.
        let _ = set_timerslack(1);
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use super::Side;

    /// Processors that nobody can be kept on.
    #[derive(Clone, Copy)]
    pub struct Processors;

    impl Processors {
        /// Threads cannot be kept on a processor here.
        pub fn part() -> nix::Result<Option<Self>> {
            Ok(None)
        }

        /// Does nothing.
        pub fn pin(&self, _side: Side) -> nix::Result<()> {
            Ok(())
        }
    }

    /// Threads wake precisely enough.
    pub fn wake_precisely() {}
}

#[cfg(target_os = "linux")]
pub use linux::{Processors, wake_precisely};
#[cfg(not(target_os = "linux"))]
pub use other::{Processors, wake_precisely};
