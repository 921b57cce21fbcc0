//! Servers inside the test process: scripted answers over plain TCP or TLS, and a proxy that opens tunnels to them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};
use serde_json::json;

/// What the server does with one request.
#[derive(Clone)]
pub(crate) enum Play {
    /// Writes these bytes and keeps the connection.
    Raw(Vec<u8>),
    /// Writes these bytes and closes.
    Cut(Vec<u8>),
    /// Closes without a word.
    Close,
    /// Says nothing until the client goes away.
    Hang,
}

pub(crate) struct Server {
    pub(crate) base: String,
    /// The requests as received: head, body.
    pub(crate) seen: Arc<Mutex<Vec<(String, String)>>>,
}

pub(crate) fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub(crate) fn json_answer(status: u16, headers: &str, body: &str) -> Play {
    Play::Raw(answer(status, &format!("Content-Type: application/json\r\n{headers}"), body.as_bytes()))
}

pub(crate) fn error_answer(status: u16, headers: &str, code: &str, detail: &str) -> Play {
    json_answer(status, headers, &json!({"type": "x", "code": code, "detail": detail, "attr": null}).to_string())
}

/// Plays one answer per request, in order; after the last one it closes.
pub(crate) fn serve(script: Vec<Play>) -> Server {
    serve_by(in_order(script))
}

/// Answers by the head of the request.
pub(crate) fn serve_by(answer: impl Fn(&str) -> Play + Send + Sync + 'static) -> Server {
    listen("http", answer, |stream| stream)
}

/// The same behind TLS, as 127.0.0.1 and as PostHog Cloud, with a certificate of `tests/certificates`.
pub(crate) fn serve_tls(certificate: &str, answer: impl Fn(&str) -> Play + Send + Sync + 'static) -> Server {
    serve_with(&rustls::version::TLS13, Arc::new(NoClientAuth), certificate, answer)
}

/// The same for clients with a certificate of the authority.
pub(crate) fn serve_certified(version: &'static SupportedProtocolVersion) -> Server {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pem("authority.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    serve_with(version, verifier, "signed_by_authority.pem", |_| Play::Close)
}

fn serve_with(
    version: &'static SupportedProtocolVersion,
    clients: Arc<dyn ClientCertVerifier>,
    certificate: &str,
    answer: impl Fn(&str) -> Play + Send + Sync + 'static,
) -> Server {
    let chain = vec![CertificateDer::from_pem_file(pem(certificate)).unwrap()];
    let key = PrivateKeyDer::from_pem_file(pem("key_of_all_but_authority.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let config = Arc::new(versions.with_client_cert_verifier(clients).with_single_cert(chain, key).unwrap());
    listen("https", answer, move |stream| StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream))
}

/// A file of `tests/certificates`.
pub(crate) fn pem(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/certificates").join(name)
}

pub(crate) fn in_order(script: Vec<Play>) -> impl Fn(&str) -> Play + Send + Sync + 'static {
    let script = Mutex::new(script.into_iter());
    move |_| script.lock().unwrap().next().unwrap_or(Play::Close)
}

fn listen<S: Read + Write>(
    scheme: &str,
    answer: impl Fn(&str) -> Play + Send + Sync + 'static,
    secure: impl Fn(TcpStream) -> S + Send + Sync + 'static,
) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("{scheme}://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let shared = Arc::new((answer, secure));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (shared, log) = (Arc::clone(&shared), Arc::clone(&log));
            std::thread::spawn(move || play(shared.1(stream.unwrap()), &shared.0, &log));
        }
    });
    Server { base, seen }
}

fn play(stream: impl Read + Write, answer: &impl Fn(&str) -> Play, log: &Mutex<Vec<(String, String)>>) {
    let mut reader = BufReader::new(stream);
    while let Some(head) = read_head(&mut reader) {
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
        let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
        reader.read_exact(&mut body).unwrap();
        log.lock().unwrap().push((head.clone(), String::from_utf8(body).unwrap()));
        let stream = reader.get_mut();
        match answer(&head) {
            Play::Raw(bytes) => {
                // Whoever asked may be gone.
                let _ = stream.write_all(&bytes).and_then(|()| stream.flush());
            }
            Play::Cut(bytes) => return stream.write_all(&bytes).unwrap(),
            Play::Hang => drop(stream.read(&mut [0; 1])),
            Play::Close => return,
        }
    }
}

/// The lines of a request up to its body; None at the end of the connection.
fn read_head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        if line == "\r\n" {
            return Some(head);
        }
        head.push_str(&line);
    }
}

/// A proxy that opens a tunnel to `to`, wherever it is asked to.
pub(crate) fn tunnel(to: &Server) -> Server {
    let to = to.base.rsplit('/').next().unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let client = stream.unwrap();
            let head = read_head(&mut BufReader::with_capacity(1, &client)).unwrap();
            log.lock().unwrap().push((head, String::new()));
            (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let server = TcpStream::connect(&to).unwrap();
            let halves = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || copy(halves.0, halves.1));
            std::thread::spawn(move || copy(server, client));
        }
    });
    Server { base, seen }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// An address that nobody listens on, and that nobody else gets while the socket lives.
pub(crate) fn nobody() -> (rustix::fd::OwnedFd, SocketAddr) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = getsockname(&socket).unwrap().try_into().unwrap();
    (socket, address)
}

/// An address whose queue of connections is full: who connects hears nothing. It lasts as long as the sockets.
pub(crate) fn full() -> ((rustix::fd::OwnedFd, Vec<TcpStream>), SocketAddr) {
    let (socket, address) = nobody();
    rustix::net::listen(&socket, 0).unwrap();
    let connect = || TcpStream::connect_timeout(&address, std::time::Duration::from_millis(300)).ok();
    ((socket, std::iter::from_fn(connect).collect()), address)
}
