//! Ports for containers, never shared by two tests, even of different processes.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::net::TcpSocket;

/// Below what the kernel hands out for outgoing connections (32768 and up).
const FIRST: u16 = 20_000;
/// Ports per test: its listeners, then some containers of a few ports each.
const COUNT: u16 = 40;
const LISTENERS: u16 = 5;
const SLICES: u16 = 300;

/// A range of ports that belongs to its holder.
#[derive(Debug)]
pub struct PortSlice {
    first: u16,
    /// Unlocked when closed, so a test that was killed leaves nothing behind.
    _lock: File,
}

impl PortSlice {
    /// Takes a free slice.
    #[must_use]
    pub fn take() -> Self {
        for slice in 0..SLICES {
            let lock = lock_file(&slice.to_string());
            let first = FIRST + slice * COUNT;
            if lock.try_lock().is_ok() && (first..first + COUNT).all(is_free) {
                return Self { first, _lock: lock };
            }
        }
        panic!("{SLICES} tests run at once and have all the ports");
    }

    /// Ports for the listeners of the test's own `zlh`: public, IDE, admin, artifacts, gateway.
    #[must_use]
    pub fn listeners(&self) -> [u16; LISTENERS as usize] {
        std::array::from_fn(|index| self.first + u16::try_from(index).expect("a few"))
    }

    /// Ports for containers.
    #[must_use]
    pub fn containers(&self) -> RangeInclusive<u16> {
        self.first + LISTENERS..=self.first + COUNT - 1
    }
}

/// A test that was killed may have left something that listens, and one that ended connections in TIME-WAIT: those
/// are in the way of games, which do not set `SO_REUSEADDR` as std's listeners do (socket(7)).
fn is_free(port: u16) -> bool {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::UNSPECIFIED, port).into()).is_ok()
}

/// Waits until this test is the only one of the machine that holds the lock of that name.
pub async fn machine_lock(name: &str) -> File {
    let lock = lock_file(name);
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    while lock.try_lock().is_err() {
        ticks.tick().await;
    }
    lock
}

fn lock_file(name: &str) -> File {
    let folder = std::env::temp_dir().join("zlh-test-locks");
    std::fs::create_dir_all(&folder).expect("room for locks");
    File::create(folder.join(name)).expect("a lock file")
}

/// A port that is free now.
#[must_use]
pub fn free() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}
