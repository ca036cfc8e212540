//! Sign-ins, and the answers on Upwork's consent page.

use http::Method;
use upwarden::testing::body::Body;

use super::world::Upwork;
use super::{Answer, Client, FREELANCER, World};

impl World {
    /// A browser in which this account has signed in.
    pub(crate) async fn sign_in(&self, account: &str) -> Client {
        let client = self.client();
        let answer = self.sign_in_with(&client, account, "/").await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/"), "{}", answer.text());
        client
    }

    /// Opens `target` and accepts at Upwork; the answer to the callback.
    pub(crate) async fn sign_in_with(&self, client: &Client, account: &str, target: &str) -> Answer {
        let asked = client.navigate(target).await;
        assert_eq!(asked.status, 303, "{}", asked.text());
        let back = self.upwork.consent(&asked.location(), account).await;
        client.navigate(&back).header("sec-fetch-site", "cross-site").await
    }

    /// Begins a sign-in and accepts at Upwork; the address of the callback, which is not opened yet.
    pub(crate) async fn callback(&self, client: &Client, target: &str) -> String {
        let asked = client.navigate(target).await;
        self.upwork.consent(&asked.location(), FREELANCER).await
    }
}

impl Upwork {
    /// Accepts on the consent page; the address that the browser is sent back to.
    pub(crate) async fn consent(&self, location: &str, account: &str) -> String {
        self.decide(location, &format!("account={account}&decision=accept")).await
    }

    /// Declines on the consent page.
    pub(crate) async fn decline(&self, location: &str) -> String {
        self.decide(location, "decision=decline").await
    }

    async fn decide(&self, location: &str, form: &str) -> String {
        assert!(location.starts_with(&format!("http://{}/", self.address)), "not Upwork: {location}");
        let call = Client::at(self.address).call(Method::POST, location);
        let form = Body::full(form.to_owned());
        let answer = call.header("content-type", "application/x-www-form-urlencoded").body(form).await;
        assert!(answer.status.is_redirection(), "{}", answer.text());
        answer.location()
    }
}
