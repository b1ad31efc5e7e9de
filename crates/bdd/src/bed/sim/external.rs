//! Endpoints outside the mesh: a host of the lab with the test program's servers, and a small name server on port 53.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use netns::NetNs;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

/// The address that the name server gives to every name.
const ANSWER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const DNS: u16 = 53;

/// The IPv6 address of an endpoint that was given an IPv4 one, where the network has both: of the prefix for documentation, with
/// the other address at its end.
pub(super) fn companion(address: Ipv4Addr) -> IpAddr {
    let [a, b, c, d] = address.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, high, low).into()
}

enum Server {
    Program(Child),
    Names(JoinHandle<()>),
}

impl Drop for Server {
    fn drop(&mut self) {
        match self {
            Self::Program(child) => {
                // it may have ended by itself
                let _ = child.kill();
                let _ = child.wait();
            }
            Self::Names(task) => task.abort(),
        }
    }
}

/// All external endpoints of a lab.
pub(super) struct Externals {
    program: PathBuf,
    servers: Mutex<HashMap<(String, SocketAddr), Vec<Server>>>,
}

impl Externals {
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program, servers: Mutex::default() }
    }

    pub(super) fn has(&self, name: &str, address: SocketAddr) -> bool {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&(name.to_owned(), address))
    }

    /// Whether a host of this name exists already.
    pub(super) fn has_host(&self, name: &str) -> bool {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).keys().any(|(n, _)| n == name)
    }

    /// Serves in the namespace of a host; returns when it can be dialled.
    pub(super) async fn serve(&self, netns: &NetNs, name: &str, address: SocketAddr) -> Result<()> {
        let servers = if address.port() == DNS {
            names(netns, address)?
        } else {
            vec![self.program(netns, name, address).await?]
        };
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).insert((name.to_owned(), address), servers);
        Ok(())
    }

    async fn program(&self, netns: &NetNs, name: &str, address: SocketAddr) -> Result<Server> {
        let port = address.port().to_string();
        let mut command = Command::new(&self.program);
        command
            .args(["serve", "--http", &port, "--udp", &port, "--name", name])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let inside = netns.clone();
        // the child begins in the namespace of the thread that starts it
        let child = tokio::task::spawn_blocking(move || inside.run(move || command.spawn()))
            .await
            .context("start a thread")??
            .with_context(|| format!("start {} for the external endpoint {name}", self.program.display()))?;
        let server = Server::Program(child);
        let awaited = format!("the external endpoint {name} to answer at {address}");
        crate::wait::until(&awaited, std::time::Duration::from_secs(10), async || {
            sim::Dial::dial(netns, address).await.map(|_| ())
        })
        .await?;
        Ok(server)
    }
}

/// A name server that has one address for every name.
fn names(netns: &NetNs, address: SocketAddr) -> Result<Vec<Server>> {
    let udp = UdpSocket::from_std(netns.udp_bind(address)?)?;
    let tcp = Arc::new(TcpListener::from_std(netns.tcp_listen(address)?)?);
    let datagrams = tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer).await {
            if let Some(answer) = answer(&buffer[..length]) {
                // a client that is gone does not want it any more
                let _ = udp.send_to(&answer, peer).await;
            }
        }
    });
    let streams = tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            tokio::spawn(async move {
                // a client may ask several questions on one connection; its end is an error that ends the task
                loop {
                    let mut question = Vec::new();
                    let length = stream.read_u16().await?;
                    (&mut stream).take(length.into()).read_to_end(&mut question).await?;
                    let Some(answer) = answer(&question) else { return std::io::Result::Ok(()) };
                    let mut framed = u16::try_from(answer.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
                    framed.extend(answer);
                    stream.write_all(&framed).await?;
                }
            });
        }
    });
    Ok(vec![Server::Names(datagrams), Server::Names(streams)])
}

/// The answer to a question: its own header and question back, and one A record where one is asked for.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    const A: [u8; 2] = [0, 1];
    let mut end = HEADER;
    loop {
        let length = usize::from(*question.get(end)?);
        end += 1 + length;
        if length == 0 {
            break;
        }
    }
    let kind = question.get(end..end + 2)?;
    let asked = question.get(HEADER..end + 4)?;
    let count: u8 = if kind == A { 1 } else { 0 };
    let mut answer = question.get(..2)?.to_vec();
    // a response, authoritative, recursion as asked; one question, `count` answers, nothing else
    answer.extend([0x84 | (question.get(2)? & 1), 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
    answer.extend_from_slice(asked);
    if count == 1 {
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(ANSWER.octets());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_one_address() {
        let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        question.extend(b"\x03web\x07example\x04test\0\0\x01\0\x01");
        let answer = answer(&question).expect("an answer");
        assert_eq!(&answer[..2], [0x12, 0x34]);
        assert_eq!(&answer[answer.len() - 4..], ANSWER.octets());
        assert_eq!(super::answer(&question[..20]), None);
    }
}
