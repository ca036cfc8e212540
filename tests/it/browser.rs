//! The main job in Chromium: what a person sees, and what their browser may hold.

use super::harness::{App, Browser, FREELANCER, World};

#[tokio::test]
async fn the_app_opens_after_consent_at_the_page_first_asked_for() {
    let Some(browser) = Browser::start().await else { return };
    let world = World::new().app(App::sample()).tapped().start();
    browser.open(&world.url("/deep/page?tab=2&q=a%20b")).await;
    browser.consent(FREELANCER, "accept").await;
    assert_eq!(browser.text("#user").await, "Foo Bar");
    assert_eq!(browser.url().await, world.url("/deep/page?tab=2&q=a%20b"));
    browser.text_where("#graphql", |text| text.contains("foofreelancer")).await;
    browser.quit().await;
}
