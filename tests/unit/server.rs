//! The listener: what it takes from callers, and how it stops.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use crate::support;
use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use pullpass::admission;
use pullpass::server::{self, Bounds, Drain, Metrics, Phase, Server, health};
use support::tls::{PATIENCE, Running, closed, receive, send, start};
use support::wait;
use support::webhook::{offline, review, team, webhook};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::client::TlsStream;

/// How requests for `/slow` are held up.
#[derive(Default)]
struct Gate {
    arrived: Notify,
    open: Notify,
}

impl Gate {
    /// Waits until a request is held up.
    async fn arrived(&self) {
        tokio::time::timeout(PATIENCE, self.arrived.notified())
            .await
            .expect("the slow request arrives");
    }
}

#[allow(clippy::unused_async, reason = "handlers are")]
async fn panic() {
    panic!("as planned");
}

/// Says hello; answers `/slow` when the gate opens; panics on `/panic`.
fn application(gate: &Arc<Gate>) -> Router {
    let gate = Arc::clone(gate);
    let slow = move || async move {
        gate.arrived.notify_one();
        gate.open.notified().await;
        "slow"
    };
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/slow", get(slow))
        .route("/panic", get(panic))
        .route(
            "/length",
            post(|body: Bytes| async move { body.len().to_string() }),
        )
}

async fn simple(bounds: Bounds) -> Running {
    start(application(&Arc::<Gate>::default()), bounds).await
}

const HELLO: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

async fn says_hello(server: &Running) {
    let mut stream = server.connect().await;
    send(&mut stream, HELLO).await;
    let (head, body) = receive(&mut stream).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, "hello");
}

#[tokio::test]
async fn keeps_connection_for_many_requests() {
    let server = simple(Bounds::default()).await;
    let mut stream = server.connect().await;
    for _ in 0..100 {
        send(&mut stream, HELLO).await;
        let (head, body) = receive(&mut stream).await;
        assert!(!head.contains("connection:"), "{head}");
        assert_eq!(body, "hello");
    }
    server.close().await;
}

#[tokio::test]
async fn answers_pipelined_requests_in_order() {
    let server = simple(Bounds::default()).await;
    let mut stream = server.connect().await;
    send(
        &mut stream,
        &format!("{HELLO}GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n{HELLO}"),
    )
    .await;
    for status in ["200", "404", "200"] {
        assert!(
            receive(&mut stream)
                .await
                .0
                .starts_with(&format!("http/1.1 {status}"))
        );
    }
}

#[tokio::test]
async fn cuts_off_header_that_comes_byte_by_byte() {
    let bounds = Bounds {
        header: Duration::from_millis(300),
        ..Bounds::default()
    };
    let server = simple(bounds).await;
    let (mut reader, mut writer) = tokio::io::split(server.connect().await);
    let drip = tokio::spawn(async move {
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        while writer.write_all(b"G").await.is_ok() && writer.flush().await.is_ok() {
            pause.tick().await;
        }
    });
    says_hello(&server).await;
    let read = tokio::time::timeout(PATIENCE, reader.read(&mut [0; 10]))
        .await
        .expect("cut off");
    assert!(!matches!(read, Ok(count) if count > 0), "{read:?}");
    drip.abort();
    says_hello(&server).await;
}

#[tokio::test]
async fn refuses_body_that_takes_too_long() {
    let server = simple(Bounds {
        body: Duration::from_millis(200),
        ..Bounds::default()
    })
    .await;
    let (application, _) = webhook(offline(team()));
    let webhook = start(
        application,
        Bounds {
            body: Duration::from_millis(200),
            ..Bounds::default()
        },
    )
    .await;
    let mut stream = webhook.connect().await;
    send(&mut stream, "POST /mutate HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{").await;
    assert!(receive(&mut stream).await.0.starts_with("http/1.1 408"));
    closed(&mut stream).await;
    says_hello(&server).await;
}

#[tokio::test]
async fn refuses_body_over_the_limit() {
    let limit = Bounds::default().body_bytes;
    assert_eq!(limit, 7 * 1024 * 1024);
    let (application, _) = webhook(offline(team()));
    let server = start(application, Bounds::default()).await;
    let head = "POST /mutate HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
    let mut stream = server.connect().await;
    send(
        &mut stream,
        &format!("{head}content-length: {}\r\n\r\n", limit + 1),
    )
    .await;
    let (answer, _) = receive(&mut stream).await;
    assert!(
        answer.starts_with("http/1.1 413") && answer.contains("connection: close"),
        "{answer}"
    );

    let (mut reader, mut writer) = tokio::io::split(server.connect().await);
    let sender = tokio::spawn(async move {
        writer
            .write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
        // The server stops reading at some point past its limit: that ends this.
        for _ in 0..=limit / 0x10000 {
            if writer.write_all(chunk.as_bytes()).await.is_err() {
                break;
            }
        }
        let _ = writer.flush().await;
        writer
    });
    let mut answer = [0; 12];
    tokio::time::timeout(PATIENCE, reader.read_exact(&mut answer))
        .await
        .expect("an answer")
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    sender.abort();
}

/// One caller begins a body of so many bytes and ends neither that nor the connection: meanwhile others are told to come back, and then
/// answered.
async fn sheds_requests_while_one_stalls(bounds: Bounds, length: usize, sent: &str) {
    let (application, _) = webhook(offline(team()));
    let server = start(application, bounds).await;
    let request = |length: usize, body: &str| {
        format!(
            "POST /mutate HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    let body = review().to_string();
    let ask = async || {
        let mut stream = server.connect().await;
        send(&mut stream, &request(body.len(), &body)).await;
        receive(&mut stream).await.0
    };
    let first = ask().await;
    assert!(first.starts_with("http/1.1 200"), "{first}");
    let mut stalled = server.connect().await;
    send(&mut stalled, &request(length, sent)).await;
    let shed = wait::until("a request to be shed", async || {
        Some(ask().await).filter(|answer| answer.starts_with("http/1.1 429"))
    })
    .await;
    assert!(shed.contains("retry-after: 1"), "{shed}");
    drop(stalled);
    wait::until("requests to be answered again", async || {
        ask().await.starts_with("http/1.1 200").then_some(())
    })
    .await;
}

#[tokio::test]
async fn sheds_requests_while_all_bodies_take_too_much() {
    let bounds = Bounds {
        all_bodies_bytes: 100_000,
        ..Bounds::default()
    };
    sheds_requests_while_one_stalls(bounds, 100_001, &" ".repeat(99_999)).await;
}

/// The bounds of a server that takes no more than one large body at a time.
fn one_large_body(wait: Duration) -> Bounds {
    Bounds {
        all_bodies_bytes: 2_000_000,
        large_bodies_bytes: 1_000_000,
        large_body_wait: wait,
        body: Duration::from_mins(2),
        ..Bounds::default()
    }
}

/// The post of a review, padded to so many bytes: the head, and the body.
fn padded_post(length: usize) -> (String, String) {
    let review = review().to_string();
    let body = format!("{review}{}", " ".repeat(length - review.len()));
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    (head, body)
}

#[tokio::test]
async fn answers_who_writes_all_before_reading_when_there_is_no_place() {
    let (application, _) = webhook(offline(team()));
    let server = start(application, one_large_body(Duration::ZERO)).await;
    let (head, body) = padded_post(1_000_000);
    let mut stalled = server.connect().await;
    send(&mut stalled, &head).await;
    let (late_head, late_body) = padded_post(5_000_000);
    let mut late = server.connect().await;
    for _ in 0..2 {
        send(&mut late, &late_head).await;
        send(&mut late, &late_body).await;
        let answer = receive(&mut late).await.0;
        assert!(answer.starts_with("http/1.1 429"), "{answer}");
        assert!(answer.contains("retry-after: 1"), "{answer}");
    }
    let (ordinary, text) = padded_post(100_000);
    send(&mut late, &(ordinary + &text)).await;
    let answer = receive(&mut late).await.0;
    assert!(
        answer.starts_with("http/1.1 200"),
        "ordinary ones have a part of their own: {answer}"
    );
    send(&mut stalled, &body).await;
    let answer = receive(&mut stalled).await.0;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
}

#[tokio::test]
async fn waits_for_the_place_of_a_large_body() {
    let (application, _) = webhook(offline(team()));
    let server = start(application, one_large_body(Duration::from_mins(1))).await;
    let (head, body) = padded_post(1_000_000);
    let ask = async || {
        let mut stream = server.connect().await;
        send(&mut stream, &head).await;
        send(&mut stream, &body).await;
        receive(&mut stream).await.0
    };
    let (one, other, third) = tokio::join!(ask(), ask(), ask());
    for answer in [one, other, third] {
        assert!(answer.starts_with("http/1.1 200"), "{answer}");
    }
}

#[tokio::test]
async fn takes_body_at_the_limit() {
    let server = start(
        Router::new().route(
            "/",
            post(|body: axum::body::Body| async {
                axum::body::to_bytes(body, usize::MAX)
                    .await
                    .unwrap()
                    .len()
                    .to_string()
            }),
        ),
        Bounds {
            body_bytes: 100_000,
            ..Bounds::default()
        },
    )
    .await;
    let mut stream = server.connect().await;
    send(
        &mut stream,
        &format!(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n{}",
            "x".repeat(100_000)
        ),
    )
    .await;
    assert_eq!(receive(&mut stream).await.1, "100000");
}

#[tokio::test]
async fn says_continue_when_the_caller_waits_for_it() {
    let server = simple(Bounds::default()).await;
    let mut stream = server.connect().await;
    send(
        &mut stream,
        "POST /length HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n",
    )
    .await;
    assert!(receive(&mut stream).await.0.starts_with("http/1.1 100"));
    send(&mut stream, "abc").await;
    assert_eq!(receive(&mut stream).await.1, "3");
}

#[tokio::test]
async fn refuses_header_that_is_too_long() {
    let server = simple(Bounds::default()).await;
    let mut stream = server.connect().await;
    send(
        &mut stream,
        &format!(
            "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
            "x".repeat(20_000)
        ),
    )
    .await;
    assert!(receive(&mut stream).await.0.starts_with("http/1.1 431"));
}

#[tokio::test]
async fn closes_connection_that_speaks_plain_http_or_old_tls() {
    let server = simple(Bounds::default()).await;
    // A ClientHello of TLS 1.1: version 3.2, no session, TLS_RSA_WITH_AES_128_CBC_SHA, no compression, one signature scheme.
    let hello = [
        &[3, 2][..],
        &[7; 32],
        &[0, 0, 2, 0, 0x2f, 1, 0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3],
    ]
    .concat();
    let length = |length: usize| u8::try_from(length).unwrap();
    let handshake = [&[1, 0, 0, length(hello.len())][..], &hello].concat();
    let old = [&[22, 3, 1, 0, length(handshake.len())][..], &handshake].concat();
    for (name, bytes) in [
        ("plain HTTP", HELLO.as_bytes()),
        ("TLS 1.1", &old),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("zeros", &[0; 100]),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(PATIENCE, read)
            .await
            .unwrap_or_else(|_| panic!("{name}: not closed"));
        assert!(
            answer.first().is_none_or(|first| *first == 21),
            "{name}: a TLS alert or nothing, not {answer:?}"
        );
        if name == "TLS 1.1" {
            assert_eq!(answer.last(), Some(&70), "protocol_version");
        }
    }
    says_hello(&server).await;
}

#[tokio::test]
async fn cuts_off_handshake_that_takes_too_long() {
    let server = simple(Bounds {
        handshake: Duration::from_millis(200),
        ..Bounds::default()
    })
    .await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&[22, 3, 1]).await.unwrap();
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 10]))
        .await
        .expect("closed");
    assert!(!matches!(read, Ok(count) if count > 0), "{read:?}");
}

#[tokio::test]
async fn serves_callers_without_server_name() {
    let server = simple(Bounds::default()).await;
    let mut stream = server.connect_as(&[], "127.0.0.1").await.unwrap();
    send(&mut stream, HELLO).await;
    assert_eq!(receive(&mut stream).await.1, "hello");
}

#[tokio::test]
async fn shows_its_certificate_whatever_name_is_asked_for() {
    let server = simple(Bounds::default()).await;
    let error = server
        .connect_as(&[b"http/1.1"], "wrong.example")
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("not valid for name"),
        "the caller saw the certificate: {error}"
    );
}

#[tokio::test]
async fn agrees_on_http1_alone_whatever_is_offered() {
    let server = simple(Bounds::default()).await;
    let offers: [&[&[u8]]; 3] = [&[b"h2", b"http/1.1"], &[b"http/1.1", b"h2"], &[b"http/1.1"]];
    for offer in offers {
        let mut stream = server.connect_as(offer, "localhost").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        ask_hello(&mut stream).await;
    }
    let error = server.connect_as(&[b"h2"], "localhost").await.unwrap_err();
    assert!(
        error.to_string().contains("NoApplicationProtocol"),
        "{error}"
    );
    says_hello(&server).await;
}

#[tokio::test]
async fn refuses_http2_preface_where_http1_was_agreed() {
    let server = simple(Bounds::default()).await;
    let mut stream = server.connect().await;
    send(&mut stream, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    closed(&mut stream).await;
    says_hello(&server).await;
}

#[tokio::test]
async fn serves_others_when_all_but_one_connection_misbehave() {
    let bounds = Bounds {
        connections: 3,
        handshake: Duration::from_millis(500),
        ..Bounds::default()
    };
    let server = simple(bounds).await;
    let mut idle = Vec::new();
    for _ in 0..10 {
        idle.push(TcpStream::connect(server.address).await.unwrap());
    }
    tokio::time::timeout(PATIENCE, says_hello(&server))
        .await
        .expect("the idle ones are cut off");
}

async fn ask_hello(stream: &mut TlsStream<TcpStream>) {
    send(stream, HELLO).await;
    assert_eq!(receive(stream).await.1, "hello");
}

/// As when somebody keeps as many connections as there may be, each with a request now and then.
#[tokio::test]
async fn gives_a_new_caller_the_place_of_who_idles_longest() {
    let bounds = Bounds {
        connections: 3,
        ..Bounds::default()
    };
    let server = simple(bounds).await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        kept.push(server.connect().await);
    }
    for nth in [0, 1, 2, 0] {
        ask_hello(&mut kept[nth]).await;
    }
    // Long before anybody has idled for too long.
    let new = tokio::time::timeout(PATIENCE, server.connect());
    let mut new = new.await.expect("a place");
    ask_hello(&mut new).await;
    closed(&mut kept[1]).await;
    for nth in [0, 2] {
        ask_hello(&mut kept[nth]).await;
    }
    ask_hello(&mut new).await;
}

#[tokio::test]
async fn lets_no_request_make_place_for_a_new_caller() {
    let gate = Arc::<Gate>::default();
    let bounds = Bounds {
        connections: 2,
        ..Bounds::default()
    };
    let server = start(application(&gate), bounds).await;
    let mut busy = server.connect().await;
    send(&mut busy, "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    gate.arrived().await;
    let mut later = server.connect().await;
    ask_hello(&mut later).await;
    tokio::time::timeout(PATIENCE, says_hello(&server))
        .await
        .expect("a place");
    closed(&mut later).await;
    gate.open.notify_one();
    assert_eq!(receive(&mut busy).await.1, "slow");
}

#[tokio::test]
async fn goes_on_after_a_panic() {
    let server = simple(Bounds::default()).await;
    let mut stream = server.connect().await;
    send(&mut stream, "GET /panic HTTP/1.1\r\nhost: a\r\n\r\n").await;
    closed(&mut stream).await;
    says_hello(&server).await;
}

#[tokio::test]
async fn leaves_by_connection_close_and_goes_on_accepting() {
    let server = simple(Bounds::default()).await;
    server.drain.set_prepared();
    let mut open = server.connect().await;
    send(&mut open, HELLO).await;
    assert!(!receive(&mut open).await.0.contains("connection:"));
    assert!(server.drain.is_ready());
    server.drain.enter(Phase::Draining);
    assert!(!server.drain.is_ready());
    let mut new = server.connect().await;
    for stream in [&mut open, &mut new] {
        send(stream, HELLO).await;
        let (head, body) = receive(stream).await;
        assert!(head.contains("connection: close"), "{head}");
        assert_eq!(body, "hello");
        closed(stream).await;
    }
    says_hello(&server).await;
    server.close().await;
}

#[tokio::test]
async fn finishes_what_is_in_flight_when_closing() {
    let gate = Arc::<Gate>::default();
    let server = start(application(&gate), Bounds::default()).await;
    let mut idle = server.connect().await;
    send(&mut idle, HELLO).await;
    receive(&mut idle).await;
    let mut busy = server.connect().await;
    send(&mut busy, "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    gate.arrived().await;
    server.drain.enter(Phase::Closing);
    closed(&mut idle).await;
    let refused = async { while TcpStream::connect(server.address).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, refused)
        .await
        .expect("no more connections");
    gate.open.notify_one();
    assert_eq!(receive(&mut busy).await.1, "slow");
    server.ended().await;
}

#[tokio::test]
async fn ends_though_something_never_finishes() {
    let gate = Arc::<Gate>::default();
    let server = start(
        application(&gate),
        Bounds {
            finish: Duration::from_millis(100),
            ..Bounds::default()
        },
    )
    .await;
    let mut busy = server.connect().await;
    send(&mut busy, "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    gate.arrived().await;
    server.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_six_hundred_cold_connections_at_once() {
    let (application, metrics) = webhook(offline(team()));
    let server = Arc::new(start(application, Bounds::default()).await);
    let body = review().to_string();
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let text: Arc<str> = (head + &body).into();
    let calls: Vec<_> = (0..600)
        .map(|_| {
            let (server, text) = (Arc::clone(&server), Arc::clone(&text));
            tokio::spawn(async move {
                let mut stream = server.connect().await;
                send(&mut stream, &text).await;
                receive(&mut stream).await
            })
        })
        .collect();
    for call in calls {
        let (head, body) = call.await.unwrap();
        assert!(
            head.starts_with("http/1.1 200") && body.contains("JSONPatch"),
            "{head}{body}"
        );
    }
    let counted = metrics.counted(
        admission::metrics::AdmissionOutcome::Injected,
        "",
        admission::metrics::CacheResult::Hit,
    );
    assert_eq!(counted, 600);
}

#[tokio::test]
async fn shows_health_and_metrics_on_a_plain_port() {
    let drain = Drain::default();
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Metrics::default();
    metrics.register(&mut registry);
    let listener = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let application = health::router(drain.clone(), Arc::new(registry));
    let server = Server {
        listener,
        tls: None,
        application,
        bounds: Bounds::default(),
        metrics,
    };
    let server = tokio::spawn(server.run(drain.clone()));
    let status = async |path: &str| {
        reqwest::get(format!("{base}{path}"))
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(status("/livez").await, 200);
    assert_eq!(status("/readyz").await, 503);
    drain.set_prepared();
    assert_eq!(status("/readyz").await, 200);
    let text = reqwest::get(format!("{base}/metrics"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        text.contains("pullpass_connections 1") && text.ends_with("# EOF\n"),
        "{text}"
    );
    drain.enter(Phase::Draining);
    assert_eq!(status("/readyz").await, 503);
    assert_eq!(status("/livez").await, 200);
    drain.enter(Phase::Closing);
    tokio::time::timeout(PATIENCE, server)
        .await
        .expect("the server ends")
        .unwrap();
}

/// The one thread of the webhook's runtime does not come back: probes are answered by their own.
#[test]
fn answers_probes_while_all_threads_are_busy() {
    use std::io::{Read as _, Write as _};
    let busy = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let drain = Drain::default();
    let (address, ended) = busy.block_on(async {
        let listener = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server {
            listener,
            tls: None,
            application: health::router(drain.clone(), Arc::default()),
            bounds: Bounds::default(),
            metrics: Metrics::default(),
        };
        let ended = server.run_on_own_thread("health", drain.clone()).unwrap();
        (address, ended)
    });
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (sender, waiting) = std::sync::mpsc::channel();
    busy.spawn(async move {
        sender.send(()).unwrap();
        let _ = held.recv();
    });
    waiting.recv().unwrap();
    for path in ["livez", "metrics"] {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET /{path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    drop(release);
    drain.enter(Phase::Closing);
    busy.block_on(ended);
}
