//! Validation: every field, argument, fragment and directive of the operation against the schema.
//!
//! In: a parsed document. Out: the fields it asks for as `Type.field`, or every problem found. What passes here can be
//! resolved without end or error: no fragment circles, and no more than [`MOST_FIELDS`] fields.

use std::collections::{BTreeSet, HashMap};

use async_graphql_parser::types::{Directive, ExecutableDocument, Field, OperationDefinition, Selection, SelectionSet};
use async_graphql_parser::{Pos, Positioned};
use serde_json::Value;

use super::schema::{self, ArgumentKind, Type};
use super::{Problem, Variables, values};

/// Fields visited in one operation, fragments counted each time they are spread.
const MOST_FIELDS: usize = 5_000;

/// Checks the operation; gives the `Type.field`s it asks for.
pub(super) fn check(
    document: &ExecutableDocument,
    operation: &OperationDefinition,
    root: &'static str,
    variables: &Variables,
) -> Result<Vec<String>, Vec<Problem>> {
    let mut check = Check {
        document,
        variables,
        asked: BTreeSet::new(),
        problems: Vec::new(),
        path: Vec::new(),
        open_fragments: Vec::new(),
        visited: 0,
    };
    if let Some(root) = schema::object(root) {
        check.selection(&operation.selection_set.node, root, &mut HashMap::new());
    }
    if check.problems.is_empty() { Ok(check.asked.into_iter().collect()) } else { Err(check.problems) }
}

struct Check<'a> {
    document: &'a ExecutableDocument,
    variables: &'a Variables,
    asked: BTreeSet<String>,
    problems: Vec<Problem>,
    path: Vec<&'a str>,
    open_fragments: Vec<&'a str>,
    visited: usize,
}

/// Under which answer key which field is asked for.
type Keys<'a> = HashMap<&'a str, &'a str>;

impl<'a> Check<'a> {
    fn problem(&mut self, place: Pos, kind: &str, what: &str) {
        let path = self.path.join("/");
        self.problems.push(Problem::at(place, format!("Validation error ({kind}@[{path}]) : {what}")));
    }

    fn selection(&mut self, set: &'a SelectionSet, on: &'static Type, keys: &mut Keys<'a>) {
        for item in &set.items {
            self.directives(item.node.directives());
            self.visited += 1;
            if self.visited > MOST_FIELDS {
                if self.visited == MOST_FIELDS + 1 {
                    self.problem(item.pos, "MaxFields", "The query asks for too many fields");
                }
                return;
            }
            match &item.node {
                Selection::Field(field) => self.field(&field.node, field.pos, on, keys),
                Selection::InlineFragment(fragment) => {
                    let condition =
                        fragment.node.type_condition.as_ref().map(|condition| condition.node.on.node.as_str());
                    if self.fits(condition.unwrap_or(on.name), on, fragment.pos) {
                        self.selection(&fragment.node.selection_set.node, on, keys);
                    }
                }
                Selection::FragmentSpread(spread) => {
                    self.spread(spread.node.fragment_name.node.as_str(), spread.pos, on, keys);
                }
            }
        }
    }

    fn spread(&mut self, name: &'a str, place: Pos, on: &'static Type, keys: &mut Keys<'a>) {
        let Some(fragment) = self.document.fragments.get(name) else {
            return self.problem(place, "UndefinedFragment", &format!("Undefined fragment '{name}'"));
        };
        if self.open_fragments.contains(&name) {
            return self.problem(place, "FragmentCycle", &format!("Fragment cycles not allowed: '{name}'"));
        }
        self.directives(&fragment.node.directives);
        if self.fits(fragment.node.type_condition.node.on.node.as_str(), on, place) {
            self.open_fragments.push(name);
            self.selection(&fragment.node.selection_set.node, on, keys);
            self.open_fragments.pop();
        }
    }

    fn fits(&mut self, condition: &str, on: &'static Type, place: Pos) -> bool {
        let fits = condition == on.name;
        if !fits {
            let (kind, what) = match schema::object(condition) {
                None => ("UnknownType", format!("Unknown type '{condition}'")),
                Some(_) => ("InvalidFragmentType", format!("Type '{condition}' cannot be spread on '{}'", on.name)),
            };
            self.problem(place, kind, &what);
        }
        fits
    }

    fn field(&mut self, field: &'a Field, place: Pos, on: &'static Type, keys: &mut Keys<'a>) {
        let name = field.name.node.as_str();
        let key = field.response_key().node.as_str();
        self.path.push(key);
        if *keys.entry(key).or_insert(name) != name {
            self.problem(place, "FieldsConflict", &format!("'{key}' is asked for as two different fields"));
        }
        let below = &field.selection_set.node;
        if name == "__typename" {
            if !below.items.is_empty() {
                self.problem(place, "SubselectionNotAllowed", "Subselection not allowed on '__typename'");
            }
        } else if let Some(known) = on.field(name) {
            self.asked.insert(format!("{}.{name}", on.name));
            self.arguments(field, known, place);
            self.below(below, known, place);
        } else {
            let what = format!("Field '{name}' in type '{}' is undefined", on.name);
            self.problem(place, "FieldUndefined", &what);
        }
        self.path.pop();
    }

    fn below(&mut self, below: &'a SelectionSet, field: &'static schema::Field, place: Pos) {
        match (schema::object(field.kind), below.items.is_empty()) {
            (Some(object), false) => self.selection(below, object, &mut HashMap::new()),
            (None, true) => {}
            (Some(_), true) => {
                let what = format!("Subselection required for type '{}' of field '{}'", field.kind, field.name);
                self.problem(place, "SubselectionRequired", &what);
            }
            (None, false) => {
                let what = format!("Subselection not allowed on leaf type '{}' of field '{}'", field.kind, field.name);
                self.problem(place, "SubselectionNotAllowed", &what);
            }
        }
    }

    fn arguments(&mut self, field: &Field, known: &schema::Field, place: Pos) {
        for (name, _) in &field.arguments {
            if !known.arguments.iter().any(|argument| argument.name == name.node.as_str()) {
                self.problem(name.pos, "UnknownArgument", &format!("Unknown field argument '{}'", name.node));
            }
        }
        for argument in known.arguments {
            match values::argument(field, argument.name, self.variables) {
                Err(variable) => {
                    self.problem(place, "UndefinedVariable", &format!("Undefined variable '{variable}'"));
                }
                Ok(value) => {
                    if let Some(wrong) = argument.kind.wrong(value.as_ref()) {
                        let what = format!("argument '{}' {wrong}", argument.name);
                        self.problem(place, "WrongType", &what);
                    }
                }
            }
        }
    }

    fn directives(&mut self, directives: &[Positioned<Directive>]) {
        for directive in directives {
            let name = directive.node.name.node.as_str();
            if !matches!(name, "skip" | "include") {
                self.problem(directive.pos, "UnknownDirective", &format!("Unknown directive '{name}'"));
            } else if values::condition(&directive.node, self.variables).is_none() {
                self.problem(directive.pos, "WrongType", &format!("'@{name}' needs a boolean 'if'"));
            }
        }
    }
}

impl ArgumentKind {
    fn wrong(self, value: Option<&Value>) -> Option<&'static str> {
        match (self, value) {
            (Self::Count, None | Some(Value::Null)) => None,
            (Self::Count, Some(value)) => value.as_u64().is_none().then_some("must be an 'Int' that is not negative"),
            (Self::Note, value) => {
                let fields = value.and_then(Value::as_object);
                let whole =
                    fields.is_some_and(|fields| fields.len() == 1 && fields.get("text").is_some_and(Value::is_string));
                (!whole).then_some("must be an object with a 'text' and nothing else")
            }
        }
    }
}
