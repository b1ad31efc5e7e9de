//! The servers: what they listen on, and who they say they are.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::termination::Termination;

mod http;
mod lines;
mod tls;

/// What to serve.
#[derive(Args)]
pub(crate) struct Options {
    /// HTTP/1.1 and HTTP/2 echo; a client that speaks neither is answered by lines, as on a --tcp port.
    #[arg(long, value_name = "PORT")]
    http: Vec<u16>,
    /// Line echo; a stream that is announced by `LEN <bytes|eof> …` is answered by its SHA-256.
    #[arg(long, value_name = "PORT")]
    tcp: Vec<u16>,
    /// Datagram echo.
    #[arg(long, value_name = "PORT")]
    udp: Vec<u16>,
    /// gRPC: any method echoes; health checks are answered.
    #[arg(long, value_name = "PORT")]
    grpc: Vec<u16>,
    /// Line echo in TLS with a self-signed certificate.
    #[arg(long, value_name = "PORT")]
    tls: Vec<u16>,
    /// HTTP/1.1 and HTTP/2 echo in TLS with a self-signed certificate.
    #[arg(long, value_name = "PORT")]
    https: Vec<u16>,
    /// A banner at once, then line echo.
    #[arg(long, value_name = "PORT")]
    server_first: Vec<u16>,
    /// The SHA-256 of all that comes until the client ends its half.
    #[arg(long, value_name = "PORT")]
    sha256: Vec<u16>,
    /// Where to listen.
    #[arg(long, value_enum, default_value_t = Bind::Wildcard)]
    bind: Bind,
    /// First line of every HTTP answer.
    #[arg(long, default_value = "hello world")]
    text: String,
    /// Name in every answer [default: the host's name].
    #[arg(long)]
    name: Option<String>,
    /// A port's name, to be in its HTTP answers.
    #[arg(long, value_name = "NAME=PORT", value_parser = named_port)]
    port_name: Vec<(String, u16)>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Bind {
    /// Every address of every family there is.
    Wildcard,
    /// 127.0.0.1, and ::1 where there is IPv6.
    Loopback,
    /// The first address that is not a loopback's.
    PodIp,
}

fn named_port(text: &str) -> Result<(String, u16), String> {
    let (name, port) = text.split_once('=').ok_or("expected NAME=PORT")?;
    Ok((name.to_owned(), port.parse().map_err(|_| format!("{port} is not a port"))?))
}

/// Who answers.
pub(super) struct Identity {
    name: String,
    text: String,
    port_names: BTreeMap<u16, String>,
}

#[derive(Clone, Copy)]
enum Service {
    Http,
    Https,
    Lines,
    Tls,
    ServerFirst,
    Sha256,
}

/// How long a server that is asked to end goes on. Clients learn that it goes at the same moment as it does; a good server lets
/// them, as one with a `preStop` hook that sleeps.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves until SIGTERM and a little longer, or until a second one.
pub(crate) async fn run(options: Options, termination: &mut Termination) -> anyhow::Result<()> {
    let name = match options.name {
        Some(name) => name,
        None => nix::unistd::gethostname().context("read the host's name")?.to_string_lossy().into_owned(),
    };
    let port_names = options.port_name.into_iter().map(|(name, port)| (port, name)).collect();
    let identity = Arc::new(Identity { name, text: options.text, port_names });
    let addresses = addresses(options.bind)?;
    let acceptor =
        if options.tls.is_empty() && options.https.is_empty() { None } else { Some(tls::acceptor(&identity.name)?) };

    let services = [
        (Service::Http, options.http),
        (Service::Http, options.grpc),
        (Service::Https, options.https),
        (Service::Lines, options.tcp),
        (Service::Tls, options.tls),
        (Service::ServerFirst, options.server_first),
        (Service::Sha256, options.sha256),
    ];
    for (service, ports) in services {
        for (port, address) in combine(&ports, &addresses) {
            let listener = TcpListener::from_std(bound(Type::STREAM, SocketAddr::new(address, port))?.into())?;
            tokio::spawn(accept(listener, service, Arc::clone(&identity), acceptor.clone()));
        }
    }
    for (port, address) in combine(&options.udp, &addresses) {
        let socket = UdpSocket::from_std(bound(Type::DGRAM, SocketAddr::new(address, port))?.into())?;
        tokio::spawn(lines::datagrams(socket, Arc::clone(&identity)));
    }
    termination.asked().await;
    // the time passes or is cut short
    let _ = tokio::time::timeout(FAREWELL, termination.asked()).await;
    Ok(())
}

fn combine<'a>(ports: &'a [u16], addresses: &'a [IpAddr]) -> impl Iterator<Item = (u16, IpAddr)> + 'a {
    ports.iter().flat_map(|port| addresses.iter().map(|address| (*port, *address)))
}

fn has_ipv6() -> bool {
    Socket::new(Domain::IPV6, Type::DGRAM, None)
        .and_then(|socket| socket.bind(&SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 0).into()))
        .is_ok()
}

fn addresses(bind: Bind) -> anyhow::Result<Vec<IpAddr>> {
    Ok(match bind {
        // takes IPv4 too; where the host has no IPv6 address at all the wildcard can still be bound
        Bind::Wildcard if Socket::new(Domain::IPV6, Type::STREAM, None).is_ok() => vec![Ipv6Addr::UNSPECIFIED.into()],
        Bind::Wildcard => vec![Ipv4Addr::UNSPECIFIED.into()],
        Bind::Loopback if has_ipv6() => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        Bind::Loopback => vec![Ipv4Addr::LOCALHOST.into()],
        Bind::PodIp => {
            let mut all = nix::ifaddrs::getifaddrs().context("list the interfaces' addresses")?;
            let first = all.find_map(|found| {
                let address = found.address?;
                let address = address
                    .as_sockaddr_in()
                    .map(|v4| IpAddr::from(v4.ip()))
                    .or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))?;
                let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
                (!address.is_loopback() && !link_local).then_some(address)
            });
            match first {
                Some(address) => vec![address],
                None => bail!("find an address to bind to: no interface but the loopback has one"),
            }
        }
    })
}

fn bound(kind: Type, address: SocketAddr) -> anyhow::Result<Socket> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), kind, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        if kind == Type::STREAM {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&address.into())?;
        if kind == Type::STREAM {
            socket.listen(1024)?;
        }
        socket.set_nonblocking(true)?;
        std::io::Result::Ok(socket)
    };
    bind().with_context(|| format!("listen at {address} (is the port taken, or below 1024 without the right to it?)"))
}

async fn accept(
    listener: TcpListener,
    service: Service,
    identity: Arc<Identity>,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (identity, acceptor) = (Arc::clone(&identity), acceptor.clone());
                tokio::spawn(async move {
                    // a client that breaks off is no fault of the server's
                    let _ = converse(stream, service, &identity, acceptor).await;
                });
            }
            // out of descriptors: try again when some may have been given back
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
}

async fn converse(
    mut stream: TcpStream,
    service: Service,
    identity: &Arc<Identity>,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    match service {
        Service::Http if http::is_spoken(&stream).await? => {
            let port = stream.local_addr()?.port();
            http::serve(stream, port, Arc::clone(identity)).await
        }
        Service::Http | Service::Lines => Ok(lines::echo(&mut stream, &identity.name).await?),
        Service::ServerFirst => Ok(lines::server_first(&mut stream, &identity.name).await?),
        Service::Sha256 => Ok(lines::digest(&mut stream, &identity.name).await?),
        Service::Https | Service::Tls => {
            let Some(acceptor) = acceptor else { return Ok(()) };
            let port = stream.local_addr()?.port();
            let mut stream = acceptor.accept(stream).await?;
            match service {
                Service::Https => http::serve(stream, port, Arc::clone(identity)).await,
                _ => Ok(lines::echo(&mut stream, &identity.name).await?),
            }
        }
    }
}
