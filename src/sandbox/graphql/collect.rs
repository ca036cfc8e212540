//! Validates an operation against the schema and collects its fields (GraphQL, section 6.3.2), in one walk.
//!
//! Returns the fields to answer, each response key once, and the name of each field asked for; or every problem found.
//! What passes can be resolved without error: no fragment cycles, and at most [`MAX_FIELDS`] fields.

use std::collections::BTreeSet;

use async_graphql_parser::types::{
    Directive, ExecutableDocument, Field, FieldDefinition, FragmentSpread, OperationDefinition, Selection, SelectionSet,
};
use async_graphql_parser::{Pos, Positioned};
use serde_json::{Map, Value};

use super::error::ValidationError;
use super::schema;
use super::values::{self, Variables};

/// Fields visited in one operation; those of a fragment count each time it is spread.
const MAX_FIELDS: usize = 5_000;

/// Everything asked for under one response key.
pub(super) struct CollectedField {
    pub(super) key: String,
    pub(super) name: String,
    pub(super) arguments: Map<String, Value>,
    /// The object type of its value or of its list's members; `None` for a scalar.
    pub(super) object: Option<&'static str>,
    pub(super) fields: Vec<CollectedField>,
    /// Some selection of it is left in by `@skip` and `@include`.
    pub(super) included: bool,
}

#[derive(Default)]
pub(super) struct Collected {
    pub(super) fields: Vec<CollectedField>,
    /// As `Type.field`.
    pub(super) asked: BTreeSet<String>,
}

pub(super) fn collect(
    document: &ExecutableDocument,
    operation: &OperationDefinition,
    root: &'static str,
    variables: &Variables,
) -> Result<Collected, Vec<ValidationError>> {
    let mut collector = Collector {
        document,
        variables,
        asked: BTreeSet::new(),
        errors: Vec::new(),
        path: Vec::new(),
        open_fragments: Vec::new(),
        visited: 0,
    };
    let mut fields = Vec::new();
    collector.selection(&operation.selection_set.node, root, true, &mut fields);
    if collector.errors.is_empty() { Ok(Collected { fields, asked: collector.asked }) } else { Err(collector.errors) }
}

struct Collector<'a> {
    document: &'a ExecutableDocument,
    variables: &'a Variables,
    asked: BTreeSet<String>,
    errors: Vec<ValidationError>,
    path: Vec<&'a str>,
    open_fragments: Vec<&'a str>,
    visited: usize,
}

impl<'a> Collector<'a> {
    fn error(&mut self, at: Pos, kind: &str, what: &str) {
        let path = self.path.join("/");
        self.errors.push(ValidationError::new(format!("Validation error ({kind}@[{path}]) : {what}"), at));
    }

    fn selection(&mut self, set: &'a SelectionSet, on: &'static str, included: bool, fields: &mut Vec<CollectedField>) {
        for item in &set.items {
            let included = self.directives(item.node.directives()) && included;
            self.visited += 1;
            if self.visited > MAX_FIELDS {
                if self.visited == MAX_FIELDS + 1 {
                    self.error(item.pos, "MaxFields", "The query asks for too many fields");
                }
                return;
            }
            match &item.node {
                Selection::Field(field) => self.field(field, on, included, fields),
                Selection::FragmentSpread(spread) => self.spread(spread, on, included, fields),
                Selection::InlineFragment(fragment) => {
                    let condition =
                        fragment.node.type_condition.as_ref().map_or(on, |condition| &condition.node.on.node);
                    if self.fits(condition, on, fragment.pos) {
                        self.selection(&fragment.node.selection_set.node, on, included, fields);
                    }
                }
            }
        }
    }

    fn spread(
        &mut self,
        spread: &'a Positioned<FragmentSpread>,
        on: &'static str,
        included: bool,
        fields: &mut Vec<CollectedField>,
    ) {
        let name = spread.node.fragment_name.node.as_str();
        let Some(fragment) = self.document.fragments.get(name) else {
            return self.error(spread.pos, "UndefinedFragment", &format!("Undefined fragment '{name}'"));
        };
        if self.open_fragments.contains(&name) {
            return self.error(spread.pos, "FragmentCycle", &format!("Fragment cycles not allowed: '{name}'"));
        }
        self.directives(&fragment.node.directives);
        if self.fits(&fragment.node.type_condition.node.on.node, on, spread.pos) {
            self.open_fragments.push(name);
            self.selection(&fragment.node.selection_set.node, on, included, fields);
            self.open_fragments.pop();
        }
    }

    fn fits(&mut self, condition: &str, on: &str, at: Pos) -> bool {
        if condition == on {
            return true;
        }
        if schema::is_object(condition) {
            let what = format!("Type '{condition}' cannot be spread on '{on}'");
            self.error(at, "InvalidFragmentType", &what);
        } else {
            self.error(at, "UnknownType", &format!("Unknown type '{condition}'"));
        }
        false
    }

    fn field(
        &mut self,
        field: &'a Positioned<Field>,
        on: &'static str,
        included: bool,
        fields: &mut Vec<CollectedField>,
    ) {
        let (at, field) = (field.pos, &field.node);
        let (key, name) = (field.response_key().node.as_str(), field.name.node.as_str());
        self.path.push(key);
        let definition = schema::field(on, name);
        let object = definition.map(|known| schema::named(&known.ty.node)).filter(|name| schema::is_object(name));
        let arguments = definition.map(|known| self.arguments(field, known, at)).unwrap_or_default();
        if definition.is_some() {
            self.asked.insert(format!("{on}.{name}"));
        } else if name != "__typename" {
            self.error(at, "FieldUndefined", &format!("Field '{name}' in type '{on}' is undefined"));
        }
        let place = fields.iter().position(|known| known.key == key).unwrap_or(fields.len());
        if place == fields.len() {
            let (key, name) = (key.to_owned(), name.to_owned());
            fields.push(CollectedField { key, name, arguments, object, fields: Vec::new(), included });
        } else if let Some(known) = fields.get_mut(place) {
            known.included |= included;
            if known.name != name || known.arguments != arguments {
                self.error(at, "FieldsConflict", &format!("'{key}' is asked for as two different fields"));
            }
        }
        let below = &field.selection_set.node;
        match (object, below.items.is_empty(), fields.get_mut(place)) {
            (Some(object), false, Some(known)) => self.selection(below, object, included, &mut known.fields),
            (Some(object), true, _) => {
                let what = format!("Subselection required for type '{object}' of field '{name}'");
                self.error(at, "SubselectionRequired", &what);
            }
            (None, false, _) if definition.is_some() || name == "__typename" => {
                let what = format!("Subselection not allowed on leaf field '{name}'");
                self.error(at, "SubselectionNotAllowed", &what);
            }
            (_, _, _) => {}
        }
        self.path.pop();
    }

    fn arguments(&mut self, field: &Field, definition: &FieldDefinition, at: Pos) -> Map<String, Value> {
        for (name, _) in &field.arguments {
            if !definition.arguments.iter().any(|known| known.node.name.node == name.node) {
                self.error(name.pos, "UnknownArgument", &format!("Unknown field argument '{}'", name.node));
            }
        }
        let mut arguments = Map::new();
        for known in &definition.arguments {
            let (name, ty) = (&known.node.name.node, &known.node.ty.node);
            let given = field.get_argument(name).map(|given| values::value(&given.node, self.variables)).transpose();
            match given {
                Err(variable) => self.error(at, "UndefinedVariable", &format!("Undefined variable '{variable}'")),
                Ok(value) if !schema::accepts(ty, value.as_ref()) => {
                    self.error(at, "WrongType", &format!("argument '{name}' is not a valid '{ty}'"));
                }
                Ok(value) => {
                    arguments.insert(name.to_string(), value.unwrap_or_default());
                }
            }
        }
        arguments
    }

    /// Whether `@skip` and `@include` leave a selection in.
    fn directives(&mut self, directives: &[Positioned<Directive>]) -> bool {
        let mut included = true;
        for directive in directives {
            let name = directive.node.name.node.as_str();
            let condition = directive.node.get_argument("if").map(|given| values::value(&given.node, self.variables));
            match (name, condition.and_then(Result::ok).and_then(|value| value.as_bool())) {
                ("skip", Some(skip)) => included &= !skip,
                ("include", Some(include)) => included &= include,
                ("skip" | "include", None) => {
                    self.error(directive.pos, "WrongType", &format!("'@{name}' needs a boolean 'if'"));
                }
                (_, _) => self.error(directive.pos, "UnknownDirective", &format!("Unknown directive '{name}'")),
            }
        }
        included
    }
}
