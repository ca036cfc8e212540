//! A real browser: Debian's Chromium, driven by WebDriver.

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use thirtyfour::session::http::{Body, HttpClient};
use thirtyfour::{By, ChromiumLikeCapabilities, DesiredCapabilities, WebDriver};
use tokio::net::TcpStream;

use super::{PATIENCE, has, program, until};

const FLAGS: [&str; 12] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--window-size=1280,960",
];

/// Chromium with a profile of its own. End it with [`Browser::quit`].
pub(crate) struct Browser {
    driver: WebDriver,
    child: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one; `None`, and said so, where there is no Chromium.
    pub(crate) async fn start() -> Option<Self> {
        let (driver, chromium) = (program("chromedriver"), program("chromium"));
        if !has(driver.is_some() && chromium.is_some(), "chromium with chromedriver") {
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let (child, port) = spawn(driver?.to_str()?);
        let mut wanted = DesiredCapabilities::chrome();
        wanted.set_binary(chromium?.to_str()?).unwrap();
        for flag in FLAGS {
            wanted.add_arg(flag).unwrap();
        }
        wanted.add_arg(&format!("--user-data-dir={}", profile.path().display())).unwrap();
        let server = format!("http://127.0.0.1:{port}");
        let driver = WebDriver::builder(server, wanted).client(Http).connect().await.expect("Chromium starts");
        driver.set_page_load_timeout(PATIENCE).await.unwrap();
        driver.set_script_timeout(PATIENCE).await.unwrap();
        Some(Self { driver, child, _profile: profile })
    }

    /// Opens an address.
    pub(crate) async fn open(&self, url: &str) {
        self.driver.goto(url).await.unwrap();
    }

    /// What the address bar says.
    pub(crate) async fn url(&self) -> String {
        self.driver.current_url().await.unwrap().to_string()
    }

    /// The page's source.
    pub(crate) async fn source(&self) -> String {
        self.driver.source().await.unwrap()
    }

    /// The text of an element, waited for.
    pub(crate) async fn text(&self, css: &str) -> String {
        until(css, || async { self.driver.find(By::Css(css)).await.ok()?.text().await.ok() }).await
    }

    /// Waits until an element's text is as wanted; gives it.
    pub(crate) async fn text_where(&self, css: &str, wanted: impl Fn(&str) -> bool) -> String {
        until(&format!("{css} as wanted"), || async {
            let text = self.driver.find(By::Css(css)).await.ok()?.text().await.ok()?;
            wanted(&text).then_some(text)
        })
        .await
    }

    /// Clicks an element, waited for.
    pub(crate) async fn click(&self, css: &str) {
        until(&format!("{css} to click"), || async { self.driver.find(By::Css(css)).await.ok()?.click().await.ok() })
            .await;
    }

    /// Types into a field.
    pub(crate) async fn write(&self, css: &str, text: &str) {
        self.driver.find(By::Css(css)).await.unwrap().send_keys(text).await.unwrap();
    }

    /// Waits until the address bar is as wanted; gives it.
    pub(crate) async fn url_where(&self, wanted: impl Fn(&str) -> bool) -> String {
        until("the address", || async {
            let url = self.driver.current_url().await.ok()?.to_string();
            wanted(&url).then_some(url)
        })
        .await
    }

    /// Runs a script; what it returns.
    pub(crate) async fn run(&self, script: &str) -> serde_json::Value {
        self.driver.execute(script, Vec::new()).await.unwrap().json().clone()
    }

    /// Says yes or no on the sandbox's consent page.
    pub(crate) async fn consent(&self, account: &str, decision: &str) {
        self.click(&format!("input[name=account][value='{account}']")).await;
        self.click(&format!("button[name=decision][value={decision}]")).await;
    }

    /// A new tab, now in front; its handle.
    pub(crate) async fn tab(&self) -> thirtyfour::WindowHandle {
        let tab = self.driver.new_tab().await.unwrap();
        self.front(&tab).await;
        tab
    }

    /// The tab in front.
    pub(crate) async fn here(&self) -> thirtyfour::WindowHandle {
        self.driver.window().await.unwrap()
    }

    /// Puts a tab in front.
    pub(crate) async fn front(&self, tab: &thirtyfour::WindowHandle) {
        self.driver.switch_to_window(tab.clone()).await.unwrap();
    }

    pub(crate) async fn back(&self) {
        self.driver.back().await.unwrap();
    }

    /// The cookies of the page in front, HttpOnly ones included.
    pub(crate) async fn cookies(&self) -> Vec<thirtyfour::Cookie> {
        self.driver.get_all_cookies().await.unwrap()
    }

    /// A picture of the window.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        self.driver.screenshot_as_png().await.unwrap()
    }

    /// Ends Chromium, then its driver.
    pub(crate) async fn quit(mut self) {
        self.driver.clone().quit().await.unwrap();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // After a failed test: the driver ends its Chromium when it is asked to end.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
            let _ = self.child.wait();
        }
    }
}

/// The driver on a port of its choice, which it tells when it is ready.
fn spawn(driver: &str) -> (Child, u16) {
    let mut child = Command::new(driver).arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let out = child.stdout.take().unwrap();
    let (told, port) = channel();
    std::thread::spawn(move || {
        // Read to the end, so that it never waits for a reader.
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if let Some((_, port)) = line.split_once("successfully on port ") {
                let _ = told.send(port.trim_end_matches('.').parse());
            }
        }
    });
    let port = port.recv_timeout(PATIENCE).expect("chromedriver tells its port").unwrap();
    (child, port)
}

/// WebDriver's own requests, on plain hyper.
struct Http;

impl HttpClient for Http {
    fn send<'a, 'b, 'out>(
        &'a self,
        request: Request<Body<'b>>,
    ) -> Pin<Box<dyn Future<Output = thirtyfour::error::WebDriverResult<Response<Bytes>>> + Send + 'out>>
    where
        'a: 'out,
        'b: 'out,
        Self: 'out,
    {
        Box::pin(async move { Ok(send(request).await) })
    }

    fn new<'a, 'out>(&'a self) -> Pin<Box<dyn Future<Output = Arc<dyn HttpClient>> + Send + 'out>>
    where
        'a: 'out,
        Self: 'out,
    {
        Box::pin(async { Arc::new(Self) as Arc<dyn HttpClient> })
    }
}

async fn send(request: Request<Body<'_>>) -> Response<Bytes> {
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().unwrap().clone();
    head.uri = head.uri.path_and_query().unwrap().as_str().parse().unwrap();
    head.headers.insert("host", authority.as_str().parse().unwrap());
    let body = match body {
        Body::Empty => Bytes::new(),
        Body::Json(json) => Bytes::from(json.to_string()),
    };
    let stream = TcpStream::connect(authority.as_str()).await.expect("chromedriver listens");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(Request::from_parts(head, Full::new(body))).await.unwrap();
    let (head, body) = answer.into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}
