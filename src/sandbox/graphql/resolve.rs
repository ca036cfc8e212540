//! Execution: the asked fields taken out of what there is. Only for operations that passed the check.

use async_graphql_parser::types::{ExecutableDocument, Field, OperationDefinition, Selection, SelectionSet};
use serde_json::{Map, Value, json};

use super::schema::{self, Type};
use super::{Variables, values};
use crate::sandbox::accounts::{Account, Organization};

/// The world as the token's holder sees it.
pub(in crate::sandbox) struct World<'a> {
    pub(in crate::sandbox) account: &'static Account,
    /// The tenant's organization; `None` where the tenant is not the account's.
    pub(in crate::sandbox) organization: Option<&'static Organization>,
    pub(in crate::sandbox) missing_scopes: &'a [String],
    pub(in crate::sandbox) notes: &'a mut Vec<String>,
    /// Counts the mutations carried out.
    pub(in crate::sandbox) mutations: &'a mut u64,
}

/// The value of `data`.
pub(super) fn resolve(
    document: &ExecutableDocument,
    operation: &OperationDefinition,
    root: &'static str,
    variables: &Variables,
    world: &mut World,
) -> Value {
    let mut data = Map::new();
    if let Some(root) = schema::object(root) {
        let mut execution = Execution { document, variables, world };
        execution.project(&operation.selection_set.node, root, &Value::Null, &mut data);
    }
    Value::Object(data)
}

struct Execution<'d, 'w, 'n> {
    document: &'d ExecutableDocument,
    variables: &'d Variables,
    world: &'w mut World<'n>,
}

impl Execution<'_, '_, '_> {
    fn project(&mut self, set: &SelectionSet, on: &'static Type, value: &Value, out: &mut Map<String, Value>) {
        for item in &set.items {
            if !values::included(item.node.directives(), self.variables) {
                continue;
            }
            match &item.node {
                Selection::Field(field) => {
                    let found = self.field(&field.node, on, value);
                    let key = field.node.response_key().node.as_str();
                    match out.get_mut(key) {
                        Some(before) => merge(before, found),
                        None => {
                            out.insert(key.to_owned(), found);
                        }
                    }
                }
                Selection::InlineFragment(fragment) => {
                    self.project(&fragment.node.selection_set.node, on, value, out);
                }
                Selection::FragmentSpread(spread) => {
                    let document = self.document;
                    if let Some(fragment) = document.fragments.get(spread.node.fragment_name.node.as_str()) {
                        self.project(&fragment.node.selection_set.node, on, value, out);
                    }
                }
            }
        }
    }

    fn field(&mut self, field: &Field, on: &'static Type, value: &Value) -> Value {
        let name = field.name.node.as_str();
        if name == "__typename" {
            return Value::from(on.name);
        }
        let whole = match on.name {
            "Query" => self.query(field, name),
            "Mutation" => self.create_note(field),
            _ => value.get(name).cloned().unwrap_or(Value::Null),
        };
        match on.field(name).and_then(|known| schema::object(known.kind)) {
            None => whole,
            Some(object) => self.complete(&field.selection_set.node, object, &whole),
        }
    }

    fn complete(&mut self, set: &SelectionSet, object: &'static Type, whole: &Value) -> Value {
        match whole {
            Value::Null => Value::Null,
            Value::Array(list) => list.iter().map(|one| self.complete(set, object, one)).collect(),
            Value::Object(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                let mut part = Map::new();
                self.project(set, object, whole, &mut part);
                Value::Object(part)
            }
        }
    }

    fn query(&self, field: &Field, name: &str) -> Value {
        match name {
            "user" => user(self.world.account),
            "organization" => self.world.organization.map_or(Value::Null, organization),
            "companySelector" => {
                json!({"items": self.world.account.organizations.iter().map(|one| company(one)).collect::<Vec<_>>()})
            }
            "marketplaceJobPostings" => {
                let first = values::argument(field, "first", self.variables).ok().flatten();
                job_postings(first.and_then(|first| first.as_u64()))
            }
            "proposalNotes" => (1..).zip(self.world.notes.iter()).map(|(id, text)| note(id, text)).collect(),
            _ => Value::Null,
        }
    }

    fn create_note(&mut self, field: &Field) -> Value {
        let input = values::argument(field, "input", self.variables).ok().flatten().unwrap_or_default();
        let text = input.get("text").and_then(Value::as_str).unwrap_or_default();
        self.world.notes.push(text.to_owned());
        *self.world.mutations += 1;
        note(self.world.notes.len(), text)
    }
}

/// Joins two answers to the same key (GraphQL, section 6.3.2: a field asked for twice is one field).
fn merge(before: &mut Value, more: Value) {
    match (before, more) {
        (Value::Object(before), Value::Object(more)) => {
            for (key, value) in more {
                match before.get_mut(&key) {
                    Some(known) => merge(known, value),
                    None => {
                        before.insert(key, value);
                    }
                }
            }
        }
        (Value::Array(before), Value::Array(more)) => {
            before.iter_mut().zip(more).for_each(|(known, value)| merge(known, value));
        }
        // Scalars of one field are equal.
        (_, _) => {}
    }
}

fn user(account: &Account) -> Value {
    json!({
        "id": account.id, "nid": account.nid, "rid": account.rid,
        "name": account.name(), "email": account.email, "photoUrl": account.photo_url(),
    })
}

fn organization(organization: &Organization) -> Value {
    json!({
        "id": organization.id, "rid": organization.rid, "legacyId": organization.legacy_id,
        "name": organization.name, "type": organization.kind, "legacyType": organization.legacy_kind,
    })
}

fn company(organization: &Organization) -> Value {
    json!({
        "title": organization.name, "organizationId": organization.id, "organizationRid": organization.rid,
        "organizationType": organization.kind, "organizationLegacyType": organization.legacy_kind,
        "organizationEnterpriseType": organization.enterprise_kind, "typeTitle": organization.kind_title,
    })
}

fn note(id: usize, text: &str) -> Value {
    json!({"id": id.to_string(), "text": text})
}

/// Id, title, description, budget and day of each posting.
const POSTINGS: [(&str, &str, &str, f64, &str); 4] = [
    ("1900000000000000001", "Rust engineer for a small proxy", "Streams, headers and a lot of tests.", 4200.0, "23"),
    ("1900000000000000002", "Logo for a bakery", "Three drafts, warm colours, no croissants.", 150.0, "22"),
    ("1900000000000000003", "Translate a manual, Polish to English", "Forty pages about pumps.", 600.0, "20"),
    ("1900000000000000004", "Tidy up a spreadsheet", "It has grown for eleven years.", 90.5, "17"),
];

fn job_postings(first: Option<u64>) -> Value {
    let most = first.and_then(|first| usize::try_from(first).ok()).unwrap_or(usize::MAX);
    let edges: Vec<Value> = POSTINGS
        .iter()
        .take(most)
        .map(|(id, title, description, amount, day)| {
            json!({"node": {
                "id": id, "title": title, "description": description,
                "budget": {"amount": amount, "currency": "USD"},
                "createdDateTime": format!("2026-11-{day}T09:00:00Z"),
            }})
        })
        .collect();
    json!({"totalCount": POSTINGS.len(), "edges": edges})
}
