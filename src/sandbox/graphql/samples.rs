//! What the sandbox's accounts have at Upwork: job postings, proposals, contracts and rooms, the same for each of them.
//!
//! The fields are those that public clients of the API ask for (docs/upwork.md "Fields").

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

static SAMPLES: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("samples.json")).expect("the samples are part of the program"));

type Arguments = Map<String, Value>;

fn samples(name: &str) -> impl Iterator<Item = &'static Value> {
    SAMPLES.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn money(raw: &str) -> Value {
    json!({
        "rawValue": raw, "currency": "USD", "displayValue": format!("${raw}"), "amount": raw.parse::<f64>().ok(),
    })
}

/// A page of a list, by the cursor and the count of a `Pagination`.
fn connection(nodes: Vec<Value>, pagination: Option<&Value>) -> Value {
    let number =
        |name: &str| pagination?.get(name).and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok()));
    let bounded =
        |name: &str, default: usize| number(name).map_or(default, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let (total, after) = (nodes.len(), bounded("after", 0));
    let end = after.saturating_add(bounded("first", usize::MAX)).min(total);
    let edges: Vec<_> = (1..=total)
        .zip(nodes)
        .filter(|(cursor, _)| *cursor > after && *cursor <= end)
        .map(|(cursor, node)| json!({"cursor": cursor.to_string(), "node": node}))
        .collect();
    let page = json!({"hasNextPage": end < total, "endCursor": end.to_string()});
    json!({"totalCount": total, "edges": edges, "pageInfo": page})
}

fn posting(sample: &Value) -> Value {
    let (title, description) = (text(sample, "title"), text(sample, "description"));
    json!({
        "id": text(sample, "id"), "title": title, "description": description,
        "content": {"title": title, "description": description},
        "budget": money(text(sample, "amount")), "createdDateTime": text(sample, "createdDateTime"),
    })
}

/// The older list of postings.
pub(super) fn postings(first: Option<u64>) -> Value {
    connection(samples("postings").map(posting).collect(), first.map(|first| json!({ "first": first })).as_ref())
}

fn search_result(sample: &Value) -> Value {
    let mut result = sample.clone();
    let created = text(sample, "createdDateTime");
    let skills = sample.get("skills").and_then(Value::as_array).into_iter().flatten();
    let skills: Vec<_> = skills.map(|name| json!({"name": name, "prettyName": name})).collect();
    let client = json!({
        "totalHires": sample.get("totalHires"), "totalPostedJobs": sample.get("totalPostedJobs"),
        "totalSpent": money(text(sample, "totalSpent")), "totalReviews": sample.get("totalReviews"),
        "totalFeedback": sample.get("totalFeedback"), "verificationStatus": "VERIFIED",
        "location": {"country": text(sample, "country"), "city": text(sample, "city")},
    });
    let more = json!({
        "amount": money(text(sample, "amount")), "publishedDateTime": created, "skills": skills, "client": client,
        "applied": false, "freelancersToHire": 1, "job": posting(sample),
    });
    if let (Some(result), Value::Object(more)) = (result.as_object_mut(), more) {
        result.extend(more);
    }
    result
}

/// `marketplaceJobPostingsSearch`: an expression is found as it stands, in any case of its letters.
pub(super) fn search(arguments: &Arguments) -> Value {
    let filter = arguments.get("marketPlaceJobFilter");
    let wanted = |name: &str| filter.and_then(|filter| filter.get(name)).and_then(Value::as_str).map(str::to_lowercase);
    let (anywhere, title) = (wanted("searchExpression_eq"), wanted("titleExpression_eq"));
    let has = |sample: &Value, fields: &[&str], wanted: &Option<String>| {
        let found = |wanted: &String| fields.iter().any(|field| text(sample, field).to_lowercase().contains(wanted));
        wanted.as_ref().is_none_or(found)
    };
    let found = samples("postings")
        .filter(|sample| has(sample, &["title", "description"], &anywhere) && has(sample, &["title"], &title));
    connection(found.map(search_result).collect(), filter.and_then(|filter| filter.get("pagination_eq")))
}

/// `vendorProposals`, of this user and organization.
pub(super) fn proposals(arguments: &Arguments, user: &Value, organization: &Value) -> Value {
    let status = arguments.get("filter").and_then(|filter| filter.get("status_eq")).and_then(Value::as_str);
    let found = samples("proposals").filter(|sample| status.is_none_or(|status| status == text(sample, "status")));
    let proposal = |sample: &Value| {
        let wanted = text(sample, "posting");
        let posting = samples("postings").find(|posting| text(posting, "id") == wanted).map(posting);
        json!({
            "id": text(sample, "id"), "user": user, "organization": organization, "marketplaceJobPosting": posting,
            "proposalCoverLetter": text(sample, "proposalCoverLetter"), "status": {"status": text(sample, "status")},
            "terms": {"chargeRate": money(text(sample, "rate")), "estimatedDuration": {"label": text(sample, "duration")}},
        })
    };
    connection(found.map(proposal).collect(), arguments.get("pagination"))
}

/// `contractList`: those with these ids, or all.
pub(super) fn contracts(arguments: &Arguments, client: &Value) -> Value {
    let ids = arguments.get("ids").and_then(Value::as_array);
    let found = samples("contracts").filter(|sample| {
        ids.is_none_or(|ids| {
            ids.iter().any(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned) == text(sample, "id"))
        })
    });
    let contract = |sample: &Value| {
        let mut contract = sample.clone();
        if let Some(fields) = contract.as_object_mut() {
            fields.insert("clientOrganization".to_owned(), client.clone());
        }
        contract
    };
    json!({"contracts": found.map(contract).collect::<Vec<_>>()})
}

pub(super) fn rooms(arguments: &Arguments, user: &Value) -> Value {
    let room = |sample: &Value| {
        let (mut room, mut story) = (sample.clone(), sample.get("story").cloned().unwrap_or_default());
        if let (Some(room), Some(fields)) = (room.as_object_mut(), story.as_object_mut()) {
            fields.insert("user".to_owned(), user.clone());
            room.insert("latestStory".to_owned(), story);
        }
        room
    };
    connection(samples("rooms").map(room).collect(), arguments.get("pagination"))
}
