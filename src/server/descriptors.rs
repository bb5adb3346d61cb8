//! File descriptors: the system's soft limit (256 on macOS, 1024 on most Linux) is too low for the connections that the gateway
//! takes, each of which may need a second one to a provider.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{debug, warn};

/// For files, listeners, the log and whatever else is open.
const SPARE: u64 = 256;

/// Raises the soft limit to what so many connections need, as far as the hard one lets it.
pub fn raise_limit(max_connections: usize) {
    let wanted = 2 * max_connections as u64 + SPARE;
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft >= wanted {
            return Ok(soft);
        }
        let possible = wanted.min(hard);
        setrlimit(Resource::RLIMIT_NOFILE, possible, hard).map(|()| possible)
    });
    match raised {
        Ok(limit) if limit < wanted => warn!(
            limit,
            wanted,
            "the system lets the gateway open fewer files than `[server] max_connections` needs; raise its hard limit, or lower the setting"
        ),
        Ok(limit) => debug!(limit, "the limit of open files"),
        Err(error) => warn!(%error, "the limit of open files could not be raised"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_follows_the_connections() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let connections = 700;
        raise_limit(connections);
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert!(soft >= (2 * connections as u64 + SPARE).min(hard));
    }
}
