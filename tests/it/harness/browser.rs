//! A real browser: Debian's Chromium, driven by `WebDriver`.

use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use thirtyfour::error::{WebDriverError, WebDriverResult};
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

/// Chromium with its own profile. End it with [`Browser::quit`].
pub(crate) struct Browser {
    driver: WebDriver,
    child: Child,
    port: u16,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one; `None` if there is no Chromium, which is reported.
    pub(crate) async fn start() -> Option<Self> {
        Self::with(&[]).await
    }

    /// Starts one with more flags.
    pub(crate) async fn with(flags: &[&str]) -> Option<Self> {
        let (driver, chromium) = (program("chromedriver"), program("chromium"));
        if !has(driver.is_some() && chromium.is_some(), "chromium with chromedriver") {
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let (child, port) = spawn(driver?.to_str()?);
        let mut wanted = DesiredCapabilities::chrome();
        wanted.set_binary(chromium?.to_str()?).unwrap();
        for flag in FLAGS.iter().chain(flags).copied() {
            wanted.add_arg(flag).unwrap();
        }
        wanted.add_arg(&format!("--user-data-dir={}", profile.path().display())).unwrap();
        let server = format!("http://127.0.0.1:{port}");
        let driver = WebDriver::builder(server, wanted).client(Http).connect().await.expect("Chromium starts");
        driver.set_page_load_timeout(PATIENCE).await.unwrap();
        driver.set_script_timeout(PATIENCE).await.unwrap();
        Some(Self { driver, child, port, _profile: profile })
    }

    /// Opens an address.
    pub(crate) async fn open(&self, url: &str) {
        self.driver.goto(url).await.unwrap();
    }

    /// The address in the address bar.
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

    /// Waits until an element's text is as wanted, and returns it.
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

    /// Waits until the address is as wanted, and returns it.
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

    /// Accepts or declines on the sandbox's consent page.
    pub(crate) async fn consent(&self, account: &str, decision: &str) {
        self.click(&format!("input[name=account][value='{account}']")).await;
        self.click(&format!("button[name=decision][value={decision}]")).await;
    }

    /// Opens a new tab in front; its handle.
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

    /// The cookies of the page in front, `HttpOnly` ones included.
    pub(crate) async fn cookies(&self) -> Vec<thirtyfour::Cookie> {
        self.driver.get_all_cookies().await.unwrap()
    }

    /// Deletes the cookies of the page in front, `HttpOnly` ones included.
    pub(crate) async fn forget_cookies(&self) {
        self.driver.delete_all_cookies().await.unwrap();
    }

    /// Makes the window this wide.
    pub(crate) async fn width(&self, pixels: u32) {
        self.driver.set_window_rect(0, 0, pixels, 960).await.unwrap();
    }

    /// A screenshot of the whole page, for which the window is made high enough.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        let frame = self.run("return outerHeight - innerHeight").await.as_u64().unwrap();
        let page = self.run("return document.documentElement.offsetHeight").await.as_u64().unwrap();
        let height = u32::try_from(frame + page).unwrap();
        let width = u32::try_from(self.run("return outerWidth").await.as_u64().unwrap()).unwrap();
        self.driver.set_window_rect(0, 0, width, height).await.unwrap();
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
        // After a failed test: the driver ends its Chromium with the session, but not when the driver itself is killed.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.end_session();
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Browser {
    /// Ends the session without a runtime, since there may be none any more.
    fn end_session(&self) -> std::io::Result<()> {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "DELETE /session/{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            self.driver.session_id()
        )?;
        // It answers when Chromium has ended, and keeps the connection open.
        stream.read(&mut [0; 512]).map(|_| ())
    }
}

/// Starts the driver on a port of its choice, which it prints when it is ready.
fn spawn(driver: &str) -> (Child, u16) {
    let mut child = Command::new(driver).arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let out = child.stdout.take().unwrap();
    let (told, port) = channel();
    std::thread::spawn(move || {
        // It is read to the end, so that the driver never blocks on its output.
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if let Some((_, port)) = line.split_once("successfully on port ") {
                let _ = told.send(port.trim_end_matches('.').parse());
            }
        }
    });
    let port = port.recv_timeout(PATIENCE).expect("chromedriver prints its port").unwrap();
    (child, port)
}

/// The requests of `WebDriver` itself, on plain hyper.
struct Http;

impl HttpClient for Http {
    fn send<'a, 'b, 'out>(
        &'a self,
        request: Request<Body<'b>>,
    ) -> Pin<Box<dyn Future<Output = WebDriverResult<Response<Bytes>>> + Send + 'out>>
    where
        'a: 'out,
        'b: 'out,
        Self: 'out,
    {
        Box::pin(async move { send(request).await.map_err(|error| WebDriverError::HttpError(error.to_string())) })
    }

    fn new<'a, 'out>(&'a self) -> Pin<Box<dyn Future<Output = Arc<dyn HttpClient>> + Send + 'out>>
    where
        'a: 'out,
        Self: 'out,
    {
        Box::pin(async { Arc::new(Self) as Arc<dyn HttpClient> })
    }
}

async fn send(request: Request<Body<'_>>) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().ok_or("no host")?.clone();
    head.uri = head.uri.path_and_query().ok_or("no path")?.as_str().parse()?;
    head.headers.insert("host", authority.as_str().parse()?);
    let body = match body {
        Body::Empty => Bytes::new(),
        Body::Json(json) => Bytes::from(json.to_string()),
    };
    let stream = TcpStream::connect(authority.as_str()).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (head, body) = sender.send_request(Request::from_parts(head, Full::new(body))).await?.into_parts();
    Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
}
