//! Execution: the answers to the collected fields, for one holder of a token.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::collect::CollectedField;
use super::{introspection, samples};
use crate::sandbox::accounts::{Account, Organization};
use crate::sandbox::state::State;

/// Whom a request acts for, and what it may read and change.
pub(in crate::sandbox) struct Context<'a> {
    pub(in crate::sandbox) account: &'static Account,
    /// The tenant's organization; `None` if the tenant is not one of the account's.
    pub(in crate::sandbox) organization: Option<&'static Organization>,
    pub(in crate::sandbox) state: &'a mut State,
}

impl Context<'_> {
    /// Why the whole query is refused: fields without a scope, or a tenant that is not one of the account's.
    pub(super) fn refusal(&self, asked: &BTreeSet<String>) -> Option<String> {
        let missing = &self.state.missing_scopes;
        let refused: Vec<&str> = asked.iter().filter(|field| missing.contains(field)).map(String::as_str).collect();
        if !refused.is_empty() {
            let refused = refused.join(", ");
            return Some(format!(
                "The client or authentication token doesn't have enough oauth2 permissions/scopes to access: [{refused}]."
            ));
        }
        // Inferred: Upwork's words for such a tenant are not known.
        let message = "403 Forbidden: the user is not a member of the organization in X-Upwork-API-TenantId";
        self.organization.is_none().then(|| message.to_owned())
    }

    /// The value of `data`. The fields of a mutation are carried out in order (GraphQL, section 6.2.2).
    pub(super) fn resolve(&mut self, root: &str, fields: &[CollectedField]) -> Value {
        let mut data = Map::new();
        for field in fields.iter().filter(|field| field.included) {
            let value = match field.name.as_str() {
                "__typename" => Value::from(root),
                "createProposalNote" => self.create_note(field),
                _ => self.query(field),
            };
            data.insert(field.key.clone(), complete(field, value));
        }
        Value::Object(data)
    }

    fn query(&self, field: &CollectedField) -> Value {
        match field.name.as_str() {
            "user" => user(self.account),
            "organization" => self.own_organization(),
            "companySelector" => json!({
                "items": self.account.organizations.iter().map(|one| company(one)).collect::<Vec<_>>(),
            }),
            "marketplaceJobPostings" => samples::postings(field.arguments.get("first").and_then(Value::as_u64)),
            "marketplaceJobPostingsSearch" => samples::search(&field.arguments),
            "vendorProposals" => samples::proposals(&field.arguments, &user(self.account), &self.own_organization()),
            "contractList" => samples::contracts(&field.arguments, &self.own_organization()),
            "roomList" => samples::rooms(&field.arguments, &user(self.account)),
            "__schema" => introspection::schema(),
            "__type" => introspection::find(field.arguments.get("name").and_then(Value::as_str).unwrap_or_default()),
            "proposalNotes" => (1..).zip(&self.state.notes).map(|(id, text)| note(id, text)).collect(),
            _ => Value::Null,
        }
    }

    fn own_organization(&self) -> Value {
        self.organization.map_or(Value::Null, organization)
    }

    fn create_note(&mut self, field: &CollectedField) -> Value {
        let input = field.arguments.get("input").and_then(|input| input.get("text"));
        let text = input.and_then(Value::as_str).unwrap_or_default();
        self.state.notes.push(text.to_owned());
        self.state.counters.graphql_mutations += 1;
        note(self.state.notes.len(), text)
    }
}

/// Of a value, what was selected.
fn complete(field: &CollectedField, value: Value) -> Value {
    match (field.object, value) {
        (Some(_), Value::Array(list)) => list.into_iter().map(|one| complete(field, one)).collect(),
        (Some("__Type"), value) if value.get("named").is_some() => complete(field, introspection::describe(value)),
        (Some(object), Value::Object(whole)) => {
            let selected = field.fields.iter().filter(|below| below.included).map(|below| {
                let value = match below.name.as_str() {
                    "__typename" => Value::from(object),
                    name => complete(below, whole.get(name).cloned().unwrap_or_default()),
                };
                (below.key.clone(), value)
            });
            Value::Object(selected.collect())
        }
        (_, value) => value,
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
