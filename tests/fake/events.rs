//! Events: one made by hand, and a seeded generator of many that look like a real project's: a mix of names, about 1.2 kB
//! of nested properties, ties, late and future ones, and properties that are hard on readers.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::sql::value::{Value, uuid_from_text};
use super::sql::zone::{DAY_MICROS, HOUR_MICROS, Zone};

/// One event. Times are microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) uuid: u128,
    pub(crate) event: String,
    pub(crate) distinct_id: String,
    pub(crate) timestamp: i64,
    pub(crate) created_at: i64,
    pub(crate) person_id: u128,
    /// JSON text, as stored.
    pub(crate) properties: String,
    pub(crate) person_properties: String,
    pub(crate) elements_chain: String,
    pub(crate) session_id: String,
    pub(crate) groups: [String; 5],
    pub(crate) person_mode: &'static str,
}

impl Event {
    /// A small event of its own uuid, ingested two seconds after it happened. `number` tells events apart.
    pub(crate) fn new(number: u64, event: &str, timestamp: i64) -> Event {
        Event {
            uuid: u128::from(mix(number)) << 64 | u128::from(mix(number ^ 0xffff_0000)),
            event: event.to_owned(),
            distinct_id: format!("user_{}", number % 7),
            timestamp,
            created_at: timestamp + 2_000_000,
            person_id: u128::from(mix(number % 7)),
            properties: json!({"number": number, "plan": "pro"}).to_string(),
            person_properties: "{}".to_owned(),
            elements_chain: String::new(),
            session_id: String::new(),
            groups: Default::default(),
            person_mode: "full",
        }
    }

    pub(crate) fn by(self, distinct_id: &str) -> Event {
        Event { distinct_id: distinct_id.to_owned(), ..self }
    }

    pub(crate) fn created(self, created_at: i64) -> Event {
        Event { created_at, ..self }
    }

    pub(crate) fn properties(self, properties: &Json) -> Event {
        Event { properties: properties.to_string(), ..self }
    }

    pub(crate) fn uuid(self, text: &str) -> Event {
        Event { uuid: uuid_from_text(text).unwrap(), ..self }
    }

    /// The value of a column of the table `events`.
    pub(crate) fn cell(&self, column: &str) -> Value {
        match column {
            "uuid" => Value::Uuid(self.uuid),
            "event" => Value::text(&self.event),
            "distinct_id" => Value::text(&self.distinct_id),
            "timestamp" => Value::Time(self.timestamp),
            "created_at" => Value::Time(self.created_at),
            "person_id" | "event_person_id" => Value::Uuid(self.person_id),
            "properties" => Value::text(&self.properties),
            "poe.properties" => Value::text(&self.person_properties),
            "elements_chain" => Value::text(&self.elements_chain),
            "$session_id" | "$window_id" => Value::text(&self.session_id),
            "person_mode" => Value::text(self.person_mode),
            group => Value::text(&self.groups[group.as_bytes()[group.len() - 1] as usize - b'0' as usize]),
        }
    }
}

/// A number whose bits are all over the place, from one whose are not.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Seeded choices.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(mix(seed))
    }

    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % sides
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len() as u64) as usize]
    }
}

const NAMES: &[(u64, &str)] = &[
    (35, "$pageview"),
    (60, "$autocapture"),
    (74, "$pageleave"),
    (77, "$identify"),
    (80, "$set"),
    (85, "$feature_flag_called"),
    (89, "purchase"),
    (91, "signed up"),
    (94, "video_played"),
    (96, "search performed"),
    (98, "api_call"),
    (99, "Purchase"),
    (100, "naïve événement 🎉"),
];

/// `count` events with timestamps in the `days` before `until`, in the order in which they were ingested. One in 200 came
/// up to three days late, one in 500 is stamped some hours ahead, one in 50 shares its instant with the one before it.
pub(crate) fn realistic(seed: u64, count: usize, until: i64, days: i64) -> Vec<Event> {
    let mut dice = Dice::new(seed);
    let mut events: Vec<Event> = Vec::with_capacity(count);
    for number in 0..count as u64 {
        let ago = dice.roll((days * DAY_MICROS) as u64) as i64;
        let unit = [1_000, 1_000, 1, 1_000_000][dice.roll(4) as usize];
        let tie = dice.roll(50) == 0;
        let timestamp = match events.last() {
            Some(before) if tie => before.timestamp,
            _ => (until - 1 - ago) / unit * unit,
        };
        events.push(one(&mut dice, seed << 32 | number, timestamp, until));
    }
    events.sort_by_key(|event| event.created_at);
    events
}

fn one(dice: &mut Dice, number: u64, timestamp: i64, until: i64) -> Event {
    let share = dice.roll(100);
    let name = NAMES.iter().find(|(below, _)| share < *below).unwrap().1;
    // A few users do most of what is done.
    let user = dice.roll(1 + dice.clone().roll(400));
    let late = if dice.roll(200) == 0 { dice.roll(3 * DAY_MICROS as u64) } else { 200_000 + dice.roll(4_000_000) };
    let created_at = (timestamp + late as i64).min(until - 1);
    let timestamp = if dice.roll(500) == 0 { timestamp + HOUR_MICROS } else { timestamp };
    let mut event = Event::new(number, name, timestamp).created(created_at.max(timestamp - HOUR_MICROS));
    if user.is_multiple_of(5) {
        event.distinct_id = super::sql::value::uuid_text(u128::from(mix(user)) << 64 | u128::from(mix(user + 1)));
    } else {
        event.distinct_id = format!("user_{user}");
    }
    event.person_id = u128::from(mix(user)) << 64 | 0x8000_0000_0000_0000 | u128::from(user);
    event.session_id = format!("019fbc56-4c00-7{:03x}-8a5e-{:012x}", user % 4096, mix(user) >> 16);
    if user.is_multiple_of(3) {
        event.groups[0] = format!("org_{}", user % 97);
    }
    event.properties = properties(dice, &event, user);
    let plan = ["free", "pro", "enterprise"][user as usize % 3];
    let name_of_user = ["Ana", "Bjørn", "陳大文", "Dana 😀", "O'Neil"][user as usize % 5];
    event.person_properties = json!({"email": format!("user{user}@example.com"), "name": name_of_user, "plan": plan,
        "age": 18 + user % 60, "vip": user.is_multiple_of(7)})
    .to_string();
    if name == "$autocapture" {
        event.elements_chain =
            format!("a.btn:attr_id=\"cta-{}\"href=\"/pricing\"text=\"Read \\\"docs\\\"\";", user % 30);
    }
    if user.is_multiple_of(10) {
        event.person_mode = "propertyless";
    }
    event
}

fn properties(dice: &mut Dice, event: &Event, user: u64) -> String {
    let mut out = Map::new();
    let path = dice.pick(&[
        "/",
        "/pricing",
        "/docs/api",
        "/blog/日本語-ガイド",
        "/app/dashboard",
        "/checkout?step=2&ref=a%20b",
    ]);
    let title = dice.pick(&["Home", "Prix & tarifs — été", "Checkout 🛒", "A \"quoted\" title", "tab\tand\nnewline"]);
    let lib = dice.pick(&["web", "web", "posthog-python", "posthog-ios"]);
    let city = dice.pick(&["San Francisco", "München", "São Paulo", "東京", "Lagos"]);
    let mut put = |name: &str, value: Json| out.insert(name.to_owned(), value);
    put("$os", dice.pick(&["Mac OS X", "Windows", "iOS", "Android", "Linux"]).into());
    put("$browser", dice.pick(&["Chrome", "Safari", "Firefox", "Microsoft Edge", "Mobile Safari"]).into());
    put("$browser_version", (90 + dice.roll(60)).into());
    put("$current_url", format!("https://app.example.com{path}").into());
    put("$host", "app.example.com".into());
    put("$pathname", path.into());
    put("title", title.into());
    put("$screen_height", (768 + dice.roll(1400)).into());
    put("$screen_width", (1366 + dice.roll(2400)).into());
    put("$viewport_height", (500 + dice.roll(900)).into());
    put("$viewport_width", (320 + dice.roll(2400)).into());
    put("$lib", lib.into());
    put("$lib_version", format!("1.{}.{}", dice.roll(300), dice.roll(10)).into());
    put("$insert_id", format!("{:016x}", dice.roll(u64::MAX)).into());
    put("$time", (event.timestamp as f64 / 1e6).into());
    put("distinct_id", event.distinct_id.as_str().into());
    put("$device_id", format!("0190aaaa-0000-7{:03x}-9a5e-28a33636b30b", user % 4096).into());
    put("$session_id", event.session_id.as_str().into());
    put("$referrer", dice.pick(&["$direct", "https://www.google.com/", "https://t.co/a"]).into());
    put("$is_identified", user.is_multiple_of(2).into());
    put("$geoip_country_code", dice.pick(&["US", "DE", "IN", "BR", "JP"]).into());
    put("$geoip_city_name", if dice.roll(9) == 0 { Json::Null } else { city.into() });
    put("$geoip_latitude", (dice.roll(180_000) as f64 / 1000.0 - 90.0).into());
    put("$feature/new-checkout", dice.pick(&["control", "test", "true"]).into());
    put("$active_feature_flags", json!(["new-checkout", "beta-ui"]));
    put("$sent_at", Zone::Utc.rfc3339(event.timestamp / 1_000_000 * 1_000_000).into());
    if !event.event.starts_with('$') {
        put("plan", dice.pick(&["free", "pro"]).into());
        put("Plan", "Capital P".into());
        put("is_trial", [json!(true), json!(false), Json::Null, json!("true")][dice.roll(4) as usize].clone());
        put("nested", json!({"a": {"b": [1, 2, {"c": null, "ü": "ö"}], "empty": {}}, "arr": []}));
    }
    if event.event.eq_ignore_ascii_case("purchase") {
        put("price", (dice.roll(100_000) as f64 / 100.0).into());
        put("quantity", (1 + dice.roll(9)).into());
        put("currency", "USD".into());
        put("items", json!([{"sku": format!("A-{}", dice.roll(1000)), "tags": ["x", null, 1.5]}, {"sku": "B"}]));
    }
    let text = Json::Object(out).to_string();
    nasty(dice, text)
}

/// Members that are hard on readers, as text since some of them no JSON writer of ours would print.
fn nasty(dice: &mut Dice, mut text: String) -> String {
    const MEMBERS: &[&str] = &[
        r#""my prop":"with space""#,
        r#""dotted.name":1"#,
        r#""quo\"te":"q""#,
        r#""it's":"apostrophe""#,
        r#""back\\slash":"b""#,
        r#""emoji🎉":"🎉""#,
        r#""":"empty name""#,
        r#""percent%":5"#,
        r#""big":9007199254740993"#,
        r#""big":18446744073709551615"#,
        r#""big":123456789012345678901234567890"#,
        r#""big":1e308"#,
        r#""big":-0.0"#,
        r#""mixed":"one""#,
        r#""mixed":[1,"a",null]"#,
        r#""mixed":{"k":{"k2":[]}}"#,
        r#""mixed":1.50"#,
        r#""price":"12.50""#,
        r#""ctrl":"\u0001\u001f \u2028 end""#,
        r#""uuid":"clashes with a core column""#,
        r#""PLAN":3"#,
    ];
    if dice.roll(4) == 0 {
        text.pop();
        let _ = write!(text, ",{}}}", MEMBERS[dice.roll(MEMBERS.len() as u64) as usize]);
    }
    text
}

/// An event from the JSON form that posthog-box ingests.
pub(crate) fn from_json(row: &Json) -> Event {
    let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let time = |name: &str| super::micros(&text(name));
    Event {
        distinct_id: text("distinct_id"),
        person_id: uuid_from_text(&text("person_id")).unwrap(),
        properties: text("properties"),
        ..Event::new(0, &text("event"), time("timestamp")).uuid(&text("uuid")).created(time("created_at"))
    }
}
