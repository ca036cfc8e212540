//! The script in Rust answers as the script on a server does.

use redis::Script;
use serde_json::{Value, json};
use upwarden::testing::store::{RATE_LIMIT_KEYS, RATE_LIMIT_SCRIPT, RateReply};

use super::script::Server;
use crate::pacing::cluster::TURNED_CLOCK;
use crate::stores::world::{Server as Redis, Transport, within};

/// The same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }
}

/// A request of one of two replicas, which is known by its number.
fn request(random: &mut Random, number: u64) -> Value {
    let before = |random: &mut Random| number.saturating_sub(random.below(6)).max(1);
    let counted: Vec<Value> =
        (0..random.below(3)).map(|_| json!([before(random), random.one_of(&[-500, 0, 700, 2_000])])).collect();
    let cancelled: Vec<u64> = (0..random.below(4) / 3).map(|_| before(random)).collect();
    let mut ask = json!({
        "replica": random.one_of(&["a", "b"]),
        "per_second": 2, "per_minute": 6, "per_day": 700,
        "second": 1_020, "minute": 60_100, "slack": 500,
        "patience": random.one_of(&[4_000, 300_000]),
        "view": random.below(3) == 0,
        "counted": counted, "cancelled": cancelled,
    });
    if random.below(3) > 0 {
        ask["call"] = json!(number);
    }
    ask
}

#[tokio::test]
async fn the_model_of_the_script_answers_as_the_script_does() {
    let Some(redis) = Redis::start(Transport::Socket) else { return };
    let (script, mut connection) = (Script::new(&format!("{TURNED_CLOCK}{RATE_LIMIT_SCRIPT}")), redis.admin().await);
    let (mut model, mut random, mut now) = (Server::default(), Random(1), 1_795_521_600_000);
    for number in 1..2_000 {
        now += random.one_of(&[0, 10, 500, 1_020, 30_050]);
        let ask = request(&mut random, number);
        let mut run = script.key(&RATE_LIMIT_KEYS);
        run.arg(ask.to_string()).arg(now);
        let text: String = within(run.invoke_async(&mut connection)).await.unwrap();
        let theirs: RateReply = serde_json::from_str(&text).unwrap();
        let ours: RateReply = serde_json::from_value(model.run(&ask, now)).unwrap();
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{number}: {ask}");
    }
}
