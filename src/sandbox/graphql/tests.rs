//! What GraphQL requests are answered.

use super::*;
use crate::sandbox::accounts::ACCOUNTS;
use crate::sandbox::state::State;

fn ask_in(posted: &Value, tenant: Option<&str>, state: &mut State) -> Value {
    let account = &ACCOUNTS[0];
    let mut context = Context { account, organization: account.organization(tenant), state };
    answer(posted.to_string().as_bytes(), &mut context)
}

fn ask_posted(posted: &Value) -> Value {
    ask_in(posted, None, &mut State::default())
}

fn ask(query: &str) -> Value {
    ask_posted(&json!({"query": query}))
}

fn refusal(query: &str) -> String {
    let answer = ask(query);
    assert!(answer.get("data").is_none(), "{query}: {answer}");
    assert_eq!(answer["errors"][0]["extensions"]["classification"], "ValidationError", "{query}: {answer}");
    answer["errors"][0]["message"].as_str().unwrap().to_owned()
}

#[test]
fn aliases_fragments_and_typename_are_answered() {
    let query = "query A { __typename me: user { ...Ids __typename ... on User { rid } ... { login: nid } } user { nid } user { id } }
        fragment Ids on User { id }";
    assert_eq!(
        ask(query),
        json!({"data": {
            "__typename": "Query",
            "me": {"id": "1181921839933591552", "__typename": "User", "rid": "2366358", "login": "foofreelancer"},
            "user": {"id": "1181921839933591552", "nid": "foofreelancer"},
        }})
    );
}

#[test]
fn variables_directives_and_operation_names_are_followed() {
    let query = "query A($n: Int = 1, $more: Boolean!) {
            marketplaceJobPostings(first: $n) { totalCount edges { node { id budget { amount currency } } } }
            user @include(if: $more) { id }
            organization @skip(if: $more) { id }
        }
        query B { user { id } }";
    let posted = json!({"query": query, "operationName": "A", "variables": {"more": false}});
    let answer = ask_posted(&posted);
    assert_eq!(
        answer["data"],
        json!({
            "marketplaceJobPostings": {"totalCount": 4, "edges": [
                {"node": {"id": "1900000000000000001", "budget": {"amount": 4200.0, "currency": "USD"}}},
            ]},
            "organization": {"id": "1181921839933591553"},
        })
    );
    let posted = json!({"query": query, "operationName": "B"});
    assert_eq!(ask_posted(&posted), json!({"data": {"user": {"id": "1181921839933591552"}}}));
    assert!(refusal(query).contains("Must provide operation name"));
    let posted = json!({"query": query, "operationName": "C"});
    assert!(ask_posted(&posted).to_string().contains("Unknown operation named 'C'"));
    let posted = json!({"query": query, "operationName": "A", "variables": {"more": "yes"}});
    assert!(ask_posted(&posted).to_string().contains("Variable 'more'"));
}

#[test]
fn the_mutation_is_remembered() {
    let mut state = State::default();
    let posted = json!({
        "query": "mutation($text: String!) { createProposalNote(input: {text: $text}) { id text } }",
        "variables": {"text": "call back"},
    });
    let answer = ask_in(&posted, None, &mut state);
    assert_eq!(answer, json!({"data": {"createProposalNote": {"id": "1", "text": "call back"}}}));
    let answer = ask_in(&json!({"query": "{ proposalNotes { text } }"}), None, &mut state);
    assert_eq!(answer, json!({"data": {"proposalNotes": [{"text": "call back"}]}}));
    let twice = json!({"query": "mutation { ...Note createProposalNote(input: {text: \"a\"}) { text } }
        fragment Note on Mutation { createProposalNote(input: {text: \"a\"}) { id } }"});
    let answer = ask_in(&twice, None, &mut state);
    assert_eq!(answer, json!({"data": {"createProposalNote": {"id": "2", "text": "a"}}}), "one field, one note");
    assert_eq!(state.counters.graphql_mutations, 2);
}

#[test]
fn the_tenant_chooses_the_organization() {
    let posted = json!({"query": "{ organization { name } companySelector { items { organizationId } } }"});
    let answer = ask_in(&posted, Some("1282032950044702664"), &mut State::default());
    assert_eq!(
        answer["data"],
        json!({"organization": {"name": "Baz & Partners"}, "companySelector": {"items": [
            {"organizationId": "1181921839933591553"}, {"organizationId": "1282032950044702664"},
        ]}})
    );
    for other in ["1", "1383143061155813775"] {
        let answer = ask_in(&posted, Some(other), &mut State::default());
        assert_eq!(answer["errors"][0]["extensions"]["classification"], "ExecutionAborted");
        assert!(answer["data"].is_null());
    }
}

#[test]
fn one_field_without_a_scope_aborts_the_whole_query() {
    let posted = json!({"query": "{ user { id email } organization { name } }"});
    let missing_scopes = ["User.email", "Organization.name", "User.rid"].map(str::to_owned).to_vec();
    let answer = ask_in(&posted, None, &mut State { missing_scopes, ..State::default() });
    assert_eq!(
        answer["errors"][0]["message"],
        "The client or authentication token doesn't have enough oauth2 permissions/scopes to access: \
         [Organization.name, User.email]."
    );
    assert_eq!(answer["errors"][0]["extensions"]["classification"], "ExecutionAborted");
}

#[test]
fn a_bad_query_is_a_validation_error() {
    let cases = [
        ("{ user { foo } }", "(FieldUndefined@[user/foo]) : Field 'foo' in type 'User' is undefined"),
        ("{ user }", "(SubselectionRequired@[user])"),
        ("{ user { id { x } } }", "(SubselectionNotAllowed@[user/id])"),
        ("{ user(id: 1) { id } }", "(UnknownArgument@[user])"),
        ("{ marketplaceJobPostings(first: -1) { totalCount } }", "(WrongType@[marketplaceJobPostings])"),
        ("{ marketplaceJobPostings(first: $n) { totalCount } }", "Undefined variable 'n'"),
        ("mutation { createProposalNote(input: {txt: \"\"}) { id } }", "(WrongType@[createProposalNote])"),
        ("{ user { ...F } }", "Undefined fragment 'F'"),
        ("{ user { ...F } } fragment F on User { id ...F }", "Fragment cycles"),
        ("{ user { ...F } } fragment F on Organization { id }", "cannot be spread"),
        ("{ user { ... on Nobody { id } } }", "Unknown type 'Nobody'"),
        ("{ user { a: id a: nid } }", "two different fields"),
        (
            "{ a: marketplaceJobPostings { totalCount } a: marketplaceJobPostings(first: 1) { totalCount } }",
            "two different fields",
        ),
        ("query($n: Note!) { user { id } }", "Variable 'n'"),
        ("{ user @upper { id } }", "Unknown directive 'upper'"),
        ("{ user @skip(if: 3) { id } }", "needs a boolean"),
        ("{ user { id }", "Invalid syntax"),
        ("subscription { user { id } }", "not configured for subscriptions"),
        ("", "no query"),
    ];
    for (query, expected) in cases {
        let message = refusal(query);
        assert!(message.contains(expected), "{query}: {message}");
    }
    assert_eq!(ask("{ user { foo } }")["errors"][0]["locations"], json!([{"line": 1, "column": 10}]));
    let account = &ACCOUNTS[0];
    let mut state = State::default();
    let mut context = Context { account, organization: account.organization(None), state: &mut state };
    assert!(answer(b"not json", &mut context).to_string().contains("not JSON"));
}

#[test]
fn fragments_that_multiply_are_stopped() {
    let mut query = "{ user { ...F0 } }".to_owned();
    for level in 0..30 {
        let next = level + 1;
        query.extend([format!(" fragment F{level} on User {{ ...F{next} ...F{next} }}")]);
    }
    query.push_str(" fragment F30 on User { id }");
    assert!(refusal(&query).contains("too many fields"));
}

#[test]
fn the_fields_that_public_clients_ask_for_are_answered() {
    let search = json!({
        "query": "query Jobs($filter: MarketplaceJobPostingsSearchFilter, $sort: [MarketplaceJobPostingSearchSortAttribute]) {
            marketplaceJobPostingsSearch(marketPlaceJobFilter: $filter, searchType: USER_JOBS_SEARCH, sortAttributes: $sort) {
                totalCount
                edges { cursor node {
                    id title ciphertext createdDateTime experienceLevel durationLabel totalApplicants
                    amount { rawValue currency displayValue } hourlyBudgetMin { rawValue } skills { name prettyName }
                    client { totalHires totalSpent { rawValue } totalFeedback verificationStatus location { country } }
                } }
                pageInfo { hasNextPage endCursor }
            }
        }",
        "variables": {"filter": {"searchExpression_eq": "A", "pagination_eq": {"first": 1, "after": "1"}}, "sort": [{"field": "RECENCY"}]},
    });
    let found = &ask_posted(&search)["data"]["marketplaceJobPostingsSearch"];
    assert_eq!((&found["totalCount"], found["edges"].as_array().map(Vec::len)), (&json!(4), Some(1)), "{found}");
    assert_eq!(found["pageInfo"], json!({"hasNextPage": true, "endCursor": "2"}));
    assert_eq!(found["edges"][0]["node"]["title"], "Logo for a bakery");
    assert_eq!(found["edges"][0]["node"]["amount"]["displayValue"], "$150.0");
    let rust = ask(
        "{ marketplaceJobPostingsSearch(marketPlaceJobFilter: {titleExpression_eq: \"RUST\"}) { edges { node { client { location { city } } } } } }",
    );
    assert_eq!(
        rust["data"]["marketplaceJobPostingsSearch"]["edges"][0]["node"]["client"]["location"]["city"],
        "Gdańsk"
    );

    let proposals = json!({
        "query": "query($filter: VendorProposalFilter!, $sort: VendorProposalSortAttribute!, $pagination: Pagination!) {
            vendorProposals(filter: $filter, sortAttribute: $sort, pagination: $pagination) {
                totalCount edges { node {
                    id user { nid } organization { id } marketplaceJobPosting { id content { title } }
                    terms { chargeRate { rawValue } estimatedDuration { label } } proposalCoverLetter status { status }
                } } pageInfo { hasNextPage endCursor }
            }
        }",
        "variables": {"filter": {"status_eq": "Pending"}, "sort": {"field": "CREATEDDATETIME"}, "pagination": {"first": 10}},
    });
    let found = &ask_posted(&proposals)["data"]["vendorProposals"];
    assert_eq!((&found["totalCount"], &found["pageInfo"]["hasNextPage"]), (&json!(1), &json!(false)), "{found}");
    let node = &found["edges"][0]["node"];
    assert_eq!((&node["user"]["nid"], &node["status"]["status"]), (&json!("foofreelancer"), &json!("Pending")));
    assert_eq!(node["marketplaceJobPosting"]["content"]["title"], "Translate a manual, Polish to English");

    let contracts = ask(
        "{ contractList(ids: [41000002]) { contracts { id title status startDate endDate clientOrganization { id name } } } }",
    );
    assert_eq!(contracts["data"]["contractList"]["contracts"][0]["title"], "Draw forty icons", "{contracts}");
    let rooms = ask(
        "{ roomList(pagination: {first: 1}) { totalCount edges { node { id roomName latestStory { message user { nid } } } } } }",
    );
    assert_eq!(rooms["data"]["roomList"]["totalCount"], 2);
    assert_eq!(rooms["data"]["roomList"]["edges"][0]["node"]["latestStory"]["user"]["nid"], "foofreelancer", "{rooms}");
}

/// What editors and code generators send.
const INTROSPECTION: &str = "query IntrospectionQuery {
    __schema { queryType { name } mutationType { name } subscriptionType { name } types { ...FullType }
        directives { name description isRepeatable locations args(includeDeprecated: true) { ...InputValue } } }
    }
    fragment FullType on __Type { kind name description specifiedByURL
        fields(includeDeprecated: true) { name description args(includeDeprecated: true) { ...InputValue } type { ...TypeRef }
            isDeprecated deprecationReason }
        inputFields(includeDeprecated: true) { ...InputValue } interfaces { ...TypeRef }
        enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason } possibleTypes { ...TypeRef } }
    fragment InputValue on __InputValue { name description type { ...TypeRef } defaultValue isDeprecated deprecationReason }
    fragment TypeRef on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";

#[test]
fn introspection_describes_the_schema_without_end_and_without_gaps() {
    let schema = &ask(INTROSPECTION)["data"]["__schema"];
    assert_eq!((&schema["queryType"]["name"], &schema["subscriptionType"]), (&json!("Query"), &Value::Null));
    let types = schema["types"].as_array().unwrap();
    let names: Vec<_> = types.iter().map(|known| known["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"User") && names.contains(&"Boolean") && !names.contains(&"__Root"), "{names:?}");
    // Each type that is referred to is there.
    let referred = schema.to_string();
    for part in referred.split("\"name\":\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        let is_type = part.starts_with(|first: char| first.is_ascii_uppercase()) && part != "FIELD";
        assert!(!is_type || names.contains(&part), "{part}");
    }
    let query = types.iter().find(|known| known["name"] == "Query").unwrap();
    let list = query["fields"].as_array().unwrap().iter().find(|field| field["name"] == "contractList").unwrap();
    assert_eq!(list["type"], json!({"kind": "OBJECT", "name": "ContractList", "ofType": null}));
    let ids = json!({"kind": "LIST", "name": null, "ofType": {"kind": "NON_NULL", "name": null, "ofType": {"kind": "SCALAR", "name": "ID", "ofType": null}}});
    assert_eq!(list["args"][0]["type"], ids);
    let one = ask("{ __type(name: \"Pagination\") { kind inputFields { name type { name } } } }");
    assert_eq!(one["data"]["__type"]["inputFields"][0], json!({"name": "first", "type": {"name": "Int"}}));
    assert_eq!(ask("{ __type(name: \"Nothing\") { name } }")["data"]["__type"], Value::Null);
    assert!(
        refusal("{ user { __schema { queryType { name } } } }")
            .contains("Field '__schema' in type 'User' is undefined")
    );
}

#[test]
fn an_operation_has_the_name_that_is_posted_or_its_own() {
    let name = |posted: Value| operation_name(posted.to_string().as_bytes());
    assert_eq!(name(json!({"query": "query Jobs { user { id } }"})).as_deref(), Some("Jobs"));
    let two = "query A { user { id } } query B { user { id } }";
    assert_eq!(name(json!({"query": two, "operationName": "B"})).as_deref(), Some("B"));
    for posted in [
        json!({"query": two}),
        json!({"query": "{ user { id } }"}),
        json!({"query": "{", "operationName": "../x"}),
        json!(1),
    ] {
        assert_eq!(name(posted.clone()), None, "{posted}");
    }
}
