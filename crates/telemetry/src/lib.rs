//! Log set-up of components: lines on stderr, which the host collects.

use std::io;
use std::sync::Once;

static INIT: Once = Once::new();

/// Sets logging up the first time; does nothing after that.
pub fn init() {
    INIT.call_once(|| {
        // The host stamps the time. A second subscriber is a test's, and stays.
        drop(
            tracing_subscriber::fmt()
                .with_writer(io::stderr)
                .with_ansi(false)
                .without_time()
                .try_init(),
        );
    });
}
