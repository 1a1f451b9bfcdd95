//! What an agent and a holder say to each other, over a unix socket that only root can reach: frames with
//! their length in front.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use zlh_agent_protocol::game::StopSignal;

use crate::config::Ids;

/// Output is sent in pieces of at most this.
pub(crate) const PIECE: usize = 32 * 1024;
/// Larger frames come from no agent and no holder.
const MAX_FRAME: usize = 256 * 1024;
const HELLO: u8 = b'h';
const OUTPUT: u8 = b'o';

/// What a holder is told on its standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Tells this run from all others of the container.
    pub(crate) run: u64,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) folder: PathBuf,
    /// Who runs it, where the agent is root.
    pub(crate) ids: Option<Ids>,
    /// The position of the first byte of output.
    pub(crate) begin: u64,
    /// Where its socket and its record go.
    pub(crate) state: PathBuf,
}

/// What an agent says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ToHolder {
    /// The first word: output from this position on is wanted.
    Attach {
        from: u64,
    },
    Input {
        data: String,
    },
    Resize {
        cols: u16,
        rows: u16,
    },
    /// To the server's process group.
    Signal {
        signal: StopSignal,
    },
    /// Ends everything that the server started, too.
    Kill,
}

/// What a holder says first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) run: u64,
    pub(crate) pid: i32,
    pub(crate) uptime_ms: u64,
}

/// What a holder says.
#[derive(Debug)]
pub(crate) enum FromHolder {
    Hello(Hello),
    Output { at: u64, bytes: Bytes },
}

/// How a run ended; a holder writes it to disk before it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) run: u64,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// Unix time.
    pub(crate) ended_at_ms: i64,
    pub(crate) uptime_ms: u64,
    /// The position after the last byte of output.
    pub(crate) end: u64,
    /// The last output, at most 16 KiB.
    pub(crate) tail: String,
}

pub(crate) type Frames = Framed<UnixStream, LengthDelimitedCodec>;

pub(crate) fn frames(stream: UnixStream) -> Frames {
    Framed::new(stream, LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_codec())
}

impl ToHolder {
    pub(crate) fn encode(&self) -> io::Result<Bytes> {
        Ok(serde_json::to_vec(self)?.into())
    }

    pub(crate) fn decode(frame: &[u8]) -> io::Result<Self> {
        Ok(serde_json::from_slice(frame)?)
    }
}

impl FromHolder {
    pub(crate) fn encode(&self) -> io::Result<Bytes> {
        let mut frame = BytesMut::new();
        match self {
            Self::Hello(hello) => {
                frame.put_u8(HELLO);
                frame.put_slice(&serde_json::to_vec(hello)?);
            }
            Self::Output { at, bytes } => {
                frame.put_u8(OUTPUT);
                frame.put_u64(*at);
                frame.put_slice(bytes);
            }
        }
        Ok(frame.freeze())
    }

    pub(crate) fn decode(frame: &[u8]) -> io::Result<Self> {
        match frame.split_first() {
            Some((&HELLO, rest)) => Ok(Self::Hello(serde_json::from_slice(rest)?)),
            Some((&OUTPUT, rest)) => {
                let (at, bytes) = rest.split_first_chunk().ok_or(io::ErrorKind::InvalidData)?;
                Ok(Self::Output {
                    at: u64::from_be_bytes(*at),
                    bytes: Bytes::copy_from_slice(bytes),
                })
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
