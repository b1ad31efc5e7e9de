//! The command lines of the test program that workloads run: as a server, as a client, as nothing.

use super::spec::{Bind, Command, InitSidecar, Library, Listen, Probe, ProbeAction, Workload};
use crate::action::{Request, Technique};
use crate::bed::Credentials;
use crate::vocabulary::parameters::Protocol;

/// Image of the test program.
pub const IMAGE: &str = "pellucid/workload:dev";
/// Where the image has it.
pub const PROGRAM: &str = "/bin/workload";
/// Time for one attempt, in milliseconds.
const ATTEMPT_MS: u64 = 2000;
/// The same over a bad link: a look-up that is lost is repeated after five seconds, a greeting after one, two, four.
const PATIENT_MS: u64 = 30_000;
/// How often something that is to be done once is tried.
const ATTEMPTS: u32 = 25;
/// Puts a certificate and a key into files, then runs the client; the words after the script are `$0`, `$1` …
const WITH_FILES: &str = "umask 077; d=$(mktemp -d) && printf %s \"$0\" >$d/cert.pem && printf %s \"$1\" >$d/key.pem && \
                          shift && exec \"$@\" --cert $d/cert.pem --key $d/key.pem";

/// Words for a container or an exec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// The words.
    pub words: Vec<String>,
    /// Whether they replace the image's entrypoint.
    pub shell: bool,
    /// What to say on standard input.
    pub stdin: Option<Vec<u8>>,
}

fn args<'a>(words: impl IntoIterator<Item = &'a str>) -> Words {
    Words { words: words.into_iter().map(str::to_owned).collect(), shell: false, stdin: None }
}

/// Serves what an init container listens on that goes on beside the application.
#[must_use]
pub fn serve_beside(sidecar: &InitSidecar) -> Words {
    healthy(&sidecar.probes, listening(&sidecar.listens))
}

fn listening(listens: &[Listen]) -> Words {
    let mut words = args(["serve"]);
    for listen in listens {
        words.words.push(format!("--{}", listen.protocol));
        words.words.push(listen.port.to_string());
    }
    words
}

/// Serves what the workload listens on.
#[must_use]
pub fn serve(workload: &Workload) -> Words {
    let mut words = listening(&workload.listens);
    for port in &workload.service_ports {
        words.words.push("--port-name".to_owned());
        words.words.push(format!("{}={}", port.name, port.target));
    }
    match workload.binds {
        Bind::Wildcard => {}
        Bind::Loopback => words.words.extend(["--bind", "loopback"].map(str::to_owned)),
        Bind::PodIp => words.words.extend(["--bind", "pod-ip"].map(str::to_owned)),
    }
    healthy(&workload.probes, words)
}

/// A healthy application has made the file that its probe looks for.
fn healthy(probes: &[Probe], words: Words) -> Words {
    match wanted_file(probes) {
        Some(path) => shell(&format!("touch {path}; exec {PROGRAM} {}", words.words.join(" "))),
        None => words,
    }
}

/// The file that an exec probe wants to find.
fn wanted_file(probes: &[Probe]) -> Option<&str> {
    probes.iter().find_map(|p| match &p.action {
        ProbeAction::Exec(command) => match command.as_slice() {
            [test, flag, path] if test == "test" && flag == "-f" => Some(path.as_str()),
            _ => None,
        },
        _ => None,
    })
}

/// Waits to be asked.
#[must_use]
pub fn idle() -> Words {
    args(["sleep"])
}

/// Waits to be asked until it is killed: SIGTERM does not end it.
#[must_use]
pub fn unyielding() -> Words {
    shell("trap '' TERM; exec sleep 3600")
}

/// Requests a URL once and ends with the answer's success.
#[must_use]
pub fn request_once(url: &str) -> Vec<String> {
    args(["request", url]).words
}

/// What the first container does instead of its role.
#[must_use]
pub fn command(command: &Command) -> Words {
    match command {
        // nothing holds an application back until its proxy listens, and whoever writes a Job knows
        Command::RequestOnce(url) => shell(&format!(
            "for attempt in $(seq {ATTEMPTS}); do {PROGRAM} request {} && exit 0; sleep 0.2; done; exit 1",
            quoted(url)
        )),
        Command::DialFirst(target) => shell(&format!("{PROGRAM} dial tcp {target}; exec {PROGRAM} sleep")),
        Command::Shell(line) => shell(line),
    }
}

/// One word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn shell(line: &str) -> Words {
    Words { shell: true, ..args(["/bin/sh", "-c", line]) }
}

fn technique(technique: Technique) -> &'static str {
    match technique {
        Technique::BindToDevice => "binding the socket to eth0",
        Technique::LowSourcePort => "a source port below 1024",
        Technique::BindLoopback => "a bind to 127.0.0.2",
        Technique::MappedAddress => "an IPv4-mapped IPv6 socket",
        Technique::FastOpen => "TCP fast open",
        Technique::Multipath => "multipath TCP",
    }
}

/// How a client does what it is asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Habits {
    /// Whose resolver it leaves names to.
    pub library: Option<Library>,
    /// Whether its link is bad, so that everything takes long.
    pub is_patient: bool,
}

/// The client's command line for a request whose addresses are resolved.
#[must_use]
pub fn client(request: &Request, canary: &str, credentials: Option<&Credentials>, habits: Habits) -> Words {
    let timeout = if habits.is_patient { PATIENT_MS } else { ATTEMPT_MS }.to_string();
    let common = ["--canary", canary, "--timeout-ms", &timeout];
    let mut words = match request {
        Request::Get(url) => args(["request", url].into_iter().chain(common)),
        Request::Dial(Protocol::DnsUdp | Protocol::DnsTcp, target, _) | Request::Lookup(_, target) => {
            lookup(request_transport(request), target, None)
        }
        Request::Dial(protocol, target, by) => {
            let protocol = protocol.to_string();
            let mut words = args(["dial", &protocol, target].into_iter().chain(common));
            if let Some(by) = by {
                words.words.extend(["--by".to_owned(), technique(*by).to_owned()]);
            }
            words
        }
        Request::Send(Protocol::DnsUdp | Protocol::DnsTcp, question, server) => {
            let name = question.split_whitespace().last().unwrap_or_default();
            lookup(request_transport(request), name, Some(server))
        }
        Request::Send(protocol, payload, target) => {
            let protocol = protocol.to_string();
            // a payload that begins with a dash is no option
            args(["send"].into_iter().chain(common).chain([protocol.as_str(), target, "--", payload]))
        }
        Request::Present(_, target) => args(["tls", target].into_iter().chain(common)),
    };
    // `--` may follow
    if let Some(library) = habits.library {
        words.words.splice(1..1, ["--resolver", library.name()].map(str::to_owned));
    }
    if let Some(credentials) = credentials {
        words.words.extend(["--sni".to_owned(), credentials.server_name.clone()]);
        if let Some((certificate, key)) = &credentials.identity {
            words.words.insert(0, PROGRAM.to_owned());
            let mut with_files = args(["/bin/sh", "-c", WITH_FILES, certificate, key]);
            with_files.words.append(&mut words.words);
            return with_files;
        }
    }
    words.words.insert(0, PROGRAM.to_owned());
    words
}

fn request_transport(request: &Request) -> &'static str {
    match request {
        Request::Lookup(Protocol::DnsTcp, _)
        | Request::Send(Protocol::DnsTcp, ..)
        | Request::Dial(Protocol::DnsTcp, ..) => "tcp",
        _ => "udp",
    }
}

fn lookup(transport: &str, name: &str, server: Option<&str>) -> Words {
    let mut words = args(["lookup", name, "--protocol", transport]);
    if let Some(server) = server {
        words.words.extend(["--server".to_owned(), server.to_owned()]);
    }
    words
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::workload::fixture;

    #[test]
    fn servers_serve_what_they_listen_on() {
        let expected = ["serve", "--http", "9090", "--http", "9091", "--http", "9092"];
        assert_eq!(serve(&fixture("multiport")).words[..7], expected);
        assert!(serve(&fixture("multiport")).words.contains(&"metrics=9091".to_owned()));
    }

    #[rstest]
    #[case(Request::Get("http://a".into()), "/bin/workload request http://a --canary c --timeout-ms 2000")]
    #[case(
        Request::Dial(Protocol::Tcp, "a:1".into(), Some(Technique::FastOpen)),
        "/bin/workload dial tcp a:1 --canary c --timeout-ms 2000 --by TCP fast open"
    )]
    #[case(
        Request::Send(Protocol::DnsTcp, "A? web.example.test".into(), "1.2.3.4:53".into()),
        "/bin/workload lookup web.example.test --protocol tcp --server 1.2.3.4:53"
    )]
    fn clients(#[case] request: Request, #[case] expected: &str) {
        assert_eq!(client(&request, "c", None, Habits::default()).words.join(" "), expected);
    }

    #[rstest]
    #[case(
        Request::Get("http://a".into()),
        "/bin/workload request --resolver musl http://a --canary c --timeout-ms 2000"
    )]
    #[case(Request::Lookup(Protocol::DnsUdp, "a".into()), "/bin/workload lookup --resolver musl a --protocol udp")]
    fn clients_with_a_resolver(#[case] request: Request, #[case] expected: &str) {
        assert_eq!(
            client(&request, "c", None, Habits { library: Some(Library::Musl), ..Habits::default() }).words.join(" "),
            expected
        );
    }

    #[test]
    fn a_job_tries_until_it_is_answered_once() {
        let words = command(&Command::RequestOnce("http://a/it's".into()));
        assert!(words.shell);
        let line = words.words.last().expect("a line");
        assert!(
            line.contains(r"/bin/workload request 'http://a/it'\''s' && exit 0;") && line.ends_with("exit 1"),
            "{line}"
        );
    }

    #[test]
    fn a_certificate_travels_in_the_command_line() {
        let credentials =
            Credentials { identity: Some(("CERT".into(), "KEY".into())), server_name: "a.default".into() };
        let request = Request::Present(crate::vocabulary::parameters::Certificate::None, "1.2.3.4:20000".into());
        let words = client(&request, "c", Some(&credentials), Habits::default()).words;
        assert_eq!(&words[3..7], ["CERT", "KEY", "/bin/workload", "tls"]);
    }
}
