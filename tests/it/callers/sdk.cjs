// Upwork's own Node SDK. Its access token is a ticket, a personal access token or a placeholder, without which it refuses to
// start; only its base URLs are set, and a cookie if one is given. Prints the answers as JSON.
const http = require("node:http");
const UpworkApi = require("@upwork/node-upwork-oauth2");
const Client = require("@upwork/node-upwork-oauth2/lib/client");
const Config = require("@upwork/node-upwork-oauth2/lib/config");
const { Graphql } = require("@upwork/node-upwork-oauth2/lib/routers/graphql");

const [door, accessToken, cookie] = process.argv.slice(2);

// The SDK cannot send a header of its user's.
const request = http.request;
http.request = (options, ...rest) => {
  if (cookie) options.headers = { ...options.headers, Cookie: cookie };
  return request(options, ...rest);
};

function api() {
  const config = new Config({ clientId: "-", clientSecret: "-", accessToken, expiresIn: 86400 });
  Object.assign(config, { tokenHost: door, baseUrl: `${door}/upwork/api`, gqlUrl: `${door}/upwork/graphql` });
  return new UpworkApi(null, new Client(config));
}

const answer = (call) =>
  new Promise((resolve, reject) => call((error, status, body) => (error ? reject(error) : resolve({ status, body }))));

async function main() {
  const legacy = api();
  await new Promise((resolve) => legacy.setAccessToken(resolve));
  const rest = await answer((done) => legacy.client.get("/auth/v1/info", { a: "b c" }, done));
  const missing = await answer((done) => legacy.client.put("/nothing/v1/here", { text: "x" }, done));

  const modern = api();
  const query = (text) => answer((done) => new Graphql(modern).execute({ query: text }, done));
  const graphql = await query("query { user { id nid rid } organization { id } }");
  modern.setOrgUidHeader(graphql.body.data.organization.id);
  const organization = await query("{ organization { id } }");
  console.log(JSON.stringify({ rest, missing, graphql, organization }));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
