//! The DNS proxy on the loopback: raw messages to the control plane and back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::control::Control;
use crate::settings::Settings;

/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(5);

/// Serves UDP and TCP at `address`.
pub(crate) async fn start(address: SocketAddr, settings: Settings) -> std::io::Result<()> {
    let control = Control::new(settings.server());
    let udp = Arc::new(UdpSocket::bind(address).await?);
    let tcp = TcpListener::bind(address).await?;
    tokio::spawn(serve_udp(udp, control.clone()));
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = tcp.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let control = control.clone();
            // whatever goes wrong, the connection is closed and the resolver asks somebody else
            tokio::spawn(async move { serve_tcp(stream, control).await.ok() });
        }
    });
    Ok(())
}

async fn serve_udp(socket: Arc<UdpSocket>, control: Control) {
    let mut buffer = vec![0; 65_535];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let (query, socket, control) = (buffer[..length].to_vec(), socket.clone(), control.clone());
        tokio::spawn(async move {
            // no answer is Consul's answer when the servers are away: the resolver goes on to the next server
            if let Ok(reply) = control.dns(query, "udp").await {
                let _ = socket.send_to(&reply, peer).await;
            }
        });
    }
}

async fn serve_tcp(mut stream: TcpStream, control: Control) -> anyhow::Result<()> {
    loop {
        let length = tokio::time::timeout(IDLE, stream.read_u16()).await??;
        let mut query = vec![0; usize::from(length)];
        stream.read_exact(&mut query).await?;
        let reply = control.dns(query, "tcp").await?;
        let length = u16::try_from(reply.len())?;
        stream.write_all(&[&length.to_be_bytes()[..], &reply].concat()).await?;
    }
}
