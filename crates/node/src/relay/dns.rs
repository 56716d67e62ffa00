//! The cell's DNS server: Services by itself, everything else by asking the agent.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, CNAME},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
};

use super::{
    Relay,
    names::Known,
    protocol::{Found, Question},
};

/// Seconds for which an answer may be kept. Short: addresses are given anew when a relay is.
const TTL: u32 = 5;
/// Questions that are answered at once.
const AT_ONCE: usize = 256;
/// How long a TCP client may keep a connection without asking.
const IDLE: Duration = Duration::from_secs(10);
/// An answer over UDP without EDNS (RFC 1035, 4.2.1).
const SMALL: usize = 512;
/// Names that a name may stand for, one after the other.
const ALIASES: usize = 8;

/// Listens, and gives what serves then.
pub(super) async fn serve(relay: Arc<Relay>) -> io::Result<impl Future<Output = io::Result<()>>> {
    let at = SocketAddr::from((relay.address, 53));
    let (udp, tcp) = (UdpSocket::bind(at).await?, TcpListener::bind(at).await?);
    Ok(async move {
        tokio::select! {
            outcome = over_udp(relay.clone(), Arc::new(udp)) => outcome,
            outcome = over_tcp(relay, tcp) => outcome,
        }
    })
}

async fn over_udp(relay: Arc<Relay>, socket: Arc<UdpSocket>) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut buffer = [0; 4096];
    loop {
        let Ok((size, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        // A flood is dropped, as datagrams may be.
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            continue;
        };
        let question = buffer[..size].to_vec();
        let (relay, socket) = (relay.clone(), socket.clone());
        tokio::spawn(async move {
            if let Some(answer) = respond(&relay, &question, from, true).await {
                let _ = socket.send_to(&answer, from).await;
            }
            drop(permit);
        });
    }
}

async fn over_tcp(relay: Arc<Relay>, listener: TcpListener) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            continue;
        };
        let relay = relay.clone();
        tokio::spawn(async move {
            let _ = converse(&relay, stream, from).await;
            drop(permit);
        });
    }
}

async fn converse(relay: &Arc<Relay>, mut stream: TcpStream, from: SocketAddr) -> io::Result<()> {
    loop {
        let length = tokio::time::timeout(IDLE, stream.read_u16()).await??;
        let mut question = vec![0; usize::from(length)];
        tokio::time::timeout(IDLE, stream.read_exact(&mut question)).await??;
        let Some(answer) = respond(relay, &question, from, false).await else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend(answer);
        stream.write_all(&frame).await?;
    }
}

/// The answer to a message; none to what is no question.
async fn respond(relay: &Arc<Relay>, message: &[u8], from: SocketAddr, datagram: bool) -> Option<Vec<u8>> {
    let question = Message::from_vec(message).ok()?;
    if question.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    let room = question
        .edns
        .as_ref()
        .map_or(SMALL, |edns| usize::from(edns.max_payload()).max(SMALL));
    match question.queries.first() {
        Some(query) if question.metadata.op_code == OpCode::Query && question.queries.len() == 1 => {
            answer.add_query(query.clone());
            let IpAddr::V4(source) = from.ip() else {
                return None;
            };
            let code = fill(relay, &mut answer, query.name(), query.query_type(), source).await;
            answer.metadata.response_code = code;
        }
        _ => answer.metadata.response_code = ResponseCode::NotImp,
    }
    let bytes = answer.to_vec().ok()?;
    if datagram && bytes.len() > room {
        answer.answers.clear();
        answer.metadata.truncation = true;
        return answer.to_vec().ok();
    }
    Some(bytes)
}

async fn fill(
    relay: &Arc<Relay>,
    answer: &mut Message,
    name: &Name,
    kind: RecordType,
    source: Ipv4Addr,
) -> ResponseCode {
    let mut owner = name.clone();
    let mut text = plain(name);
    for _ in 0..ALIASES {
        let addresses = match relay.names.look(&text) {
            Known::Addresses(addresses) => addresses,
            Known::Nothing => return ResponseCode::NXDomain,
            Known::Alias(other) => {
                let Ok(target) = Name::from_ascii(format!("{other}.")) else {
                    return ResponseCode::ServFail;
                };
                let data = RData::CNAME(CNAME(target.clone()));
                answer.add_answer(Record::from_rdata(owner, TTL, data));
                owner = target;
                text = other;
                continue;
            }
            Known::Ask(name) => match outside(relay, &name, source).await {
                Ok(addresses) => addresses,
                Err(code) => return code,
            },
        };
        if kind == RecordType::A || kind == RecordType::ANY {
            for address in addresses {
                answer.add_answer(Record::from_rdata(owner.clone(), TTL, RData::A(A(address))));
            }
        }
        return ResponseCode::NoError;
    }
    ResponseCode::ServFail
}

/// The address that stands for a name outside of the cell.
async fn outside(relay: &Arc<Relay>, name: &str, source: Ipv4Addr) -> Result<Vec<Ipv4Addr>, ResponseCode> {
    let question = Question::Lookup {
        source,
        name: name.to_owned(),
    };
    match relay.ask::<Found>(&question).await {
        Ok(Found::Nothing) => Err(ResponseCode::NXDomain),
        Ok(Found::Destination { destination, ports }) => {
            let address = relay.names.other(&destination).ok_or(ResponseCode::ServFail)?;
            relay.forwards.expect(relay, address, &destination, ports).await;
            Ok(vec![address])
        }
        Ok(Found::Failed) | Err(_) => Err(ResponseCode::ServFail),
    }
}

/// A name as it is compared: in lower case, without the dot at its end.
fn plain(name: &Name) -> String {
    let mut text = name.to_ascii().to_ascii_lowercase();
    if text.ends_with('.') {
        text.pop();
    }
    text
}
