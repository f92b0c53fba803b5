//! HTTP on the socket: routes, and limits that no client can widen.
//!
//! A connection is for one request and has [`WHOLE`] for all of it, [`BEGIN`] of that for TLS and for the header. Beyond [`PLACES`]
//! connections the kernel lets clients wait. Nothing is read of a request but its header.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use dsascope_export::prometheus::Encoding;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::access::Access;
use super::page::Page;

/// Connections at once.
const PLACES: usize = 32;
/// For the handshake, and for the header.
const BEGIN: Duration = Duration::from_secs(5);
/// For a connection from beginning to end.
const WHOLE: Duration = Duration::from_secs(30);
/// Of a request's header.
const HEADER_BYTES: usize = 16 << 10;
const HEADERS: usize = 64;
/// After the system has refused another connection: it has no file descriptors or memory.
const BREATH: Duration = Duration::from_millis(100);

const INDEX: &str = "<!doctype html><title>dsascope</title><h1>dsascope</h1>\
    <p><a href=\"/metrics\">/metrics</a>: figures for Prometheus\
    <p><a href=\"/healthz\">/healthz</a>: whether they can be trusted\n";

type Pages = watch::Receiver<Arc<Page>>;

/// Answers until the runtime ends.
pub(super) async fn serve(listener: TcpListener, access: Access, pages: Pages) {
    let places = Arc::new(Semaphore::new(PLACES));
    let tls = access.tls.clone();
    let router = router(access, pages);
    loop {
        // Nobody closes it.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            sleep(BREATH).await;
            continue;
        };
        let (tls, router) = (tls.clone(), router.clone());
        tokio::spawn(async move {
            let _place = place;
            // Whoever is too slow is left.
            let _ = timeout(WHOLE, connection(stream, tls, router)).await;
        });
    }
}

async fn connection(stream: TcpStream, tls: Option<tokio_rustls::TlsAcceptor>, router: Router) {
    match tls {
        None => request(stream, router).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = timeout(BEGIN, tls.accept(stream)).await {
                request(stream, router).await;
            }
        }
    }
}

fn request<S>(stream: S, router: Router) -> impl Future<Output = ()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(BEGIN)
        .max_buf_size(HEADER_BYTES)
        .max_headers(HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    async move {
        // What goes wrong is the client's, and it has been told where it can be.
        let _ = connection.await;
    }
}

fn router(access: Access, pages: Pages) -> Router {
    Router::new()
        .route("/", get(async || Html(INDEX)))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .with_state(pages)
        .layer(middleware::from_fn_with_state(access, admit))
}

async fn admit(State(access): State<Access>, request: Request, next: Next) -> Response {
    let authorization = request.headers().get(header::AUTHORIZATION);
    if access.admits(authorization.map(HeaderValue::as_bytes)) {
        next.run(request).await
    } else {
        (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], "a token is needed\n")
            .into_response()
    }
}

async fn metrics(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let encoding = Encoding::accepted(accept.unwrap_or_default());
    let page = Arc::clone(&pages.borrow());
    ([(header::CONTENT_TYPE, encoding.content_type())], page.metrics(encoding)).into_response()
}

async fn healthz(State(pages): State<Pages>) -> Response {
    let page = Arc::clone(&pages.borrow());
    let status = if page.is_healthy() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "application/json")], page.health() + "\n").into_response()
}
