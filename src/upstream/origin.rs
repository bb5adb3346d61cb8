//! The connections to one server: those that wait for the next request, and new ones.

use super::connect::{ConnectError, Connector, connect, root_cause};
use super::connection::Connection;
use http::HeaderValue;
use http::uri::{Authority, Scheme};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Idle connections are closed after this, sooner than most servers close theirs.
const POOL_IDLE: Duration = Duration::from_secs(50);

/// Idle connections are looked through this often.
const REAP: Duration = Duration::from_secs(5);

/// So far the two clocks may drift apart before the machine must have slept: daemons that set the time move it by less.
const SLEPT: Duration = Duration::from_secs(10);

/// A server, as connections see it: a scheme, a host and a port.
#[derive(Debug)]
pub struct Origin {
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    connector: Arc<dyn Connector>,
    revoked: Option<CancellationToken>,
    pool: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    /// The one that was used last is at the end, and is the first to be used again.
    idle: Vec<Idle>,
    /// A task closes what has been idle for too long.
    has_reaper: bool,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Moment,
}

/// A point in time on both clocks: the one that everybody sees and the one that stands still while the machine sleeps.
#[derive(Debug, Clone, Copy)]
struct Moment {
    wall: SystemTime,
    monotonic: Instant,
}

impl Moment {
    fn now() -> Self {
        Self { wall: SystemTime::now(), monotonic: Instant::now() }
    }

    /// An idle connection of this moment is of use at `now`: neither too old, nor from before a sleep, over which the server
    /// or a router has forgotten it. Such a one often does not even fail, it hangs.
    fn is_fresh(self, now: Self) -> bool {
        let awake = now.monotonic.saturating_duration_since(self.monotonic);
        let passed = now.wall.duration_since(self.wall).unwrap_or_default();
        awake < POOL_IDLE && passed < awake + SLEPT
    }
}

impl Origin {
    /// An origin without a connection; `None` for an authority that no header can carry.
    pub fn new(
        scheme: Scheme,
        authority: Authority,
        connector: Arc<dyn Connector>,
        revoked: Option<CancellationToken>,
    ) -> Option<Self> {
        let host = match (authority.port_u16(), &scheme) {
            (Some(443), scheme) if *scheme == Scheme::HTTPS => authority.host(),
            (Some(80), scheme) if *scheme == Scheme::HTTP => authority.host(),
            // Without the user's name and password that some write into URLs.
            _ => authority.as_str().rsplit('@').next().unwrap_or_default(),
        };
        let host = HeaderValue::from_str(host).ok()?;
        Some(Self { scheme, authority, host, connector, revoked, pool: Mutex::default() })
    }

    /// The `host` header.
    pub fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Ends when the origin may not be asked any more; `None` for one that always may.
    pub fn revoked(&self) -> Option<&CancellationToken> {
        self.revoked.as_ref()
    }

    /// A connection that waits. One that is not given back is closed, unless others share it.
    pub fn idle(&self) -> Option<Connection> {
        self.take_idle(Moment::now())
    }

    /// Closes the connections that wait.
    pub fn close_idle(&self) {
        self.pool().idle.clear();
    }

    /// A new connection, made within `limit`.
    ///
    /// # Errors
    /// No connection could be made.
    pub async fn connect(self: &Arc<Self>, limit: Duration) -> Result<Connection, ConnectError> {
        let connected = connect(&*self.connector, &self.scheme, &self.authority, limit).await?;
        let opened = Connection::open(connected, self.revoked.as_ref()).await;
        let connection = opened.map_err(|error| ConnectError::Failed(root_cause(&error)))?;
        if let Some(shared) = connection.share() {
            // Others need not wait for the end of this answer.
            self.give_back(shared);
        }
        Ok(connection)
    }

    /// Takes a connection back whose answer has been read to its end, for the next request.
    pub fn give_back(self: &Arc<Self>, connection: Connection) {
        if self.revoked.as_ref().is_some_and(CancellationToken::is_cancelled) {
            return;
        }
        let mut pool = self.pool();
        if connection.is_shared() {
            pool.idle.retain(|idle| !idle.connection.is_same(&connection));
        }
        pool.idle.push(Idle { connection, since: Moment::now() });
        let needs_reaper = !std::mem::replace(&mut pool.has_reaper, true);
        drop(pool);
        if needs_reaper {
            tokio::spawn(reap(Arc::downgrade(self)));
        }
    }

    fn take_idle(&self, now: Moment) -> Option<Connection> {
        let mut pool = self.pool();
        for place in (0..pool.idle.len()).rev() {
            let idle = &mut pool.idle[place];
            if !idle.since.is_fresh(now) || !idle.connection.is_ready() {
                pool.idle.remove(place);
                continue;
            }
            if idle.connection.is_full() {
                continue;
            }
            if let Some(shared) = idle.connection.share() {
                idle.since = now;
                return Some(shared);
            }
            return Some(pool.idle.remove(place).connection);
        }
        None
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `https://api.openai.com`, without a path.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host.to_str().unwrap_or_default())
    }
}

/// Closes connections that nobody needed for long, or that the server has closed; ends with the last of them.
async fn reap(origin: Weak<Origin>) {
    loop {
        tokio::time::sleep(REAP).await;
        let Some(origin) = origin.upgrade() else { return };
        let now = Moment::now();
        let mut pool = origin.pool();
        pool.idle.retain_mut(|idle| idle.since.is_fresh(now) && idle.connection.is_ready());
        if pool.idle.is_empty() {
            pool.has_reaper = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_sleep_nothing_idle_is_used_again() {
        let then = Moment::now();
        tokio::time::advance(Duration::from_secs(30)).await;
        let at = |passed| Moment { wall: then.wall + Duration::from_secs(passed), monotonic: Instant::now() };
        assert!(then.is_fresh(at(30)));
        assert!(then.is_fresh(at(33)), "a clock that was set a little");
        assert!(!then.is_fresh(at(60)), "asleep for half a minute");
        assert!(then.is_fresh(Moment { wall: then.wall - Duration::from_secs(3600), monotonic: Instant::now() }));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(!then.is_fresh(at(50)), "idle for too long");
    }
}
