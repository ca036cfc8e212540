//! The main job at the public door, with a client that hides nothing.

use super::harness::{FREELANCER, World};

#[tokio::test]
async fn a_sign_in_leads_back_and_the_app_learns_who_it_is() {
    let world = World::new().start();
    let client = world.client();
    let answer = world.sign_in_with(&client, FREELANCER, "/deep/page?tab=2").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/deep/page?tab=2"));
    assert_eq!(client.navigate("/deep/page?tab=2").await.text(), "GET /deep/page?tab=2\n");
    assert_eq!(world.app.last().header("x-upwork-user-id"), FREELANCER);
}
