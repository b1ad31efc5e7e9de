//! A proxy, servers and clients of a few lines each; every server is one thread per connection, gone with the test.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type};
use netns::NetNs;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use socket2::{Domain, Socket, Type};

use crate::pods::{PORTS, PROXY_MARK};

pub(crate) const SERVER_NAME: &str = "server.default.dc1.internal.example.consul";
pub(crate) const APPLICATION: u16 = 8080;
pub(crate) const EXCLUDED: u16 = 8200;

/// No exchange here takes this long; a server that is never dialled ends with the process.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client got.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) local: SocketAddr,
    pub(crate) answer: String,
}

/// Sends a line and reads until the other end is done.
pub(crate) fn ask(target: SocketAddr, line: &str) -> Said {
    converse(TcpStream::connect(target).expect("connected"), line)
}

/// The same from a socket that the rules leave alone, as from a Pod outside the mesh.
pub(crate) fn ask_unredirected(target: SocketAddr, line: &str) -> Said {
    converse(connect_marked(target).expect("connected"), line)
}

fn converse(mut stream: TcpStream, line: &str) -> Said {
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(format!("{line}\n").as_bytes()).expect("written");
    stream.shutdown(std::net::Shutdown::Write).expect("shut down");
    let mut answer = Vec::new();
    // a reset is an end like another here
    let _ = stream.read_to_end(&mut answer);
    let local = stream.local_addr().expect("an address");
    Said { local, answer: String::from_utf8_lossy(&answer).into_owned() }
}

fn connect_marked(target: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    socket.set_mark(PROXY_MARK)?;
    socket.connect(&target.into())?;
    Ok(socket.into())
}

/// Serves in a namespace: accepts there, treats each connection on its own thread, also there.
fn serve(
    namespace: &NetNs,
    address: SocketAddr,
    treat: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static,
) -> JoinHandle<()> {
    let listener: TcpListener = namespace.tcp_listen(address).expect("it listens");
    listener.set_nonblocking(false).expect("set");
    let namespace = namespace.clone();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let (treat, namespace) = (treat.clone(), namespace.clone());
            thread::spawn(move || {
                namespace.enter().expect("entered");
                // however a client ends it
                let _ = treat(stream);
            });
        }
    })
}

/// Returns what it gets.
pub(crate) fn echo(namespace: &NetNs, address: SocketAddr) -> JoinHandle<()> {
    serve(namespace, address, |mut stream| {
        let mut buffer = [0; 4096];
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            stream.write_all(&buffer[..count])?;
        }
    })
}

/// The outbound side of a proxy: passes lines on over TLS, or just answers when there is nowhere to pass them.
pub(crate) fn outbound(namespace: &NetNs, peer: Option<SocketAddr>) -> JoinHandle<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORTS.outbound));
    serve(namespace, address, move |mut stream| {
        let line = read_line(&mut stream)?;
        let Some(peer) = peer else { return stream.write_all(&line) };
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        let mut tls = rustls::ClientConnection::new(client_config(), name).map_err(io::Error::other)?;
        let mut socket = connect_marked(peer)?;
        let mut secured = rustls::Stream::new(&mut tls, &mut socket);
        secured.write_all(&line)?;
        stream.write_all(&read_line(&mut secured)?)
    })
}

/// The inbound side: TLS from outside, plain to the application; what is not TLS is closed.
pub(crate) fn inbound(namespace: &NetNs) -> JoinHandle<()> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORTS.inbound));
    let config = server_config();
    serve(namespace, address, move |mut stream| {
        let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        let mut secured = rustls::Stream::new(&mut tls, &mut stream);
        let line = read_line(&mut secured)?;
        let mut application = TcpStream::connect((Ipv4Addr::LOCALHOST, APPLICATION))?;
        application.write_all(&line)?;
        secured.write_all(&read_line(&mut application)?)
    })
}

fn read_line(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") && stream.read(&mut byte)? > 0 {
        line.push(byte[0]);
    }
    Ok(line)
}

/// Reads to the end.
pub(crate) fn sink(namespace: &NetNs, address: SocketAddr) -> JoinHandle<()> {
    serve(namespace, address, |mut stream| io::copy(&mut stream, &mut io::sink()).map(|_| ()))
}

/// Sends so many bytes and waits for the other end to finish.
pub(crate) fn pour(target: SocketAddr, length: u64) {
    pour_and_tell(target, length, "");
}

/// The same, and these last words.
pub(crate) fn pour_and_tell(target: SocketAddr, length: u64, last: &str) {
    let mut stream = TcpStream::connect(target).expect("connected");
    let piece = vec![0x5a; 1 << 20];
    for _ in 0..length >> 20 {
        stream.write_all(&piece).expect("written");
    }
    stream.write_all(last.as_bytes()).expect("written");
    stream.shutdown(std::net::Shutdown::Write).expect("shut down");
    stream.read_to_end(&mut Vec::new()).expect("the end");
}

/// Sends large datagrams as fast as they go.
pub(crate) fn flood(target: SocketAddr, count: usize) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    for _ in 0..count {
        // nobody listens, which the next send is told
        let _ = socket.send_to(&[0; 60_000], target);
    }
}

/// Returns datagrams.
pub(crate) fn echo_datagrams(namespace: &NetNs, address: SocketAddr) -> JoinHandle<()> {
    let socket = namespace.udp_bind(address).expect("bound");
    socket.set_nonblocking(false).expect("set");
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((count, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..count], peer);
        }
    })
}

/// Sends a datagram, and waits for an answer if there is to be one.
pub(crate) fn exchange_datagrams(target: SocketAddr, message: &[u8], wait: bool) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bound");
    socket.connect(target).expect("connected");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    socket.send(message).expect("sent");
    let mut buffer = [0; 4096];
    if !wait {
        return None;
    }
    let count = socket.recv(&mut buffer).ok()?;
    Some(buffer[..count].to_vec())
}

/// Sends one ICMP echo request.
pub(crate) fn ping(target: Ipv4Addr, payload: &[u8]) {
    let request = Icmpv4Type::EchoRequest(IcmpEchoHeader { id: 7, seq: 1 });
    let mut packet = Icmpv4Header::with_checksum(request, payload).to_bytes().to_vec();
    packet.extend_from_slice(payload);
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(socket2::Protocol::ICMPV4)).expect("root");
    socket.send_to(&packet, &SocketAddr::from((target, 0)).into()).expect("sent");
}

/// A DNS query for an address.
pub(crate) fn query(name: &str) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).expect("a label is short"));
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    query
}

fn server_config() -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()]).expect("a certificate");
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into());
    Arc::new(config.expect("a configuration"))
}

fn client_config() -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    Arc::new(config)
}

/// Believes every server: what is looked at is the wire.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
