//! Says goodbye on a WebSocket that is spliced: a close frame fits between any two frames, so it is enough to
//! know where those end. Payloads are neither kept nor looked at.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::registry::Closing;

/// Where the bytes that were sent so far end (RFC 6455 section 5.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Position {
    /// Between two frames.
    #[default]
    Between,
    /// After the first byte of a frame.
    Length,
    /// Within a longer length, of which so many bytes are to come.
    LongLength { missing: u8, length: u64 },
    /// Within a payload, of which so many bytes are to come.
    Payload(u64),
    /// After a close frame began: nothing may follow it.
    Closed,
}

impl Position {
    fn after(mut self, mut bytes: &[u8]) -> Self {
        while let Some((first, rest)) = bytes.split_first() {
            (self, bytes) = match self {
                Self::Between if first & 0x0f == 0x8 => (Self::Closed, rest),
                Self::Between => (Self::Length, rest),
                // Servers do not mask (section 5.1), so no key follows.
                Self::Length => (
                    match first & 0x7f {
                        126 => Self::LongLength { missing: 2, length: 0 },
                        127 => Self::LongLength { missing: 8, length: 0 },
                        length => Self::before(length.into()),
                    },
                    rest,
                ),
                Self::LongLength { missing, length } => {
                    let length = length << 8 | u64::from(*first);
                    let next = match missing {
                        ..=1 => Self::before(length),
                        _ => Self::LongLength { missing: missing - 1, length },
                    };
                    (next, rest)
                }
                Self::Payload(missing) => {
                    let here = usize::try_from(missing).unwrap_or(usize::MAX).min(bytes.len());
                    let left = missing - u64::try_from(here).unwrap_or(missing);
                    (Self::before(left), bytes.get(here..).unwrap_or_default())
                }
                Self::Closed => return self,
            };
        }
        self
    }

    fn before(payload: u64) -> Self {
        if payload == 0 { Self::Between } else { Self::Payload(payload) }
    }
}

/// A client's end of a WebSocket, which knows where it is in what the client is sent.
pub(crate) struct Client<S> {
    stream: S,
    sent: Position,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// After the 101, before the first frame.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, sent: Position::Between }
    }

    /// Tells the client why the connection ends, where a frame has just ended, and waits for its end of it.
    ///
    /// # Errors
    ///
    /// The client is gone.
    pub(crate) async fn close(mut self, why: Closing) -> io::Result<()> {
        if self.sent == Position::Between {
            let [high, low] = why.code().to_be_bytes();
            self.stream.write_all(&[0x88, 2, high, low]).await?;
        }
        self.stream.shutdown().await?;
        // Closed with something unread, the connection would be reset, and the frame be lost.
        tokio::io::copy(&mut self.stream, &mut tokio::io::sink()).await.map(drop)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Client<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Client<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.sent = self.sent.after(bytes.get(..written).unwrap_or(bytes));
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of every form of length, with the places where one ends.
    fn frames() -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), vec![0]);
        for length in [0_usize, 1, 125, 126, 65_535, 65_536] {
            bytes.push(0x82);
            match length {
                ..126 => bytes.push(u8::try_from(length).unwrap()),
                126..65_536 => {
                    bytes.push(126);
                    bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
                }
                _ => {
                    bytes.push(127);
                    bytes.extend((length as u64).to_be_bytes());
                }
            }
            // Read as a head, a payload byte would be a close frame.
            bytes.extend(std::iter::repeat_n(0x88, length));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn it_is_known_where_frames_end_however_they_are_cut() {
        let (bytes, ends) = frames();
        for step in [1, 3, 1000, 70_000, bytes.len()] {
            let (mut position, mut at) = (Position::Between, 0);
            for piece in bytes.chunks(step) {
                position = position.after(piece);
                at += piece.len();
                assert_eq!(position == Position::Between, ends.contains(&at), "{at} by {step}");
            }
        }
    }

    #[test]
    fn nothing_follows_a_close_frame() {
        let position = Position::Between.after(&[0x88, 2, 3, 0xe8, 0x82, 0]);

        assert_eq!(position, Position::Closed);
    }
}
