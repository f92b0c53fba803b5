//! `serve` on a real capture, asked over plain sockets: every encoding, wrong and slow clients, TLS and token.

mod support;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use support::{BINARY, file, run, script, text};

const STORM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/storm.dsc");
/// Long enough for any machine; nothing waits so long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a port of its own.
struct Server {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    address: SocketAddr,
    scheme: String,
}

impl Server {
    fn start(words: &[&str]) -> Self {
        Self::at("127.0.0.1:0", words)
    }

    fn at(listen: &str, words: &[&str]) -> Self {
        let mut child = Command::new(BINARY)
            .args(["serve", "--listen", listen])
            .args(words)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("a line");
        let (scheme, rest) =
            line.strip_prefix("dsascope: ").and_then(|url| url.split_once("://")).expect(&line);
        let address = rest.trim_end().strip_suffix("/metrics").expect(&line).parse().expect(&line);
        Self { child, stderr, address, scheme: scheme.into() }
    }

    /// Of the storm, at its end.
    fn of_storm() -> Self {
        let server = Self::start(&["--from", STORM, "--speed", "max"]);
        let since = Instant::now();
        while !server.get("/metrics", "").text().contains("{record=\"fault\"} 4120\n") {
            assert!(since.elapsed() < PATIENCE, "the capture's end");
        }
        server
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    fn ask(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("a request");
        Answer::read(stream)
    }

    fn get(&self, path: &str, headers: &str) -> Answer {
        self.ask(&get(path, headers))
    }

    /// Ends it as an init system does; gives its code and what it said.
    fn stop(mut self) -> (Option<i32>, String) {
        let pid = i32::try_from(self.child.id()).expect("a process number");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM).expect("a signal");
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("the rest of stderr");
        (self.child.wait().expect("its end").code(), said)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: dsascope\r\n{headers}\r\n")
}

#[derive(Debug)]
struct Answer {
    status: u16,
    header: String,
    body: Vec<u8>,
}

impl Answer {
    fn read(mut stream: impl Read) -> Self {
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            // A server that has not read all of the request closes so.
            Err(error) if error.kind() == ErrorKind::ConnectionReset && !bytes.is_empty() => {}
            read => {
                read.expect("an answer");
            }
        }
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a header");
        let header = text(&bytes[..end]).to_ascii_lowercase();
        let status = header.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        Self { status, header, body: bytes.split_off(end + 4) }
    }

    fn text(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.header);
        text(&self.body)
    }
}

const OPENMETRICS: &str = "Accept: application/openmetrics-text; version=1.0.0\r\n";
const PROTOBUF: &str = "Accept: application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited\r\n";

#[test]
fn a_capture_is_served_in_every_encoding_until_a_signal() {
    let server = Server::of_storm();
    let plain = server.get("/metrics", "");
    assert!(
        plain.header.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{}",
        plain.header
    );
    let plain = plain.text();
    // As `dsascope stat --from` counts them.
    assert!(plain.contains("dsascope_faults_total{device=\"dsa0\",wq=\"wq0.2\"} 4000\n"), "{plain}");
    assert!(plain.contains("dsascope_failed_total{device=\"dsa0\",wq=\"wq0.2\"} 500\n"), "{plain}");
    assert!(plain.contains("dsascope_ledger_balanced 1\n"), "{plain}");
    let open = server.get("/metrics", OPENMETRICS);
    assert!(
        open.header.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{}",
        open.header
    );
    assert!(open.text().ends_with("# EOF\n") && open.text().contains("# TYPE dsascope_faults counter\n"));
    let protobuf = server.get("/metrics", PROTOBUF);
    assert!(protobuf.header.contains("content-type: application/vnd.google.protobuf"), "{}", protobuf.header);
    // The first message: its length, then field 1, the name.
    let name = b"\x0a\x15dsascope_faults_total";
    let at = protobuf.body.windows(name.len()).position(|bytes| bytes == name);
    assert!(at.is_some_and(|at| (1..=3).contains(&at)), "{at:?}");
    let health = server.get("/healthz", "");
    assert_eq!(health.text(), "{\"healthy\":true,\"problems\":[]}\n");
    assert!(server.get("/", "").text().contains("href=\"/metrics\""));
    assert_eq!(server.scheme, "http");
    assert_eq!(server.stop(), (Some(0), String::new()));
}

#[test]
fn figures_that_cannot_be_trusted_are_unhealthy() {
    let events = file(&script::failing());
    let server = Server::start(&["--from", &events.path().to_string_lossy()]);
    let since = Instant::now();
    let health = loop {
        let health = server.get("/healthz", "");
        if !text(&health.body).contains("nothing is traced yet") {
            break health;
        }
        assert!(since.elapsed() < PATIENCE, "the events' end");
    };
    assert_eq!(health.status, 503);
    assert!(health.header.contains("content-type: application/json"), "{}", health.header);
    let answer: serde_json::Value = serde_json::from_slice(&health.body).expect("JSON");
    assert_eq!(answer["healthy"], false);
    let problem = answer["problems"][0].as_str().expect("a problem");
    assert!(problem.starts_with("required probe "), "{problem}");
    // The figures are there all the same.
    assert!(server.get("/metrics", "").text().contains("dsascope_probe_required_missing "));
}

#[test]
fn wrong_requests_are_refused() {
    let server = Server::of_storm();
    assert_eq!(server.get("/nothing", "").status, 404);
    let post = server.ask("POST /metrics HTTP/1.1\r\nHost: d\r\nContent-Length: 99999999999\r\n\r\n");
    assert_eq!(post.status, 405);
    assert!(post.header.contains("allow: get,head"), "{}", post.header);
    assert_eq!(server.ask("HEAD /metrics HTTP/1.0\r\n\r\n").body.len(), 0);
    assert_eq!(server.ask("nonsense\r\n\r\n").status, 400);
    let long = format!("X: {}\r\n", "x".repeat(100_000));
    assert_eq!(server.get("/metrics", &long).status, 431);
    assert_eq!(server.get("/metrics", &"A: b\r\n".repeat(100)).status, 431);
    assert_eq!(server.get("/metrics", "Connection: keep-alive\r\n").status, 200);
    // Whatever was asked, it goes on.
    assert_eq!(server.get("/metrics", "").status, 200);
}

#[test]
fn slow_clients_do_not_keep_others_out() {
    let server = Server::of_storm();
    // More than there are places; the last of them wait for one.
    let mut slow: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").expect("half a request");
    }
    assert_eq!(server.get("/metrics", "").status, 200);
    // They were sent away, not answered.
    let mut rest = Vec::new();
    // With or without a word of why.
    let _ = slow[0].read_to_end(&mut rest);
    assert!(!text(&rest).contains(" 200 "), "{}", text(&rest));
}

#[test]
fn other_hosts_need_tls_and_a_token() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9755"] {
        let output = run(&["serve", "--from", STORM, "--listen", listen]);
        assert_eq!(output.status.code(), Some(2), "{listen}");
        let stderr = text(&output.stderr);
        assert!(
            stderr.contains("other hosts could read") && stderr.contains("next: give --tls-cert"),
            "{stderr}"
        );
    }
    let directory = tempfile::tempdir().expect("a directory");
    let files = Files::new(directory.path());
    let words = ["serve", "--from", STORM, "--listen", "0.0.0.0:0", "--token-file", &files.token];
    assert_eq!(run(&words).status.code(), Some(2), "a token without TLS");
    let words = ["serve", "--from", STORM, "--tls-cert", &files.certificate];
    assert_eq!(run(&words).status.code(), Some(2), "a certificate without a key");
    // By name, it may.
    let server = Server::at("0.0.0.0:0", &["--from", STORM, "--insecure"]);
    assert_eq!(server.get("/", "").status, 200);
}

/// What a guarded server needs.
struct Files {
    certificate: String,
    key: String,
    token: String,
}

const TOKEN: &str = "c0ffee00c0ffee00c0ffee00";

fn write(path: &Path, mode: u32, text: &str) -> String {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path).expect("a file");
    file.write_all(text.as_bytes()).expect("a file");
    path.to_string_lossy().into_owned()
}

impl Files {
    fn new(directory: &Path) -> Self {
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let path = |name: &str| -> PathBuf { directory.join(name) };
        Self {
            certificate: write(&path("cert.pem"), 0o644, &signed.cert.pem()),
            key: write(&path("key.pem"), 0o600, &signed.signing_key.serialize_pem()),
            token: write(&path("token"), 0o600, &format!("{TOKEN}\n")),
        }
    }
}

#[test]
fn tls_and_token_guard_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = Files::new(directory.path());
    let Files { certificate, key, token } = &files;
    let server = Server::start(&[
        "--from",
        STORM,
        "--speed",
        "max",
        "--tls-cert",
        certificate,
        "--tls-key",
        key,
        "--token-file",
        token,
    ]);
    assert_eq!(server.scheme, "https");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).expect("the certificate")).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("a version of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let ask = |authorization: &str| {
        let name = ServerName::try_from("localhost").expect("a name");
        let client = ClientConnection::new(Arc::clone(&config), name).expect("a client");
        let mut stream = StreamOwned::new(client, server.connect());
        stream.write_all(get("/metrics", authorization).as_bytes()).expect("a request");
        Answer::read(stream)
    };
    assert!(ask(&format!("Authorization: Bearer {TOKEN}\r\n")).text().contains("dsascope_build_info"));
    let refused = ask("");
    assert_eq!(refused.status, 401);
    assert!(refused.header.contains("www-authenticate: bearer"), "{}", refused.header);
    assert_eq!(ask("Authorization: Bearer c0ffee00c0ffee00c0ffee01\r\n").status, 401);
    // Plain HTTP gets no answer in HTTP.
    let mut plain = server.connect();
    plain.write_all(get("/metrics", "").as_bytes()).expect("a request");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!text(&answer).contains("HTTP"), "{}", text(&answer));
}

#[test]
fn files_that_guard_nothing_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let readable = write(&path("readable"), 0o644, TOKEN);
    let short = write(&path("short"), 0o600, "12345\n");
    let spaces = write(&path("spaces"), 0o600, "twenty four bytes, spaces");
    for (token, why) in [
        (&readable, "others than its owner may use it (mode 644)"),
        (&short, "a token has 16 to 4096 printable ASCII characters"),
        (&spaces, "a token has 16 to 4096 printable ASCII characters"),
        (&path("absent").to_string_lossy().into_owned(), "No such file"),
    ] {
        let output = run(&["serve", "--from", STORM, "--token-file", token]);
        assert_eq!(output.status.code(), Some(2));
        let stderr = text(&output.stderr);
        assert!(stderr.contains(why) && stderr.contains("next: make one"), "{stderr}");
    }
    let words = ["serve", "--from", STORM, "--tls-cert", &short, "--tls-key", &short];
    let output = run(&words);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("next: name PEM files"), "{}", text(&output.stderr));
}

#[test]
fn a_port_that_is_taken_is_named() {
    let server = Server::of_storm();
    let output = run(&["serve", "--from", STORM, "--listen", &server.address.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("in use") && stderr.contains("next: choose another --listen"), "{stderr}");
}

const FLEET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/fleet.md");

/// What a scrape comes to, as a row of that table: work queues with faults, series (with classic histograms, with native ones alone), bytes
/// in each encoding.
fn scraped(server: &Server) -> [usize; 6] {
    let text = server.get("/metrics", "").text();
    let count = |what: fn(&&str) -> bool| text.lines().filter(what).count();
    let series = count(|line| !line.starts_with('#'));
    let classic = count(|line| line.starts_with("dsascope_stage_seconds_"));
    let native = count(|line| line.starts_with("dsascope_stage_seconds_count"));
    let busy =
        count(|line| line.starts_with("dsascope_stage_seconds_count") && line.contains("stage=\"service\""));
    let [open, protobuf] = [OPENMETRICS, PROTOBUF].map(|accept| server.get("/metrics", accept).body.len());
    [busy, series, series - classic + native, text.len(), open, protobuf]
}

#[test]
fn a_scrape_costs_what_is_documented() {
    let document = std::fs::read_to_string(FLEET).expect("docs/fleet.md");
    let (_, rest) = document.split_once("<!-- scrape -->\n").expect("the table");
    let (table, _) = rest.split_once("<!-- end -->").expect("the table's end");
    let rows: Vec<&str> = table.lines().skip(2).collect();
    assert_eq!(rows.len(), 3, "{table}");
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect();
        let documented: Vec<usize> = cells[1..].iter().map(|cell| cell.parse().expect(row)).collect();
        let path = format!("{}/../../samples/{}.dsc", env!("CARGO_MANIFEST_DIR"), cells[0]);
        let server = Server::start(&["--from", &path, "--speed", "max"]);
        let since = Instant::now();
        loop {
            let scraped = scraped(&server);
            // The same series; their values, of memory and time above all, have not always as many digits.
            let near = |(now, then): (&usize, &usize)| now.abs_diff(*then) * 200 <= *then;
            if scraped[..3] == documented[..3] && scraped.iter().zip(&documented).all(near) {
                break;
            }
            assert!(since.elapsed() < PATIENCE, "docs/fleet.md has {row}; a scrape is {scraped:?}");
        }
    }
}
