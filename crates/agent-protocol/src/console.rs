//! The console of a game server, and the shell of a dev container: `GET /console/stream`, a WebSocket.
//!
//! A client that offers the subprotocol [`SUBPROTOCOL`] speaks [`FromClient`] and [`FromServer`] in text
//! frames. One that offers none gets bare output and sends bare input, both as text frames.

use serde::{Deserialize, Serialize};

/// Names the frames of this module in `Sec-WebSocket-Protocol` (RFC 6455 section 1.9).
pub const SUBPROTOCOL: &str = "zlh.console.v1";
/// Longest command of `POST /console/command`, in bytes.
pub const MAX_COMMAND_BYTES: usize = 1024;
/// Longest text frame that a client may send, in bytes.
pub const MAX_INPUT_BYTES: usize = 16 * 1024;

/// What clients send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "type", rename_all = "lowercase")]
pub enum FromClient {
    /// Keys that were pressed.
    Input {
        /// As a terminal sends them; a line ends with a line feed or a carriage return.
        data: String,
    },
    /// The window has another size.
    Resize {
        /// Columns, 1–1000.
        cols: u16,
        /// Rows, 1–1000.
        rows: u16,
    },
}

/// What clients get.
///
/// Positions count the bytes of output since the console exists; the back-log is what is left of them. A
/// client that comes back asks with `?after=SEQ`, SEQ being the last `seq` it saw, and gets everything once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum FromServer {
    /// Output.
    Output {
        /// The position after it.
        seq: u64,
        /// UTF-8; what was not is replaced.
        data: String,
    },
    /// Output is missing here: the back-log did not reach back far enough, or the client was too slow.
    Gap {
        /// The position where it goes on.
        seq: u64,
    },
}

/// `POST /console/command`: 202 [`CommandAccepted`] once the line is written; 400 for control characters or
/// more than [`MAX_COMMAND_BYTES`]; 409 while no server runs; 429 with `Retry-After` for too many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(description = "A line for a server's console.")]
pub struct ConsoleCommand {
    /// One line, without its end.
    pub command: String,
}

/// Answer to `POST /console/command`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(description = "The line was written to the server's console.")]
pub struct CommandAccepted {
    /// Always true.
    pub ok: bool,
}
