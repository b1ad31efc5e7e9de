//! Questions that another server answers, asked over the protocol by which they came.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netns::NetNs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;

use crate::Dial as _;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// What the server says, as it is.
pub(super) async fn ask(
    netns: &NetNs,
    server: SocketAddr,
    question: &[u8],
    transport: Transport,
) -> io::Result<Vec<u8>> {
    match transport {
        Transport::Udp => by_datagram(netns, server, question).await,
        Transport::Tcp => by_stream(netns, server, question).await,
    }
}

async fn by_datagram(netns: &NetNs, server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let netns = netns.clone();
    let socket = tokio::task::spawn_blocking(move || netns.udp_bind(SocketAddr::new(any, 0)));
    let socket = UdpSocket::from_std(socket.await.map_err(io::Error::other)??)?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; usize::from(u16::MAX)];
    let length = socket.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

async fn by_stream(netns: &NetNs, server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = netns.dial(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
