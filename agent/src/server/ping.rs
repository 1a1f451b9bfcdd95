//! Minecraft's status ping: a handshake that asks for the status, and the JSON that comes back.
//!
//! <https://minecraft.wiki/w/Java_Edition_protocol/Server_List_Ping>

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zlh_agent_protocol::agent::Players;

/// A server that is busy answers late; one that takes longer than this cannot be played on.
const LIMIT: Duration = Duration::from_secs(3);
/// A status has an icon of some kilobytes in it.
const MAX_STATUS: u32 = 256 * 1024;
/// Names that are taken from one status; servers send a sample of about twelve.
const MAX_NAMES: usize = 100;

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    players: Option<Counts>,
}

#[derive(Deserialize)]
struct Counts {
    #[serde(default)]
    online: u32,
    #[serde(default)]
    max: u32,
    #[serde(default)]
    sample: Vec<Player>,
}

#[derive(Deserialize)]
struct Player {
    name: String,
}

/// Asks a server of this container.
///
/// # Errors
///
/// It does not answer in time, or with something else.
pub(crate) async fn ping(port: u16) -> io::Result<Players> {
    tokio::time::timeout(LIMIT, ask(port)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// Connects and nothing more.
pub(crate) async fn connect(port: u16) -> io::Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    tokio::time::timeout(LIMIT, TcpStream::connect(address))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
}

async fn ask(port: u16) -> io::Result<Players> {
    let mut stream = connect(port).await?;
    let mut handshake = vec![0x00];
    // Any version will do for a status; -1 says that none is meant.
    write_number(&mut handshake, u32::MAX);
    let host = b"localhost";
    write_number(&mut handshake, u32::try_from(host.len()).unwrap_or_default());
    handshake.extend(host);
    handshake.extend(port.to_be_bytes());
    handshake.push(1);
    let mut request = Vec::new();
    write_number(&mut request, u32::try_from(handshake.len()).unwrap_or_default());
    request.extend(handshake);
    request.extend([1, 0x00]);
    stream.write_all(&request).await?;

    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let length = read_number(&mut stream).await?;
    if !(3..=MAX_STATUS).contains(&length) {
        return Err(wrong("the status is too long"));
    }
    if read_number(&mut stream).await? != 0 {
        return Err(wrong("the answer is no status"));
    }
    let text_length = read_number(&mut stream).await?;
    if text_length > length {
        return Err(wrong("the status is longer than its packet"));
    }
    let mut text = vec![0; usize::try_from(text_length).unwrap_or_default()];
    stream.read_exact(&mut text).await?;
    let status: Status = serde_json::from_slice(&text)?;
    Ok(status.players.map_or_else(Players::default, |counts| Players {
        online: counts.online,
        max: counts.max,
        players: counts.sample.into_iter().take(MAX_NAMES).map(|player| player.name).collect(),
    }))
}

/// Seven bits a byte, the lowest first.
fn write_number(to: &mut Vec<u8>, mut number: u32) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            return to.push(low);
        }
        to.push(low | 0x80);
    }
}

async fn read_number(stream: &mut TcpStream) -> io::Result<u32> {
    let mut number = 0_u32;
    for shift in (0..35).step_by(7) {
        let byte = stream.read_u8().await?;
        number |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "a number is too long"))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn numbers_are_those_of_the_protocol() {
        let table: [(u32, &[u8]); 4] = [
            (0, &[0]),
            (127, &[127]),
            (25565, &[221, 199, 1]),
            (u32::MAX, &[255, 255, 255, 255, 15]),
        ];
        for (number, bytes) in table {
            let mut written = Vec::new();
            write_number(&mut written, number);
            assert_eq!(written, bytes);
        }
    }

    async fn answer(bytes: Vec<u8>) -> io::Result<Players> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            let mut asked = [0; 22];
            stream.read_exact(&mut asked).await.unwrap();
            asked
        });
        let players = ping(port).await;
        let asked = server.await.unwrap();
        // Its length, the handshake that asks for a status, and the request.
        assert_eq!((asked[0], asked[1], &asked[19..]), (19, 0, &[1, 1, 0][..]));
        players
    }

    #[tokio::test]
    async fn a_status_is_read_and_nonsense_is_not() {
        let json = br#"{"players":{"max":20,"online":1,"sample":[{"name":"Ada","id":"x"}]},"description":{}}"#;
        let mut status = Vec::new();
        write_number(&mut status, u32::try_from(json.len()).unwrap() + 2);
        status.push(0);
        write_number(&mut status, u32::try_from(json.len()).unwrap());
        status.extend(json);

        let players = answer(status).await.unwrap();
        assert_eq!((players.online, players.max, players.players), (1, 20, vec!["Ada".to_owned()]));
        assert!(answer(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()).await.is_err());
        assert!(answer(vec![0xff; 6]).await.is_err());
    }
}
