//! A stub resolver of its own, so that the socket that asked and the server that answered are known.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::attempt::{Attempt, Failure};
use super::connect::resolve;
use super::target::Target;

const CONFIGURATION: &str = "/etc/resolv.conf";
/// How long one server is waited for before the next one is asked.
const PATIENCE: Duration = Duration::from_secs(2);
const PORT: u16 = 53;

/// How queries go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// Whom to ask, and for what.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resolver {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
}

impl Resolver {
    /// As the system is configured, except for the server when one is given.
    pub(super) fn new(server: Option<SocketAddr>) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(CONFIGURATION);
        let text = if server.is_some() { text.unwrap_or_default() } else { text.context("read /etc/resolv.conf")? };
        let mut resolver = Self::parse(&text);
        if let Some(server) = server {
            resolver.servers = vec![server];
        }
        if resolver.servers.is_empty() {
            bail!("find a name server: {CONFIGURATION} names none");
        }
        Ok(resolver)
    }

    fn parse(text: &str) -> Self {
        let mut resolver = Self { servers: Vec::new(), search: Vec::new(), ndots: 1 };
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    resolver.servers.extend(address.map(|address| SocketAddr::new(address, PORT)));
                }
                Some("search" | "domain") => resolver.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let ndots = words.find_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    resolver.ndots = ndots.unwrap_or(resolver.ndots);
                }
                _ => {}
            }
        }
        resolver
    }

    /// The names to ask for, in order: an absolute one is asked for as it is.
    fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let mut names: Vec<String> =
            self.search.iter().map(|domain| format!("{name}.{}.", domain.trim_end_matches('.'))).collect();
        let dots = name.matches('.').count();
        names.insert(if dots >= self.ndots { 0 } else { names.len() }, format!("{name}."));
        names
    }
}

/// What a server said about a name.
struct Answer {
    code: ResponseCode,
    addresses: Vec<IpAddr>,
}

/// Looks a name's addresses up, for their own sake.
pub(super) async fn look_up(
    attempt: &Attempt,
    resolver: &Resolver,
    name: &str,
    transport: Transport,
) -> Result<(), Failure> {
    let addresses = find(attempt, resolver, name, transport).await?;
    attempt.answer(addresses.iter().map(|address| format!("{address}\n")).collect::<String>().into_bytes());
    Ok(())
}

/// As [`look_up`], with the resolver that every program of the system has.
pub(super) async fn by_the_system(attempt: &Attempt, name: String) -> Result<(), Failure> {
    let sockets = resolve(attempt, &Target::without_port(&name)).await?;
    let mut addresses: Vec<IpAddr> = sockets.iter().map(SocketAddr::ip).collect();
    addresses.dedup();
    attempt.answer(addresses.iter().map(|address| format!("{address}\n")).collect::<String>().into_bytes());
    attempt.note(|report| {
        report.rcode = Some(mnemonic(ResponseCode::NoError));
        report.answers = Some(addresses);
    });
    Ok(())
}

/// The addresses of a name; there is at least one.
pub(super) async fn find(
    attempt: &Attempt,
    resolver: &Resolver,
    name: &str,
    transport: Transport,
) -> Result<Vec<IpAddr>, Failure> {
    let mut verdict = None;
    for candidate in resolver.candidates(name) {
        let answer = ask_servers(attempt, resolver, &candidate, transport).await?;
        attempt.note(|report| {
            report.rcode = Some(mnemonic(answer.code));
            report.name = Some(candidate.clone());
            report.answers = Some(answer.addresses.clone());
        });
        if !answer.addresses.is_empty() {
            return Ok(answer.addresses);
        }
        // a server's failure is worth more to know than that another candidate does not exist
        if verdict.is_none_or(|kept| kept == ResponseCode::NXDomain) {
            verdict = Some(answer.code);
        }
    }
    let code = verdict.unwrap_or(ResponseCode::NXDomain);
    attempt.note(|report| report.rcode = Some(mnemonic(code)));
    Err(match code {
        ResponseCode::NXDomain => Failure::NoSuchName(format!("{name} does not exist")),
        ResponseCode::NoError => Failure::NoSuchName(format!("{name} has no address")),
        other => Failure::Local(format!("look up {name}: {}", mnemonic(other))),
    })
}

/// Asks one server after the other until one answers. As in glibc, a server that cannot or will not is no answer while
/// there is another one: Consul refuses names outside its domain, and the next server knows them.
async fn ask_servers(
    attempt: &Attempt,
    resolver: &Resolver,
    name: &str,
    transport: Transport,
) -> Result<Answer, Failure> {
    let name = Name::from_ascii(name).map_err(|error| Failure::Local(format!("look up {name:?}: {error}")))?;
    let mut last = Err(Failure::End);
    for server in &resolver.servers {
        attempt.note(|report| report.server = Some(*server));
        last = match tokio::time::timeout(PATIENCE, ask(attempt, *server, &name, transport)).await {
            Ok(Ok(answer)) if is_final(answer.code) => return Ok(answer),
            Ok(other) => other,
            Err(_) => Err(Failure::Io(std::io::ErrorKind::TimedOut.into())),
        };
    }
    last
}

/// Whether the next server need not be asked.
fn is_final(code: ResponseCode) -> bool {
    !matches!(code, ResponseCode::ServFail | ResponseCode::NotImp | ResponseCode::Refused)
}

/// Asks one server for the addresses of both families, from one socket.
async fn ask(attempt: &Attempt, server: SocketAddr, name: &Name, transport: Transport) -> Result<Answer, Failure> {
    let mut channel = Channel::open(attempt, server, transport).await?;
    let mut all = Answer { code: ResponseCode::NoError, addresses: Vec::new() };
    for kind in [RecordType::A, RecordType::AAAA] {
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(name.clone(), kind));
        let bytes = query.to_vec().map_err(|error| Failure::Local(error.to_string()))?;
        let response = loop {
            let bytes = channel.exchange(&bytes).await?;
            let response = Message::from_vec(&bytes).map_err(|error| Failure::Garbled(error.to_string()))?;
            // a late answer to the query before
            if response.metadata.id == query.metadata.id {
                break response;
            }
        };
        all.addresses.extend(response.answers.iter().filter_map(|record| match record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        }));
        if response.metadata.response_code != ResponseCode::NoError {
            all.code = response.metadata.response_code;
            if all.addresses.is_empty() {
                break;
            }
        }
    }
    if !all.addresses.is_empty() {
        all.code = ResponseCode::NoError;
    }
    Ok(all)
}

enum Channel {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Channel {
    async fn open(attempt: &Attempt, server: SocketAddr, transport: Transport) -> Result<Self, Failure> {
        attempt.sockets(None, server);
        let (channel, local) = match transport {
            Transport::Udp => {
                let any: IpAddr =
                    if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
                socket.connect(server).await?;
                let local = socket.local_addr().ok();
                (Self::Udp(socket), local)
            }
            Transport::Tcp => {
                let stream = TcpStream::connect(server).await?;
                let local = stream.local_addr().ok();
                (Self::Tcp(stream), local)
            }
        };
        attempt.sockets(local, server);
        Ok(channel)
    }

    async fn exchange(&mut self, query: &[u8]) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Udp(socket) => {
                socket.send(query).await.map_err(Failure::of_sending)?;
                let mut buffer = vec![0; 65_536];
                let count = socket.recv(&mut buffer).await?;
                buffer.truncate(count);
                Ok(buffer)
            }
            Self::Tcp(stream) => {
                let mut framed = u16::try_from(query.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
                framed.extend_from_slice(query);
                stream.write_all(&framed).await?;
                let mut answer = vec![0; usize::from(stream.read_u16().await?)];
                stream.read_exact(&mut answer).await?;
                Ok(answer)
            }
        }
    }
}

/// As `dig` writes it.
fn mnemonic(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => format!("RCODE{}", u16::from(other)),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const POD: &str = "search default.svc.cluster.local svc.cluster.local cluster.local\n\
                       nameserver 10.96.0.10 # the cluster's\nnameserver fd00::10\noptions timeout:1 ndots:5\n";

    #[test]
    fn reads_what_a_kubelet_writes() {
        let resolver = Resolver::parse(POD);
        assert_eq!(resolver.ndots, 5);
        assert_eq!(resolver.search.len(), 3);
        let servers: Vec<String> = resolver.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.96.0.10:53", "[fd00::10]:53"]);
    }

    #[rstest]
    #[case("web", "web.default.svc.cluster.local.", 4)]
    #[case("a.b.c.d.e.f", "a.b.c.d.e.f.", 4)]
    #[case("web.default.svc.cluster.local", "web.default.svc.cluster.local.default.svc.cluster.local.", 4)]
    #[case("web.", "web.", 1)]
    fn searches_as_the_system_does(#[case] name: &str, #[case] first: &str, #[case] count: usize) {
        let candidates = Resolver::parse(POD).candidates(name);
        assert_eq!((candidates[0].as_str(), candidates.len()), (first, count));
    }

    /// Answers every query with this code, and with an address where that makes sense.
    async fn name_server(code: ResponseCode) -> SocketAddr {
        use hickory_proto::rr::Record;
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let address = socket.local_addr().expect("an address");
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((count, peer)) = socket.recv_from(&mut buffer).await {
                let mut reply = Message::from_vec(&buffer[..count]).expect("a query");
                reply.metadata.response_code = code;
                let question = reply.queries.first().expect("a question").clone();
                if code == ResponseCode::NoError && question.query_type() == RecordType::A {
                    let data = RData::A(Ipv4Addr::new(192, 0, 2, 1).into());
                    reply.add_answer(Record::from_rdata(question.name().clone(), 1, data));
                }
                let _ = socket.send_to(&reply.to_vec().expect("a reply"), peer).await;
            }
        });
        address
    }

    #[rstest]
    #[case::refused(&[ResponseCode::Refused, ResponseCode::NoError], Some("NOERROR"), 1)]
    #[case::failed(&[ResponseCode::ServFail, ResponseCode::NoError], Some("NOERROR"), 1)]
    #[case::denied_is_an_answer(&[ResponseCode::NXDomain, ResponseCode::NoError], Some("NXDOMAIN"), 0)]
    #[case::nobody_will(&[ResponseCode::Refused, ResponseCode::Refused], Some("REFUSED"), 1)]
    #[tokio::test]
    async fn the_next_server_is_asked_where_one_will_not(
        #[case] codes: &[ResponseCode],
        #[case] code: Option<&str>,
        #[case] by: usize,
    ) {
        let mut servers = Vec::new();
        for code in codes {
            servers.push(name_server(*code).await);
        }
        let resolver = Resolver { servers: servers.clone(), search: Vec::new(), ndots: 1 };
        let attempt = Attempt::new(None);
        let asked = look_up(&attempt, &resolver, "db.test.", Transport::Udp);
        let report = attempt.run(Duration::from_secs(5), asked).await;
        assert_eq!((report.rcode.as_deref(), report.server), (code, Some(servers[by])), "{report:?}");
    }
}
