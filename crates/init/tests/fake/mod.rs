//! A Consul server that tests can change: its catalogue and its ACLs over HTTP, one thread per connection, blocking queries if
//! wanted.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// Only a failing test waits for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// An application and its proxy, as the endpoints controller registers them.
pub(crate) const REGISTERED: &str = r#"[
    {"ID": "web-0-web", "Service": "web", "Kind": "", "Port": 8080, "Meta": {"pod-name": "web-0"}},
    {"ID": "web-0-web-sidecar-proxy", "Service": "web-sidecar-proxy", "Kind": "connect-proxy", "Port": 20000,
     "Proxy": {"DestinationServiceName": "web", "Config": {"envoy_stats_bind_addr": "0.0.0.0:9102"},
               "TransparentProxy": {"OutboundListenerPort": 15002}}}
]"#;

#[derive(Debug)]
struct State {
    index: u64,
    services: String,
    blocking: bool,
    requests: Vec<String>,
    acls: Option<Acls>,
}

/// What a server with ACLs knows.
#[derive(Debug, Default, Clone)]
pub(crate) struct Acls {
    /// The bearer token that it believes.
    pub(crate) believes: String,
    /// With what it refuses others.
    pub(crate) refusal: (u16, &'static str),
    /// The bodies of logins.
    pub(crate) logins: Vec<Value>,
    /// The tokens in force.
    pub(crate) tokens: Vec<String>,
}

/// The server. Its threads end with the process.
#[derive(Debug, Clone)]
pub(crate) struct Consul {
    pub(crate) address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Consul {
    /// Serves on a listener, with these services; `blocking` as Consul does, or without index and wait.
    pub(crate) fn serve(listener: TcpListener, services: &str, blocking: bool) -> Self {
        Self::serve_with(listener, services, blocking, |client, serving| serving.answer(client))
    }

    /// [`Self::serve`] over TLS.
    pub(crate) fn serve_tls(listener: TcpListener, services: &str, tls: &Arc<ServerConfig>) -> Self {
        let tls = tls.clone();
        Self::serve_with(listener, services, true, move |client, serving| {
            let session = ServerConnection::new(tls.clone()).expect("a valid configuration");
            serving.answer(StreamOwned::new(session, client));
        })
    }

    fn serve_with(
        listener: TcpListener,
        services: &str,
        blocking: bool,
        answer: impl Fn(TcpStream, &Self) + Clone + Send + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("bound");
        listener.set_nonblocking(false).expect("threads may block");
        let state = State { index: 7, services: services.to_owned(), blocking, requests: Vec::new(), acls: None };
        let consul = Self { address, state: Arc::new((Mutex::new(state), Condvar::new())) };
        let serving = consul.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (serving, answer) = (serving.clone(), answer.clone());
                std::thread::spawn(move || answer(client, &serving));
            }
        });
        consul
    }

    /// Serves on the loopback.
    pub(crate) fn start(services: &str, blocking: bool) -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").expect("a free port"), services, blocking)
    }

    /// Has ACLs from now on: the catalogue is for those who have logged in with the bearer token.
    pub(crate) fn demand_logins_with(&self, believes: &str, refusal: (u16, &'static str)) {
        self.lock().acls = Some(Acls { believes: believes.to_owned(), refusal, ..Acls::default() });
    }

    /// What became of the ACLs.
    pub(crate) fn acls(&self) -> Acls {
        self.lock().acls.clone().expect("has ACLs")
    }

    /// Changes the catalogue.
    pub(crate) fn set(&self, services: &str) {
        let mut state = self.lock();
        state.services = services.to_owned();
        state.index += 1;
        self.state.1.notify_all();
    }

    /// The request targets so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    /// Waits until the requests are as wanted.
    pub(crate) fn until(&self, wanted: impl Fn(&[String]) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        let mut state = self.lock();
        while !wanted(&state.requests) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "not in time: {:?}", state.requests);
            state = self.state.1.wait_timeout(state, left).expect("not poisoned").0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().expect("no test panics while it holds the state")
    }

    fn answer(&self, client: impl Read + Write) {
        let mut client = BufReader::new(client);
        let mut lines = client.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty());
        let Some(target) = lines.next().and_then(|line| line.split(' ').nth(1).map(str::to_owned)) else { return };
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned())))
            .collect();
        let header = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let mut body = vec![0; header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
        client.read_exact(&mut body).expect("a body");
        let token = header("x-consul-token").unwrap_or_default();
        let mut state = self.lock();
        state.requests.push(target.clone());
        self.state.1.notify_all();
        if let Some((status, said)) = state.acls.as_mut().and_then(|acls| acls.answer(&target, token, &body)) {
            drop(state);
            return reply(client.get_mut(), status, "", &said);
        }
        if let (true, Some(index)) = (state.blocking, number(&target, "index=")) {
            let wait = Duration::from_millis(number(&target, "wait=").unwrap_or(0));
            state = self.state.1.wait_timeout_while(state, wait, |now| now.index <= index).expect("not poisoned").0;
        }
        let body = format!(r#"{{"Node": {{"Node": "node-0-virtual"}}, "Services": {}}}"#, state.services);
        let index = if state.blocking { format!("X-Consul-Index: {}\r\n", state.index) } else { String::new() };
        drop(state);
        reply(client.get_mut(), 200, &index, &body);
    }
}

impl Acls {
    /// The answer to a request that is about tokens, or has none that is in force.
    fn answer(&mut self, target: &str, token: &str, body: &[u8]) -> Option<(u16, String)> {
        let known = self.tokens.iter().position(|known| known == token);
        match (target.split('?').next().unwrap_or_default(), known) {
            ("/v1/acl/login", _) => {
                let login: Value = serde_json::from_slice(body).expect("JSON");
                let is_believed = login["BearerToken"] == self.believes;
                self.logins.push(login);
                if !is_believed {
                    return Some((self.refusal.0, self.refusal.1.to_owned()));
                }
                let secret = format!("secret-{}", self.logins.len());
                self.tokens.push(secret.clone());
                Some((200, json!({"AccessorID": "a", "SecretID": secret}).to_string()))
            }
            (_, None) => Some((403, "ACL not found".to_owned())),
            ("/v1/acl/logout", Some(place)) => {
                self.tokens.remove(place);
                Some((200, "true".to_owned()))
            }
            (_, Some(_)) => None,
        }
    }
}

fn reply(client: &mut impl Write, status: u16, headers: &str, body: &str) {
    let head =
        format!("HTTP/1.1 {status} Said\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    // a client that is gone needs no answer
    let _ = client.write_all(format!("{head}{body}").as_bytes());
    let _ = client.flush();
}

fn number(target: &str, parameter: &str) -> Option<u64> {
    let (_, rest) = target.split_once(parameter)?;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}
