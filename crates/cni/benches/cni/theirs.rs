//! What consul-k8s says to the API server in an `ADD`, and a server that answers it at once.

use serde_json::{Value, json};
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

/// A server with one Pod.
pub(crate) struct Api {
    address: SocketAddr,
}

impl Api {
    /// Starts one that serves until the program ends.
    pub(crate) fn start(annotations: Value) -> Result<Self, Box<dyn Error>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let pod =
            json!({"kind": "Pod", "metadata": {"name": "web", "annotations": annotations}, "spec": {}}).to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let pod = pod.clone();
                std::thread::spawn(move || serve(stream, &pod));
            }
        });
        Ok(Self { address })
    }

    /// Asks for the Pod.
    pub(crate) fn get(&self) -> Result<(), Box<dyn Error>> {
        self.request("GET", "").map(drop)
    }

    /// Asks for the Pod, and writes it back with another status.
    pub(crate) fn annotate(&self, status: &str) -> Result<(), Box<dyn Error>> {
        let mut pod: Value = serde_json::from_str(&self.request("GET", "")?)?;
        pod["metadata"]["annotations"]["consul.hashicorp.com/transparent-proxy-status"] = json!(status);
        self.request("PUT", &pod.to_string()).map(drop)
    }

    fn request(&self, method: &str, body: &str) -> Result<String, Box<dyn Error>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        write!(
            stream,
            "{method} /api/v1/namespaces/default/pods/web HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        read(&mut BufReader::new(stream)).ok_or_else(|| "no answer from the API server".into())
    }
}

fn serve(mut stream: TcpStream, pod: &str) {
    let Ok(copy) = stream.try_clone() else { return };
    let mut reader = BufReader::new(copy);
    while read(&mut reader).is_some() {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{pod}", pod.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// The body of a message.
fn read(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut length = None;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("Content-Length:") {
            length = value.trim().parse().ok();
        }
    }
    let mut body = vec![0; length?];
    reader.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}
