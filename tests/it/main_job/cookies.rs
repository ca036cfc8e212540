//! The session's cookies: attributes, chunks, bounds.

use upwarden::sandbox;

use crate::harness::{App, FREELANCER, World};

fn long_tokens(token_chars: usize) -> sandbox::Config {
    sandbox::Config { token_chars, ..sandbox::Config::default() }
}

#[tokio::test]
async fn cookies_have_their_attributes() {
    let world = World::new().start();
    let client = world.client();
    let login = client.navigate("/x").await.set_cookies();
    let [login] = login.as_slice() else { unreachable!("one login cookie: {login:?}") };
    assert!(login.starts_with("upwarden-login-") && login.ends_with("; HttpOnly; SameSite=Lax; Path=/; Max-Age=600"));
    let lines = world.sign_in_with(&client, FREELANCER, "/x").await.set_cookies();
    let session = lines.iter().find(|line| line.starts_with("upwarden=")).unwrap();
    assert!(session.ends_with("; HttpOnly; SameSite=Lax; Path=/; Max-Age=1209600"), "{session}");
    assert!(lines.iter().all(|line| !line.contains("Domain")), "{lines:?}");
}

#[tokio::test]
async fn on_https_the_cookies_are_secure_and_bound_to_the_host() {
    let world = World::new().set("public_url", "https://tools.example.com").start();
    let client = world.client().named("tools.example.com");
    let answer = client.navigate("/x").await;
    let [login] = &answer.set_cookies()[..] else { unreachable!("{answer:?}") };
    assert!(login.starts_with("__Host-upwarden-login-"), "{login}");
    assert!(login.contains("; HttpOnly; SameSite=Lax; Secure; Path=/;"), "{login}");
    let asked = url::Url::parse(&answer.location()).unwrap();
    let redirect = asked.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.into_owned();
    assert_eq!(redirect, "https://tools.example.com/upwork/auth/callback");
}

#[tokio::test]
async fn a_large_session_is_split_and_signing_out_clears_every_chunk() {
    for (chars, chunks) in [(32, 1), (4000, 3), (6500, 5)] {
        let world = World::new().upwork(long_tokens(chars)).start();
        let client = world.client();
        let lines = world.sign_in_with(&client, FREELANCER, "/x").await.set_cookies();
        let set: Vec<&String> = lines.iter().filter(|line| !line.starts_with("upwarden-login")).collect();
        assert_eq!(set.len(), chunks, "{chars}");
        for line in &set {
            let pair = line.split(';').next().unwrap();
            assert!(pair.len() <= 4096, "{} bytes", pair.len());
        }
        assert_eq!(client.cookies().len(), chunks);
        assert_eq!(client.get("/x").await.status, 200);
        assert_eq!(client.graphql("{ user { id } }").await.json()["data"]["user"]["id"], FREELANCER);
        assert_eq!(world.app.last().header("cookie"), "", "no chunk is forwarded");
        let out = client.post("/upwork/auth/logout", "").await;
        assert_eq!((out.status.as_u16(), out.set_cookies().len()), (303, chunks));
        assert!(client.cookies().is_empty());
    }
}

#[tokio::test]
async fn a_session_that_fits_no_cookie_is_a_page_and_not_a_loop() {
    let world = World::new().upwork(long_tokens(9000)).start();
    let client = world.client();
    let answer = world.sign_in_with(&client, FREELANCER, "/x").await;
    assert_eq!(answer.status, 500);
    assert!(answer.page().len() > 5 && answer.text().contains("cookie"), "{}", answer.text());
    assert!(client.cookies().is_empty());
}

#[tokio::test]
async fn chunks_of_an_earlier_session_are_cleared() {
    let world = World::new().start();
    let client = world.client();
    for chunk in ["upwarden-1", "upwarden-4"] {
        client.plant(chunk, "left");
    }
    let back = world.callback(&client, "/x").await;
    let lines = client.navigate(&back).await.set_cookies();
    for chunk in ["upwarden-1", "upwarden-4"] {
        let line = lines.iter().find(|line| line.starts_with(&format!("{chunk}="))).unwrap();
        assert_eq!(*line, format!("{chunk}=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0"));
    }
    assert_eq!(client.cookies(), ["upwarden"]);
}

#[tokio::test]
async fn pending_sign_ins_are_bounded() {
    let world = World::new().start();
    let client = world.client();
    for visit in 0..30 {
        assert_eq!(client.navigate(&format!("/page/{visit}")).await.status, 303);
    }
    let count = client.cookies().len();
    assert!((1..=8).contains(&count), "{count} cookies");
    let field: usize = client.cookies().iter().map(|name| name.len() + client.cookie(name).len()).sum();
    assert!(field < 8 << 10, "{field} bytes");
    // At least the last one finishes.
    let back = world.callback(&client, "/last").await;
    assert_eq!(client.navigate(&back).await.location(), "/last");
}

#[tokio::test]
async fn every_cookie_of_the_name_is_tried() {
    let world = World::new().start();
    let signed_in = world.sign_in(FREELANCER).await;
    let good = signed_in.cookie("upwarden");
    let client = world.client();
    for field in [
        format!("upwarden=planted; upwarden={good}"),
        format!("upwarden={good}; upwarden=planted"),
        format!("theme=dark; upwarden=3.x; upwarden={good}; a=b"),
    ] {
        let answer = client.get("/x").header("cookie", &field).await;
        assert_eq!(answer.status, 200, "{field}");
    }
    client.get("/x").header("cookie", &format!("theme=dark; upwarden={good}; upwarden-login-3=x; a=b")).await;
    assert_eq!(world.app.last().header("cookie"), "theme=dark; a=b", "the app's own cookies go on, ours do not");
}

#[tokio::test]
async fn every_fault_of_a_cookie_is_the_same_missing_session() {
    let world = World::new().start();
    let signed_in = world.sign_in(FREELANCER).await;
    let good = signed_in.cookie("upwarden");
    let half_done = world.client();
    half_done.navigate("/x").await;
    let login = half_done.cookie(&half_done.cookies()[0]);
    let mut attacks =
        vec![String::new(), "x".to_owned(), login, format!("{good}x"), format!("1.{good}"), good.repeat(2)];
    for place in [0, good.len() / 2, good.len() - 1] {
        let mut bent = good.clone().into_bytes();
        bent[place] = if bent[place] == b'A' { b'B' } else { b'A' };
        attacks.push(String::from_utf8(bent).unwrap());
    }
    attacks.push(good[..good.len() - 4].to_owned());
    for attack in attacks {
        let answer = world.client().get("/x").header("cookie", &format!("upwarden={attack}")).await;
        assert_eq!(answer.problem(), "sign-in-required", "{attack}");
    }
}

#[tokio::test]
async fn an_app_cannot_set_our_cookie() {
    let app = App::new(|_| async {
        http::Response::builder()
            .header("set-cookie", "upwarden=mine; Path=/")
            .header("set-cookie", "theme=dark")
            .header("set-cookie", "upwarden-2=mine")
            .body(upwarden::testing::body::Body::empty())
            .expect("an answer")
    });
    let world = World::new().app(app).start();
    let client = world.sign_in(FREELANCER).await;
    assert_eq!(client.get("/").await.set_cookies(), ["theme=dark"]);
}
